//! What every record starts with.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use core::ffi::c_void;

use nrtrace_ebpf::layout::{Field, Mark};
use nrtrace_ebpf::{Head, STRINGS};

use crate::kernel::{Task, load, load_at, offset, read, read_at};

/// Fills the common part of a record about the current task.
#[inline(always)]
pub fn fill(head: &mut Head, kind: u16, flags: u16, task: Task, mark: &mut Mark) {
    if mark.pid == 0 {
        number(task, mark);
    }
    let cred: *const c_void = load(task, Field::TaskRealCred);
    let namespaces: *const c_void = load(task, Field::TaskNsproxy);
    let mnt_ns: *const c_void = load(namespaces, Field::NsproxyMntNs);
    let net_ns: *const c_void = load(namespaces, Field::NsproxyNetNs);
    head.kind = kind;
    head.flags = flags;
    head.strings = [0; STRINGS];
    // SAFETY: the helper has no preconditions.
    head.time = unsafe { bpf_ktime_get_ns() };
    head.pid = mark.pid;
    head.tid = mark.tid;
    head.fsuid = load(cred, Field::CredFsuid);
    head.fsgid = load(cred, Field::CredFsgid);
    head.mnt_ns = load(mnt_ns, Field::MntNsInum);
    head.net_ns = load(net_ns, Field::NetInum);
    let comm = offset(Field::TaskComm);
    let name: [u64; 2] = [load_at(task, comm), load_at(task, comm + 8)];
    // SAFETY: both are 16 bytes, and the name starts at a multiple of 8 in a structure aligned to 8.
    unsafe { (&raw mut head.comm).cast::<[u64; 2]>().write(name) };
}

/// Notes how the tracer numbers `task`.
#[inline(always)]
pub fn number(task: Task, mark: &mut Mark) {
    mark.pid = number_of(load(task, Field::TaskGroupLeader), mark.level);
    mark.tid = number_of(task as u64, mark.level);
}

/// Number of the task at an address in the pid namespace of a depth (`struct upid` starts with the number and holds
/// two words).
#[inline(always)]
fn number_of(task: u64, level: u32) -> u32 {
    let pid: u64 = read(task, Field::TaskThreadPid);
    let numbers = pid.wrapping_add(offset(Field::PidNumbers));
    read_at(numbers.wrapping_add(u64::from(level) * 16))
}
