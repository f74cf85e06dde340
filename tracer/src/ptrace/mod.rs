//! The ptrace backend: the same records as the eBPF probe's, where eBPF is not to be had.
//!
//! ```text
//! launcher ── child: allow_tracer ─ wait ─ install(filter) ─ execve
//!    │                         ▲ seized
//!    └ Tracer ── fork ──▶ tracer process: wait(2) ─▶ Engine ─▶ Entry, Foreteller ─▶ Ring ──▶ Tracer::drain
//! ```
//!
//! A seccomp filter stops the calls of interest alone, once, at their entry, where a [`Foreteller`] can put them to an
//! access oracle; a second stop brings the result where it is wanted ([`Stops`]).
//!
//! Limits in the nature of ptrace(2):
//! - A call that a seccomp filter answers by itself (the identity filter's set*uid, a filter of the tracee) never
//!   stops and is not seen.
//! - A tracee cannot be traced by another tracee (a debugger among the programs gets `EPERM`), and cannot enter
//!   seccomp's strict mode.
//! - What is written below `/proc/sys` is not seen, unlike the open before it: a stop for each write(2) of the
//!   tree would be too many. Standard error is seen on descriptor 2.
//! - Calls by x32 numbers, and what `io_uring` does, are not seen.

mod calls;
mod encode;
mod engine;
mod entry;
mod facts;
mod filter;
mod fixup;
mod judge;
mod memory;
mod nearness;
mod process;
mod registers;
mod ring;
pub(crate) mod socket;
mod support;
mod sys;
mod tracee;
pub(crate) mod watchdog;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libc::pid_t;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nrtrace_profiles::calls::Row;

pub use calls::CLONE_NEW;
pub use filter::{Installed, MARK, allow_tracer, filter, install};
pub use judge::{CallAtEntry, Ending, Foreteller, Foretold, Predicted};
pub use support::{Support, support};

/// How often a call of interest stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stops {
    /// Once, at its entry, for the judge: the checks it foretells are recorded, and no calls.
    Checks,
    /// Once, at its entry: what it asks for is known, not what came of it. Each call has a record
    /// (`FLAG_NO_RESULT`), whatever the row says about results.
    Entry,
    /// At its entry and its exit: the record has the result, and the row says which results are worth one. Where
    /// the judge foretells the ending, at its entry alone.
    EntryAndExit,
}

/// What to trace.
#[derive(Clone, Debug)]
pub struct Options {
    /// The calls of interest: the rows given to [`filter`].
    pub rows: Vec<Row>,
    /// How often they stop.
    pub stops: Stops,
    /// Leave out the calls that the process watched makes before it executes a program: they are the launcher's.
    pub from_exec: bool,
    /// Kill the whole tree when the tracer goes, however it goes (`PTRACE_O_EXITKILL`). Without it the tree would
    /// live on and get `ENOSYS` for each call of interest, so only a tree without [`filter`] does.
    pub kill_tree: bool,
    /// What is traced runs already, without [`filter`]: all its calls stop, at their entries and exits. Nothing in it is
    /// changed, so that it goes on as if nothing had been when the tracer is gone.
    pub attach: bool,
}

/// Makes the judge, in the tracer process.
///
/// That process is a fork: other threads do not exist in it, and all file descriptors are closed. So what needs either
/// is made here and not carried in; and what is made must not wait(2) for children.
pub type MakeJudge = Box<dyn FnOnce() -> Box<dyn Foreteller>>;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tracer process could not be made.
    #[error("cannot {operation} for the ptrace backend: {source}")]
    Start {
        /// What failed.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The process to watch could not be identified.
    #[error("cannot find the process behind a pidfd: {0}; is /proc mounted?")]
    Pidfd(io::Error),
    /// The process could not be seized.
    #[error("cannot trace process {pid}: {}", reason(source))]
    Seize {
        /// The process.
        pid: pid_t,
        /// Why.
        source: io::Error,
    },
}

fn reason(source: &io::Error) -> String {
    match source.raw_os_error() {
        Some(libc::EPERM) => format!(
            "{source}; another tracer holds it, or CAP_SYS_PTRACE is missing, or kernel.yama.ptrace_scope is 2 or 3"
        ),
        Some(libc::EPIPE | libc::ECONNRESET) => {
            "the tracer process has died; run again, and report it if it does so again".to_owned()
        }
        _ => source.to_string(),
    }
}

/// The ptrace backend at work. Dropping it ends the tracer process, and with [`Options::kill_tree`] all tracees.
#[derive(Debug)]
pub struct Tracer {
    pid: pid_t,
    control: OwnedFd,
    ring: ring::Reader,
}

impl Tracer {
    /// Starts the tracer process, with nothing to trace yet.
    ///
    /// # Errors
    /// [`Error::Start`] when memory, descriptors or processes run out.
    pub fn start(options: Options, judge: Option<MakeJudge>) -> Result<Self, Error> {
        let start = |operation, source: io::Error| Error::Start { operation, source };
        let (writer, ring) = ring::ring().map_err(|error| start("make the queue", error))?;
        let kind = (AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
        let (control, far_end) = socketpair(kind.0, kind.1, None, kind.2)
            .map_err(|error| start("make a socket pair", error.into()))?;
        let keep = ring.as_fd().as_raw_fd();
        let place = writer.place();
        let make = || engine::Engine::new(options, writer, judge.map(|make| make()));
        let pid = process::spawn(&far_end, keep, place, make).map_err(|error| start("fork", error))?;
        let tracer = Self { pid, control, ring };
        watchdog::start(pid).map_err(|error| start("start the watchdog", error))?;
        Ok(tracer)
    }

    /// Seizes the process behind a pidfd, which has one thread and has not yet installed the filter. When this
    /// returns, it may.
    ///
    /// # Errors
    /// [`Error::Pidfd`], or [`Error::Seize`] with the reason.
    pub fn watch(&mut self, child: BorrowedFd<'_>) -> Result<(), Error> {
        let pid = pid_of(child).map_err(Error::Pidfd)?;
        self.ask(process::Request::Watch, pid)
    }

    /// Seizes process `pid`, which runs already, with all its threads, also those that it makes meanwhile; `from_exec`
    /// leaves out what it does before its next execve(2). One that is gone is left out.
    ///
    /// # Errors
    /// [`Error::Seize`] with the reason.
    pub fn adopt(&mut self, pid: pid_t, from_exec: bool) -> Result<(), Error> {
        let request = if from_exec { process::Request::AdoptFromExec } else { process::Request::Adopt };
        match self.ask(request, pid) {
            Err(Error::Seize { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    fn ask(&self, request: process::Request, pid: pid_t) -> Result<(), Error> {
        process::ask(&self.control, self.pid, request, pid).map_err(|source| Error::Seize { pid, source })
    }

    /// Gives each record that has come in, oldest first, to `sink`.
    pub fn drain(&mut self, sink: &mut dyn FnMut(&[u8])) {
        self.ring.drain(sink);
    }

    /// Records that could not be delivered, because the reader did not keep up for seconds.
    pub fn lost(&self) -> u64 {
        self.ring.lost()
    }

    /// Tasks being traced. Once it is 0, a [`Tracer::drain`] brings all there will ever be.
    pub fn tasks(&self) -> u32 {
        self.ring.tasks()
    }

    /// Whether a thread of process `pid` is traced.
    pub fn traces(&self, pid: pid_t) -> bool {
        self.tasks() > 0
            && crate::attach::process::threads(pid)
                .into_iter()
                .any(|tid| facts::tracer(tid) == Some(self.pid))
    }

    /// Process id of the tracer process.
    pub fn pid(&self) -> u32 {
        self.pid as u32
    }
}

impl AsFd for Tracer {
    /// Readable when records wait.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // SAFETY: plain numbers; the process is this one's child and was not waited for, so the id is still its own.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

/// The process behind a pidfd, from the `Pid:` line of its `fdinfo` (pidfd_open(2)).
fn pid_of(pidfd: BorrowedFd<'_>) -> io::Result<pid_t> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    info.lines()
        .find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
        .filter(|pid| *pid > 0)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}
