//! Starts the program: fork(2), new credentials, execve(2).
//!
//! The child is written by hand because [`std::process::Command`] knows nothing of capabilities, and because the probe
//! must know the child before it runs its first instruction. All that the child needs is made beforehand: between
//! fork and exec only async-signal-safe functions may be called (signal-safety(7)).

use std::ffi::{CString, OsStr, OsString, c_char, c_int, c_ulong};
use std::io::{IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use libc::{gid_t, sock_filter};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair,
};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use nrtrace_profiles::event::Identity;

use super::environment::Variables;
use super::identity_filter::{self, IdentityPolicy};
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

/// What the child works with, all of it made before the fork.
struct Setup {
    program: CString,
    // The pointers below point into these.
    _arguments: Vec<CString>,
    _variables: Vec<CString>,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    channel: c_int,
    other_end: c_int,
    parent: libc::pid_t,
    signal_mask: SigSet,
    ids: Option<Ids>,
    given: Option<u64>,
    caught: Vec<sock_filter>,
    unsupervised: Vec<sock_filter>,
}

struct Ids {
    uid: u32,
    gid: u32,
    groups: Vec<gid_t>,
}

impl Setup {
    fn new(launch: &Launch<'_>) -> Result<Self, Error> {
        let arguments = launch.arguments.iter().map(|text| c_string(text, "the command"));
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        let variables = launch.environment.iter().map(|(name, value)| {
            c_string(&[name.as_os_str(), value].join(OsStr::new("=")), "the environment")
        });
        let variables = variables.collect::<Result<Vec<_>, _>>()?;
        let pointers = |texts: &[CString]| {
            texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
        };
        let (identity, given) = match launch.credentials {
            Credentials::Permissive(identity) => (Some(identity), Some(launch.privileges.given)),
            Credentials::Enforced(identity) => (Some(identity), Some(0)),
            Credentials::Unchanged => (None, None),
        };
        let filter = |action| match launch.credentials {
            Credentials::Permissive(identity) if launch.policy != IdentityPolicy::Switch => {
                identity_filter::program(identity.uid, identity.gid, action)
            }
            _ => Vec::new(),
        };
        let refusal = match launch.policy {
            IdentityPolicy::Deny => libc::EPERM as u32,
            IdentityPolicy::Keep | IdentityPolicy::Switch => 0,
        };
        Ok(Self {
            program: c_string(launch.program.as_os_str(), "the program's path")?,
            argv: pointers(&arguments),
            envp: pointers(&variables),
            _arguments: arguments,
            _variables: variables,
            channel: -1,
            other_end: -1,
            parent: nix::unistd::getpid().as_raw(),
            signal_mask: launch.signal_mask,
            ids: identity.map(|i| Ids { uid: i.uid, gid: i.gid, groups: i.groups.clone() }),
            given,
            caught: filter(libc::SECCOMP_RET_USER_NOTIF),
            unsupervised: filter(libc::SECCOMP_RET_ERRNO | refusal),
        })
    }

    /// The child's whole life up to the program.
    ///
    /// # Safety
    /// To be called in a freshly forked child alone.
    unsafe fn run(&mut self) -> ! {
        // SAFETY: plain system calls on the child's own descriptors and memory.
        unsafe {
            libc::close(self.other_end);
            // Rust's runtime ignores SIGPIPE; other ignored signals were so by the caller's wish (nohup), and
            // handlers end with execve.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::sigprocmask(libc::SIG_SETMASK, self.signal_mask.as_ref(), std::ptr::null_mut());
            let mut byte = 0_u8;
            loop {
                match libc::recv(self.channel, (&raw mut byte).cast(), 1, 0) {
                    1 => break,
                    -1 if *libc::__errno_location() == libc::EINTR => {}
                    _ => libc::_exit(127),
                }
            }
            if let Err((step, errno)) = self.become_program() {
                self.tell(KIND_FAILED, step as u8, errno, -1);
            }
            libc::_exit(127)
        }
    }

    /// # Safety
    /// As [`Setup::run`].
    unsafe fn become_program(&mut self) -> Result<(), (Step, c_int)> {
        // SAFETY: system calls whose pointers lead to memory of `self` or of this frame.
        unsafe {
            if self.given.is_some_and(|given| given != 0) {
                let bits = libc::prctl(libc::PR_GET_SECUREBITS) | libc::SECBIT_NO_SETUID_FIXUP;
                check(Step::SecureBits, libc::prctl(libc::PR_SET_SECUREBITS, bits as c_ulong).into())?;
            }
            if let Some(Ids { uid, gid, groups }) = &self.ids {
                // The C library's functions would signal other threads, of which a forked child has none.
                let set = libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr());
                check(Step::Groups, set)?;
                check(Step::Gid, libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid))?;
                check(Step::Uid, libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid))?;
            }
            if let Some(given) = self.given {
                set_capabilities(given)?;
            }
            if !self.caught.is_empty() {
                self.install_filter()?;
            }
            // After the credentials, because their change clears it.
            let set = libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong);
            check(Step::ParentDeath, set.into())?;
            if libc::getppid() != self.parent {
                libc::_exit(127);
            }
            libc::execve(self.program.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr());
            check(Step::Exec, -1)
        }
    }

    /// # Safety
    /// As [`Setup::run`].
    unsafe fn install_filter(&mut self) -> Result<(), (Step, c_int)> {
        let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        // So that a signal does not interrupt a call that is being answered; since Linux 5.19.
        let killable = listener | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        // SAFETY: the filters outlive the calls.
        unsafe {
            let mut result = seccomp(killable, &mut self.caught);
            if result == Err(libc::EINVAL) {
                result = seccomp(listener, &mut self.caught);
            }
            match result {
                Ok(fd) => {
                    let sent = self.tell(KIND_LISTENER, 0, 0, fd);
                    check(Step::Listener, sent as libc::c_long)?;
                    libc::close(fd);
                }
                // EBUSY: there is a listener above us already; EINVAL: before Linux 5.0.
                Err(libc::EBUSY | libc::EINVAL) => {
                    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
                    seccomp(flags, &mut self.unsupervised).map_err(|errno| (Step::Filter, errno))?;
                    self.tell(KIND_UNSUPERVISED, 0, 0, -1);
                }
                Err(errno) => return Err((Step::Filter, errno)),
            }
        }
        Ok(())
    }

    /// Sends a message, with a descriptor unless `fd` is negative.
    ///
    /// # Safety
    /// As [`Setup::run`].
    unsafe fn tell(&self, kind: u8, step: u8, errno: c_int, fd: c_int) -> isize {
        let [a, b, c, d] = errno.to_ne_bytes();
        let mut message: [u8; MESSAGE] = [kind, step, a, b, c, d];
        let mut buffer = libc::iovec { iov_base: message.as_mut_ptr().cast(), iov_len: MESSAGE };
        // Room for one header and one descriptor, aligned as the header is.
        let mut control = [0_u64; 4];
        // SAFETY: zero is valid for this structure; the control buffer has room for CMSG_SPACE(4) bytes.
        unsafe {
            let mut header: libc::msghdr = std::mem::zeroed();
            header.msg_iov = &raw mut buffer;
            header.msg_iovlen = 1;
            if fd >= 0 {
                header.msg_control = control.as_mut_ptr().cast();
                header.msg_controllen = libc::CMSG_SPACE(size_of::<c_int>() as u32) as _;
                let part = libc::CMSG_FIRSTHDR(&header);
                (*part).cmsg_level = libc::SOL_SOCKET;
                (*part).cmsg_type = libc::SCM_RIGHTS;
                (*part).cmsg_len = libc::CMSG_LEN(size_of::<c_int>() as u32) as _;
                libc::CMSG_DATA(part).cast::<c_int>().write_unaligned(fd);
            }
            libc::sendmsg(self.channel, &header, libc::MSG_NOSIGNAL)
        }
    }
}

fn c_string(text: &OsStr, what: &'static str) -> Result<CString, Error> {
    CString::new(text.as_bytes()).map_err(|_| Error::Nul { what })
}

/// # Safety
/// Only right after a system call that tells its failure by -1 and errno.
unsafe fn check(step: Step, result: libc::c_long) -> Result<(), (Step, c_int)> {
    // SAFETY: errno's place is always valid.
    if result == -1 { Err((step, unsafe { *libc::__errno_location() })) } else { Ok(()) }
}

/// Makes `given` the permitted, effective, inheritable and ambient set, see capset(2).
///
/// # Safety
/// As [`Setup::run`].
unsafe fn set_capabilities(given: u64) -> Result<(), (Step, c_int)> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    /// `_LINUX_CAPABILITY_VERSION_3`
    const VERSION: u32 = 0x2008_0522;
    let header = Header { version: VERSION, pid: 0 };
    let half = |set: u32| Data { effective: set, permitted: set, inheritable: set };
    let data = [half(given as u32), half((given >> 32) as u32)];
    // SAFETY: the structures are those of the third version, which takes two halves.
    unsafe {
        let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong;
        check(Step::Ambient, libc::prctl(libc::PR_CAP_AMBIENT, clear, 0_u64, 0_u64, 0_u64).into())?;
        let set = libc::syscall(libc::SYS_capset, &raw const header, &raw const data);
        check(Step::Capabilities, set)?;
        let raise = libc::PR_CAP_AMBIENT_RAISE as c_ulong;
        for capability in (0..64_u64).filter(|number| given >> number & 1 == 1) {
            let raised = libc::prctl(libc::PR_CAP_AMBIENT, raise, capability, 0_u64, 0_u64);
            check(Step::Ambient, raised.into())?;
        }
    }
    Ok(())
}

/// # Safety
/// As [`Setup::run`].
unsafe fn seccomp(flags: c_ulong, filter: &mut [sock_filter]) -> Result<c_int, c_int> {
    let program = identity_filter::as_program(filter);
    // SAFETY: the program points to `filter`, which outlives the call.
    unsafe {
        let result =
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program);
        if result == -1 { Err(*libc::__errno_location()) } else { Ok(result as c_int) }
    }
}
