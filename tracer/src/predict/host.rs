//! Facts of the host and of tracees that privileges depend on.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use nrtrace_profiles::event::Identity;

use crate::attach::process;
use crate::oracle::Judgement;

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
        let restrict = fs::read_to_string("/proc/sys/kernel/dmesg_restrict").unwrap_or_default();
        let nr_open = fs::read_to_string("/proc/sys/fs/nr_open").unwrap_or_default();
        Self {
            identity,
            port_start: crate::recording::unprivileged_port_start(),
            net_ns,
            others: RefCell::default(),
            dmesg_restrict: restrict.trim() == "1",
            nr_open: nr_open.trim().parse().unwrap_or(u64::MAX),
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

fn status(tid: i32) -> String {
    fs::read(format!("/proc/{tid}/status"))
        .map_or_else(|_| String::new(), |text| String::from_utf8_lossy(&text).into())
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The effective capabilities of a thread, as bits; none when it is gone.
pub fn capabilities(tid: i32) -> u64 {
    let status = status(tid);
    field(&status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0)
}

/// Locked memory of a thread's process, in bytes.
pub fn locked(tid: i32) -> u64 {
    let status = status(tid);
    let text = field(&status, "VmLck").and_then(|text| text.strip_suffix(" kB"));
    text.and_then(|kib| kib.trim().parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// The process that a descriptor of a thread stands for.
pub fn of_pidfd(tid: i32, fd: i32) -> Option<i32> {
    let facts = fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}")).ok()?;
    field(&facts, "Pid")?.parse().ok()
}

/// Real and saved user id of a process.
pub fn owners(pid: i32) -> Option<(u32, u32)> {
    let status = status(pid);
    let mut ids = field(&status, "Uid")?.split_ascii_whitespace().map(|id| id.parse().ok());
    let (real, _, saved) = (ids.next()??, ids.next()?, ids.next()??);
    Some((real, saved))
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
