//! The hook that puts each call to an access oracle while it is stopped at its entry.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use libc::pid_t;
use nrtrace_ebpf::record::{InodeRecord, SocketRecord};
use nrtrace_ebpf::table::{NONE, Operands};

use super::sys;

/// A system call that is about to be made by a stopped thread.
///
/// What the kernel will use may differ from what is seen here, if another thread changes the memory meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct CallAtEntry<'a> {
    /// Thread.
    pub tid: pid_t,
    /// Thread group.
    pub pid: pid_t,
    /// Name of the call.
    pub name: &'static str,
    /// Its number, in the 32-bit table when `compat`.
    pub nr: i32,
    /// The call came through the 32-bit entry.
    pub compat: bool,
    /// Where its operands are.
    pub operands: Operands,
    /// Its arguments.
    pub args: [u64; 6],
    /// Filesystem user id of the thread.
    pub fsuid: u32,
    /// Filesystem group id of the thread.
    pub fsgid: u32,
    /// Inode number of the thread's network namespace.
    pub net_ns: u32,
    /// No task of the tree has changed its root directory or mount namespace: all have the tracer's.
    pub plain_root: bool,
    /// The socket the call is about, where it could be looked at.
    pub socket: Option<SocketRecord>,
    /// The path, as passed; `None` when the call has none or it could not be read.
    pub path: Option<&'a [u8]>,
    /// The second path, as passed.
    pub path2: Option<&'a [u8]>,
    /// The socket address (`struct sockaddr`), as passed.
    pub address: Option<&'a [u8]>,
}

impl CallAtEntry<'_> {
    /// Where the path starts if it is relative: the dirfd argument, else the working directory (`O_PATH`). For
    /// a call without a path, the file it is about.
    ///
    /// # Errors
    /// The descriptor is not open in the tracee (the call will fail with `EBADF`), or the tracee has died.
    pub fn base(&self) -> io::Result<OwnedFd> {
        self.directory(self.operands.dirfd)
    }

    /// Where the second path starts.
    ///
    /// # Errors
    /// As [`CallAtEntry::base`].
    pub fn base2(&self) -> io::Result<OwnedFd> {
        self.directory(self.operands.dirfd2)
    }

    /// The working directory (`O_PATH`).
    ///
    /// # Errors
    /// The tracee has died.
    pub fn cwd(&self) -> io::Result<OwnedFd> {
        self.directory(NONE)
    }

    /// Reads `N` bytes of the tracee's memory; `None` when they cannot be read.
    pub fn read<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        let whole = sys::read_vm(self.tid, address, &mut bytes).is_ok_and(|count| count == N);
        whole.then_some(bytes)
    }

    /// The thread's root directory (`O_PATH`), in its mount namespace.
    ///
    /// # Errors
    /// The tracee has died.
    pub fn root(&self) -> io::Result<OwnedFd> {
        open_path(&format!("/proc/{}/root", self.tid))
    }

    fn directory(&self, argument: u8) -> io::Result<OwnedFd> {
        open_path(&format!("/proc/{}/{}", self.tid, start(argument, &self.args)))
    }
}

fn open_path(link: &str) -> io::Result<OwnedFd> {
    File::options().read(true).custom_flags(libc::O_PATH).open(link).map(OwnedFd::from)
}

/// The name below `/proc/TID` of the directory that a path starts from, given the index of a dirfd argument.
pub fn start(argument: u8, args: &[u64; 6]) -> String {
    match args.get(usize::from(argument)) {
        Some(&fd) if argument != NONE && fd as i32 != libc::AT_FDCWD => format!("fd/{}", fd as i32),
        _ => "cwd".to_owned(),
    }
}

/// A capability check that the kernel will make during the call, as the oracle sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predicted {
    /// Number of the capability that will be consulted.
    pub capability: u32,
    /// What the check will answer: 0 granted, else a negative errno.
    pub ret: i32,
    /// What it is for: one of the `ASKED_` values.
    pub asked: u32,
    /// Absolute path in the mount namespace of the component that refuses, where there is one, and its inode.
    pub component: Option<(Vec<u8>, InodeRecord)>,
}

/// What is foretold of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foretold {
    /// The checks it will bring, in order.
    pub checks: Vec<Predicted>,
    /// How it will end.
    pub ending: Ending,
}

/// How a call will end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// That remains to be seen.
    #[default]
    Open,
    /// Nothing stands against it, and what comes of it need not be known.
    Allowed,
    /// It fails with this errno, whoever makes it.
    Fails(i32),
}

/// Foretells the checks of a call.
pub trait Foreteller: Send {
    /// What `call` will bring. The thread stays stopped meanwhile.
    fn judge(&mut self, call: &CallAtEntry<'_>) -> Foretold;
}
