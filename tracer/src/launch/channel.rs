//! Short messages between nrtrace and the processes it has forked, over a pair of SOCK_SEQPACKET sockets.

use std::ffi::c_int;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair,
};

/// What one message says; each end gives the parts their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// What it is about.
    pub kind: u8,
    /// A detail.
    pub part: u8,
    /// An errno, a process id, a status.
    pub value: i32,
}

/// Length of a message.
const LENGTH: usize = 6;

/// Both ends, closed by execve(2).
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Sends a message, with the descriptor `fd` unless that is negative. Async-signal-safe.
pub(super) fn send(channel: RawFd, message: Message, fd: c_int) -> Result<(), Errno> {
    let [a, b, c, d] = message.value.to_ne_bytes();
    let mut bytes: [u8; LENGTH] = [message.kind, message.part, a, b, c, d];
    let mut buffer = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: LENGTH };
    // Room for one header and one descriptor, aligned as the header is.
    let mut control = [0_u64; 4];
    // SAFETY: zero is valid for this structure; the control buffer has room for CMSG_SPACE(4) bytes, and everything
    // the header points to outlives the call.
    let sent = unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut buffer;
        header.msg_iovlen = 1;
        if fd >= 0 {
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(size_of::<c_int>() as u32) as _;
            let part = libc::CMSG_FIRSTHDR(&header);
            (*part).cmsg_level = libc::SOL_SOCKET;
            (*part).cmsg_type = libc::SCM_RIGHTS;
            (*part).cmsg_len = libc::CMSG_LEN(size_of::<c_int>() as u32) as _;
            libc::CMSG_DATA(part).cast::<c_int>().write_unaligned(fd);
        }
        libc::sendmsg(channel, &header, libc::MSG_NOSIGNAL)
    };
    Errno::result(sent).map(drop)
}

/// Receives a message with the descriptor in it; `None` when the other end is closed.
pub(super) fn receive(
    channel: BorrowedFd<'_>,
    flags: MsgFlags,
) -> Result<Option<(Message, Option<OwnedFd>)>, Errno> {
    let mut bytes = [0; LENGTH];
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let mut control = nix::cmsg_space!([c_int; 1]);
    let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
    let received = loop {
        match recvmsg::<()>(channel.as_raw_fd(), &mut buffers, Some(&mut control), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut fd = None;
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = message {
            // SAFETY: the kernel has just made these descriptors for this process.
            fd = fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).next();
        }
    }
    let [kind, part, a, b, c, d] = bytes;
    Ok(Some((Message { kind, part, value: i32::from_ne_bytes([a, b, c, d]) }, fd)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn messages_arrive_whole_and_in_order() {
        let (ours, theirs) = pair().unwrap();
        let first = Message { kind: 1, part: 2, value: -3 };
        let second = Message { kind: 4, part: 5, value: i32::MAX };
        send(theirs.as_raw_fd(), first, ours.as_raw_fd()).unwrap();
        send(theirs.as_raw_fd(), second, -1).unwrap();
        drop(theirs);
        let (message, fd) = receive(ours.as_fd(), MsgFlags::empty()).unwrap().unwrap();
        assert_eq!((message, fd.is_some()), (first, true));
        let (message, fd) = receive(ours.as_fd(), MsgFlags::MSG_DONTWAIT).unwrap().unwrap();
        assert_eq!((message, fd.is_some()), (second, false));
        assert!(receive(ours.as_fd(), MsgFlags::empty()).unwrap().is_none());
    }
}
