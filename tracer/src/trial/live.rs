//! A run in a sandbox that its user follows: it has the caller's standard input and signals, and tells how it comes along.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::socket::{MsgFlags, recv, send};
use nrtrace_profiles::event::Backend;
use serde::{Deserialize, Serialize};

use super::{Order, Report, Request, Sandboxed, TrialError};
use crate::backend::Ready;
use crate::ebpf;
use crate::launch::channel;
use crate::launch::signals::{Received, Relay, Sender, Signals};
use crate::launch::tree;
use crate::session::Progress;
use crate::status::Status;

/// What is told before the program starts, and while it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum News {
    /// The sandbox is there; remarks on what in it is not as outside.
    Made(Vec<String>),
    /// Something is ready to watch the program.
    Watched {
        /// Which.
        kind: Backend,
        /// What it is, in a few words.
        description: String,
        /// Why it is not the first choice.
        fallback: Option<String>,
        /// What the kernel's verifier said of the first choice; the end of it, where it is long.
        verifier: Option<String>,
    },
    /// The program comes along.
    Progress(Progress),
}

/// The longest message, and of what the verifier says so much of the end.
const LONGEST: usize = 64 << 10;
const VERIFIER: usize = 16 << 10;

impl News {
    pub(super) fn watched(ready: &Ready) -> Self {
        let log = ready.fallback.as_ref().and_then(ebpf::Error::verifier_log);
        Self::Watched {
            kind: ready.kind,
            description: ready.description.clone(),
            fallback: ready.fallback.as_ref().map(ToString::to_string),
            verifier: log.map(|log| {
                let start = log.len().saturating_sub(VERIFIER);
                log.get(start..).map_or_else(|| log.clone(), str::to_owned)
            }),
        }
    }
}

/// The side in the sandbox.
pub(super) struct Told {
    socket: Arc<OwnedFd>,
    blocked: u64,
}

impl Told {
    pub(super) fn new(socket: OwnedFd, blocked: u64) -> Self {
        Self { socket: Arc::new(socket), blocked }
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn relay(&self) -> Relay {
        Relay { socket: self.socket.clone(), before: unpacked(self.blocked) }
    }

    /// What finds no room is not waited for: more follows, and the program must not stop for a caller that has.
    pub(super) fn tell(&self, news: &News) {
        let text = serde_json::to_vec(news).unwrap_or_default();
        let wait = if matches!(news, News::Progress(_)) { MsgFlags::MSG_DONTWAIT } else { MsgFlags::empty() };
        let _ = send(self.socket.as_raw_fd(), &text, MsgFlags::MSG_NOSIGNAL | wait);
    }
}

/// Runs a program in a fresh sandbox as [`run`](super::run) does, but for the caller's user: with the caller's standard
/// input, open descriptors, mask of file modes and signals. Each signal that comes meanwhile is handed on.
///
/// # Errors
/// As for [`run`](super::run); with [`TrialError::Unmade`] and [`TrialError::Privileges`], nothing was run.
pub fn live(request: &Request, news: &mut dyn FnMut(News)) -> Result<Report, TrialError> {
    let unmade = |error: &dyn std::fmt::Display| TrialError::Unmade(error.to_string());
    let signals = Signals::take().map_err(|error| unmade(&error))?;
    let (ours, theirs) = channel::pair().map_err(|error| unmade(&error))?;
    let order = Order {
        request: request.clone(),
        called: Some(packed(&signals.mask_before())),
        lent: None,
        group: None,
        made: None,
    };
    let blocked = SigSet::thread_get_mask().map_err(|error| unmade(&error))?;
    let followed = Some((theirs.as_raw_fd(), *blocked.as_ref()));
    let sandboxed = Sandboxed::start(&order, followed, Stdio::inherit())?;
    drop(theirs);
    let root = i32::try_from(sandboxed.child.id()).unwrap_or(i32::MAX);
    follow(root, &ours, &signals, news);
    sandboxed.answer()
}

/// Hands signals on, and news, until nobody is at the other end.
fn follow(root: i32, socket: &OwnedFd, signals: &Signals, news: &mut dyn FnMut(News)) {
    let mut message = vec![0; LONGEST];
    loop {
        let mut fds = [socket.as_fd(), signals.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        if let Err(errno) = poll(&mut fds, PollTimeout::NONE)
            && errno != Errno::EINTR
        {
            return;
        }
        while let Some(received) = signals.next() {
            // A program that signals its whole group, of which nrtrace is, means itself.
            let own = matches!(received.sender, Sender::Process(pid) if pid > 0 && tree::contains(root, pid));
            if received.number != libc::SIGCHLD && !own {
                outside(received).tell(socket);
            }
        }
        match recv(socket.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return,
            Ok(length) => {
                if let Ok(told) = serde_json::from_slice(message.get(..length).unwrap_or_default()) {
                    news(outer(root, told));
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// A process of out here has no number in there.
fn outside(received: Received) -> Received {
    match received.sender {
        Sender::Process(_) => Received { sender: Sender::Process(0), ..received },
        Sender::Kernel => received,
    }
}

/// With the process ids of out here.
fn outer(root: i32, news: News) -> News {
    let News::Progress(Progress::Started { pid }) = news else { return news };
    let is_it = |of: &i32| Status::of(of).is_some_and(|status| status.numbers("NSpid").last() == Some(&pid));
    let found = tree::descendants(root).into_iter().map(|member| member.pid).find(is_it);
    News::Progress(Progress::Started { pid: found.map_or(pid, |pid| pid as u32) })
}

/// As one bit for each signal, from number 1 on.
fn packed(set: &SigSet) -> u64 {
    // SAFETY: the set is valid, and numbers beyond it are said to be none of it.
    let holds = |number: i32| unsafe { libc::sigismember(set.as_ref(), number) } == 1;
    (1..=64).filter(|number| holds(*number)).fold(0, |bits, number| bits | 1 << (number - 1))
}

fn unpacked(bits: u64) -> SigSet {
    let mut set = *SigSet::empty().as_ref();
    for number in (1..=64).filter(|number| bits & 1 << (number - 1) != 0) {
        // SAFETY: the set is valid, made empty by nix.
        unsafe { libc::sigaddset(&raw mut set, number) };
    }
    // SAFETY: the set was made by the C library's functions; the real-time signals in it are only passed on to it.
    unsafe { SigSet::from_sigset_t_unchecked(set) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::Signal;

    #[test]
    fn a_mask_is_what_it_was() {
        let set: SigSet = [Signal::SIGHUP, Signal::SIGUSR2].into_iter().collect();
        assert_eq!(packed(&set), 1 | 1 << 11);
        for bits in [0, 1 | 1 << 11, 1 << 39 | 1 << 63] {
            assert_eq!(packed(&unpacked(bits)), bits);
        }
    }
}
