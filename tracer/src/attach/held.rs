//! What a process holds open that ran before it was watched: its start must have opened that.

use std::fs;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nrtrace_ebpf::record::SocketRecord;
use nrtrace_profiles::event::Protocol;

use super::process;
use crate::listeners::{self, Listener};

/// Standard input, output and error are handed to a program by whoever starts it.
const STANDARD: i32 = 2;

/// A descriptor that was held, as the call that makes such a one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The descriptor.
    pub fd: i32,
    /// What it is.
    pub what: What,
}

/// What a descriptor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A file.
    File {
        /// Absolute, below the process's root directory.
        path: Vec<u8>,
        /// As open(2) takes them.
        flags: i32,
    },
    /// A socket that waits.
    Listener {
        /// A `struct sockaddr` of its kind.
        address: Vec<u8>,
        /// The socket.
        socket: SocketRecord,
        /// Whether its port is one that takes a right in its network namespace.
        privileged: bool,
    },
}

/// What a process holds, and its root directory; nothing when it is gone.
pub fn of(pid: i32) -> (Vec<Held>, Vec<u8>) {
    let root = fs::read_link(format!("/proc/{pid}/root")).map_or_else(|_| b"/".to_vec(), bytes);
    let sockets = Sockets::of(pid);
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let fds = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut fds: Vec<i32> = fds.filter(|fd| *fd > STANDARD).collect();
    fds.sort_unstable();
    let what = |fd: i32| {
        let target = bytes(fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?);
        if target.first() == Some(&b'/') { file(pid, fd, &target, &root) } else { sockets.listener(&target) }
    };
    (fds.into_iter().filter_map(|fd| Some(Held { fd, what: what(fd)? })).collect(), root)
}

fn bytes(path: std::path::PathBuf) -> Vec<u8> {
    path.into_os_string().into_vec()
}

fn file(pid: i32, fd: i32, target: &[u8], root: &[u8]) -> Option<What> {
    let facts = fs::metadata(format!("/proc/{pid}/fd/{fd}")).ok()?;
    let kind = facts.file_type();
    // What was removed has no name to be granted, and a terminal is whose session it is.
    let named = facts.nlink() > 0 && !target.ends_with(b" (deleted)") && !target.starts_with(b"/dev/pts/");
    if !named || !(kind.is_file() || kind.is_dir() || kind.is_char_device() || kind.is_block_device()) {
        return None;
    }
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = i32::from_str_radix(flags.trim(), 8).ok().filter(|flags| flags & libc::O_PATH == 0)?;
    let below = if root == b"/" {
        target
    } else {
        target.strip_prefix(root).filter(|rest| rest.starts_with(b"/"))?
    };
    Some(What::File { path: below.to_vec(), flags })
}

/// What waits in the network namespace of a process.
struct Sockets {
    internet: Vec<Listener>,
    unix: Vec<(String, String)>,
    /// The first port that takes no right.
    free: u16,
}

impl Sockets {
    fn of(pid: i32) -> Self {
        let free = process::unprivileged_port_start(pid);
        let free = free.unwrap_or_else(crate::recording::unprivileged_port_start);
        Self { internet: listeners::of(pid), unix: listeners::unix(pid), free }
    }

    fn listener(&self, target: &[u8]) -> Option<What> {
        if let Some(found) = self.internet.iter().find(|found| found.socket.as_bytes() == target) {
            let (ty, protocol) = match found.protocol {
                Protocol::Udp => (libc::SOCK_DGRAM, libc::IPPROTO_UDP),
                _ => (libc::SOCK_STREAM, libc::IPPROTO_TCP),
            };
            let (family, address) = sockaddr(found);
            let socket = record(family, ty, protocol, found.port);
            return Some(What::Listener { address, socket, privileged: found.port < self.free });
        }
        let (path, _) = self.unix.iter().find(|(_, name)| name.as_bytes() == target)?;
        let address = [&(libc::AF_UNIX as u16).to_ne_bytes()[..], path.as_bytes()].concat();
        let socket = record(libc::AF_UNIX, libc::SOCK_STREAM, 0, 0);
        path.starts_with('/').then_some(What::Listener { address, socket, privileged: false })
    }
}

fn record(family: i32, ty: i32, protocol: i32, port: u16) -> SocketRecord {
    SocketRecord { family: family as u16, ty: ty as u16, protocol: protocol as u16, port }
}

fn sockaddr(found: &Listener) -> (i32, Vec<u8>) {
    let port = found.port.to_be_bytes();
    match found.address {
        IpAddr::V4(address) => {
            let family = libc::AF_INET;
            (family, [&(family as u16).to_ne_bytes()[..], &port, &address.octets(), &[0; 8]].concat())
        }
        IpAddr::V6(address) => {
            let family = libc::AF_INET6;
            let flow = [0; 4];
            (family, [&(family as u16).to_ne_bytes()[..], &port, &flow, &address.octets(), &[0; 4]].concat())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn files_and_listeners_are_found_and_what_has_no_name_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = fs::File::options().append(true).create(true).open(&path).unwrap();
        let gone = tempfile::tempfile().unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let unix = std::os::unix::net::UnixListener::bind(directory.path().join("sock")).unwrap();
        let (held, root) = of(std::process::id() as i32);
        assert_eq!(root, b"/");
        let what = |fd: i32| held.iter().find(|held| held.fd == fd).map(|held| held.what.clone());
        let Some(What::File { path: found, flags }) = what(log.as_raw_fd()) else { panic!("{held:?}") };
        assert_eq!(found, path.as_os_str().as_bytes());
        assert_eq!(flags & (libc::O_ACCMODE | libc::O_APPEND), libc::O_WRONLY | libc::O_APPEND);
        assert_eq!(what(gone.as_raw_fd()), None);
        let Some(What::Listener { socket, privileged, .. }) = what(tcp.as_raw_fd()) else {
            panic!("{held:?}")
        };
        assert_eq!((socket.port, privileged), (tcp.local_addr().unwrap().port(), false));
        let Some(What::Listener { address, .. }) = what(unix.as_raw_fd()) else { panic!("{held:?}") };
        assert!(address.ends_with(b"/sock"));
    }
}
