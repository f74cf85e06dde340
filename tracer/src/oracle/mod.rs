//! The access oracle: would this user have been allowed to do that?
//!
//! ```text
//!               ┌ walker: nrtrace's own rights, goes to the file with O_PATH descriptors
//! Question ─────┤                    │ the same descriptors
//!               └ judge: a thread with the target's uid, gid and groups, and no capability
//!                                    │ faccessat2(fd, "", bits, AT_EACCESS | AT_EMPTY_PATH)
//!                                    ▼
//! Judgement: every refusal on the way, in the order the kernel meets them
//! ```
//!
//! The kernel itself judges, so POSIX ACLs, user namespaces, idmapped mounts, overlays, read-only mounts and
//! security modules come out right. It is asked about descriptors, one for each component, because only so can
//! be told *which* component refuses, and what more would be refused behind it.
//!
//! A few rules have no call that asks without doing; there the kernel is asked for the facts (statx(2),
//! fstatfs(2), `/proc/sys/fs/protected_*`) and the rule is applied to them:
//! - *Ownership* (chmod, utimes, `O_NOATIME`): the owner the mount shows must be the target.
//! - *Sticky directories*: the entry, or the directory, must be the target's. unlink(2) on a directory and
//!   rmdir(2) on a file do ask and then fail, but a program that swaps the entry at that moment would
//!   lose it.
//! - *Append-only and immutable* files, where writing is not what is asked for; `noexec`, `nodev` and read-only
//!   mounts where the kernel looks at them before or after the permission bits.
//! - *Kernel parameters* (`/proc/sys`): the kernel compares the effective ids there, not the filesystem ids.
//! - `protected_symlinks`, `protected_hardlinks`, `protected_regular` and `protected_fifos`.
//!
//! What the oracle cannot know: limits that belong to the tracee rather than to its user (its Landlock rules,
//! seccomp filters, device cgroup, the domain of a security module). The judge has nrtrace's own.
//!
//! Nothing is changed by asking: everything is opened with `O_PATH`, and links of an untriggered automount are
//! not looked up. Reading the text of a symbolic link updates its access time as its mount demands (with
//! `relatime`, at most once a day), as every lookup does.

mod consulted;
mod found;
mod judge;
mod node;
mod plan;
mod protections;
mod question;
mod walk;

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nrtrace_profiles::RawText;
use nrtrace_profiles::event::Identity;
use nrtrace_profiles::requirement::Access;

pub(crate) use found::{FoundFile, find};
pub use nrtrace_profiles::calls::{Victim, Want};
pub use question::{Answer, Asker, Cause, Failure, Judgement, Method, Question, Refusal};

use judge::{Judge, Query};
use node::Node;
use protections::Protections;
use walk::{End, Step, Walk};

/// `CAP_DAC_OVERRIDE` of `linux/capability.h`, as a bit.
const DAC_OVERRIDE: u64 = 1 << 1;

/// Answers for one user.
///
/// Several threads may ask at once; each question takes one round trip to the judge. The thread ends when the
/// oracle is dropped.
///
/// Making one for somebody else marks the whole process as not dumpable (prctl(2), `PR_SET_DUMPABLE`), as the
/// kernel does with each change of credentials: files below its own `/proc/self` then belong to root.
pub struct Oracle {
    judge: Judge,
    protections: Protections,
    /// Whether this process overrides permission bits, so that what refuses it too is none of these.
    overrides: bool,
    /// Whether root's group is one of the target's.
    in_root_group: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This process may not judge for that user.
    #[error(
        "cannot judge for uid {uid}, gid {gid}: {operation}: {errno}; run nrtrace as root with CAP_SETUID and CAP_SETGID, or judge for the user \
         who runs it, with all groups"
    )]
    Become {
        /// The call that failed.
        operation: &'static str,
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
        /// Why.
        errno: Errno,
    },
    /// The thread could not be started.
    #[error("cannot start the access oracle's thread: {0}; check the limit on processes (RLIMIT_NPROC)")]
    Thread(#[source] io::Error),
    /// The kernel answers questions in no known way.
    #[error(
        "cannot ask the kernel about access to an open file: {errno}; mount /proc, or use Linux 5.8 or later"
    )]
    Ask {
        /// What faccessat(2) on `/proc/self/fd` failed with.
        errno: Errno,
    },
    /// The root or the start directory could not be looked at.
    #[error("cannot look at the directory a path starts from: {errno}; the process may have ended")]
    Start {
        /// Why.
        errno: Errno,
    },
    /// The path leads below an automount point on which nothing is mounted.
    #[error("{path} is an automount point, and looking below it would mount it; mount it beforehand")]
    Automount {
        /// The point.
        path: RawText,
    },
    /// The thread has ended.
    #[error("the access oracle's thread has ended unexpectedly; please report this")]
    Gone,
}

impl Oracle {
    /// Makes an oracle for a user.
    ///
    /// # Errors
    /// When this process may not take that user's ids: it needs CAP_SETUID and CAP_SETGID, or must itself be
    /// that user with just those groups.
    pub fn new(identity: &Identity) -> Result<Self, Error> {
        Self::make(Judge::new(identity, None)?, identity)
    }

    /// An oracle for the calling thread alone, which is faster. The thread takes the target's groups and filesystem
    /// ids, and loses the capabilities that go with root's, except while it looks around for an answer.
    ///
    /// # Errors
    /// As [`Oracle::new`].
    pub fn for_this_thread(identity: &Identity) -> Result<Self, Error> {
        Self::make(Judge::here(identity)?, identity)
    }

    /// The same, with the method fixed.
    ///
    /// # Errors
    /// As [`Oracle::new`].
    pub fn with_method(identity: &Identity, method: Method) -> Result<Self, Error> {
        Self::make(Judge::new(identity, Some(method))?, identity)
    }

    fn make(judge: Judge, identity: &Identity) -> Result<Self, Error> {
        let (effective, _) = judge.look_around(judge::capabilities).map_err(|errno| Error::Ask { errno })?;
        let protections = Protections::read(identity.uid);
        let in_root_group = identity.gid == 0 || identity.groups.contains(&0);
        Ok(Self { judge, protections, overrides: effective & DAC_OVERRIDE != 0, in_root_group })
    }

    /// How the kernel is asked here.
    pub fn method(&self) -> Method {
        self.judge.method()
    }

    /// A quick look, as the kernel would go: whether nothing stands against the question, or what it fails with
    /// whoever asks. `None` where it takes a closer look to tell.
    ///
    /// For paths outside procfs, and processes with this one's root directory and mount namespace.
    pub fn glance(&self, question: &Question) -> Option<Result<(), Errno>> {
        let (bits, follow, open) = match question.want {
            Want::Reach => (libc::F_OK, question.follow, 0),
            Want::Access(bits) => (bits, question.follow, 0),
            Want::Execute => (libc::X_OK, question.follow, 0),
            Want::Open(flags) => {
                let reads = flags & libc::O_ACCMODE != libc::O_WRONLY;
                let writes = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0;
                let bits = if reads { libc::R_OK } else { 0 } | if writes { libc::W_OK } else { 0 };
                (bits, flags & libc::O_NOFOLLOW == 0, flags)
            }
            _ => return None,
        };
        const CLOSER: i32 = libc::O_NOATIME | libc::O_EXCL | libc::O_PATH | plan::TMPFILE;
        if open & CLOSER != 0 {
            return None;
        }
        let path = CString::new(question.path).ok()?;
        let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
        let base = question.base.as_raw_fd();
        match self.judge.glance(base, &path, bits, flags)? {
            Ok(()) => {
                let look = || self.judge.look(base, &path, flags);
                let plain = match question.want {
                    Want::Open(flags) => self.is_plain(flags, look()?),
                    Want::Execute => look()?.st_mode & libc::S_IFMT == libc::S_IFREG,
                    _ => true,
                };
                plain.then_some(Ok(()))
            }
            // What is to be created is judged by its directory.
            Err(_) if open & libc::O_CREAT != 0 => None,
            Err(errno) => {
                matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP).then_some(Err(errno))
            }
        }
    }

    /// Whether permission bits alone decide over opening this file so.
    fn is_plain(&self, flags: i32, file: libc::stat) -> bool {
        let creates = flags & libc::O_CREAT != 0;
        match file.st_mode & libc::S_IFMT {
            libc::S_IFDIR => !creates && flags & (libc::O_ACCMODE | libc::O_TRUNC) == libc::O_RDONLY,
            libc::S_IFREG | libc::S_IFIFO => {
                flags & libc::O_DIRECTORY == 0 && (!creates || file.st_uid == self.protections.uid)
            }
            _ => false,
        }
    }

    /// What a call would meet first.
    ///
    /// # Errors
    /// When the question cannot be put: see [`Error`].
    pub fn ask(&self, question: &Question) -> Result<Answer, Error> {
        self.judge.look_around(|| self.first(question))
    }

    fn first(&self, question: &Question) -> Result<Answer, Error> {
        let (mut walk, failure) = self.prepare(question)?;
        let first = self.refusals(&mut walk, 1)?.pop();
        Ok(match (first, failure) {
            (Some(refusal), _) => Answer::Refused(refusal),
            (None, Some(errno)) => Answer::Fails(walk.failure(errno)),
            (None, None) => Answer::Allowed,
        })
    }

    /// Everything a call would meet if each refusal before were mended.
    ///
    /// # Errors
    /// As [`Oracle::ask`].
    pub fn ask_all(&self, question: &Question) -> Result<Judgement, Error> {
        self.judge.look_around(|| self.all(question))
    }

    fn all(&self, question: &Question) -> Result<Judgement, Error> {
        let (mut walk, failure) = self.prepare(question)?;
        let refusals = self.refusals(&mut walk, usize::MAX)?;
        let inode = match walk.end {
            End::Found(node) => Some(walk.nodes[node].inode()),
            _ => None,
        };
        Ok(Judgement {
            refusals,
            failure: failure.map(|errno| walk.failure(errno)),
            path: walk.path(),
            parent: walk.parent.map(|parent| walk.nodes[parent].inode()),
            inode,
        })
    }

    fn prepare(&self, question: &Question) -> Result<(Walk, Option<Errno>), Error> {
        let mut walk =
            walk::walk(Some((&self.judge, &self.protections)), question, plan::treatment(question))?;
        let failure = match walk.end {
            End::Blocked => None,
            End::Failed(errno) => Some(errno),
            End::Found(_) | End::Absent => plan::plan(&mut walk, &self.protections, question.want).err(),
        };
        Ok((walk, failure))
    }

    /// Puts all questions of a walk to the judge in one batch, and tells the first `most` refusals.
    fn refusals(&self, walk: &mut Walk, most: usize) -> Result<Vec<Refusal>, Error> {
        let steps = std::mem::take(&mut walk.steps);
        let queries = steps.iter().filter_map(|step| match step {
            Step::Ask { node, bits, .. } => Some(walk.query(*node, bits)),
            Step::Refused { .. } => None,
        });
        let mut replies = self.judge.put(queries.collect())?.into_iter();
        let mut refusals: Vec<Refusal> = Vec::new();
        for step in &steps {
            let refusal = match step {
                Step::Refused { node, access, errno, cause } => {
                    Some(walk.refusal(*node, BTreeSet::from([*access]), *errno, *cause))
                }
                Step::Ask { node, bits, refusal } => match replies.next().ok_or(Error::Gone)? {
                    Ok(_) => self.sysctl(walk, *node, bits),
                    Err(errno) => self.explain(walk, *node, bits, errno, *refusal)?,
                },
            };
            let Some(refusal) = refusal else { continue };
            // Search on a directory may have been refused already when its entry is to be changed.
            let known = |old: &Refusal| {
                old.component == refusal.component
                    && (old.cause == refusal.cause || refusal.cause == Cause::Policy)
                    && refusal.access.is_subset(&old.access)
            };
            if !refusals.iter().any(known) {
                refusals.push(refusal);
            }
            if refusals.len() == most {
                break;
            }
        }
        Ok(refusals)
    }

    /// What a kernel parameter refuses the target: it belongs to root, and no capability overrides its mode
    /// (`test_perm` of the kernel's `proc_sysctl.c`).
    fn sysctl(&self, walk: &Walk, node: usize, bits: &[(i32, Access)]) -> Option<Refusal> {
        let subject = &walk.nodes[node];
        let allowed = subject.mode >> if self.in_root_group { 3 } else { 0 };
        let refused: BTreeSet<Access> =
            bits.iter().filter(|(bit, _)| allowed as i32 & bit != *bit).map(|(_, access)| *access).collect();
        let is_roots = subject.uid == 0 && self.protections.uid != 0 && !refused.is_empty();
        (is_roots && subject.path().as_bytes().starts_with(b"/proc/sys/"))
            .then(|| walk.refusal(node, refused, Errno::EACCES, Cause::Permission))
    }

    /// Which of the bits were refused, and why.
    fn explain(
        &self,
        walk: &Walk,
        node: usize,
        bits: &[(i32, Access)],
        errno: Errno,
        instead: Option<(Errno, Cause)>,
    ) -> Result<Option<Refusal>, Error> {
        let subject = &walk.nodes[node];
        let all = bits.iter().fold(0, |all, (bit, _)| all | bit);
        // The files of a process belong to it: the target would be their owner, whoever is now.
        if subject.own_proc && (subject.mode >> 6) as i32 & all == all {
            return Ok(None);
        }
        let mut access: BTreeSet<Access> = bits.iter().map(|(_, access)| *access).collect();
        if bits.len() > 1 {
            let single = bits.iter().map(|bit| walk.query(node, &[*bit])).collect();
            let replies = self.judge.put(single)?;
            let refused = bits.iter().zip(&replies).filter(|(_, reply)| reply.is_err());
            let refused: BTreeSet<Access> = refused.map(|((_, access), _)| *access).collect();
            // An ACL may allow each of two bits, and not both at once.
            if !refused.is_empty() {
                access = refused;
            }
        }
        let (errno, cause) = instead.unwrap_or_else(|| (errno, self.cause(subject, all, errno)));
        Ok(Some(walk.refusal(node, access, errno, cause)))
    }

    fn cause(&self, subject: &Node, bits: i32, errno: Errno) -> Cause {
        match errno {
            Errno::EROFS => Cause::ReadOnlyMount,
            Errno::EPERM if subject.is_immutable() => Cause::Immutable,
            Errno::EACCES if !self.overrides => Cause::Permission,
            // Executing needs an x bit even with the capability.
            Errno::EACCES
                if bits & libc::X_OK != 0 && !subject.is_directory() && subject.mode & 0o111 == 0 =>
            {
                Cause::Permission
            }
            Errno::EACCES
                if judge::access(self.method(), subject.fd().as_raw_fd(), bits) != Err(Errno::EACCES) =>
            {
                Cause::Permission
            }
            _ => Cause::Policy,
        }
    }
}

impl Walk {
    fn query(&self, node: usize, bits: &[(i32, Access)]) -> Query {
        let bits = bits.iter().fold(0, |all, (bit, _)| all | bit);
        Query::Access { fd: self.nodes[node].fd().as_raw_fd(), bits }
    }

    fn refusal(&self, node: usize, access: BTreeSet<Access>, errno: Errno, cause: Cause) -> Refusal {
        Refusal { component: self.nodes[node].component(), access, errno: errno as i32, cause }
    }

    fn failure(&self, errno: Errno) -> Failure {
        Failure { at: self.path(), errno: errno as i32 }
    }

    /// The file's path: its directory's, and its name.
    fn path(&self) -> RawText {
        match (self.end, self.parent, self.last) {
            (End::Found(node), None, _) | (End::Found(node), _, walk::Last::Dot | walk::Last::DotDot) => {
                self.nodes[node].path()
            }
            (_, Some(parent), _) => {
                let mut path = self.nodes[parent].path().as_bytes().to_vec();
                if !path.ends_with(b"/") {
                    path.push(b'/');
                }
                path.extend_from_slice(&self.name);
                RawText::new(path)
            }
            _ => RawText::new(self.name.clone()),
        }
    }
}
