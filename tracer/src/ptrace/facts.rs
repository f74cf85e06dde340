//! What is known of a task between its stops, and what `/proc` tells of it.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;

use libc::pid_t;
use nrtrace_ebpf::record::Head;

use super::sys;
use crate::collect::leaf_first;
use crate::status::Status;

/// Facts of a task, each read again only after a call that may have changed it.
#[derive(Clone, Debug, Default)]
pub struct TaskFacts {
    /// Thread.
    pub tid: pid_t,
    /// Thread group.
    pub pid: pid_t,
    comm: [u8; 16],
    fsuid: u32,
    fsgid: u32,
    mnt_ns: u32,
    net_ns: u32,
    stale: Stale,
}

/// What must be read again.
#[derive(Clone, Copy, Debug, Default)]
struct Stale {
    comm: bool,
    credentials: bool,
    namespaces: bool,
}

impl TaskFacts {
    /// Everything about a task that was not known before.
    pub fn read(tid: pid_t) -> Self {
        let mut facts = Self { tid, pid: tid, ..Self::default() };
        facts.stale = Stale { comm: true, credentials: true, namespaces: true };
        facts.refresh();
        facts
    }

    /// The facts of a new task, made by this one.
    pub fn child(&self, tid: pid_t, namespaces: bool) -> Self {
        let mut child = Self { tid, pid: tid, ..self.clone() };
        child.stale.namespaces |= namespaces;
        child.read_status();
        child.refresh();
        child
    }

    /// Takes note that the task, now leader of group `pid`, runs a new program.
    pub fn executed(&mut self, pid: pid_t) {
        (self.tid, self.pid) = (pid, pid);
        self.stale.comm = true;
        self.stale.credentials = true;
        self.refresh();
    }

    /// The ids may change with the call the task is in.
    pub fn expire_credentials(&mut self) {
        self.stale.credentials = true;
    }

    /// The namespaces may change with the call the task is in.
    pub fn expire_namespaces(&mut self) {
        self.stale.namespaces = true;
    }

    /// The name may change with the call the task is in.
    pub fn expire_comm(&mut self) {
        self.stale.comm = true;
    }

    /// Reads again what may have changed. What cannot be read keeps its last value: the task is dying.
    pub fn refresh(&mut self) {
        if std::mem::take(&mut self.stale.comm) {
            self.read_comm();
        }
        if std::mem::take(&mut self.stale.credentials) {
            self.read_status();
        }
        if std::mem::take(&mut self.stale.namespaces) {
            self.mnt_ns = namespace(self.tid, "mnt").unwrap_or(self.mnt_ns);
            self.net_ns = namespace(self.tid, "net").unwrap_or(self.net_ns);
        }
    }

    fn read_comm(&mut self) {
        if let Ok(name) = fs::read(format!("/proc/{}/comm", self.tid)) {
            let name = name.strip_suffix(b"\n").unwrap_or(&name);
            let length = name.len().min(15);
            self.comm = [0; 16];
            self.comm[..length].copy_from_slice(&name[..length]);
        }
    }

    fn read_status(&mut self) {
        let Some(status) = Status::of(self.tid) else { return };
        self.pid = status.number("Tgid").unwrap_or(self.pid);
        self.fsuid = status.ids("Uid").map_or(self.fsuid, |[.., id]| id);
        self.fsgid = status.ids("Gid").map_or(self.fsgid, |[.., id]| id);
    }

    /// The common part of a record about this task, now.
    pub fn head(&self, kind: u16) -> Head {
        Head {
            kind,
            time: sys::monotonic(),
            pid: self.pid as u32,
            tid: self.tid as u32,
            fsuid: self.fsuid,
            fsgid: self.fsgid,
            mnt_ns: self.mnt_ns,
            net_ns: self.net_ns,
            comm: self.comm,
            ..Head::default()
        }
    }
}

fn namespace(tid: pid_t, kind: &str) -> Option<u32> {
    let metadata = fs::metadata(format!("/proc/{tid}/ns/{kind}")).ok()?;
    Some(metadata.ino() as u32)
}

/// The process that a task's thread group, or its parent, is: what a task belongs to when nobody saw it made.
pub fn origin(tid: pid_t) -> Option<pid_t> {
    let status = Status::of(tid)?;
    match status.number("Tgid")? {
        group if group != tid => Some(group),
        _ => status.number("PPid"),
    }
}

/// Whether a process has this one's mount namespace and root directory.
pub fn has_own_view(pid: pid_t) -> bool {
    let own = std::process::id() as pid_t;
    namespace(pid, "mnt").is_some_and(|found| Some(found) == namespace(own, "mnt"))
        && link(pid, "root").is_some_and(|root| root.is_empty())
}

/// The process that traces a task.
pub fn tracer(tid: pid_t) -> Option<pid_t> {
    Status::of(tid)?.number("TracerPid")
}

/// Whether there is a task of this id.
pub fn exists(tid: pid_t) -> bool {
    fs::metadata(format!("/proc/{tid}")).is_ok()
}

/// The path behind a link of `/proc/TID`, leaf first, as records carry it; `None` when it cannot be read.
pub fn link(tid: pid_t, name: &str) -> Option<Vec<u8>> {
    let link = format!("/proc/{tid}/{name}");
    let mut path = fs::read_link(&link).ok()?.into_os_string().into_vec();
    // The kernel marks what was removed; a name may also end so by itself.
    if path.ends_with(DELETED) && fs::metadata(&link).is_ok_and(|facts| facts.nlink() == 0) {
        path.truncate(path.len() - DELETED.len());
    }
    Some(leaf_first(&path))
}

const DELETED: &[u8] = b" (deleted)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_facts_are_read() {
        let tid = std::process::id() as pid_t;
        let head = TaskFacts::read(tid).head(1);
        assert_eq!((head.pid, head.tid), (tid as u32, tid as u32));
        assert_eq!(u64::from(head.mnt_ns), fs::metadata("/proc/self/ns/mnt").unwrap().ino() & 0xffff_ffff);
        // SAFETY: no arguments, no memory.
        assert_eq!(head.fsuid, unsafe { libc::geteuid() });
        assert_ne!(head.comm[0], 0);
    }

    #[test]
    fn a_removed_directory_keeps_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let odd = directory.path().join("odd (deleted)");
        fs::write(&odd, "").unwrap();
        let file = fs::File::open(&odd).unwrap();
        let fd = format!("fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        let tid = std::process::id() as pid_t;
        let name = link(tid, &fd).unwrap();
        assert!(name.starts_with(b"odd (deleted)/"));
        fs::remove_file(&odd).unwrap();
        assert_eq!(link(tid, &fd).unwrap(), name);
    }
}
