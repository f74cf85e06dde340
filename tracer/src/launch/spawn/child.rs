//! The child between fork(2) and execve(2).
//!
//! All that it needs is made beforehand: here only async-signal-safe functions may be called (signal-safety(7)).

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_ulong};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use libc::{gid_t, sock_filter};
use nix::errno::Errno;
use nix::sys::signal::SigSet;

use super::{
    Confined, Credentials, Fence, KIND_FAILED, KIND_LISTENER, KIND_UNSUPERVISED, KIND_WAITING, Launch,
};
use crate::launch::channel::{self, Message};
use crate::launch::identity_filter::{self, Caught, IdentityPolicy};
use crate::launch::{Error, Step};
use crate::ptrace;

/// The status of what could not be executed, as the shell tells it.
const CANNOT_EXECUTE: c_int = 126;

/// What the child works with, all of it made before the fork.
pub(super) struct Setup {
    program: CString,
    // The pointers below point into these.
    _arguments: Vec<CString>,
    _variables: Vec<CString>,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    before: Vec<Before>,
    /// This process, of which the tracer is a child.
    launcher: libc::pid_t,
    session: bool,
    /// The child's end of the channel.
    pub(super) channel: c_int,
    /// Whether the channel is closed, and nobody hears of a step that fails.
    is_released: bool,
    /// The parent's, which the child closes.
    pub(super) other_end: c_int,
    signal_mask: SigSet,
    stdio: [Option<c_int>; 3],
    ids: Option<Ids>,
    given: Option<u64>,
    confined: Option<Confines>,
    traced: Vec<sock_filter>,
    caught: Vec<sock_filter>,
    unsupervised: Vec<sock_filter>,
}

/// What is executed before the program.
struct Before {
    program: CString,
    _arguments: Vec<CString>,
    argv: Vec<*const c_char>,
    may_fail: bool,
}

impl Before {
    fn new(step: &super::Before) -> Result<Self, Error> {
        let arguments = step.arguments.iter().map(|text| c_string(text, "a command before the program"));
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        let program = c_string(step.program.as_os_str(), "the path of a command before the program")?;
        Ok(Self { program, argv: pointers(&arguments), _arguments: arguments, may_fail: step.may_fail })
    }

    /// Executes it and waits for its end; its status as the shell tells it.
    ///
    /// # Safety
    /// As [`Setup::run`].
    unsafe fn run(&self, envp: &[*const c_char]) -> c_int {
        // SAFETY: system calls whose pointers lead to memory of `self` or of this frame. The C library's fork would run
        // handlers that are not async-signal-safe.
        unsafe {
            // Not every machine has fork(2).
            let child = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as libc::pid_t;
            if child == 0 {
                libc::execve(self.program.as_ptr(), self.argv.as_ptr(), envp.as_ptr());
                libc::_exit(CANNOT_EXECUTE);
            }
            let mut status = 0;
            while libc::waitpid(child, &raw mut status, 0) == -1 {
                if *libc::__errno_location() != libc::EINTR {
                    return CANNOT_EXECUTE;
                }
            }
            if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
        }
    }
}

/// What a confined program is held to.
struct Confines {
    bounding: u64,
    no_new_privs: bool,
    // Kept open until the program is executed.
    mounts: Option<Arc<OwnedFd>>,
    host_name: bool,
    group: Option<c_int>,
    directory: Option<CString>,
    filters: Vec<Vec<sock_filter>>,
}

impl Confines {
    fn new(wanted: &Confined) -> Result<Self, Error> {
        let Fence { mounts, host_name, group, directory, filters } = wanted.fence.clone();
        let directory =
            directory.map(|path| c_string(path.as_os_str(), "the working directory")).transpose()?;
        // A user that is not root could not install them otherwise; systemd before 255 does the same.
        let no_new_privs = wanted.no_new_privs || !filters.is_empty();
        Ok(Self { bounding: wanted.bounding, no_new_privs, mounts, host_name, group, directory, filters })
    }
}

struct Ids {
    uid: u32,
    gid: u32,
    groups: Vec<gid_t>,
}

impl Setup {
    pub(super) fn new(launch: &Launch<'_>) -> Result<Self, Error> {
        let arguments = launch.arguments.iter().map(|text| c_string(text, "the command"));
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        let variables = launch.environment.iter().map(|(name, value)| {
            c_string(&[name.as_os_str(), value].join(OsStr::new("=")), "the environment")
        });
        let variables = variables.collect::<Result<Vec<_>, _>>()?;
        let before = launch.before.iter().map(Before::new).collect::<Result<Vec<_>, _>>()?;
        let identity = launch.credentials.identity();
        let (given, confined) = match launch.credentials {
            Credentials::Permissive(_) => (Some(launch.privileges.given), None),
            Credentials::Enforced(_) => (Some(0), None),
            Credentials::Confined(wanted) => (Some(wanted.ambient), Some(Confines::new(wanted)?)),
            Credentials::Unchanged => (None, None),
        };
        let filter = |action, closed| {
            let identity = match launch.credentials {
                Credentials::Permissive(identity) if launch.policy != IdentityPolicy::Switch => {
                    Some((identity.uid, identity.gid, action))
                }
                _ => None,
            };
            let machine = launch.guarded.then_some(closed);
            if identity.is_none() && machine.is_none() {
                return Vec::new();
            }
            let is_root = launch.policy == IdentityPolicy::Root;
            identity_filter::program(Caught { identity, machine, is_root })
        };
        let refusal = match launch.policy {
            IdentityPolicy::Deny => libc::EPERM as u32,
            IdentityPolicy::Keep | IdentityPolicy::Switch | IdentityPolicy::Root => 0,
        };
        Ok(Self {
            program: c_string(launch.program.as_os_str(), "the program's path")?,
            argv: pointers(&arguments),
            envp: pointers(&variables),
            before,
            _arguments: arguments,
            _variables: variables,
            launcher: std::process::id() as libc::pid_t,
            session: launch.session,
            channel: -1,
            is_released: false,
            other_end: -1,
            signal_mask: launch.signal_mask,
            stdio: launch.stdio,
            ids: identity.map(|i| Ids { uid: i.uid, gid: i.gid, groups: i.groups.clone() }),
            given,
            confined,
            traced: launch.trace_filter.to_vec(),
            caught: filter(libc::SECCOMP_RET_USER_NOTIF, libc::SECCOMP_RET_USER_NOTIF),
            unsupervised: filter(
                libc::SECCOMP_RET_ERRNO | refusal,
                libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
            ),
        })
    }

    /// The child's whole life up to the program; it ends if `parent` is not its parent any more.
    ///
    /// # Safety
    /// To be called in a freshly forked child alone.
    pub(super) unsafe fn run(&mut self, parent: libc::pid_t) -> ! {
        // SAFETY: plain system calls on the child's own descriptors and memory.
        unsafe {
            libc::close(self.other_end);
            if self.session {
                libc::setsid();
            }
            // Rust's runtime ignores SIGPIPE; other ignored signals were so by the caller's wish (nohup), and
            // handlers end with execve.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::sigprocmask(libc::SIG_SETMASK, self.signal_mask.as_ref(), std::ptr::null_mut());
            for (standard, given) in (0..).zip(self.stdio) {
                if let Some(fd) = given {
                    libc::dup2(fd, standard);
                }
            }
            if !self.traced.is_empty() {
                ptrace::allow_tracer(self.launcher);
            }
            let _ = self.tell(KIND_WAITING, 0, 0, -1);
            let mut byte = 0_u8;
            loop {
                match libc::recv(self.channel, (&raw mut byte).cast(), 1, 0) {
                    1 => break,
                    -1 if *libc::__errno_location() == libc::EINTR => {}
                    _ => libc::_exit(127),
                }
            }
            if let Err((step, errno)) = self.become_program(Some(parent)) {
                let _ = self.tell(KIND_FAILED, step as u8, errno, -1);
            }
            libc::_exit(127)
        }
    }

    /// Has this process become the program; what it takes is not told to anybody.
    ///
    /// # Errors
    /// The step that failed. What was done before it is not undone.
    pub(super) fn replace(&mut self) -> (Step, Errno) {
        // SAFETY: what may be called in a freshly forked child may be called here. Rust's runtime ignores SIGPIPE.
        let done = unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            self.become_program(None)
        };
        match done {
            Ok(()) => (Step::Exec, Errno::UnknownErrno),
            Err((step, errno)) => (step, Errno::from_raw(errno)),
        }
    }

    /// Becomes the program, which goes with `parent` where that is given.
    ///
    /// # Safety
    /// As [`Setup::run`].
    unsafe fn become_program(&mut self, parent: Option<libc::pid_t>) -> Result<(), (Step, c_int)> {
        // SAFETY: system calls whose pointers lead to memory of `self` or of this frame.
        unsafe {
            if !self.traced.is_empty() {
                // Still privileged, so that no `no_new_privs` is needed.
                ptrace::install(&self.traced)
                    .map_err(|error| (Step::Trace, error.raw_os_error().unwrap_or(libc::EINVAL)))?;
            }
            let bounding = self.confined.as_ref().map(|confines| confines.bounding);
            if let Some(confines) = &self.confined {
                enter(confines)?;
            }
            // Who gives its capabilities up may not install it any more, and changes identity by leave of this filter.
            let early = self.confined.is_some() || self.given == Some(0);
            if early && !self.caught.is_empty() {
                self.install_filter()?;
            }
            if let Some(bounding) = bounding {
                drop_from_bounding(bounding)?;
                // Until execve(2), which clears it.
                check(Step::SecureBits, libc::prctl(libc::PR_SET_KEEPCAPS, 1_u64).into())?;
            } else if self.given.is_some_and(|given| given != 0) {
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
            if !early && !self.caught.is_empty() {
                self.install_filter()?;
            }
            if self.confined.as_ref().is_some_and(|confines| confines.no_new_privs) {
                let set = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1_u64, 0_u64, 0_u64, 0_u64);
                check(Step::NoNewPrivs, set.into())?;
            }
            if let Some(parent) = parent {
                // After the credentials, because their change clears it.
                let set = libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong);
                check(Step::ParentDeath, set.into())?;
                if libc::getppid() != parent {
                    libc::_exit(127);
                }
            }
            // Last of all, because they may refuse any of the calls above.
            for filter in self.confined.iter_mut().flat_map(|confines| &mut confines.filters) {
                seccomp(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW, filter)
                    .map_err(|errno| (Step::Calls, errno))?;
            }
            if !self.before.is_empty() {
                self.run_before();
            }
            libc::execve(self.program.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr());
            if self.is_released {
                say(c"nrtrace: the program cannot be executed\n");
                libc::_exit(CANNOT_EXECUTE);
            }
            check(Step::Exec, -1)
        }
    }

    /// Runs what comes before the program. Whoever waits for the program is let go before that, since its calls may have to
    /// be answered; so a failure ends this process.
    ///
    /// # Safety
    /// As [`Setup::run`].
    unsafe fn run_before(&mut self) {
        // SAFETY: plain system calls on this process.
        unsafe {
            if self.channel >= 0 {
                libc::close(self.channel);
                (self.channel, self.is_released) = (-1, true);
            }
            for step in &self.before {
                let status = step.run(&self.envp);
                if status != 0 && !step.may_fail {
                    say(c"nrtrace: failed, and is to be run before the program: ");
                    say(&step.program);
                    say(c"\n");
                    libc::_exit(status);
                }
            }
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
                    self.tell(KIND_LISTENER, 0, 0, fd).map_err(|errno| (Step::Listener, errno as c_int))?;
                    libc::close(fd);
                }
                // EBUSY: there is a listener above us already; EINVAL: before Linux 5.0.
                Err(libc::EBUSY | libc::EINVAL) => {
                    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
                    seccomp(flags, &mut self.unsupervised).map_err(|errno| (Step::Filter, errno))?;
                    // Nobody left to tell: the parent's death ends this process next.
                    let _ = self.tell(KIND_UNSUPERVISED, 0, 0, -1);
                }
                Err(errno) => return Err((Step::Filter, errno)),
            }
        }
        Ok(())
    }

    /// Sends a message, with a descriptor unless `fd` is negative.
    fn tell(&self, kind: u8, step: u8, errno: c_int, fd: c_int) -> Result<(), Errno> {
        channel::send(self.channel, Message { kind, part: step, value: errno }, fd)
    }
}

/// Writes to standard error.
///
/// # Safety
/// As [`Setup::run`].
unsafe fn say(text: &CStr) {
    // SAFETY: the pointer and the length are those of the text.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.to_bytes().len()) };
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
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

/// Enters the namespaces of a service, and its directory in them.
///
/// # Safety
/// As [`Setup::run`].
unsafe fn enter(confines: &Confines) -> Result<(), (Step, c_int)> {
    // SAFETY: plain system calls; the path is NUL-terminated.
    unsafe {
        if let Some(joins) = confines.group {
            check(Step::ControlGroup, libc::write(joins, c"0".as_ptr().cast(), 1) as libc::c_long)?;
        }
        if let Some(mounts) = &confines.mounts {
            check(Step::Namespace, libc::setns(mounts.as_raw_fd(), libc::CLONE_NEWNS).into())?;
        }
        if confines.host_name {
            check(Step::Namespace, libc::unshare(libc::CLONE_NEWUTS).into())?;
        }
        if let Some(directory) = &confines.directory {
            check(Step::Directory, libc::chdir(directory.as_ptr()).into())?;
        }
    }
    Ok(())
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

/// Drops all but `kept` from the bounding set.
///
/// # Safety
/// As [`Setup::run`].
unsafe fn drop_from_bounding(kept: u64) -> Result<(), (Step, c_int)> {
    for capability in (0..64_u64).filter(|number| kept >> number & 1 == 0) {
        // SAFETY: plain system calls; the kernel knows no more than its own capabilities, which ends the loop.
        unsafe {
            match libc::prctl(libc::PR_CAPBSET_READ, capability, 0_u64, 0_u64, 0_u64) {
                1 => {
                    let dropped = libc::prctl(libc::PR_CAPBSET_DROP, capability, 0_u64, 0_u64, 0_u64);
                    check(Step::Bounding, dropped.into())?;
                }
                0 => {}
                _ => break,
            }
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
