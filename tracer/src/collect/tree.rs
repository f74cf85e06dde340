//! Files of a mount namespace, looked at through a descriptor of its root, never through the names of this
//! process's own namespace. Nothing is opened but with `O_PATH`, so nothing blocks or has a side effect.

use std::collections::HashMap;
use std::fs::{File, metadata, read_link};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use rustix::fs::{AtFlags, Statx, StatxFlags, StatxTimestamp, statx};

use super::inquiry::nanoseconds;
use super::paths::split;
use crate::changes::node::{Node, NodeFacts};
use crate::status::Status;

/// Mount namespaces kept open at most.
const NAMESPACES: usize = 64;
/// How many processes of a namespace are asked for its root before giving up.
const ATTEMPTS: u32 = 256;

/// The root of a mount namespace.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    /// Keeps the namespace, and with it its mounts, when its last process is gone.
    _namespace: Option<File>,
}

/// Times of a file, in nanoseconds of the real-time clock.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// When it was made, where the file system knows.
    pub birth: Option<i128>,
    /// When it was last read.
    pub accessed: i128,
    /// When it was last written to.
    pub modified: i128,
    /// When that, its name or its rights were last changed.
    pub changed: i128,
}

/// What is at a path.
#[derive(Debug)]
pub struct AtPath {
    /// Its facts.
    pub stat: FileStat,
    /// The text of a symbolic link.
    pub link: Option<Vec<u8>>,
}

impl Tree {
    /// The root, open for looking.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens an absolute path for looking, without following any symbolic link.
    fn open(&self, path: &[u8]) -> Option<OwnedFd> {
        let relative = path.strip_prefix(b"/")?;
        let relative = if relative.is_empty() { b".".as_slice() } else { relative };
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        openat2(&self.root, relative, how).ok()
    }

    fn statx(&self, path: &[u8]) -> Option<Statx> {
        let fd = self.open(path)?;
        let mask = StatxFlags::BTIME
            | StatxFlags::ATIME
            | StatxFlags::MTIME
            | StatxFlags::CTIME
            | StatxFlags::MNT_ID;
        statx(&fd, c"", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, mask).ok()
    }

    /// When the file at an absolute path was made and last written to.
    pub fn times(&self, path: &[u8]) -> Option<Times> {
        let found = self.statx(path)?;
        let time = |stamp: StatxTimestamp| nanoseconds(stamp.tv_sec, stamp.tv_nsec.into());
        let birth = (found.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| time(found.stx_btime));
        Some(Times {
            birth,
            accessed: time(found.stx_atime),
            modified: time(found.stx_mtime),
            changed: time(found.stx_ctime),
        })
    }

    /// Who may do what with what is at an absolute path.
    pub fn facts(&self, path: &[u8]) -> Option<NodeFacts> {
        Node::from(self.open(path)?).facts().ok()
    }

    /// The same of a program, where its mount lets set-id bits and capabilities count.
    pub fn program(&self, path: &[u8]) -> Option<NodeFacts> {
        let fd = self.open(path)?;
        let counts = !fstatvfs(&fd).ok()?.flags().contains(FsFlags::ST_NOSUID);
        counts.then(|| Node::from(fd).facts().ok())?
    }

    /// Where the file system is mounted that holds what is at an absolute path; since Linux 5.8.
    pub fn mount_point<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let id = |path: &[u8]| {
            let found = self.statx(path)?;
            (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
        };
        let own = id(path)?;
        let mut point = path;
        while point != b"/" {
            let above = split(point).0;
            if id(above)? != own {
                break;
            }
            point = above;
        }
        Some(point)
    }

    /// Looks at an absolute path without following any symbolic link. `None` when there is nothing, or when a
    /// directory on the way is a symbolic link by now.
    pub fn look(&self, path: &[u8]) -> Option<AtPath> {
        let fd = self.open(path)?;
        let stat = fstat(&fd).ok()?;
        let link = if stat.st_mode & libc::S_IFMT == libc::S_IFLNK {
            use std::os::unix::ffi::OsStringExt;
            Some(readlinkat(&fd, "").ok()?.into_vec())
        } else {
            None
        };
        Some(AtPath { stat, link })
    }
}

/// The trees of all mount namespaces met.
#[derive(Debug, Default)]
pub struct Trees {
    known: HashMap<u32, State>,
}

#[derive(Debug)]
enum State {
    Open(Tree),
    Failed { attempts: u32, pid: u32 },
}

impl Trees {
    /// Opens the root of namespace `mnt_ns` by way of process `pid`, which lives in it, unless it is open already.
    pub fn meet(&mut self, mnt_ns: u32, pid: u32) {
        let attempts = match self.known.get(&mnt_ns) {
            Some(State::Open(_)) => return,
            Some(State::Failed { attempts, pid: last }) if *last == pid || *attempts >= ATTEMPTS => return,
            Some(State::Failed { attempts, .. }) => attempts + 1,
            None if self.known.len() >= NAMESPACES => return,
            None => 1,
        };
        let state = open_tree(mnt_ns, pid).map_or(State::Failed { attempts, pid }, State::Open);
        self.known.insert(mnt_ns, state);
    }

    /// Keeps the root that process `pid`, which is about to become a container's program, has in a namespace of its own: a
    /// program that ends at once is gone before its first record is looked at.
    pub fn hold(&mut self, pid: u32) {
        let inode = |path: String| metadata(path).map(|facts| (facts.st_dev(), facts.st_ino())).ok();
        let namespace = |pid: u32| Some(inode(format!("/proc/{pid}/ns/mnt"))?.1 as u32);
        let Some(above) = Status::of(pid).and_then(|status| status.number::<u32>("PPid")) else { return };
        let Some(own) = namespace(pid).filter(|own| Some(*own) != namespace(above)) else { return };
        // Before it has changed its root, it has that of the runtime.
        let root = |pid: u32| inode(format!("/proc/{pid}/root"));
        if root(pid) == root(above) || (!self.known.contains_key(&own) && self.known.len() >= NAMESPACES) {
            return;
        }
        if let Some(tree) = open_tree(own, pid) {
            self.known.insert(own, State::Open(tree));
        }
    }

    /// The tree of `mnt_ns`, where it could be opened.
    pub fn get(&self, mnt_ns: u32) -> Option<&Tree> {
        match self.known.get(&mnt_ns) {
            Some(State::Open(tree)) => Some(tree),
            _ => None,
        }
    }
}

fn open_tree(mnt_ns: u32, pid: u32) -> Option<Tree> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let is_asked = |file: &File| file.metadata().is_ok_and(|facts| facts.st_ino() == u64::from(mnt_ns));
    let own = File::open("/proc/self/ns/mnt").ok()?;
    if is_asked(&own) {
        return Some(Tree { root: open("/", flags, Mode::empty()).ok()?, _namespace: None });
    }
    // A process that has changed its root shows less than the whole tree. The link's text is a path in the
    // process's namespace.
    if read_link(format!("/proc/{pid}/root")).ok()? != Path::new("/") {
        return None;
    }
    let root = open(format!("/proc/{pid}/root").as_str(), flags, Mode::empty()).ok()?;
    // Looked at after the root was opened: a process that took over the number would be in another namespace,
    // or in this one all the same.
    let namespace = File::open(format!("/proc/{pid}/ns/mnt")).ok().filter(is_asked)?;
    Some(Tree { root, _namespace: Some(namespace) })
}

/// Inode number of this process's mount namespace, 0 when `/proc` does not tell.
pub fn own_namespace() -> u32 {
    std::fs::metadata("/proc/self/ns/mnt").map_or(0, |facts| facts.st_ino() as u32)
}
