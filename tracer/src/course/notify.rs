//! `READY=1` as in sd_notify(3).

use std::ffi::OsString;
use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt};

use crate::launch::{Error, tree};

/// The socket that `NOTIFY_SOCKET` names. It is an abstract one: nothing of it is left when nrtrace ends.
#[derive(Debug)]
pub struct Notify {
    socket: UnixDatagram,
    name: String,
}

impl Notify {
    /// Opens it.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub fn open() -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::system("opening", "the socket for sd_notify", error);
        let name = format!("nrtrace/{}/{:x}", std::process::id(), unique());
        let address = SocketAddr::from_abstract_name(&name).map_err(failed)?;
        let socket = UnixDatagram::bind_addr(&address).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        setsockopt(&socket, sockopt::PassCred, &true).map_err(|errno| failed(errno.into()))?;
        Ok(Self { socket, name })
    }

    /// The value of `NOTIFY_SOCKET`.
    pub fn variable(&self) -> OsString {
        format!("@{}", self.name).into()
    }

    /// Whether a process below `root` has said that the program is ready, since the last call.
    pub fn heard(&self, root: i32) -> bool {
        let mut ready = false;
        let mut bytes = [0; 4096];
        loop {
            let mut buffers = [IoSliceMut::new(&mut bytes)];
            let mut control = nix::cmsg_space!(UnixCredentials);
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
            let received = recvmsg::<()>(self.socket.as_raw_fd(), &mut buffers, Some(&mut control), flags);
            let Ok(received) = received else { return ready };
            let sender = received.cmsgs().ok().into_iter().flatten().find_map(|message| match message {
                ControlMessageOwned::ScmCredentials(credentials) => Some(credentials.pid()),
                _ => None,
            });
            // A helper such as systemd-notify(1) may have ended by now.
            let is_gone = |pid| !Path::new(&format!("/proc/{pid}")).exists();
            let ours = sender.is_some_and(|pid| tree::contains(root, pid) || is_gone(pid));
            let length = received.bytes;
            ready |= ours && says_ready(bytes.get(..length).unwrap_or_default());
        }
    }
}

fn says_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

/// A number that no earlier socket of this process had.
fn unique() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tree_is_heard() {
        let notify = Notify::open().unwrap();
        let address = SocketAddr::from_abstract_name(&notify.name).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let parent = nix::unistd::getppid().as_raw();
        for (text, root, heard) in [
            ("STATUS=starting", parent, false),
            ("STATUS=up\nREADY=1\n", parent, true),
            ("READY=1", std::process::id() as i32, false),
            ("READY=0", parent, false),
        ] {
            sender.send_to_addr(text.as_bytes(), &address).unwrap();
            assert_eq!(notify.heard(root), heard, "{text}");
        }
    }
}
