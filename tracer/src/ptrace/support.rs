//! What this machine offers to the ptrace backend, found by trying: for `nrtrace doctor`.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use nrtrace_profiles::calls;
use rustix::process;

use super::{Installed, Options, Stops, Tracer, allow_tracer, filter, install};

/// What a trial run came to.
#[derive(Debug)]
pub struct Support {
    /// Whether a child can be traced; if not, why, and what to do.
    pub tracing: Result<(), String>,
    /// Whether a filter can make its calls stop, and what that takes; if not, why.
    pub filter: Result<Installed, String>,
}

/// Statuses of the child.
const AS_IS: i32 = 0;
const NO_NEW_PRIVILEGES: i32 = 1;
const REFUSED: i32 = 2;
const NOT_TRACED: i32 = 3;

/// Traces a child through one call.
pub fn support() -> Support {
    let (tracing, filter) = match try_it() {
        Ok((tracing, status)) => (tracing, told(status)),
        Err(error) => (Err(format!("cannot try it: {error}")), Err("not tried".to_owned())),
    };
    Support { tracing, filter }
}

fn told(status: WaitStatus) -> Result<Installed, String> {
    match status {
        WaitStatus::Exited(_, AS_IS) => Ok(Installed::AsIs),
        WaitStatus::Exited(_, NO_NEW_PRIVILEGES) => Ok(Installed::NoNewPrivileges),
        WaitStatus::Exited(_, REFUSED) => Err("the kernel has no seccomp filters (CONFIG_SECCOMP_FILTER), or the \
                                               container's seccomp profile forbids them; allow seccomp(2) there"
            .to_owned()),
        WaitStatus::Exited(_, NOT_TRACED) => Err("not tried, as the child could not be traced".to_owned()),
        other => Err(format!("the child of the trial ended strangely: {other:?}")),
    }
}

fn try_it() -> io::Result<(Result<(), String>, WaitStatus)> {
    let rows = calls::find("sethostname").copied().into_iter().collect::<Vec<_>>();
    let calls = filter(&rows);
    let options =
        Options { rows, stops: Stops::EntryAndExit, from_exec: false, kill_tree: true, attach: false };
    let mut tracer = Tracer::start(options, None).map_err(io::Error::other)?;
    let launcher = std::process::id() as libc::pid_t;
    let (ours, theirs) = UnixStream::pair()?;
    // SAFETY: the child makes system calls alone, on memory made before, and never returns.
    let child = match unsafe { fork() }? {
        ForkResult::Child => {
            allow_tracer(launcher);
            drop(ours);
            let _ = (&theirs).write(b"x");
            let mut byte = [0];
            let status = match (&theirs).read(&mut byte) {
                Ok(1) => match install(&calls) {
                    Ok(installed) => pass(installed),
                    Err(_) => REFUSED,
                },
                _ => NOT_TRACED,
            };
            // SAFETY: ends the child without what belongs to the parent.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => child,
    };
    drop(theirs);
    let _ = (&ours).read(&mut [0])?;
    let tracing = match pidfd(child) {
        Ok(pidfd) => tracer.watch(pidfd.as_fd()).map_err(|error| error.to_string()),
        Err(error) => Err(format!("cannot open a pidfd: {error}")),
    };
    if tracing.is_ok() {
        let _ = (&ours).write(b"x")?;
    }
    drop(ours);
    Ok((tracing, waitpid(child, None)?))
}

/// Makes the call that stops: it asks for a name of impossible length, which is refused however privileged one is.
fn pass(installed: Installed) -> i32 {
    // SAFETY: with such a length the kernel does not look at the name.
    unsafe { libc::syscall(libc::SYS_sethostname, std::ptr::null::<u8>(), -1) };
    match installed {
        Installed::AsIs => AS_IS,
        Installed::NoNewPrivileges => NO_NEW_PRIVILEGES,
    }
}

fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    let pid = process::Pid::from_raw(pid.as_raw()).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(process::pidfd_open(pid, process::PidfdFlags::empty())?)
}
