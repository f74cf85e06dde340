//! The watchdog: lets the tracer go on when somebody stops it.
//!
//! What is traced waits for its tracer, and a stopped one (SIGSTOP, to which nobody is deaf) would freeze it. The watchdog
//! is no descendant of nrtrace and has a session and a name of its own, so that whoever stops nrtrace with all its
//! children does not stop this. It ends with the tracer.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use libc::{c_int, pid_t};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(100);

/// Its name.
const NAME: &std::ffi::CStr = c"watchdog";

/// Starts the watchdog of process `tracer`, a child of this one.
///
/// # Errors
/// When there are no descriptors or processes.
pub fn start(tracer: pid_t) -> io::Result<()> {
    let of = Pid::from_raw(tracer).ok_or(io::ErrorKind::InvalidInput)?;
    let fd = pidfd_open(of, PidfdFlags::empty())?;
    let stat = format!("/proc/{tracer}/stat");
    // SAFETY: the children call plain system calls, and the C library's allocator, which stays consistent across fork(2);
    // they never return.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: as above.
            unsafe {
                if libc::fork() == 0 {
                    watch(fd.as_raw_fd(), &stat);
                }
                libc::_exit(0)
            }
        }
        between => {
            // SAFETY: the status is not wanted.
            unsafe { libc::waitpid(between, std::ptr::null_mut(), 0) };
            Ok(())
        }
    }
}

/// Whether that process is a watchdog, which must not be traced.
pub fn is_one(pid: pid_t) -> bool {
    let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let exe = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    name.strip_suffix(b"\n") == Some(NAME.to_bytes()) && exe(&pid.to_string()) == exe("self")
}

fn watch(tracer: c_int, stat: &str) -> ! {
    // SAFETY: plain system calls on a set and descriptors that are this process's own.
    unsafe {
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut signals);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const signals, std::ptr::null_mut());
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr(), 0, 0, 0);
        let kept = libc::fcntl(tracer, libc::F_DUPFD, 3);
        libc::dup2(kept, 0);
        if libc::syscall(libc::SYS_close_range, 1_u32, u32::MAX, 0_u32) == -1 {
            // Before Linux 5.9.
            for fd in 1..65_536 {
                libc::close(fd);
            }
        }
    }
    let mut fds = [libc::pollfd { fd: 0, events: libc::POLLIN, revents: 0 }];
    loop {
        // SAFETY: the array is valid.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), 1, PERIOD.as_millis() as c_int) };
        if ready > 0 {
            // SAFETY: ends this process.
            unsafe { libc::_exit(0) };
        }
        if is_stopped(stat) {
            let _ = crate::launch::tree::send(&0, libc::SIGCONT);
        }
    }
}

/// Whether the state in a proc_pid_stat(5) is that of a stopped process.
fn is_stopped(stat: &str) -> bool {
    let stat = std::fs::read(stat).unwrap_or_default();
    stat.iter().rposition(|byte| *byte == b')').is_some_and(|end| stat.get(end + 2) == Some(&b'T'))
}
