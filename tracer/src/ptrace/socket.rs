//! Looks at a tracee's socket through a duplicate of its descriptor.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

use libc::{c_int, pid_t};
use nrtrace_ebpf::record::SocketRecord;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// Family, type, protocol and local port of descriptor `fd` of process `pid`; `None` when it is no socket, or the
/// kernel does not let it be looked at (pidfd_getfd(2), since Linux 5.6).
pub fn look(pid: pid_t, fd: c_int) -> Option<SocketRecord> {
    let socket = duplicate(pid, fd)?;
    Some(SocketRecord {
        family: option(&socket, libc::SO_DOMAIN)?,
        ty: option(&socket, libc::SO_TYPE)?,
        protocol: option(&socket, libc::SO_PROTOCOL)?,
        port: local_port(&socket),
    })
}

/// Whether descriptor `fd` of process `pid` is a socket that is bound to a network interface.
pub fn is_bound_to_device(pid: pid_t, fd: c_int) -> bool {
    /// `SO_BINDTOIFINDEX`, since Linux 5.1; 0 for none.
    const INDEX: c_int = 62;
    duplicate(pid, fd).and_then(|socket| option(&socket, INDEX)).is_some_and(|index| index != 0)
}

fn duplicate(pid: pid_t, fd: c_int) -> Option<OwnedFd> {
    let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    pidfd_getfd(&process, fd, PidfdGetfdFlags::empty()).ok()
}

fn option(socket: &OwnedFd, name: c_int) -> Option<u16> {
    let mut value: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: `value` and `length` live through the call and fit each other.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut length)
    };
    (result == 0).then_some(value as u16)
}

fn local_port(socket: &OwnedFd) -> u16 {
    let mut address = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: `address` and `length` live through the call and fit each other.
    if unsafe { libc::getsockname(socket.as_raw_fd(), address.as_mut_ptr().cast(), &raw mut length) } != 0 {
        return 0;
    }
    let length = (length as usize).min(size_of::<libc::sockaddr_storage>());
    // SAFETY: the storage was zeroed, so all of its bytes are initialised.
    port(unsafe { std::slice::from_raw_parts(address.as_ptr().cast(), length) })
}

/// The port in a socket address; 0 where the family has none.
pub fn port(address: &[u8]) -> u16 {
    let [low, high, port @ ..] = address else { return 0 };
    match (c_int::from(u16::from_ne_bytes([*low, *high])), port) {
        (libc::AF_INET | libc::AF_INET6, [first, second, ..]) => u16::from_be_bytes([*first, *second]),
        _ => 0,
    }
}
