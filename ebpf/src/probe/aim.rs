//! What already runs: tasks that have no mark, and belong to what is attached to all the same.
//!
//! The tracer marks all threads that it finds. What comes about while it looks is found here: a thread by its process's
//! first one, a process by its control group, or by its ancestors when it makes another. What is waited for is
//! found by the name of the control group it joins, or by the arguments of the container runtime that starts it.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use nrtrace_ebpf::layout::{ARMED, Aim, Field, Mark, TRACED, WAITING};
use nrtrace_ebpf::table::TRAIT_EXEC;
use nrtrace_ebpf::{KIND_JOIN, STR_PATH};

use crate::head;
use crate::kernel::{self, Task, load, read};
use crate::maps::{self, Slot};
use crate::marks;
use crate::path::Location;
use crate::process::{self, ZERO};
use crate::text;

/// Ancestors looked at.
const ANCESTORS: usize = 8;

/// The mark of `task`, the current one; one that belongs to what is attached to gets it now.
#[inline(always)]
pub fn mark(task: Task) -> Option<&'static mut Mark> {
    let found = marks::mark(task);
    if found.is_some() || !kernel::attaching() {
        return found;
    }
    let leader: Task = load(task, Field::TaskGroupLeader);
    if leader != task
        && let Some(known) = marks::mark(leader)
    {
        return marks::set(task, copy(known));
    }
    let aim = maps::aim()?;
    if aim.cgroup == 0 || !is_in(aim) {
        return None;
    }
    let namespace = mount_namespace(task);
    let state = if namespace == aim.mnt_ns { TRACED } else { aim.found };
    marks::set(task, Mark { state, level: aim.level, origin: namespace, ..ZERO })
}

/// Whether the current task is in the control group.
#[inline(always)]
fn is_in(aim: &Aim) -> bool {
    // SAFETY: the helper only asks.
    unsafe { bpf_get_current_ancestor_cgroup_id(aim.depth as i32) == aim.cgroup }
}

#[inline(always)]
fn copy(known: &Mark) -> Mark {
    Mark { state: known.state, level: known.level, origin: known.origin, ..ZERO }
}

/// The mark of a task that makes another one, when one of its ancestors has one.
#[inline(always)]
pub fn by_ancestor(task: Task) -> Option<&'static mut Mark> {
    if !kernel::attaching() || maps::aim()?.by_ancestor == 0 {
        return None;
    }
    let mut ancestor = task;
    for _ in 0..ANCESTORS {
        ancestor = load(ancestor, Field::TaskParent);
        if let Some(known) = marks::mark(ancestor) {
            return marks::set(task, copy(known));
        }
    }
    None
}

/// Inode number of the task's mount namespace.
#[inline(always)]
pub fn mount_namespace(task: Task) -> u32 {
    let namespaces: *const c_void = load(task, Field::TaskNsproxy);
    load(load(namespaces, Field::NsproxyMntNs), Field::MntNsInum)
}

/// Whether what the task does is to be recorded: before it runs the program, only how that fails.
#[inline(always)]
pub fn counts(task: Task, mark: &Mark, traits: u8) -> bool {
    match mark.state {
        TRACED => true,
        WAITING => traits & TRAIT_EXEC != 0,
        _ => traits & TRAIT_EXEC != 0 && mount_namespace(task) != mark.origin,
    }
}

/// The current task has begun a new program: if its arguments hold one of the names, it starts what is waited for.
///
/// An engine may have given a mount namespace to the runtime already (podman does, for a container with a user
/// namespace): what has one of its own, but still its parent's root, is not the container's.
#[inline(always)]
pub fn executed(task: Task) {
    if !kernel::attaching() {
        return;
    }
    let Some(aim) = maps::aim() else { return };
    if aim.by_argument == 0 {
        return;
    }
    let origin = mount_namespace(task);
    if let Some(known) = marks::mark(task)
        && (known.state != ARMED || known.origin == origin || !has_root_of_parent(task))
    {
        return;
    }
    let Some(scratch) = maps::scratch(Slot::Process) else { return };
    let mm: u64 = load(task, Field::TaskMm);
    let start: u64 = read(mm, Field::MmArgStart);
    let end: u64 = read(mm, Field::MmArgEnd);
    let length = text::arguments(scratch, start, end.wrapping_sub(start));
    if text::has_word(scratch, length, false)
        && let Some(mark) = marks::set(task, Mark { state: ARMED, level: aim.level, origin, ..ZERO })
    {
        mark.origin = origin;
    }
}

/// Whether the task's root is the same directory as its parent's, be it in another mount namespace.
#[inline(always)]
fn has_root_of_parent(task: Task) -> bool {
    let parent: Task = load(task, Field::TaskParent);
    Location::root(task).dentry == Location::root(parent).dentry
}

/// A task has joined a control group.
#[btf_tracepoint(function = "cgroup_attach_task")]
pub fn cgroup_attach_task(context: BtfTracePointContext) -> i32 {
    let Some(aim) = maps::aim() else { return 0 };
    let path: u64 = context.arg(1);
    if aim.by_group == 0 || !is_named(path) {
        return 0;
    }
    let task: Task = context.arg(2);
    let mut joining = Mark { state: aim.joins, level: aim.level, origin: mount_namespace(task), ..ZERO };
    head::number(task, &mut joining);
    let (pid, tid) = (joining.pid, joining.tid);
    if marks::set(task, joining).is_none() {
        maps::count_lost(Slot::Process);
    }
    let mut mover = Mark { level: aim.level, ..ZERO };
    if let Some(record) = process::start(KIND_JOIN, kernel::current(), &mut mover) {
        // SAFETY: the fixed part is initialised.
        unsafe {
            (*record.fixed).child_pid = pid;
            (*record.fixed).child_tid = tid;
        }
        record.send_name(STR_PATH, path);
    }
    0
}

/// A control group was made: one of version 2 tells those that are born in it.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_mkdir(context: BtfTracePointContext) -> i32 {
    let Some(aim) = maps::aim() else { return 0 };
    if aim.by_group == 0 || aim.cgroup != 0 || !is_named(context.arg(1)) {
        return 0;
    }
    let group: u64 = context.arg(0);
    if read::<u32>(read(group, Field::CgroupRoot), Field::RootHierarchy) == 0 {
        aim.depth = read(group, Field::CgroupLevel);
        aim.cgroup = read(read(group, Field::CgroupNode), Field::NodeId);
    }
    0
}

/// Whether one component of a control group's path, a string of the kernel, is one of the names.
#[inline(always)]
fn is_named(path: u64) -> bool {
    let Some(scratch) = maps::scratch(Slot::Process) else { return false };
    let length = text::name(scratch, path);
    text::has_word(scratch, length, true)
}
