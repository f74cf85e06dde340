//! A tracee and its state as types: registers and memory are reachable only while it is stopped.

use std::io;

use libc::{c_int, c_long, pid_t};

use super::registers;
use super::sys::{self, SyscallInfo};

/// The tracee is gone: somebody killed it while it was stopped. wait(2) will bring its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Died;

/// A tracee that runs; the next that is heard of it comes from wait(2).
#[derive(Debug)]
pub struct Running(());

/// What wait(2) reported of a tracee.
#[derive(Debug)]
pub enum Report {
    /// It stopped.
    Stopped(Stopped, Stop),
    /// It has ended, with this wait status.
    Ended(pid_t, c_int),
}

/// Why a tracee stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A seccomp filter asked for it: entry of a call of interest.
    Seccomp,
    /// Entry or exit of a call, after [`Resume::Syscall`].
    Syscall,
    /// It made a task.
    Fork,
    /// It runs a new program.
    Exec,
    /// Its first stop, the end of a group-stop, or an interruption.
    Trap,
    /// A group-stop by this signal.
    Group(c_int),
    /// This signal is about to be delivered.
    Signal(c_int),
    /// An event that was not asked for.
    Other,
}

/// How to let a tracee go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Until the next event.
    Continue,
    /// Also stop at the next entry to or exit from a system call.
    Syscall,
}

/// A tracee in a ptrace-stop.
#[derive(Debug)]
pub struct Stopped {
    tid: pid_t,
}

impl Report {
    /// Reads what `waitpid` returned.
    pub fn new(tid: pid_t, status: c_int) -> Self {
        if !libc::WIFSTOPPED(status) {
            return Self::Ended(tid, status);
        }
        let signal = libc::WSTOPSIG(status);
        let stop = match status >> 16 {
            0 if signal == libc::SIGTRAP | 0x80 => Stop::Syscall,
            0 => Stop::Signal(signal),
            libc::PTRACE_EVENT_SECCOMP => Stop::Seccomp,
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => Stop::Fork,
            libc::PTRACE_EVENT_EXEC => Stop::Exec,
            sys::EVENT_STOP if signal == libc::SIGTRAP => Stop::Trap,
            sys::EVENT_STOP => Stop::Group(signal),
            _ => Stop::Other,
        };
        Self::Stopped(Stopped { tid }, stop)
    }
}

impl Stopped {
    /// Thread id.
    pub fn tid(&self) -> pid_t {
        self.tid
    }

    /// Lets the tracee run, with `signal` delivered if not 0.
    ///
    /// # Errors
    /// [`Died`] when it no longer exists.
    pub fn resume(self, how: Resume, signal: c_int) -> Result<Running, Died> {
        let how = match how {
            Resume::Continue => libc::PTRACE_CONT,
            Resume::Syscall => libc::PTRACE_SYSCALL,
        };
        sys::restart(how as c_long, self.tid, signal).map(|()| Running(())).map_err(|_| Died)
    }

    /// Leaves the tracee in its group-stop, as its real parent expects, but hears when that ends.
    ///
    /// # Errors
    /// [`Died`] when it no longer exists.
    pub fn listen(self) -> Result<Running, Died> {
        sys::restart(libc::PTRACE_LISTEN as c_long, self.tid, 0).map(|()| Running(())).map_err(|_| Died)
    }

    /// The call it is in.
    ///
    /// # Errors
    /// [`Died`] when it no longer exists.
    pub fn syscall(&self) -> Result<SyscallInfo, Died> {
        sys::syscall_info(self.tid).map_err(|_| Died)
    }

    /// The message of the event it stopped for: the new task's id, or the former thread id after execve(2).
    ///
    /// # Errors
    /// [`Died`] when it no longer exists.
    pub fn event_message(&self) -> Result<pid_t, Died> {
        sys::event_message(self.tid).map(|message| message as pid_t).map_err(|_| Died)
    }

    /// Changes the first argument of the call it is about to make; of a 32-bit one with `compat`.
    ///
    /// # Errors
    /// [`Died`] when it no longer exists.
    pub fn set_first_argument(&self, compat: bool, value: u64) -> Result<(), Died> {
        registers::set_first_argument(self.tid, compat, value).map_err(|_| Died)
    }

    /// Leaves out the call it is about to make, which fails with `ENOSYS`.
    ///
    /// # Errors
    /// [`Died`] when it no longer exists.
    pub fn refuse_call(&self) -> Result<(), Died> {
        registers::refuse(self.tid).map_err(|_| Died)
    }

    /// Overwrites memory.
    ///
    /// # Errors
    /// The range is not writable, or the tracee is gone.
    pub fn write_memory(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        match sys::write_vm(self.tid, address, bytes) {
            Ok(count) if count == bytes.len() => Ok(()),
            _ => std::fs::OpenOptions::new()
                .write(true)
                .open(format!("/proc/{}/mem", self.tid))?
                .write_all_at(bytes, address),
        }
    }
}
