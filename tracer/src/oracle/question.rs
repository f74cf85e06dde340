//! Questions and answers.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;

use nrtrace_profiles::RawText;
use nrtrace_profiles::calls::Want;
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
