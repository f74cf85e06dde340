//! `READY=1` as in sd_notify(3).

use std::ffi::OsString;
use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt};

use crate::launch::Error;

/// The socket that `NOTIFY_SOCKET` names. It is an abstract one: nothing of it is left when nrtrace ends.
#[derive(Debug)]
pub struct Notify {
    socket: UnixDatagram,
    name: String,
    /// Who said that the program is ready and is not known yet, and how often that was looked at.
    unknown: Vec<(i32, u32)>,
}

/// So many looks is a sender waited for to become known: the record of its birth may come just after its message.
const LOOKS: u32 = 5;

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
        Ok(Self { socket, name, unknown: Vec::new() })
    }

    /// The value of `NOTIFY_SOCKET`.
    pub fn variable(&self) -> OsString {
        format!("@{}", self.name).into()
    }

    /// Whether a process that `belongs` to the program's tree, or did until it ended just now, has said that the program is
    /// ready, since the last call. Nobody else is believed; the kernel tells who sent a message.
    pub fn heard(&mut self, belongs: impl Fn(i32) -> bool) -> bool {
        let mut said = std::mem::take(&mut self.unknown);
        self.receive(|sender| said.push((sender, 0)));
        for (sender, looks) in said {
            if belongs(sender) {
                return true;
            }
            if looks < LOOKS {
                self.unknown.push((sender, looks + 1));
            }
        }
        false
    }

    /// Gives `ready` the sender of each message that says so.
    fn receive(&self, mut ready: impl FnMut(i32)) {
        let mut bytes = [0; 4096];
        loop {
            let mut buffers = [IoSliceMut::new(&mut bytes)];
            let mut control = nix::cmsg_space!(UnixCredentials);
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
            let received = recvmsg::<()>(self.socket.as_raw_fd(), &mut buffers, Some(&mut control), flags);
            let Ok(received) = received else { return };
            let sender = received.cmsgs().ok().into_iter().flatten().find_map(|message| match message {
                ControlMessageOwned::ScmCredentials(credentials) => Some(credentials.pid()),
                _ => None,
            });
            let length = received.bytes;
            if let Some(sender) = sender.filter(|_| says_ready(bytes.get(..length).unwrap_or_default())) {
                ready(sender);
            }
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
        let mut notify = Notify::open().unwrap();
        let address = SocketAddr::from_abstract_name(&notify.name).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let own = std::process::id() as i32;
        for (text, member, heard) in [
            ("STATUS=starting", own, false),
            ("STATUS=up\nREADY=1\n", own, true),
            ("READY=0", own, false),
            ("READY=1", own + 1, false),
        ] {
            sender.send_to_addr(text.as_bytes(), &address).unwrap();
            assert_eq!(notify.heard(|pid| pid == member), heard, "{text}");
        }
        assert!(notify.heard(|pid| pid == own), "its birth is told of after its message");
        sender.send_to_addr(b"READY=1", &address).unwrap();
        (0..=LOOKS).for_each(|_| assert!(!notify.heard(|_| false)));
        assert!(!notify.heard(|pid| pid == own), "the number may be somebody else's by now");
    }
}
