//! The process that traces.
//!
//! It is a process of its own, not a thread, as the kernel advises (`wait_consider_task` in `kernel/exit.c`): a
//! process that is both real parent and tracer of a child cannot tell the child's group-stops from its
//! ptrace-stops, and each of its threads can take the other's wait statuses. So the launcher waits for its child
//! as if nobody traced it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use libc::{c_int, pid_t};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::socket::{MsgFlags, recv, send};

use super::engine::Engine;
use super::nearness::Nearness;
use super::ring::ClaimedCpu;
use super::sys;
use super::tracee::Report;

/// How often the tracer looks whether its parent lives.
const TICK: Duration = Duration::from_millis(200);

/// After so many reports the tracer looks for its parent and its requests.
const REPORTS: u32 = 32;

/// Forks; the child becomes the tracer and never returns. `make` builds the engine there.
///
/// # Errors
/// What fork(2) says.
pub fn spawn(
    control: &OwnedFd,
    keep: RawFd,
    place: ClaimedCpu,
    make: impl FnOnce() -> Engine,
) -> io::Result<pid_t> {
    let parent = std::process::id() as pid_t;
    // A request may come before the child has its signal handler; the signal must wait for it.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let forked = fork(control, keep, parent, place, make);
    mask.thread_set_mask()?;
    forked
}

fn fork(
    control: &OwnedFd,
    keep: RawFd,
    parent: pid_t,
    place: ClaimedCpu,
    make: impl FnOnce() -> Engine,
) -> io::Result<pid_t> {
    // SAFETY: the child allocates and starts threads although other threads of this process may exist: the C libraries
    // make that work after fork(2), and none of their state is used before. It never returns from here.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let body = std::panic::AssertUnwindSafe(|| serve(control, keep, parent, place, make));
            let status = if std::panic::catch_unwind(body).is_ok() { 0 } else { 101 };
            // SAFETY: ends this process without running destructors and exit handlers that belong to the parent.
            unsafe { libc::_exit(status) }
        }
        child => Ok(child),
    }
}

fn serve(control: &OwnedFd, keep: RawFd, parent: pid_t, place: ClaimedCpu, make: impl FnOnce() -> Engine) {
    if let Err(error) = detach(&[control.as_raw_fd(), keep]) {
        panic!("cannot set up the tracer process: {error}");
    }
    // Before the judge takes away what it needs.
    let mut nearness = Nearness::new(place);
    let mut engine = make();
    // After the engine is made: a change of the filesystem ids takes it back. A parent that has died before is found below.
    // SAFETY: plain numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let mut handled = 0u32;
    loop {
        match sys::wait_any(true) {
            Ok(Some((tid, status))) => {
                nearness.iter_mut().for_each(|nearness| nearness.stopped(tid));
                engine.handle(Report::new(tid, status));
                handled = handled.wrapping_add(1);
                // Busy tracees keep the wait from ever being interrupted.
                if !handled.is_multiple_of(REPORTS) {
                    continue;
                }
            }
            Ok(None) => continue,
            // Interrupted by the timer or by a request, or without tracees.
            Err(error) => {
                if error.raw_os_error() == Some(libc::ECHILD) {
                    let timeout = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::ZERO);
                    let _ = poll(&mut [PollFd::new(control.as_fd(), PollFlags::POLLIN)], timeout);
                }
            }
        }
        // SAFETY: no arguments, no memory.
        if unsafe { libc::getppid() } != parent {
            return;
        }
        requests(control, &mut engine);
    }
}

/// What the parent asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Request {
    /// Seize a process of one thread that has not begun.
    Watch = 1,
    /// Seize a process that runs already.
    Adopt = 2,
    /// The same, and leave out what it does before its next execve(2).
    AdoptFromExec = 3,
}

/// Answers what the parent asks: a request and a process id, answered by an errno.
fn requests(control: &OwnedFd, engine: &mut Engine) {
    let mut request = [0u8; 5];
    while let Ok(5) = recv(control.as_raw_fd(), &mut request, MsgFlags::MSG_DONTWAIT) {
        let [kind, pid @ ..] = request;
        let pid = pid_t::from_ne_bytes(pid);
        let done = match kind {
            kind if kind == Request::Adopt as u8 => engine.attach(pid, false),
            kind if kind == Request::AdoptFromExec as u8 => engine.attach(pid, true),
            _ => engine.watch(pid),
        };
        let errno = match done {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        let _ = send(control.as_raw_fd(), &errno.to_ne_bytes(), MsgFlags::MSG_NOSIGNAL);
    }
}

/// Asks tracer process `tracer` for something about `pid`; waits for the answer.
///
/// # Errors
/// The tracer's errno, or `EPIPE` when it is gone.
pub fn ask(control: &OwnedFd, tracer: pid_t, request: Request, pid: pid_t) -> io::Result<()> {
    let [a, b, c, d] = pid.to_ne_bytes();
    send(control.as_raw_fd(), &[request as u8, a, b, c, d], MsgFlags::MSG_NOSIGNAL)?;
    loop {
        // The tracer sits in wait(2). A signal that comes just before that call is lost, so it is repeated.
        // SAFETY: plain numbers; the tracer is this process's child and not yet waited for.
        unsafe { libc::kill(tracer, libc::SIGALRM) };
        let mut fds = [PollFd::new(control.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(2u8)).is_ok_and(|ready| ready == 0) {
            continue;
        }
        let mut answer = [0u8; 4];
        match recv(control.as_raw_fd(), &mut answer, MsgFlags::empty()) {
            Ok(4) => match c_int::from_ne_bytes(answer) {
                0 => return Ok(()),
                errno => return Err(io::Error::from_raw_os_error(errno)),
            },
            Ok(_) => return Err(io::Error::from_raw_os_error(libc::EPIPE)),
            Err(nix::errno::Errno::EINTR) => (),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Cuts this process loose from the terminal, the signals and the descriptors of its parent.
fn detach(keep: &[RawFd]) -> io::Result<()> {
    // SAFETY: plain numbers, local structures and a handler that does nothing.
    unsafe {
        // Ctrl-C is for the program; the tracer sees it to its end. A session of its own would cost dear: the scheduler
        // shares a busy machine out among sessions (sched(7), autogroup), and each switch to the tracer and back would
        // have to wait for others.
        libc::setpgid(0, 0);
        libc::prctl(libc::PR_SET_NAME, c"nrtrace-ptrace".as_ptr(), 0, 0, 0);
        let mut action: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(c_int) = wake;
        action.sa_sigaction = handler as usize;
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
        // Each stop would send one.
        action.sa_sigaction = libc::SIG_DFL;
        action.sa_flags = libc::SA_NOCLDSTOP;
        libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut());
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut signals);
        libc::sigdelset(&raw mut signals, libc::SIGALRM);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const signals, std::ptr::null_mut());
        let period = libc::timeval { tv_sec: 0, tv_usec: TICK.as_micros() as _ };
        let timer = libc::itimerval { it_interval: period, it_value: period };
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
    close_others(keep)
}

extern "C" fn wake(_: c_int) {}

/// Closes what was inherited, so that nobody waits in vain for the end of a pipe; keeps standard error for panics.
fn close_others(keep: &[RawFd]) -> io::Result<()> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    // SAFETY: the descriptors are this process's own copies, whose owners belong to code that never runs here.
    unsafe {
        for fd in open.into_iter().filter(|fd| *fd > 2 && *fd != null.as_raw_fd() && !keep.contains(fd)) {
            libc::close(fd);
        }
        libc::dup2(null.as_raw_fd(), 0);
        libc::dup2(null.as_raw_fd(), 1);
    }
    Ok(())
}
