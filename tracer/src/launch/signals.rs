//! The signals nrtrace gets while the program runs, and what each means.
//!
//! nrtrace and the program share a process group, so the terminal's job control (Ctrl-Z, `fg`) stops and continues
//! both without any doing: SIGTSTP, SIGTTIN, SIGTTOU and SIGCONT are left alone.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{MsgFlags, recv, send};

use super::Error;

/// The signals taken, next to the real-time ones: those that end, prompt or inform a program by default. Faults,
/// job control and what the C library's timers send are nrtrace's own.
const TAKEN: [i32; 10] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGCHLD,
    libc::SIGWINCH,
    libc::SIGPWR,
];

/// Signals received through a descriptor instead of handlers.
///
/// Made on the thread that runs the session, before others are started: they inherit the mask, and a thread without it
/// could be handed a signal in place of the descriptor.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    relay: Option<Relay>,
    before: SigSet,
}

/// Another process takes the signals, and hands on what concerns the program: nrtrace in a sandbox, which shares the process
/// group, hears of each by that way alone.
#[derive(Clone, Debug)]
pub struct Relay {
    /// A socket that keeps messages apart.
    pub socket: Arc<OwnedFd>,
    /// The signals that were blocked before that process took them: the program's mask.
    pub before: SigSet,
}

/// A signal, and who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub number: i32,
    /// The sender.
    pub sender: Sender,
}

/// Who sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The kernel, as the terminal does to its whole foreground process group.
    Kernel,
    /// A process; 0 for one outside nrtrace's pid namespace.
    Process(i32),
}

impl Signals {
    /// Takes the signals from here on. A signal that the caller has set to be ignored stays so, as nohup(1) and
    /// background jobs need it.
    ///
    /// # Errors
    /// When the kernel refuses a descriptor.
    pub fn take() -> Result<Self, Error> {
        Self::take_or_hear(None)
    }

    /// The same; with a relay, what arrives here is left alone and what it says counts.
    ///
    /// # Errors
    /// As for [`Signals::take`].
    pub fn take_or_hear(relay: Option<&Relay>) -> Result<Self, Error> {
        let failed = |error: Errno| Error::system("taking", "signals", error);
        // SAFETY: SIG_DFL is no handler. An ignored SIGCHLD would have the kernel reap the program unseen.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
        let mut mask = *SigSet::empty().as_ref();
        for number in TAKEN.into_iter().chain(real_time).filter(|number| !is_ignored(*number)) {
            // SAFETY: the set is valid, made empty by nix.
            unsafe { libc::sigaddset(&raw mut mask, number) };
        }
        // SAFETY: the set was made by the C library's functions; the real-time signals in it are only passed on to it.
        let mask = unsafe { SigSet::from_sigset_t_unchecked(mask) };
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&mask), Some(&mut before)).map_err(failed)?;
        let fd = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        match fd {
            Ok(fd) => {
                let before = relay.map_or(before, |relay| relay.before);
                Ok(Self { fd, relay: relay.cloned(), before })
            }
            Err(error) => {
                let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
                Err(failed(error))
            }
        }
    }

    /// The signals that were blocked before: the program's mask.
    pub fn mask_before(&self) -> SigSet {
        self.before
    }

    /// The next signal, if there is one.
    pub fn next(&self) -> Option<Received> {
        match &self.relay {
            Some(relay) => Received::hear(&relay.socket),
            None => self.arrived(),
        }
    }

    /// Takes the signals that have come, and tells whether one of them asks for an end.
    pub fn have_ended(&self) -> bool {
        let ends = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
        std::iter::from_fn(|| self.next()).any(|received| ends.contains(&received.number))
    }

    /// What has reached this process too, where another one takes the signals: that one may not have told of it yet.
    pub fn untold(&self) -> Option<Received> {
        self.relay.as_ref().and_then(|_| self.arrived())
    }

    /// The next one that has reached this process.
    fn arrived(&self) -> Option<Received> {
        let info = self.fd.read_signal().ok().flatten()?;
        let sender = match info.ssi_code {
            libc::SI_KERNEL => Sender::Kernel,
            _ => Sender::Process(info.ssi_pid as i32),
        };
        Some(Received { number: info.ssi_signo as i32, sender })
    }
}

impl Received {
    /// Hands it on to whoever has the other end; nobody is there when it comes too late.
    pub fn tell(self, socket: &OwnedFd) {
        let sender = match self.sender {
            Sender::Kernel => -1,
            Sender::Process(pid) => pid,
        };
        let message = [self.number.to_ne_bytes(), sender.to_ne_bytes()].concat();
        let _ = send(socket.as_raw_fd(), &message, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT);
    }

    fn hear(socket: &OwnedFd) -> Option<Self> {
        let mut message = [0; 8];
        let length = recv(socket.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT).ok()?;
        let ([number, sender], []) = message.as_chunks::<4>() else { return None };
        let sender = match i32::from_ne_bytes(*sender) {
            -1 => Sender::Kernel,
            pid => Sender::Process(pid),
        };
        (length == message.len()).then_some(Self { number: i32::from_ne_bytes(*number), sender })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.relay.as_ref().map_or_else(|| self.fd.as_fd(), |relay| relay.socket.as_fd())
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // What arrived after the end concerned the program: it must not end nrtrace before it has written its results.
        while self.arrived().is_some() {}
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

fn is_ignored(number: i32) -> bool {
    // SAFETY: zero is valid for the structure; a null action only asks.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(number, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Who sent a signal, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The terminal, to the process group of nrtrace and of the program.
    Terminal {
        /// Whether the program is still in that group.
        reached_program: bool,
    },
    /// The program or a descendant of it, which has signalled its own group (`kill(0, …)`).
    Tree,
    /// Somebody else, who sent it to nrtrace.
    Outside,
}

/// What a signal leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaction {
    /// The program gets it too.
    pub forward: bool,
    /// The run begins to end.
    pub stop: Option<Ending>,
}

/// How a run begins to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The program has had a signal that asks it to end: wait.
    Interrupt,
    /// Ask the whole tree.
    Terminate,
    /// Kill it.
    Kill,
}

/// What a signal leads to; `interrupted` after the user has pressed Ctrl-C once. SIGCHLD leads to nothing here.
pub fn reaction(number: i32, origin: Origin, interrupted: bool) -> Reaction {
    let stop = match (origin, number) {
        (Origin::Tree, _) | (_, libc::SIGCHLD) => return Reaction::default(),
        (Origin::Terminal { .. }, libc::SIGINT | libc::SIGQUIT) if interrupted => Some(Ending::Kill),
        (Origin::Terminal { .. }, libc::SIGINT | libc::SIGQUIT | libc::SIGHUP) => Some(Ending::Interrupt),
        (Origin::Outside, libc::SIGTERM) => {
            return Reaction { forward: false, stop: Some(Ending::Terminate) };
        }
        (Origin::Outside, libc::SIGINT) => Some(Ending::Interrupt),
        _ => None,
    };
    let forward = !matches!(origin, Origin::Terminal { reached_program: true });
    Reaction { forward, stop }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_on_is_what_was_taken() {
        let pair = crate::launch::channel::pair().unwrap();
        for sender in [Sender::Kernel, Sender::Process(0), Sender::Process(4711)] {
            let received = Received { number: libc::SIGHUP, sender };
            received.tell(&pair.0);
            assert_eq!(Received::hear(&pair.1), Some(received));
        }
        assert_eq!(Received::hear(&pair.1), None);
        drop(pair.0);
        assert_eq!(Received::hear(&pair.1), None);
    }

    #[test]
    fn each_signal_has_its_meaning() {
        use Ending::{Interrupt, Kill, Terminate};
        let terminal = Origin::Terminal { reached_program: true };
        let away = Origin::Terminal { reached_program: false };
        let outside = Origin::Outside;
        let cases = [
            (libc::SIGINT, terminal, false, false, Some(Interrupt)),
            (libc::SIGINT, terminal, true, false, Some(Kill)),
            (libc::SIGINT, away, false, true, Some(Interrupt)),
            (libc::SIGQUIT, terminal, false, false, Some(Interrupt)),
            (libc::SIGHUP, terminal, false, false, Some(Interrupt)),
            (libc::SIGWINCH, terminal, false, false, None),
            (libc::SIGWINCH, away, false, true, None),
            (libc::SIGINT, outside, false, true, Some(Interrupt)),
            (libc::SIGINT, outside, true, true, Some(Interrupt)),
            (libc::SIGTERM, outside, false, false, Some(Terminate)),
            (libc::SIGHUP, outside, false, true, None),
            (libc::SIGUSR1, outside, false, true, None),
            (libc::SIGQUIT, outside, false, true, None),
            (libc::SIGTERM, Origin::Tree, false, false, None),
            (libc::SIGCHLD, outside, false, false, None),
        ];
        for (number, origin, interrupted, forward, stop) in cases {
            let expected = Reaction { forward, stop };
            assert_eq!(reaction(number, origin, interrupted), expected, "{number} {origin:?}");
        }
    }
}
