//! Trees of files to ask about, and processes that really do what was asked about.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nrtrace_profiles::event::Identity;
use tempfile::TempDir;

/// What is at a place of the tree.
#[derive(Clone, Debug)]
pub enum Kind {
    Directory,
    File,
    Fifo,
    Socket,
    /// `/dev/null` under another name.
    Device,
    Link(String),
}

/// Entries of an ACL besides owner, group and others: tag (2 user, 8 group), id, permissions; and the mask.
pub type Acl = (Vec<(u16, u32, u16)>, u16);

/// One file: where, what, whose.
#[derive(Clone, Debug)]
pub struct Entry {
    pub path: String,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub acl: Option<Acl>,
}

pub fn entry(path: &str, kind: Kind, mode: u32, uid: u32) -> Entry {
    Entry { path: path.into(), kind, mode, uid, gid: uid, acl: None }
}

pub fn identity(uid: u32, gid: u32, groups: &[u32]) -> Identity {
    Identity { user: "u".into(), group: "g".into(), uid, gid, groups: groups.to_vec(), exists: false }
}

/// A tree that is gone when dropped.
pub struct World {
    dir: TempDir,
}

impl World {
    pub fn new(entries: &[Entry]) -> Self {
        // SAFETY: geteuid takes nothing.
        let euid = unsafe { libc::geteuid() };
        assert_eq!(euid, 0, "the oracle's tests make files of several owners: run them as root");
        // Without symbolic links, for comparison.
        let dir = tempfile::tempdir_in(std::env::temp_dir().canonicalize().unwrap()).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let world = Self { dir };
        let made: Vec<&Entry> = entries.iter().filter(|entry| world.make(entry)).collect();
        made.into_iter().for_each(|entry| world.own(entry));
        world
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// Makes it, unless its name is taken or leads through what is no directory.
    fn make(&self, entry: &Entry) -> bool {
        let path = self.at(&entry.path);
        if path == self.root() {
            return true;
        }
        // Never through a symbolic link: it may lead out of the tree.
        let parent = path.parent().unwrap();
        if fs::symlink_metadata(&path).is_ok() || !parent.canonicalize().is_ok_and(|real| real == parent) {
            return false;
        }
        match &entry.kind {
            Kind::Directory => fs::create_dir(&path).is_ok(),
            Kind::File => fs::write(&path, b"").is_ok(),
            Kind::Fifo => make_node(&path, libc::S_IFIFO, 0),
            Kind::Device => make_node(&path, libc::S_IFCHR, libc::makedev(1, 3)),
            Kind::Socket => UnixListener::bind(&path).is_ok(),
            Kind::Link(text) => std::os::unix::fs::symlink(text, &path).is_ok(),
        }
    }

    fn own(&self, entry: &Entry) {
        let path = self.at(&entry.path);
        std::os::unix::fs::lchown(&path, Some(entry.uid), Some(entry.gid)).unwrap();
        if matches!(entry.kind, Kind::Link(_)) {
            settle(&path);
            return;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(entry.mode)).unwrap();
        if let Some((entries, mask)) = &entry.acl {
            set_acl(&path, entry.mode, entries, *mask);
        }
    }

    /// All that stat tells of every file, to see that nothing has changed.
    pub fn snapshot(&self) -> Vec<String> {
        let mut seen = Vec::new();
        let mut rest = vec![self.root().to_path_buf()];
        while let Some(path) = rest.pop() {
            let meta = fs::symlink_metadata(&path).unwrap();
            let times = (meta.atime(), meta.atime_nsec(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
            seen.push(format!("{path:?} {:o} {} {} {times:?}", meta.mode(), meta.nlink(), meta.size()));
            if meta.is_dir() {
                // Listing a directory updates its access time; its own options keep that away.
                rest.extend(list_quietly(&path));
            }
        }
        seen.sort();
        seen
    }
}

/// `relatime` updates the access time of a link that is read, unless it is newer than its change.
fn settle(path: &Path) {
    let name = c_path(path);
    let soon = libc::timespec { tv_sec: now() + 3600, tv_nsec: 0 };
    let keep = libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT };
    // SAFETY: a C string and two times.
    let result = unsafe {
        libc::utimensat(libc::AT_FDCWD, name.as_ptr(), [soon, keep].as_ptr(), libc::AT_SYMLINK_NOFOLLOW)
    };
    assert_eq!(result, 0);
}

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64
}

fn list_quietly(path: &Path) -> Vec<PathBuf> {
    let flags = libc::O_NOATIME | libc::O_DIRECTORY;
    let dir = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).unwrap();
    let mut dir = nix::dir::Dir::from_fd(OwnedFd::from(dir)).unwrap();
    dir.iter()
        .map(|entry| entry.unwrap().file_name().to_owned())
        .filter(|name| !matches!(name.to_bytes(), b"." | b".."))
        .map(|name| path.join(OsStr::from_bytes(name.to_bytes())))
        .collect()
}

pub fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn make_node(path: &Path, kind: u32, device: u64) -> bool {
    let name = c_path(path);
    // SAFETY: a C string and integers.
    unsafe { libc::mknod(name.as_ptr(), kind | 0o600, device) == 0 }
}

/// Writes an ACL as the kernel keeps it: version 2, then tag, permissions and id of each entry.
pub fn set_acl(path: &Path, mode: u32, entries: &[(u16, u32, u16)], mask: u16) {
    let bits = |shift: u32| (mode >> shift & 7) as u16;
    let mut rows = vec![
        (1, u32::MAX, bits(6)),
        (4, u32::MAX, bits(3)),
        (0x10, u32::MAX, mask),
        (0x20, u32::MAX, bits(0)),
    ];
    rows.extend(entries);
    rows.sort_by_key(|(tag, id, _)| (*tag, *id));
    rows.dedup_by_key(|(tag, id, _)| (*tag, *id));
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, id, permissions) in rows {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    let name = c_path(path);
    // SAFETY: C strings, and a buffer as long as said.
    let result = unsafe {
        let attribute = c"system.posix_acl_access";
        libc::setxattr(name.as_ptr(), attribute.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    assert_eq!(result, 0, "ACL of {path:?}: {}", std::io::Error::last_os_error());
}

/// Opens for looking at.
pub fn look(path: &Path) -> OwnedFd {
    fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).unwrap().into()
}

pub fn is_fifo(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo())
}

/// What a process of this identity gets when it does something below a root and a working directory: 0 or errno.
pub fn really(identity: &Identity, root: &Path, cwd: &Path, act: impl Fn() -> i64) -> i32 {
    // The trial is locked into its root, out of which only a working directory beyond it would lead.
    assert!(root.is_absolute() && root.parent().is_some() && cwd.canonicalize().unwrap().starts_with(root));
    let (root, cwd) = (c_path(root), c_path(cwd));
    // SAFETY: between fork and _exit the child makes system calls only.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0);
        if child == 0 {
            libc::_exit(as_identity(identity, &root, &cwd, act));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        assert!(libc::WIFEXITED(status), "the trial died: {status:#x}");
        assert_ne!(libc::WEXITSTATUS(status), 255, "the trial could not take its identity");
        libc::WEXITSTATUS(status)
    }
}

fn as_identity(identity: &Identity, root: &CString, cwd: &CString, act: impl Fn() -> i64) -> i32 {
    let (uid, gid, groups) = (identity.uid, identity.gid, &identity.groups);
    let header = [0x2008_0522_u32, 0];
    // SAFETY: C strings, integers, and buffers of the right length; this process has one thread.
    let ready = unsafe {
        libc::umask(0);
        libc::chdir(cwd.as_ptr()) == 0
            && libc::chroot(root.as_ptr()) == 0
            && keep_open(c"/open")
            && libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) == 0
            && libc::syscall(libc::SYS_setresgid, gid, gid, gid) == 0
            && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
            && libc::syscall(libc::SYS_capset, header.as_ptr(), [0_u32; 6].as_ptr()) == 0
    };
    if !ready {
        return 255;
    }
    if act() >= 0 { 0 } else { nix::errno::Errno::last_raw() }
}

/// Where [`as_identity`] leaves the directory `/open` of the tree, if it has one.
pub const OPEN: i32 = 100;

fn keep_open(path: &std::ffi::CStr) -> bool {
    // SAFETY: a C string and integers; a missing directory is no error here.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_PATH);
        fd < 0 || libc::dup2(fd, OPEN) == OPEN
    }
}
