//! A throw-away copy of this machine: private namespaces over overlays of all its file systems.
//!
//! Three processes hold a sandbox. The outer one makes the namespaces and keeps the deadline; its child is process 1 of
//! the pid namespace, makes the mounts, and buries what is orphaned; below it runs what the sandbox is for. Each is
//! killed when its parent dies, and the death of process 1 kills whatever else is in the namespace; the mounts vanish
//! with the last process. So nothing has to be cleaned up, however it ends.
//!
//! What is written stays in memory (tmpfs) and is gone with the sandbox. The kernel's own files (`/proc`, `/sys`) and
//! device nodes are the machine's, with ordinary permissions: what is written to a device reaches it, unless the sandbox
//! is guarded.

mod group;
mod guard;
mod link;
pub(crate) mod mounts;
mod network;
mod root;
mod shares;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitStatus, wait, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getppid, sethostname};
use serde::{Deserialize, Serialize};

pub use self::group::{Group, Kept};
pub use self::shares::Shares;
use crate::launch::Error;

/// What a sandbox is like.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layout {
    /// The process that must outlive it.
    pub parent: u32,
    /// Everything in it is killed after this time; [`Duration::MAX`] for never.
    pub deadline: Duration,
    /// Whether it has a network of its own, with a loopback interface and one that leads nowhere.
    pub private_network: bool,
    /// Its host name; the machine's unless given.
    pub host_name: Option<String>,
    /// Directories that are empty in it, with their modes. What is mounted there on the machine is not shown.
    pub empty: Vec<(PathBuf, u32)>,
    /// What is in `/dev`.
    pub devices: Devices,
    /// What is shown as it is on the machine, without an overlay.
    pub binds: Vec<Bind>,
    /// First port that needs no privilege, in a network of its own; the machine's unless given.
    pub unprivileged_port_start: Option<u16>,
    /// Whether the ways are shut by which a program with capabilities changes the machine from inside: what the kernel
    /// shows in `/sys` is read-only, and there are no block devices.
    pub guarded: bool,
    /// Soft limit on the number of open files; the caller's unless given.
    pub open_files: Option<u64>,
}

/// What is in `/dev`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Devices {
    /// What the machine has.
    Machine,
    /// These character devices alone: name, major and minor number, mode.
    Some(Vec<(String, u64, u64, u32)>),
}

/// A file or directory of the machine that is shown as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Path on the machine.
    pub source: PathBuf,
    /// Absolute path inside.
    pub target: PathBuf,
    /// Whether it can be written to from inside.
    pub writable: bool,
}

/// How a sandbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this exit status; 128 and the number of the signal, where one ended it.
    Ended(u8),
    /// It was still busy at its deadline, and was killed.
    Late,
}

/// Exit status of a sandbox that could not be made, inside this module.
const BROKEN: u8 = 125;

/// Makes a sandbox and calls `body` in it, as root, on a fresh process with one thread. It gets remarks on what of the
/// machine is not as it is outside, and returns the exit status.
///
/// Must be called from a process with one thread, started for the purpose: it stays in the namespaces it makes.
///
/// # Errors
/// When the namespaces or mounts cannot be made. What fails inside is told on standard error, and the status is 125.
pub fn enter(layout: &Layout, body: &mut dyn FnMut(&[String]) -> u8) -> Result<Outcome, Error> {
    hold(layout, &mut |remarks| bury(&mut || body(remarks)), &mut |error| eprintln!("sandbox: {error}"))
}

/// Makes a sandbox and calls `first` as process 1 of it; that can execute a program which goes on with [`bury`], so that
/// nothing in the sandbox is mapped from the machine. Process 1 calls `broken` when that fails, and ends. Otherwise as
/// [`enter`].
///
/// # Errors
/// As for [`enter`].
pub fn hold(
    layout: &Layout,
    first: &mut dyn FnMut(&[String]) -> Result<u8, Error>,
    broken: &mut dyn FnMut(&Error),
) -> Result<Outcome, Error> {
    die_with(Pid::from_raw(layout.parent as i32))?;
    let network = if layout.private_network { CloneFlags::CLONE_NEWNET } else { CloneFlags::empty() };
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | network;
    let kept = network::Kept::read(layout);
    unshare(flags).map_err(failed("making", "the namespaces of a sandbox (this takes root)"))?;
    // SAFETY: this process has one thread, so the child may use whatever it likes.
    match unsafe { fork() }.map_err(failed("forking", "process 1 of a sandbox"))? {
        ForkResult::Child => {
            let status = first_process(layout, &kept, first).unwrap_or_else(|error| {
                broken(&error);
                BROKEN
            });
            std::process::exit(status.into())
        }
        ForkResult::Parent { child } => keep_deadline(child, layout.deadline),
    }
}

fn failed<S: Into<String>>(operation: &'static str, subject: S) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::system(operation, subject, errno)
}

fn keep_deadline(child: Pid, limit: Duration) -> Result<Outcome, Error> {
    use rustix::process;
    use std::os::fd::AsFd;
    let waiting = |errno| Error::system("waiting for", "a sandbox", errno);
    let of = process::Pid::from_raw(child.as_raw()).ok_or(Errno::ESRCH).map_err(waiting)?;
    let fd = process::pidfd_open(of, process::PidfdFlags::empty())
        .map_err(|errno| waiting(Errno::from_raw(errno.raw_os_error())))?;
    let deadline = std::time::Instant::now().checked_add(limit);
    loop {
        let left = deadline.map(|end| end.saturating_duration_since(std::time::Instant::now()));
        let timeout =
            left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => {
                crate::launch::tree::send(&fd, libc::SIGKILL).map_err(waiting)?;
                waitpid(child, None).map_err(waiting)?;
                return Ok(Outcome::Late);
            }
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => break,
            Err(errno) => return Err(waiting(errno)),
        }
    }
    let ended = waitpid(child, None).map_err(waiting)?;
    Ok(Outcome::Ended(status_of(ended).unwrap_or(BROKEN)))
}

fn status_of(status: WaitStatus) -> Option<u8> {
    match status {
        WaitStatus::Exited(_, status) => Some(status as u8),
        WaitStatus::Signaled(_, signal, _) => Some(128 + signal as u8),
        _ => None,
    }
}

/// Process 1: makes the mounts.
fn first_process(
    layout: &Layout,
    kept: &network::Kept,
    first: &mut dyn FnMut(&[String]) -> Result<u8, Error>,
) -> Result<u8, Error> {
    // The outer process is in another pid namespace and shows as 0.
    die_with(Pid::from_raw(0))?;
    let before = umask(Mode::empty());
    let remarks = root::make(layout, kept)?;
    umask(before);
    if let Some(name) = &layout.host_name {
        sethostname(name).map_err(failed("setting", "the host name"))?;
    }
    if let Some(wanted) = layout.open_files {
        let limits = failed("limiting", "the number of open files");
        let (_, hard) =
            getrlimit(Resource::RLIMIT_NOFILE).map_err(|errno| Error::system("reading", "limits", errno))?;
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(wanted), hard).map_err(limits)?;
    }
    first(&remarks)
}

/// Calls `body` in a child of process 1, which this is, and buries what is orphaned until it has ended; its status.
///
/// # Errors
/// When it cannot fork or wait.
pub fn bury(body: &mut dyn FnMut() -> u8) -> Result<u8, Error> {
    // SAFETY: this process has one thread, so the child may use whatever it likes.
    let child = match unsafe { fork() }.map_err(failed("forking", "in a sandbox"))? {
        ForkResult::Child => {
            let ready = die_with(Pid::from_raw(1));
            let status = match ready {
                Ok(()) => body(),
                Err(error) => {
                    eprintln!("sandbox: {error}");
                    BROKEN
                }
            };
            std::process::exit(status.into())
        }
        ForkResult::Parent { child } => child,
    };
    loop {
        let ended = wait().map_err(failed("waiting", "in a sandbox"))?;
        if let Some(status) = status_of(ended).filter(|_| ended.pid() == Some(child)) {
            return Ok(status);
        }
    }
}

/// Has this process killed when its parent, which must be `parent`, dies.
fn die_with(parent: Pid) -> Result<(), Error> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(failed("asking for", "a signal when the parent dies"))?;
    if getppid() == parent {
        return Ok(());
    }
    Err(Error::system("staying in", "a sandbox that nobody wants any more", Errno::ESRCH))
}

/// Writes a kernel parameter.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|error| Error::system("writing", path.display().to_string(), error))
}
