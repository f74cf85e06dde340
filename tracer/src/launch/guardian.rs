//! The guardian: a process between nrtrace and the program, which ends the program's tree when nrtrace is gone.
//!
//! It is the program's parent and the child subreaper (prctl(2)) of its tree: whoever loses its parent there becomes
//! the guardian's child, so that the tree is what hangs below the guardian, and is gone when the guardian has no
//! children any more. Then it ends. Children that nrtrace had before the run are not below it.
//!
//! It learns of nrtrace's end by its channel, which the kernel closes however nrtrace ended, and then kills the
//! tree. It is in a session of its own and blocks every signal, so that what is meant for nrtrace's process group does
//! not reach it; killed all the same, it takes the program itself along (`PR_SET_PDEATHSIG`), and its own parent, the
//! keeper, kills the rest.

use std::ffi::{CStr, c_int};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use nix::sys::socket::MsgFlags;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::channel::{self, Message};
use super::tree::{self, End};
use super::{Error, keeper};

/// The guardian of a tree, as nrtrace sees it. Dropped, it kills the tree and ends, which is waited for.
#[derive(Debug)]
pub struct Guardian {
    pid: Pid,
    /// Its parent, this process's child.
    keeper: Pid,
    channel: Option<OwnedFd>,
    gone: bool,
    heard: Heard,
}

/// What its channel has told of the tree's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// Nothing.
    Nothing,
    /// The guardian's last word: nobody is left.
    Last,
    /// The guardian's end, without that.
    Silence,
}

/// A child of the guardian.
#[derive(Debug)]
pub struct Ward {
    /// Its process id.
    pub pid: Pid,
    /// Its pidfd.
    pub pidfd: OwnedFd,
}

const KIND_BORN: u8 = 0;
const KIND_FAILED: u8 = 1;
const KIND_EXITED: u8 = 2;
const KIND_SIGNALED: u8 = 3;
const KIND_GUARDIAN: u8 = 4;
/// The last word.
const KIND_LAST: u8 = 5;

/// What can fail in the guardian, by its place in messages.
const OPERATIONS: [&str; 4] =
    ["adopting orphans of", "opening a descriptor for signals of", "forking", "opening a pidfd for"];

/// Longest wait for a killed tree to end.
const PATIENCE: Duration = Duration::from_secs(2);

impl Guardian {
    /// Forks the guardian, which forks a child that calls `program` with the guardian's process id.
    ///
    /// # Errors
    /// When a process cannot be made; `subject` is named then.
    ///
    /// # Safety
    /// `program` runs in a freshly forked child: it must call async-signal-safe functions alone.
    pub unsafe fn start(subject: &str, program: &mut dyn FnMut(i32)) -> Result<(Self, Ward), Error> {
        let failed = |operation| move |error: Errno| Error::system(operation, subject, error);
        let (ours, theirs) = channel::pair().map_err(failed("making a channel to the guardian of"))?;
        let title = Title::find();
        // The guardian holds on to every page there is now, also to what was freed since the probe was loaded.
        #[cfg(target_env = "gnu")]
        // SAFETY: a plain call without preconditions.
        unsafe {
            libc::malloc_trim(0);
        }
        // What arrives between the fork and the guardian's own precautions must not end it.
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut before))
            .map_err(failed("blocking signals for"))?;
        // SAFETY: the child never returns. Both of its descriptors are its own copies.
        let forked = unsafe { fork() };
        if let Ok(ForkResult::Child) = forked {
            let _end = NoWayBack;
            let (ours, theirs) = (ours.as_raw_fd(), theirs.as_raw_fd());
            let (operation, errno) = keeper::keep(title, &mut || live(ours, theirs, title, program));
            fail(theirs, operation, errno);
        }
        let restored = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
        let ForkResult::Parent { child } = forked.map_err(failed("forking the guardian of"))? else {
            unreachable!("the child does not return");
        };
        drop(theirs);
        let mut guardian =
            Self { pid: child, keeper: child, channel: Some(ours), gone: false, heard: Heard::Nothing };
        restored.map_err(failed("unblocking signals for"))?;
        let next = || match guardian.receive(MsgFlags::empty()).map_err(failed("hearing of"))? {
            Some(message) => Ok(message),
            None => Err(failed("starting the guardian of")(Errno::ECHILD)),
        };
        let mut message = next()?;
        if let (Message { kind: KIND_GUARDIAN, value, .. }, _) = message {
            message = next()?;
            guardian.pid = Pid::from_raw(value);
        }
        match message {
            (Message { kind: KIND_BORN, value, .. }, Some(pidfd)) => {
                Ok((guardian, Ward { pid: Pid::from_raw(value), pidfd }))
            }
            (Message { part, value, .. }, _) => {
                let operation = OPERATIONS.get(usize::from(part)).copied().unwrap_or(OPERATIONS[0]);
                Err(failed(operation)(Errno::from_raw(value)))
            }
        }
    }

    /// Its process id: that of the tree's root, which is no part of the tree itself.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// How the program ended, told once. Hears all that has been said, for the last word may have come with it.
    pub fn end_of_program(&mut self) -> Option<End> {
        let mut end = None;
        loop {
            let message = match self.receive(MsgFlags::MSG_DONTWAIT) {
                Ok(Some((message, _))) => message,
                Err(Errno::EAGAIN) => return end,
                Ok(None) | Err(_) => {
                    if self.channel.is_some() && self.heard == Heard::Nothing {
                        self.heard = Heard::Silence;
                    }
                    return end;
                }
            };
            match message.kind {
                KIND_EXITED => end = Some(End::Exited(message.value)),
                KIND_SIGNALED => end = Some(End::Signaled(message.value)),
                KIND_LAST => self.heard = Heard::Last,
                _ => {}
            }
        }
    }

    /// Whether it was killed before its tree was gone, as far as has been heard. Its number is not to be used then.
    pub fn was_killed(&self) -> bool {
        self.heard == Heard::Silence || (self.gone && self.heard == Heard::Nothing)
    }

    /// Whether it has ended, and with it the tree. A keeper that somebody has stopped goes on.
    pub fn is_gone(&mut self) -> bool {
        if !self.gone {
            let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
            match waitpid(self.keeper, Some(flags)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                // SAFETY: a plain system call; the child has not been waited for.
                Ok(WaitStatus::Stopped(..)) => unsafe {
                    libc::kill(self.keeper.as_raw(), libc::SIGCONT);
                },
                _ => self.gone = true,
            }
        }
        self.gone
    }

    /// Leaves it to kill what is left of the tree, for as long as that takes.
    pub fn abandon(&mut self) {
        self.channel = None;
        self.gone = true;
    }

    fn receive(&self, flags: MsgFlags) -> Result<Option<(Message, Option<OwnedFd>)>, Errno> {
        self.channel.as_ref().map_or(Ok(None), |channel| channel::receive(channel.as_fd(), flags))
    }
}

impl AsFd for Guardian {
    /// Becomes readable when the program has ended, or the guardian.
    #[expect(clippy::expect_used, reason = "the channel is there until the guardian is given up")]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_ref().expect("a channel").as_fd()
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.channel = None;
        let deadline = Instant::now() + PATIENCE;
        while !self.is_gone() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Ends the process where a panic would unwind into what the guardian was forked from.
struct NoWayBack;

impl Drop for NoWayBack {
    fn drop(&mut self) {
        // SAFETY: ends this process.
        unsafe { libc::_exit(1) }
    }
}

/// The guardian's life.
///
/// It allocates memory only once nrtrace is gone, which the C library allows in a forked child: it keeps its allocator
/// consistent across fork(2).
fn live(other_end: c_int, channel: c_int, title: Option<Title>, program: &mut dyn FnMut(i32)) -> ! {
    let _end = NoWayBack;
    // SAFETY: closes a descriptor that belongs to this process alone and that nothing here uses.
    unsafe { libc::close(other_end) };
    let own = Message { kind: KIND_GUARDIAN, part: 0, value: own_pid() };
    let _ = channel::send(channel, own, -1);
    let watch = prepare(program);
    let (signals, ward, pidfd) = match watch {
        Ok(prepared) => prepared,
        Err((operation, errno)) => fail(channel, operation, errno),
    };
    // After the fork: the program stays in nrtrace's session and process group.
    // SAFETY: plain system calls.
    unsafe { libc::setsid() };
    if let Some(title) = title {
        title.replace(c"guardian");
    }
    // Last, so that the program does not run before all this. If nrtrace is gone already, the watch will notice.
    let _ = channel::send(channel, Message { kind: KIND_BORN, part: 0, value: ward }, pidfd);
    let channel = close_all_but(channel, signals);
    watch_over(channel, ward)
}

/// Says that the guardian could not begin, and ends.
fn fail(channel: c_int, operation: u8, errno: Errno) -> ! {
    let _ = channel::send(channel, Message { kind: KIND_FAILED, part: operation, value: errno as i32 }, -1);
    // SAFETY: ends this process.
    unsafe { libc::_exit(1) }
}

/// Becomes the subreaper and forks the child; the descriptor for SIGCHLD, the child's process id and its pidfd.
fn prepare(program: &mut dyn FnMut(i32)) -> Result<(c_int, i32, c_int), (u8, Errno)> {
    let at = |operation| move |errno| (operation, errno);
    nix::sys::prctl::set_child_subreaper(true).map_err(at(0))?;
    // SAFETY: the set is initialised by sigemptyset before it is read; every signal is blocked already.
    let signals = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    let signals = Errno::result(signals).map_err(at(1))?;
    // SAFETY: plain system call.
    let own = unsafe { libc::getpid() };
    // SAFETY: the caller has promised that `program` is fit for a forked child.
    let ward = match unsafe { fork() }.map_err(at(2))? {
        ForkResult::Child => {
            program(own);
            // SAFETY: ends this process.
            unsafe { libc::_exit(1) }
        }
        ForkResult::Parent { child } => child.as_raw(),
    };
    // SAFETY: the child keeps its number until this process reaps it; the result is checked.
    let pidfd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, ward, 0) }).map_err(at(3))?;
    Ok((signals, ward, pidfd as c_int))
}

/// Keeps the two descriptors, as 0 and 1, and closes all others: the program's standard streams, which others wait on,
/// and the probe, which is to go with nrtrace.
fn close_all_but(channel: c_int, signals: c_int) -> [c_int; 2] {
    /// Where the two are kept while 0 and 1 are taken: above both, and above the standard streams.
    const FIRST: c_int = 3;
    // SAFETY: plain system calls on descriptors of this process, all of which it owns and none of which is used
    // afterwards except the two.
    unsafe {
        let channel = libc::fcntl(channel, libc::F_DUPFD, FIRST);
        let signals = libc::fcntl(signals, libc::F_DUPFD, FIRST);
        libc::dup2(channel, 0);
        libc::dup2(signals, 1);
        if libc::syscall(libc::SYS_close_range, 2_u32, u32::MAX, 0_u32) == -1 {
            // Before Linux 5.9.
            for fd in 2..65_536 {
                libc::close(fd);
            }
        }
    }
    [0, 1]
}

/// Reaps, tells how the program ended, and ends with the tree; kills it once the channel is closed.
fn watch_over([channel, signals]: [c_int; 2], ward: i32) -> ! {
    /// Between two attempts to kill, which grow rarer for what cannot be killed.
    const PAUSES: std::ops::RangeInclusive<c_int> = 1..=1000;
    let poll_for = |fd, events| libc::pollfd { fd, events, revents: 0 };
    let mut fds = [poll_for(signals, libc::POLLIN), poll_for(channel, 0)];
    let mut pause = -1;
    loop {
        reap(channel, ward);
        if fds[1].revents != 0 && pause < 0 {
            // Closed, which it would report for ever.
            fds[1].fd = -1;
            pause = *PAUSES.start();
        }
        if pause > 0 {
            tree::kill_all(own_pid());
            pause = (pause * 2).min(*PAUSES.end());
        }
        let mut told = std::mem::MaybeUninit::<libc::signalfd_siginfo>::uninit();
        // SAFETY: the array is valid, and the buffer as large as is said.
        unsafe {
            libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, pause);
            while libc::read(signals, told.as_mut_ptr().cast(), size_of_val(&told)) > 0 {}
        }
    }
}

/// Reaps who has ended; does not return when there is nobody left.
fn reap(channel: c_int, ward: i32) {
    loop {
        match tree::reap() {
            Ok(Some(reaped)) if reaped.pid == ward => {
                let (kind, value) = match reaped.end {
                    End::Exited(status) => (KIND_EXITED, status),
                    End::Signaled(signal) => (KIND_SIGNALED, signal),
                };
                let _ = channel::send(channel, Message { kind, part: 0, value }, -1);
            }
            Ok(Some(_)) | Err(Errno::EINTR) => {}
            Ok(None) => return,
            Err(_) => {
                let _ = channel::send(channel, Message { kind: KIND_LAST, part: 0, value: 0 }, -1);
                // SAFETY: ends this process.
                unsafe { libc::_exit(0) }
            }
        }
    }
}

fn own_pid() -> i32 {
    std::process::id() as i32
}

/// Where the arguments of this process lie, which `ps` and `pkill` look at.
///
/// Guardian and keeper give themselves others: whoever kills nrtrace by its name means nrtrace, not the one that then clears up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Title {
    start: usize,
    end: usize,
}

impl Title {
    /// From proc_pid_stat(5), fields 48 and 49.
    fn find() -> Option<Self> {
        let stat = std::fs::read("/proc/self/stat").ok()?;
        let after_name = stat.iter().rposition(|byte| *byte == b')')? + 2;
        let fields = std::str::from_utf8(stat.get(after_name..)?).ok()?;
        let mut fields = fields.split_ascii_whitespace().skip(48 - 3).map(str::parse);
        let (start, end) = (fields.next()?.ok()?, fields.next()?.ok()?);
        (0 < start && start < end).then_some(Self { start, end })
    }

    /// Puts a name in place of that and the arguments of a forked child.
    pub(super) fn replace(self, name: &CStr) {
        let room = self.end - self.start;
        let length = name.count_bytes().min(room - 1);
        // SAFETY: the kernel has told that the arguments lie there, on a stack that is writable and this process's
        // own since the fork; nothing in the guardian reads its arguments. The name ends with a NUL byte.
        unsafe {
            libc::prctl(libc::PR_SET_NAME, name.as_ptr());
            let area = std::ptr::with_exposed_provenance_mut::<u8>(self.start);
            area.write_bytes(0, room);
            area.copy_from_nonoverlapping(name.as_ptr().cast(), length);
        }
    }
}
