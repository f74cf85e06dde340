//! Starts the program: fork(2), new credentials, execve(2).
//!
//! The child is written by hand because [`std::process::Command`] knows nothing of capabilities, and because the probe
//! must know the child before it runs its first instruction.

mod child;

use std::ffi::{OsString, c_int};
use std::io::{IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use libc::sock_filter;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair,
};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use nrtrace_profiles::event::Identity;

use self::child::Setup;
use super::environment::Variables;
use super::identity_filter::IdentityPolicy;
use super::privileges::Privileges;
use super::{Error, Step};

/// Whom the program runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// The identity with every capability ambient that nrtrace can give.
    Permissive(Identity),
    /// The identity and no capability.
    Enforced(Identity),
    /// nrtrace's own.
    Unchanged,
}

/// All that a start takes.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// The file to execute.
    pub program: &'a Path,
    /// The arguments, the program's name as given first.
    pub arguments: &'a [OsString],
    /// The environment.
    pub environment: &'a Variables,
    /// Whom it runs as.
    pub credentials: &'a Credentials,
    /// What becomes of its changes of identity; of effect in a permissive run alone.
    pub policy: IdentityPolicy,
    /// What nrtrace can give.
    pub privileges: Privileges,
    /// The seccomp filter of a tracer, installed first of all; empty where there is none.
    pub trace_filter: &'a [sock_filter],
    /// The signals blocked in the program.
    pub signal_mask: SigSet,
}

/// A child that waits before its first step.
///
/// Dropped, it is killed. The thread that made it must live as long as the program does: the kernel kills the program
/// when that thread ends (`PR_SET_PDEATHSIG`, prctl(2)).
#[derive(Debug)]
pub struct Paused {
    child: Child,
    channel: OwnedFd,
    subject: String,
}

/// A program that runs.
#[derive(Debug)]
pub struct Started {
    /// The process; killed and reaped when dropped.
    pub child: Child,
    /// Brings the calls that the filter caught.
    pub listener: Option<OwnedFd>,
    /// Whether changes of identity are answered by the filter alone, because a listener was there already.
    pub unsupervised: bool,
}

/// A child process, killed and reaped when dropped unless [`Child::forget`] was called.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    armed: bool,
}

impl Child {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Leaves it to others to reap it.
    pub fn forget(&mut self) {
        self.armed = false;
    }
}

impl AsFd for Child {
    /// Its pidfd.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.armed {
            let _ = kill(self.pid, Signal::SIGKILL);
            while waitpid(self.pid, None) == Err(Errno::EINTR) {}
        }
    }
}

/// What the child tells: a kind, a step and an errno.
const MESSAGE: usize = 6;
const KIND_LISTENER: u8 = 0;
const KIND_UNSUPERVISED: u8 = 1;
const KIND_FAILED: u8 = 2;

/// Forks the child, which waits for [`Paused::release`].
///
/// # Errors
/// When the process cannot be made, or an argument holds a NUL byte.
pub fn pause(launch: &Launch<'_>) -> Result<Paused, Error> {
    let subject = launch.program.display().to_string();
    let failed = |operation| {
        let subject = subject.clone();
        move |error: Errno| Error::system(operation, subject, error)
    };
    let mut setup = Setup::new(launch)?;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(failed("making a channel to"))?;
    setup.channel = theirs.as_raw_fd();
    setup.other_end = ours.as_raw_fd();
    // SAFETY: the child calls async-signal-safe functions alone, on memory made beforehand, and never returns.
    let pid = match unsafe { fork() }.map_err(failed("forking"))? {
        // SAFETY: this is the freshly forked child.
        ForkResult::Child => unsafe { setup.run() },
        ForkResult::Parent { child } => child,
    };
    drop(theirs);
    // SAFETY: the child cannot be reaped before this thread does so; the result is checked.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let Ok(pidfd) = Errno::result(pidfd) else {
        let error = Errno::last();
        // With its channel closed the child ends by itself.
        drop(ours);
        let _ = waitpid(pid, None);
        return Err(failed("opening a pidfd for")(error));
    };
    // SAFETY: the descriptor is new and belongs to nobody else.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd as c_int) };
    Ok(Paused { child: Child { pid, pidfd, armed: true }, channel: ours, subject })
}

impl Paused {
    /// The child's process id.
    pub fn pid(&self) -> Pid {
        self.child.pid
    }

    /// Lets the child go on and waits until the program is executed.
    ///
    /// # Errors
    /// [`Error::Child`] when one of its steps fails.
    pub fn release(self) -> Result<Started, Error> {
        let Self { child, channel, subject } = self;
        let failed = |error: std::io::Error| Error::system("releasing", subject.clone(), error);
        // A stream's write sends with MSG_NOSIGNAL, which matters if the child was killed.
        let mut channel = UnixStream::from(channel);
        channel.write_all(&[0]).map_err(failed)?;
        let mut started = Started { child, listener: None, unsupervised: false };
        loop {
            let (message, fd) = match receive(channel.as_fd()) {
                Ok(Some(received)) => received,
                // The channel closes with execve, or with the child's death, which waiting for it will show.
                Ok(None) => return Ok(started),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(failed(errno.into())),
            };
            match message[0] {
                KIND_LISTENER => started.listener = fd,
                KIND_UNSUPERVISED => started.unsupervised = true,
                _ => {
                    let errno = i32::from_ne_bytes([message[2], message[3], message[4], message[5]]);
                    let step = Step::from_number(message[1]).unwrap_or(Step::Exec);
                    return Err(Error::Child { step, subject, source: Errno::from_raw(errno) });
                }
            }
        }
    }
}

impl AsFd for Paused {
    /// The child's pidfd.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }
}

type Received = ([u8; MESSAGE], Option<OwnedFd>);

fn receive(channel: BorrowedFd<'_>) -> Result<Option<Received>, Errno> {
    let mut message = [0; MESSAGE];
    let mut buffers = [IoSliceMut::new(&mut message)];
    let mut control = nix::cmsg_space!([c_int; 1]);
    let received =
        recvmsg::<()>(channel.as_raw_fd(), &mut buffers, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
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
    Ok(Some((message, fd)))
}
