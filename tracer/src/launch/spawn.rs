//! Starts the program: fork(2), new credentials, execve(2).
//!
//! The child is written by hand because [`std::process::Command`] knows nothing of capabilities, and because the probe
//! must know the child before it runs its first instruction.

mod child;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libc::sock_filter;
use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::sys::socket::MsgFlags;
use nix::unistd::Pid;
use nrtrace_profiles::event::Identity;

use self::child::Setup;
use super::environment::{Variables, find_program};
use super::guardian::{Guardian, Ward};
use super::identity_filter::IdentityPolicy;
use super::privileges::Privileges;
use super::{Error, Step, channel};
use crate::session;

/// Whom the program runs as.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// The identity with every capability ambient that nrtrace can give.
    Permissive(Identity),
    /// The identity and no capability.
    Enforced(Identity),
    /// The identity with what a profile grants, and nothing else.
    Confined(Confined),
    /// nrtrace's own.
    Unchanged,
}

/// What a service manager gives a service.
#[derive(Clone, Debug)]
pub struct Confined {
    /// The user.
    pub identity: Identity,
    /// Its ambient capabilities, one bit for each number.
    pub ambient: u64,
    /// Its bounding set; it cannot be larger than nrtrace's.
    pub bounding: u64,
    /// Whether `no_new_privs` is set.
    pub no_new_privs: bool,
    /// All of its variables.
    pub environment: Variables,
    /// What it is started behind.
    pub fence: Fence,
}

/// What takes away from a program what its user's rights do not.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    /// A mount namespace to enter.
    pub mounts: Option<Arc<OwnedFd>>,
    /// Whether it gets a host name of its own.
    pub host_name: bool,
    /// The file of a control group by which tasks join it, open for writing.
    pub group: Option<RawFd>,
    /// Where it starts; where nrtrace is, unless given.
    pub directory: Option<PathBuf>,
    /// Seccomp filters, all of which hold.
    pub filters: Vec<Vec<sock_filter>>,
}

impl Credentials {
    /// The user and group that the program is to have; `None` for nrtrace's own.
    pub fn owner(&self) -> Option<(u32, u32)> {
        match self {
            Self::Unchanged => None,
            _ => self.identity().map(|identity| (identity.uid, identity.gid)),
        }
    }

    /// Whom the program runs as; `None` for nrtrace's own user.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Permissive(identity) | Self::Enforced(identity) => Some(identity),
            Self::Confined(confined) => Some(&confined.identity),
            Self::Unchanged => None,
        }
    }
}

/// What is executed before the program, in the process that becomes it and so with its rights.
#[derive(Clone, Debug)]
pub struct Before {
    /// The file to execute.
    pub program: PathBuf,
    /// The arguments, the program's name as given first.
    pub arguments: Vec<OsString>,
    /// Whether it is no failure when it fails.
    pub may_fail: bool,
}

impl Before {
    /// Finds the program of a step.
    ///
    /// # Errors
    /// When it is nowhere, or cannot be executed.
    pub fn find(step: &session::Step, search: &[&OsStr]) -> Result<Self, Error> {
        let name = step.command.first().map(OsString::as_os_str).unwrap_or_default();
        let program = find_program(name, search)?;
        Ok(Self { program, arguments: step.command.clone(), may_fail: step.may_fail })
    }
}

/// All that a start takes.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// The file to execute.
    pub program: &'a Path,
    /// The arguments, the program's name as given first.
    pub arguments: &'a [OsString],
    /// What is executed before; where there is something, that the program could not be executed is told by its status.
    pub before: &'a [Before],
    /// The environment.
    pub environment: &'a Variables,
    /// Whom it runs as.
    pub credentials: &'a Credentials,
    /// What becomes of its changes of identity; of effect in a permissive run alone.
    pub policy: IdentityPolicy,
    /// Whether calls that would change the machine are answered in the kernel's place.
    pub guarded: bool,
    /// Whether it gets a session of its own, as a service does: else a signal to its process group reaches its caller.
    pub session: bool,
    /// What nrtrace can give.
    pub privileges: Privileges,
    /// The seccomp filter of a tracer, installed first of all; empty where there is none.
    pub trace_filter: &'a [sock_filter],
    /// The signals blocked in the program.
    pub signal_mask: SigSet,
    /// Descriptors that become its standard input, output and error; `None` for nrtrace's own.
    pub stdio: [Option<RawFd>; 3],
}

/// A child that waits before its first step. Dropped, it is killed, with its guardian.
#[derive(Debug)]
pub struct Paused {
    child: Ward,
    channel: OwnedFd,
    guardian: Guardian,
    subject: String,
}

/// A program that runs.
#[derive(Debug)]
pub struct Started {
    /// The process.
    pub child: Ward,
    /// Its parent, and the root of its tree.
    pub guardian: Guardian,
    /// Brings the calls that the filter caught.
    pub listener: Option<OwnedFd>,
    /// Whether changes of identity are answered by the filter alone, because a listener was there already.
    pub unsupervised: bool,
}

const KIND_LISTENER: u8 = 0;
const KIND_UNSUPERVISED: u8 = 1;
const KIND_FAILED: u8 = 2;
const KIND_WAITING: u8 = 3;

/// Forks the guardian and the child; returns when that waits for [`Paused::release`], and may be traced.
///
/// # Errors
/// When a process cannot be made, or an argument holds a NUL byte.
pub fn pause(launch: &Launch<'_>) -> Result<Paused, Error> {
    let subject = launch.program.display().to_string();
    let mut setup = Setup::new(launch)?;
    let pair = channel::pair();
    let (ours, theirs) = pair.map_err(|error| Error::system("making a channel to", &*subject, error))?;
    setup.channel = theirs.as_raw_fd();
    setup.other_end = ours.as_raw_fd();
    // SAFETY: the child calls async-signal-safe functions alone, on memory made beforehand.
    let (guardian, child) = unsafe { Guardian::start(&subject, &mut |guardian| setup.run(guardian)) }?;
    // A child that dies here has the last other end.
    drop(theirs);
    channel::receive(ours.as_fd(), MsgFlags::empty())
        .map_err(|error| Error::system("waiting for the child that becomes", &*subject, error))?;
    Ok(Paused { child, channel: ours, guardian, subject })
}

/// Has this process become the program, without a guardian or anybody who watches. It returns if that fails.
pub fn replace(launch: &Launch<'_>) -> Error {
    let subject = launch.program.display().to_string();
    match Setup::new(launch) {
        Ok(mut setup) => {
            let (step, source) = setup.replace();
            Error::Child { step, subject, source }
        }
        Err(error) => error,
    }
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
        let Self { child, channel, guardian, subject } = self;
        let failed = |error: std::io::Error| Error::system("releasing", subject.clone(), error);
        // A stream's write sends with MSG_NOSIGNAL, which matters if the child was killed.
        let mut channel = UnixStream::from(channel);
        channel.write_all(&[0]).map_err(failed)?;
        let mut started = Started { child, guardian, listener: None, unsupervised: false };
        loop {
            let (message, fd) = match channel::receive(channel.as_fd(), MsgFlags::empty()) {
                Ok(Some(received)) => received,
                // The channel closes with execve, or with the child's death, which waiting for it will show.
                Ok(None) => return Ok(started),
                Err(errno) => return Err(failed(errno.into())),
            };
            match message.kind {
                KIND_LISTENER => started.listener = fd,
                KIND_UNSUPERVISED => started.unsupervised = true,
                _ => {
                    let step = Step::from_number(message.part).unwrap_or(Step::Exec);
                    return Err(Error::Child { step, subject, source: Errno::from_raw(message.value) });
                }
            }
        }
    }
}

impl AsFd for Paused {
    /// The child's pidfd.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }
}
