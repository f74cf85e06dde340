//! Questions and answers.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;

use nrtrace_profiles::RawText;
pub use nrtrace_profiles::event::Cause;
use nrtrace_profiles::event::{Component, Inode};
use nrtrace_profiles::requirement::Access;

/// How the kernel is asked about an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// faccessat2(2) on the descriptor with the filesystem ids, since Linux 5.8.
    Descriptor,
    /// faccessat(2) on `/proc/self/fd/N` with the *real* ids, before. While such an oracle lives, processes of
    /// the target can send nrtrace signals.
    RealIds,
}

/// What is asked. Paths and descriptors are those of the process asked about.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Its root directory (`/proc/PID/root`, opened with `O_PATH`).
    pub root: BorrowedFd<'a>,
    /// Where a relative path starts: its working directory, or the file behind a dirfd.
    pub base: BorrowedFd<'a>,
    /// The path as it was passed, without its terminator.
    pub path: &'a [u8],
    /// What is to be done with the file.
    pub want: Want,
    /// Whether a symbolic link at the end is followed. [`Want::Open`] takes this from its flags, and wants that
    /// are about an entry never follow.
    pub follow: bool,
    /// Whether an empty path means `base` itself (`AT_EMPTY_PATH`, or a call on a descriptor).
    pub empty_path: bool,
    /// Who asks, for what `/proc/self` is and for the files below it. Without, these are nrtrace's.
    pub process: Option<Asker>,
}

/// The process and thread asked about, as numbered in the procfs it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Thread group.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
}

/// What is to be done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Reach it: stat, readlink, `O_PATH`.
    Reach,
    /// Make it the working directory.
    Search,
    /// Have access(2) with these bits (`R_OK`, `W_OK`, `X_OK`) succeed.
    Access(i32),
    /// Open it with these flags of open(2), creation included.
    Open(i32),
    /// Execute it. An interpreter is another question.
    Execute,
    /// Make a new entry: mkdir, mknod, symlink, bind, the new name of link.
    Create {
        /// Whether it is a directory, whose name may end with a slash.
        directory: bool,
    },
    /// Remove the entry: unlink, rmdir, the old name of rename.
    Delete(Victim),
    /// Take the entry, removing what is there: the new name of rename.
    Replace(Victim),
    /// Give it another name: the old name of link.
    Link,
    /// Connect to a Unix socket, or send to it.
    Connect,
    /// Change its mode, its times to given values, or its group to one of the user's own.
    Own,
    /// Set its times to now.
    Touch,
    /// Change its length by name.
    Truncate,
}

/// What an entry to be removed may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// Anything but a directory: unlink.
    File,
    /// A directory: rmdir.
    Directory,
    /// Either: rename.
    Any,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The file that refuses; for a create or delete, the directory.
    pub component: Component,
    /// What it refuses.
    pub access: BTreeSet<Access>,
    /// What the call would fail with: EACCES, EPERM or EROFS.
    pub errno: i32,
    /// Why.
    pub cause: Cause,
}

/// A failure that has nothing to do with who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where.
    pub at: RawText,
    /// With what: ENOENT, ENOTDIR, ELOOP, EEXIST, EISDIR, …
    pub errno: i32,
}

/// How a call would end as far as its user's rights go: what it meets first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing stands against it.
    Allowed,
    /// It is refused.
    Refused(Refusal),
    /// It fails for another reason.
    Fails(Failure),
}

/// Everything that stands against a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Every refusal on the way and at its end, in the order the kernel meets them.
    pub refusals: Vec<Refusal>,
    /// What it would fail with once nothing is refused.
    pub failure: Option<Failure>,
    /// The file in its mount namespace, symbolic links of its directories followed.
    pub path: RawText,
    /// The directory that holds it.
    pub parent: Option<Inode>,
    /// What is there.
    pub inode: Option<Inode>,
}

impl<'a> Question<'a> {
    /// A question about a path, symbolic links followed.
    pub fn new(root: BorrowedFd<'a>, base: BorrowedFd<'a>, path: &'a [u8], want: Want) -> Self {
        Self { root, base, path, want, follow: true, empty_path: false, process: None }
    }
}
