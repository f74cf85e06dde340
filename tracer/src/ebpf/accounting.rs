//! Where the kernel accounts for memory: it consults CAP_SYS_ADMIN there for no privilege, at each page that is written
//! to a tmpfs. The probe leaves out what is asked from that place, once it is told which it is; that is seen of a page of
//! this process's own.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nrtrace_ebpf::layout::TRACED;
use nrtrace_ebpf::{CheckRecord, Head, KIND_CHECK, record};

use super::Probe;
use super::attach::PIDFD_THREAD;
use crate::collect::symbols;

const CAP_SYS_ADMIN: u32 = 21;
/// The functions that ask; the first one may have left the stack, for asking is all it does.
const ACCOUNTING: [&str; 2] = ["cap_vm_enough_memory", "security_vm_enough_memory_mm"];
/// How near to the check the probe looks.
const DEPTH: usize = 6;

/// The place, where it was seen.
pub(super) fn find(probe: &mut Probe) -> Option<u64> {
    let own = own_task()?;
    probe.set_mark(own.as_fd(), TRACED, 0).ok()?;
    // Whether it succeeds does not matter.
    let _ = memfd_create("page", MFdFlags::MFD_CLOEXEC).map(|file| File::from(file).write_all(b"\0"));
    let unmarked = probe.marks.remove(own.as_fd());
    let mut found = None;
    probe.drain(&mut |bytes| found = found.or_else(|| place(bytes)));
    unmarked.ok()?;
    found
}

/// The calling thread.
fn own_task() -> Option<OwnedFd> {
    let (tid, pid) = (nix::unistd::gettid(), nix::unistd::getpid());
    let flags = if tid == pid { 0 } else { PIDFD_THREAD };
    // SAFETY: a plain system call; the result is checked.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, tid.as_raw(), flags) };
    // SAFETY: the descriptor is new and belongs to nobody else.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The place that a record tells of.
fn place(bytes: &[u8]) -> Option<u64> {
    if record::read::<Head>(bytes)?.kind != KIND_CHECK {
        return None;
    }
    let check = record::read::<CheckRecord>(bytes)?;
    let depth = DEPTH.min(check.stack_len as usize);
    let accounts =
        |address: &u64| symbols::caller(*address).is_some_and(|name| ACCOUNTING.contains(&name.as_str()));
    (check.cap == CAP_SYS_ADMIN).then(|| check.stack[..depth].iter().copied().find(accounts))?
}
