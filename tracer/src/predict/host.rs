//! Facts of the host and of tracees that privileges depend on.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use nrtrace_profiles::event::Identity;

use crate::attach::process;
use crate::oracle::Judgement;
use crate::status::Status;

/// The id that leaves things as they are.
const UNCHANGED: u32 = u32::MAX;

/// Network namespaces remembered.
const NAMESPACES: usize = 256;

/// What is looked up once.
#[derive(Debug)]
pub struct Host {
    /// Whom is judged for.
    pub identity: Identity,
    /// First port without privilege, in the tracer's network namespace.
    port_start: u16,
    net_ns: u32,
    /// The same of other network namespaces.
    others: RefCell<HashMap<u32, u16>>,
    /// `kernel.dmesg_restrict`
    pub dmesg_restrict: bool,
    /// `fs.nr_open`: more open files nobody may have.
    pub nr_open: u64,
}

impl Host {
    /// Looks.
    pub fn new(identity: Identity) -> Self {
        let net_ns = fs::metadata("/proc/self/ns/net").map_or(0, |facts| facts.ino() as u32);
        Self {
            identity,
            port_start: crate::recording::unprivileged_port_start(),
            net_ns,
            others: RefCell::default(),
            dmesg_restrict: setting("kernel/dmesg_restrict") == Some(1),
            nr_open: setting("fs/nr_open").map_or(u64::MAX, |most| most as u64),
        }
    }

    /// First port without privilege in the network namespace of process `pid`; the kernel's default where it cannot be
    /// entered.
    pub fn port_start(&self, net_ns: u32, pid: i32) -> u16 {
        if net_ns == self.net_ns {
            return self.port_start;
        }
        let mut others = self.others.borrow_mut();
        if others.len() >= NAMESPACES {
            others.clear();
        }
        *others.entry(net_ns).or_insert_with(|| process::unprivileged_port_start(pid).unwrap_or(1024))
    }
}

/// The effective capabilities of a thread, as bits; none when it is gone.
pub fn capabilities(tid: i32) -> u64 {
    Status::of(tid).map_or(0, |status| status.capabilities("CapEff"))
}

/// Memory of a thread's process, in bytes, by the name that its status has it under: `VmLck`, `VmSize`.
pub fn memory(tid: i32, name: &str) -> u64 {
    Status::of(tid).and_then(|status| status.number::<u64>(name)).map_or(0, |kib| kib * 1024)
}

/// The process that a descriptor of a thread stands for.
pub fn of_pidfd(tid: i32, fd: i32) -> Option<i32> {
    let facts = fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}")).ok()?;
    facts.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

/// Whether the user may look into a process: `__ptrace_may_access` of `kernel/ptrace.c`, by its ids, its `dumpable` and its
/// capabilities, which are none where the user has none. A process that is gone can be looked into.
pub fn may_inspect(pid: i32, identity: &Identity) -> bool {
    let Some(status) = Status::of(pid) else { return true };
    let all = |name: &str, own: u32| status.ids(name).is_some_and(|ids| ids[..3] == [own; 3]);
    let owner = fs::metadata(format!("/proc/{pid}")).map(|facts| facts.uid());
    all("Uid", identity.uid) && all("Gid", identity.gid) && owner.is_ok_and(|owner| owner == identity.uid)
}

/// Whether a thread is the user's, as `check_same_owner` of `kernel/sched/` has it: by its real or effective user id.
pub fn is_users(tid: i32, uid: u32) -> bool {
    Status::of(tid)
        .and_then(|status| status.ids("Uid"))
        .is_none_or(|[real, effective, ..]| real == uid || effective == uid)
}

/// Real and saved user id of a process.
pub fn owners(pid: i32) -> Option<(u32, u32)> {
    let [real, _, saved, _] = Status::of(pid)?.ids("Uid")?;
    Some((real, saved))
}

/// Whether a thread is in the user namespace that this one is in; the capabilities that it has in another one are judged
/// there.
pub fn is_in_own_namespace(tid: i32) -> bool {
    let namespace = |task: &str| fs::metadata(format!("/proc/{task}/ns/user")).map(|facts| facts.ino());
    let of_task = namespace(&tid.to_string());
    of_task.is_err() || of_task.ok() == namespace("self").ok()
}

/// A number of `/proc/sys`; none where the kernel does not have it.
pub fn setting(name: &str) -> Option<i64> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}

/// A resource limit of a thread's process, soft and hard, by its name in `/proc/PID/limits`: prlimit(2) would take
/// CAP_SYS_RESOURCE.
pub fn limit(tid: i32, name: &str) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{tid}/limits")).ok()?;
    let values = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    let mut values = values.split_ascii_whitespace().map(|value| match value {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some((values.next()??, values.next()??))
}

/// The limits' names in `/proc/PID/limits`, by number (`include/uapi/asm-generic/resource.h`).
pub const LIMITS: [&str; 16] = [
    "Max cpu time",
    "Max file size",
    "Max data size",
    "Max stack size",
    "Max core file size",
    "Max resident set",
    "Max processes",
    "Max open files",
    "Max locked memory",
    "Max address space",
    "Max file locks",
    "Max pending signals",
    "Max msgqueue size",
    "Max nice priority",
    "Max realtime priority",
    "Max realtime timeout",
];

/// The nice value of what setpriority(2) is about.
pub fn nice(which: u32, who: u32) -> i32 {
    // SAFETY: plain numbers. The raw call answers 20 minus the value, which is never negative.
    let result = unsafe { libc::syscall(libc::SYS_getpriority, which, who) };
    if result < 0 { 0 } else { 20 - result as i32 }
}

/// Whether the user may give the file that was judged to this owner and group without CAP_CHOWN (`chown_ok` and
/// `chgrp_ok` of `fs/attr.c`).
pub fn may_give(judgement: &Judgement, (uid, gid): (u32, u32), identity: &Identity) -> bool {
    let Some(inode) = &judgement.inode else { return true };
    let owner = inode.uid == identity.uid;
    let to_user = uid == UNCHANGED || (owner && uid == identity.uid);
    let in_group = gid == identity.gid || identity.groups.contains(&gid) || gid == inode.gid;
    to_user && (gid == UNCHANGED || (owner && in_group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_by_name() {
        let own = std::process::id() as i32;
        for (number, name) in LIMITS.iter().enumerate() {
            let mut told = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: the structure outlives the call.
            assert_eq!(unsafe { libc::getrlimit(number as _, &raw mut told) }, 0);
            assert_eq!(limit(own, name), Some((told.rlim_cur, told.rlim_max)), "{name}");
        }
    }
}
