//! What every record starts with.

use core::ffi::c_void;

use nrtrace_ebpf::Head;
use nrtrace_ebpf::layout::{Field, Mark};

use crate::kernel::{Task, clear, load, load_at, offset, pointer, read, read_at};

/// As whom a task acts, and where.
#[derive(Clone, Copy)]
pub struct Ids {
    pub fsuid: u32,
    pub fsgid: u32,
    pub mnt_ns: u32,
    pub net_ns: u32,
}

impl Ids {
    /// Those of a task.
    #[inline(always)]
    pub fn of(task: Task) -> Self {
        let cred = pointer(task, Field::TaskRealCred);
        let namespaces = pointer(task, Field::TaskNsproxy);
        Self {
            fsuid: read(cred, Field::CredFsuid),
            fsgid: read(cred, Field::CredFsgid),
            mnt_ns: read(read(namespaces, Field::NsproxyMntNs), Field::MntNsInum),
            net_ns: read(read(namespaces, Field::NsproxyNetNs), Field::NetInum),
        }
    }

    /// The same, faster where it runs and slower to be proved: for what runs often.
    #[inline(always)]
    pub fn load(task: Task) -> Self {
        let cred: *const c_void = load(task, Field::TaskRealCred);
        let namespaces: *const c_void = load(task, Field::TaskNsproxy);
        let mnt_ns: *const c_void = load(namespaces, Field::NsproxyMntNs);
        let net_ns: *const c_void = load(namespaces, Field::NsproxyNetNs);
        Self {
            fsuid: load(cred, Field::CredFsuid),
            fsgid: load(cred, Field::CredFsgid),
            mnt_ns: load(mnt_ns, Field::MntNsInum),
            net_ns: load(net_ns, Field::NetInum),
        }
    }
}

impl Ids {
    /// Notes in the task's mark that these are told.
    #[inline(always)]
    pub fn note(self, mark: &mut Mark) {
        mark.told = u64::from(self.fsuid) | u64::from(self.fsgid) << 32;
        mark.told_ns = self.mnt_ns;
    }
}

/// Fills the common part of a record about the current task, but for the time.
#[inline(always)]
pub fn fill(head: &mut Head, (kind, flags): (u16, u16), task: Task, mark: &mut Mark, ids: Ids) {
    if mark.pid == 0 {
        number(task, mark);
    }
    head.kind = kind;
    head.flags = flags;
    // SAFETY: it belongs to the record.
    unsafe { clear(&raw mut head.strings) };
    head.pid = mark.pid;
    head.tid = mark.tid;
    head.fsuid = ids.fsuid;
    head.fsgid = ids.fsgid;
    head.mnt_ns = ids.mnt_ns;
    head.net_ns = ids.net_ns;
    // SAFETY: both are 16 bytes, and the name starts at a multiple of 8 in a structure aligned to 8.
    unsafe { (&raw mut head.comm).cast::<[u64; 2]>().write(name(task)) };
}

/// The task's short name.
#[inline(always)]
pub fn name(task: Task) -> [u64; 2] {
    let comm = offset(Field::TaskComm);
    [load_at(task, comm), load_at(task, comm + 8)]
}

/// Notes how the tracer numbers `task`.
#[inline(always)]
pub fn number(task: Task, mark: &mut Mark) {
    mark.pid = number_of(pointer(task, Field::TaskGroupLeader), mark.level);
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
