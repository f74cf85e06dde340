//! Starts programs under the probe, as an ordinary user with all capabilities ambient.

use std::ffi::CString;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe, read};
use nrtrace_profiles::event::Record;
use nrtrace_tracer::ebpf::{Lost, Options, Probe};

use crate::records::{Trace, parse};

/// A user id that exists nowhere.
pub const USER: u32 = 61184;

/// How a program is started.
pub struct Tracee {
    /// What to record.
    pub record: Record,
    /// Size of the ring buffer.
    pub buffer: usize,
    /// Working directory.
    pub directory: &'static Path,
    /// Whether it gets a network namespace of its own.
    pub own_network: bool,
}

impl Default for Tracee {
    fn default() -> Self {
        Self { record: Record::Calls, buffer: 16 << 20, directory: Path::new("/"), own_network: false }
    }
}

impl Tracee {
    /// Runs a shell script and returns all that was recorded.
    pub fn shell(&self, script: &str) -> Trace {
        self.run(&["/bin/sh", "-c", script])
    }

    /// Runs a program to its end and returns all that was recorded.
    pub fn run(&self, command: &[&str]) -> Trace {
        let options = Options { record: self.record, buffer: self.buffer, attach: false };
        let mut probe = Probe::load(&options).expect("load the probe; root and a kernel with BTF are needed");
        let (child, go) = self.fork(command);
        let pidfd = pidfd(child);
        probe.watch(pidfd.as_fd()).unwrap();
        drop(go);
        let mut bytes = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        let status = loop {
            probe.drain(&mut |record| bytes.push(record.to_vec()));
            match waitpid(child, Some(WaitPidFlag::WNOHANG)).unwrap() {
                WaitStatus::StillAlive => assert!(Instant::now() < deadline, "{command:?} takes too long"),
                status => break status,
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        probe.drain(&mut |record| bytes.push(record.to_vec()));
        Trace { records: bytes.iter().map(|bytes| parse(bytes)).collect(), lost: lost(&probe), child, status }
    }

    /// Forks a child that waits until the returned pipe is closed, then runs `command` as [`USER`].
    fn fork(&self, command: &[&str]) -> (Pid, OwnedFd) {
        let args: Vec<CString> = command.iter().map(|arg| CString::new(*arg).unwrap()).collect();
        let directory = CString::new(self.directory.to_str().unwrap()).unwrap();
        let mut argv: Vec<*const libc::c_char> = args.iter().map(|arg| arg.as_ptr()).collect();
        argv.push(std::ptr::null());
        let path = c"PATH=/usr/sbin:/usr/bin:/sbin:/bin";
        let environment = [path.as_ptr(), std::ptr::null()];
        let (wait, go) = pipe().unwrap();
        // SAFETY: the child only makes system calls, with memory prepared before.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => (child, go),
            ForkResult::Child => {
                drop(go);
                let _ = read(wait.as_fd(), &mut [0]);
                // SAFETY: as above; the strings outlive the calls.
                unsafe {
                    if self.own_network && libc::unshare(libc::CLONE_NEWNET) != 0 {
                        libc::_exit(126);
                    }
                    if !become_user() || libc::chdir(directory.as_ptr()) != 0 {
                        libc::_exit(126);
                    }
                    libc::execve(argv[0], argv.as_ptr(), environment.as_ptr());
                    libc::_exit(127)
                }
            }
        }
    }
}

fn lost(probe: &Probe) -> Lost {
    probe.lost().unwrap()
}

/// A pidfd of a child.
pub fn pidfd(child: Pid) -> OwnedFd {
    // SAFETY: a plain system call; the descriptor it returns is nobody else's.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, child.as_raw(), 0);
        assert!(fd >= 0, "pidfd_open: {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd as i32)
    }
}

/// Becomes [`USER`] with all capabilities of the caller in all sets.
///
/// # Safety
/// Only makes system calls, so that it may be called after fork(2).
unsafe fn become_user() -> bool {
    /// `_LINUX_CAPABILITY_VERSION_3` of `linux/capability.h`.
    const VERSION: u32 = 0x2008_0522;
    /// `SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP`.
    const BITS: libc::c_ulong = 1 << 4 | 1 << 2;
    let mut header = [VERSION, 0];
    let mut sets = [[0u32; 3]; 2];
    // SAFETY: plain system calls with memory of the right size.
    unsafe {
        if libc::prctl(libc::PR_SET_SECUREBITS, BITS) != 0
            || libc::setgroups(0, std::ptr::null()) != 0
            || libc::setresgid(USER, USER, USER) != 0
            || libc::setresuid(USER, USER, USER) != 0
            || libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) != 0
        {
            return false;
        }
        for [effective, permitted, inheritable] in &mut sets {
            *effective = *permitted;
            *inheritable = *permitted;
        }
        if libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) != 0 {
            return false;
        }
        for capability in 0..64 {
            if sets[capability / 32][1] >> (capability % 32) & 1 != 0 {
                libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0);
            }
        }
    }
    true
}

/// The kernel's symbols, by address.
pub fn symbols() -> Vec<(u64, String)> {
    let text = std::fs::read_to_string("/proc/kallsyms").unwrap();
    let mut symbols: Vec<(u64, String)> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let address = u64::from_str_radix(fields.next()?, 16).ok()?;
            Some((address, fields.nth(1)?.to_owned()))
        })
        .collect();
    symbols.sort();
    symbols
}

/// The function an address lies in.
pub fn symbol(symbols: &[(u64, String)], address: u64) -> &str {
    let next = symbols.partition_point(|(start, _)| *start <= address);
    next.checked_sub(1).map_or("?", |index| &symbols[index].1)
}
