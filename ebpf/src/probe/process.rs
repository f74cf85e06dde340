//! Tasks come, run programs, and go.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::ffi::c_void;

use nrtrace_ebpf::layout::{ARMED, Field, Mark, TRACED};
use nrtrace_ebpf::{KIND_EXEC, KIND_EXIT, KIND_FORK, ProcessRecord};

use crate::aim;
use crate::call::Call;
use crate::gather::PROGRAM;
use crate::head;
use crate::kernel::{self, Task, load, read};
use crate::maps::{self, Slot};
use crate::marks;
use crate::path::Location;
use crate::text::Record;

/// The current task has made another one, which has not run yet. Unlike `sched_process_fork`, this tells of the
/// worker threads of io_uring too.
#[btf_tracepoint(function = "task_newtask")]
pub fn task_newtask(context: BtfTracePointContext) -> i32 {
    let parent = kernel::current();
    let Some(mark) = aim::mark(parent).or_else(|| aim::by_ancestor(parent)) else { return 0 };
    let child: Task = context.arg::<*const c_void>(0);
    let mut inherited = Mark { state: mark.state, level: mark.level, origin: mark.origin, ..ZERO };
    head::number(child, &mut inherited);
    let (pid, tid) = (inherited.pid, inherited.tid);
    if marks::set(child, inherited).is_none() {
        maps::count_lost(Slot::Process);
    }
    if mark.state != TRACED {
        return 0;
    }
    let Some(record) = start(KIND_FORK, parent, mark) else { return 0 };
    // SAFETY: the fixed part is initialised.
    unsafe {
        (*record.fixed).child_pid = pid;
        (*record.fixed).child_tid = tid;
    }
    record.send_bare();
    0
}

/// The current task runs a new program from now on.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(context: BtfTracePointContext) -> i32 {
    let task = kernel::current();
    aim::executed(task);
    let Some(mark) = aim::mark(task) else { return 0 };
    if mark.state == ARMED && aim::mount_namespace(task) == mark.origin {
        return 0;
    }
    mark.state = TRACED;
    mark.exec = (Call::of(task).nr as u32).wrapping_add(1);
    // A thread that runs a new program takes over its leader's number.
    mark.pid = 0;
    let Some(record) = start(KIND_EXEC, task, mark) else { return 0 };
    // SAFETY: the fixed part is initialised.
    unsafe { (*record.fixed).capabilities = load(load(task, Field::TaskRealCred), Field::CredEffective) };
    let mm: u64 = load(task, Field::TaskMm);
    let plan = record.plan();
    plan.path = load(context.arg::<*const c_void>(2), Field::BinprmFilename);
    plan.location = Location::of_file(read(mm, Field::MmExeFile));
    plan.what = PROGRAM;
    record.send();
    0
}

/// The current task ends.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(_: BtfTracePointContext) -> i32 {
    let task = kernel::current();
    let Some(mark) = aim::mark(task) else { return 0 };
    if mark.state != TRACED {
        return 0;
    }
    let Some(record) = start(KIND_EXIT, task, mark) else { return 0 };
    let live: u32 = read(load(task, Field::TaskSignal), Field::SignalLive);
    // SAFETY: the fixed part is initialised.
    unsafe {
        (*record.fixed).exit_code = load(task, Field::TaskExitCode);
        (*record.fixed).last_thread = u32::from(live == 0);
    }
    record.send_bare();
    0
}

/// Depth of the pid namespace of whoever runs this program, the tracer (`BPF_PROG_TEST_RUN`); attached nowhere.
///
/// Written without the macro, which drops the result.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp")]
pub extern "C" fn pid_level(_: *mut c_void) -> i32 {
    let pid: u64 = load(kernel::current(), Field::TaskThreadPid);
    read::<u32>(pid, Field::PidLevel) as i32
}

/// A mark without anything.
pub const ZERO: Mark = Mark {
    state: 0,
    level: 0,
    pid: 0,
    tid: 0,
    checked: 0,
    exec: 0,
    inode: 0,
    root_mnt: 0,
    root_dentry: 0,
    origin: 0,
    pad: 0,
};

/// Starts a record without call.
#[inline(always)]
pub fn start(kind: u16, task: Task, mark: &mut Mark) -> Option<Record<ProcessRecord>> {
    let record = Record::<ProcessRecord>::start(Slot::Process)?;
    head::fill(record.head(), kind, 0, task, mark);
    // SAFETY: the fixed part is this program's own memory.
    unsafe {
        (*record.fixed).child_pid = 0;
        (*record.fixed).child_tid = 0;
        (*record.fixed).exit_code = 0;
        (*record.fixed).last_thread = 0;
        (*record.fixed).capabilities = 0;
    }
    Some(record)
}
