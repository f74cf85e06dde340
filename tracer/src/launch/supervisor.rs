//! Answers the calls that the filter caught, in the kernel's place.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::time::{ClockId, clock_gettime};
use nrtrace_profiles::event::{Object, Outcome};
use nrtrace_profiles::{Capability, RawText};

use super::Error;
use super::answer::{Answer, Answerer, Caught};
use super::identity_filter::{self, IdentityPolicy};
use crate::status::Status;

mod ioctl {
    use nix::libc;
    nix::ioctl_readwrite!(receive, b'!', 0, libc::seccomp_notif);
    nix::ioctl_readwrite!(send, b'!', 1, libc::seccomp_notif_resp);
    nix::ioctl_write_ptr!(is_valid, b'!', 2, u64);
}

/// A change of identity, a gift of ownership or, in a sandbox, a change of the machine that nrtrace answered in the kernel's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityCall {
    /// Process (thread group), numbered as in nrtrace's pid namespace.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// The kernel's short name of the thread.
    pub comm: RawText,
    /// `CLOCK_MONOTONIC`, in nanoseconds, when the call was made.
    pub time: u64,
    /// The call, by its name in the native table also when it came through the 32-bit one.
    pub name: &'static str,
    /// Its arguments.
    pub args: [u64; 6],
    /// The ids, or the file with its new owner and group.
    pub object: Object,
    /// What the program was told: [`Outcome::Answered`], or a failure with EPERM; [`Outcome::Unknown`] where the kernel did
    /// it and nobody else saw.
    pub outcome: Outcome,
    /// The capability that the kernel would have consulted, and whether the process has it, for a call that would have
    /// changed the machine.
    pub consulted: Option<(Capability, bool)>,
}

/// Threads that answer. One that waits for a file system (a FUSE daemon of the tree, say) does not hold up the others.
const THREADS: usize = 4;

/// Longest wait for the last answers once the tree is gone.
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers until the last process under the filter is gone, or it is dropped.
pub struct Supervisor {
    calls: Receiver<IdentityCall>,
    quit: Arc<EventFd>,
}

impl Supervisor {
    /// Starts to answer what `listener` brings. Where it is `alone`, nobody else sees these calls.
    ///
    /// # Errors
    /// When no thread or descriptor can be had.
    pub fn start(listener: OwnedFd, policy: IdentityPolicy, alone: bool) -> Result<Self, Error> {
        let failed = |error| Error::system("starting", "the identity supervisor", error);
        let quit = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).map_err(|error| failed(error.into()))?;
        let quit = Arc::new(quit);
        let desk = Arc::new(Desk {
            listener,
            turn: Mutex::new(()),
            quit: Arc::clone(&quit),
            judge: Answerer::new(policy, alone).map_err(failed)?,
        });
        let (sender, calls) = mpsc::channel();
        let supervisor = Self { calls, quit };
        for _ in 0..THREADS {
            let (desk, sender) = (Arc::clone(&desk), sender.clone());
            let thread = thread::Builder::new().name("identity".into());
            thread.spawn(move || desk.serve(&sender)).map_err(failed)?;
        }
        Ok(supervisor)
    }

    /// The calls answered since the last time, without waiting. A call of one batch may have been made a little before
    /// the last of the batch before.
    pub fn drain(&self) -> Vec<IdentityCall> {
        in_order(self.calls.try_iter().collect())
    }

    /// The last calls, once the tree is gone.
    pub fn finish(self) -> Vec<IdentityCall> {
        self.tell_to_quit();
        let deadline = Instant::now() + PATIENCE;
        let mut last = Vec::new();
        loop {
            match self.calls.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(call) => last.push(call),
                Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => return in_order(last),
            }
        }
    }

    fn tell_to_quit(&self) {
        // Only an overflow can fail, and then the threads have been told.
        let _ = self.quit.write(1);
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.tell_to_quit();
    }
}

fn in_order(mut calls: Vec<IdentityCall>) -> Vec<IdentityCall> {
    calls.sort_by_key(|call| call.time);
    calls
}

struct Desk {
    listener: OwnedFd,
    /// Held by the thread that waits: receiving blocks, so only after a poll by the same thread.
    turn: Mutex<()>,
    quit: Arc<EventFd>,
    judge: Answerer,
}

impl Desk {
    fn serve(&self, calls: &Sender<IdentityCall>) {
        while let Some(notification) = self.next() {
            let Some((caught, name)) = read(&notification) else {
                self.send(notification.id, Answer::Continue);
                continue;
            };
            let decided = self.judge.decide(&caught, &|| self.is_valid(notification.id));
            // A call that was interrupted meanwhile is made again, and recorded then.
            let sent = self.send(notification.id, decided.answer);
            if let (true, Some((object, outcome))) = (sent, decided.record) {
                let call = IdentityCall {
                    pid: caught.tgid,
                    tid: notification.pid,
                    comm: decided.comm,
                    time: caught.time,
                    name,
                    args: caught.args,
                    object,
                    outcome,
                    consulted: decided.consulted,
                };
                if calls.send(call).is_err() {
                    return;
                }
            }
        }
    }

    /// Waits for the next call; `None` when there will be none.
    fn next(&self) -> Option<libc::seccomp_notif> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut fds = [
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.quit.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(_) => return None,
                Ok(_) => {}
            }
            let has = |index: usize, flag| fds[index].revents().is_some_and(|events| events.contains(flag));
            if !has(0, PollFlags::POLLIN) {
                return None;
            }
            // SAFETY: the structure consists of integers, for which zero is valid; the kernel demands zeroes.
            let mut notification: libc::seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: the descriptor is a seccomp listener and the structure is of the type the request takes.
            match unsafe { ioctl::receive(self.listener.as_raw_fd(), &mut notification) } {
                Ok(_) => return Some(notification),
                // ENOENT: the caller was killed meanwhile.
                Err(Errno::EINTR | Errno::ENOENT) => {}
                Err(_) => return None,
            }
        }
    }

    fn is_valid(&self, id: u64) -> bool {
        // SAFETY: the descriptor is a seccomp listener; the request reads one u64.
        let valid = unsafe { ioctl::is_valid(self.listener.as_raw_fd(), &raw const id) };
        // Before Linux 5.9 the request has another number; the answer then fails where this would have.
        valid != Err(Errno::ENOENT)
    }

    fn send(&self, id: u64, answer: Answer) -> bool {
        let (val, error, flags) = match answer {
            Answer::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
            Answer::Value(value) => (value, 0, 0),
            Answer::Errno(errno) => (0, -(errno as i32), 0),
        };
        let mut response = libc::seccomp_notif_resp { id, val, error, flags };
        // SAFETY: the descriptor is a seccomp listener and the structure is of the type the request takes.
        unsafe { ioctl::send(self.listener.as_raw_fd(), &mut response) }.is_ok()
    }
}

fn read(notification: &libc::seccomp_notif) -> Option<(Caught, &'static str)> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    let (name, takes, narrow) = identity_filter::lookup(notification.data.arch, notification.data.nr)?;
    let tid = notification.pid as i32;
    let status = Status::of(tid)?;
    let caught = Caught {
        tid,
        tgid: status.number("Tgid")?,
        uids: status.ids("Uid")?,
        gids: status.ids("Gid")?,
        status,
        takes,
        narrow,
        native: identity_filter::is_native(notification.data.arch),
        args: notification.data.args,
        time: time.as_nanos() as u64,
    };
    Some((caught, name))
}
