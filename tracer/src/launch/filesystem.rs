//! Files as a thread of the tree sees them: from its root, working directory and descriptors.
//!
//! Paths are walked component by component on `O_PATH` descriptors. openat2(2) with `RESOLVE_IN_ROOT` would take
//! `/proc/self` for nrtrace's own and refuses `/proc/self/fd/1`, which is where `/dev/stdout` leads.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat, readlink, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nrtrace_profiles::RawText;
use nrtrace_profiles::event::{FileType, Inode, PathObject};

use crate::accounts;

/// Symbolic links on one way, as in the kernel (`MAXSYMLINKS`).
const LINKS_MAX: u32 = 40;

/// What a call names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The directory a relative path starts from, or the file itself if there is no path; `None` for the working
    /// directory.
    pub fd: Option<i32>,
    /// The path, unless the call takes a descriptor alone or an empty path with `AT_EMPTY_PATH`.
    pub path: Option<Vec<u8>>,
    /// Whether a symbolic link at the end is followed.
    pub follow: bool,
}

/// A thread whose view is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// Thread.
    pub tid: i32,
    /// Its thread group.
    pub tgid: u32,
}

/// A file that was found: it stays the same whatever the thread does next.
pub(super) struct Found {
    file: OwnedFd,
    parent: Option<OwnedFd>,
}

impl View {
    /// Finds what `target` names.
    ///
    /// # Errors
    /// The errno that the call itself would meet, or one that says that the thread is gone or may not be looked at.
    pub(super) fn find(&self, target: &Target) -> Result<Found, Errno> {
        let Some(path) = &target.path else {
            return Ok(Found { file: self.start(target.fd)?, parent: None });
        };
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let root = self.magic("root")?;
        let start =
            if path.starts_with(b"/") { root.try_clone() } else { self.start(target.fd)?.try_clone() };
        let mut walk = Walk {
            view: *self,
            root,
            at: start.map_err(|_| Errno::EMFILE)?,
            parent: None,
            links: 0,
            pending: Vec::new(),
        };
        walk.push(path);
        let must_be_directory = path.ends_with(b"/");
        walk.run(target.follow || must_be_directory)?;
        if must_be_directory && file_type(&fstat(&walk.at)?) != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok(Found { file: walk.at, parent: walk.parent })
    }

    fn start(&self, fd: Option<i32>) -> Result<OwnedFd, Errno> {
        match fd {
            None => self.magic("cwd"),
            // Only a descriptor that is not there gives ENOENT here.
            Some(fd) => self.magic(&format!("fd/{fd}")).map_err(|error| match error {
                Errno::ENOENT => Errno::EBADF,
                other => other,
            }),
        }
    }

    fn magic(&self, name: &str) -> Result<OwnedFd, Errno> {
        open(format!("/proc/{}/{name}", self.tid).as_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
    }

    /// All names of what `target` names, with the facts of its inode.
    pub(super) fn describe(&self, target: &Target, found: &Found) -> PathObject {
        let stat = fstat(&found.file).ok();
        let name = link_text(&format!("/proc/self/fd/{}", found.file.as_raw_fd())).unwrap_or_default();
        let gone = stat.as_ref().is_some_and(|stat| stat.st_nlink == 0);
        let (path, deleted) = match name.strip_suffix(b" (deleted)") {
            Some(path) if gone => (path.to_vec(), true),
            _ => (name, false),
        };
        PathObject {
            given: RawText::new(target.path.clone().unwrap_or_default()),
            seen: RawText::new(self.seen(target, &path)),
            resolved: path.starts_with(b"/") && !deleted,
            path: RawText::new(path),
            parent: found.parent.as_ref().and_then(|parent| fstat(parent).ok()).map(|stat| inode(&stat)),
            inode: stat.as_ref().map(inode),
        }
    }

    fn seen(&self, target: &Target, found: &[u8]) -> Vec<u8> {
        let root = link_text(&format!("/proc/{}/root", self.tid)).unwrap_or_default();
        let inside = |path: &[u8]| match path.strip_prefix(root.as_slice()) {
            Some(b"") => b"/".to_vec(),
            Some(rest) if rest.starts_with(b"/") => rest.to_vec(),
            _ => path.to_vec(),
        };
        let Some(given) = &target.path else { return inside(found) };
        if given.starts_with(b"/") {
            return given.clone();
        }
        let base = target.fd.map_or("cwd".to_owned(), |fd| format!("fd/{fd}"));
        let base = inside(&link_text(&format!("/proc/{}/{base}", self.tid)).unwrap_or_default());
        let given = given.strip_prefix(b"./").unwrap_or(given);
        [base.strip_suffix(b"/").unwrap_or(&base), b"/", given].concat()
    }
}

impl Found {
    /// Whether it is on a file system, or behind a mount, that is read-only.
    pub(super) fn is_read_only(&self) -> bool {
        fstatvfs(&self.file).is_ok_and(|facts| facts.flags().contains(FsFlags::ST_RDONLY))
    }
}

struct Walk {
    view: View,
    root: OwnedFd,
    at: OwnedFd,
    parent: Option<OwnedFd>,
    links: u32,
    /// Components still to go, the next one last.
    pending: Vec<Vec<u8>>,
}

impl Walk {
    fn push(&mut self, path: &[u8]) {
        let components = path.split(|byte| *byte == b'/').filter(|component| !component.is_empty());
        self.pending.extend(components.rev().map(<[u8]>::to_vec));
    }

    fn run(&mut self, follow_last: bool) -> Result<(), Errno> {
        while let Some(component) = self.pending.pop() {
            match component.as_slice() {
                b"." => {}
                b".." if same_file(&self.at, &self.root)? => {}
                b".." => {
                    self.at = open_at(&self.at, b"..", OFlag::empty())?;
                    self.parent = None;
                }
                name => self.step(name, !self.pending.is_empty() || follow_last)?,
            }
        }
        Ok(())
    }

    fn step(&mut self, name: &[u8], follow: bool) -> Result<(), Errno> {
        let child = open_at(&self.at, name, OFlag::O_NOFOLLOW)?;
        if !follow || file_type(&fstat(&child)?) != FileType::Symlink {
            self.parent = Some(std::mem::replace(&mut self.at, child));
            return Ok(());
        }
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::ELOOP);
        }
        if let Some(target) = self.proc_link(name)? {
            self.at = target;
            self.parent = None;
            return Ok(());
        }
        let text = readlinkat(&child, "")?;
        if text.as_bytes().starts_with(b"/") {
            self.at = self.root.try_clone().map_err(|_| Errno::EMFILE)?;
        }
        self.push(text.as_bytes());
        Ok(())
    }

    /// Where a link of procfs leads that is no ordinary symbolic link.
    fn proc_link(&self, name: &[u8]) -> Result<Option<OwnedFd>, Errno> {
        if fstatfs(&self.at)?.filesystem_type() != PROC_SUPER_MAGIC {
            return Ok(None);
        }
        /// Inode number of the root of procfs (`PROC_ROOT_INO`).
        const ROOT: u64 = 1;
        let View { tid, tgid } = self.view;
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        match (fstat(&self.at)?.st_ino, name) {
            (ROOT, b"self") => open(format!("/proc/{tgid}").as_str(), flags, Mode::empty()).map(Some),
            (ROOT, b"thread-self") => {
                open(format!("/proc/{tgid}/task/{tid}").as_str(), flags, Mode::empty()).map(Some)
            }
            (ROOT, _) => Ok(None),
            _ => open_at(&self.at, name, OFlag::empty()).map(Some),
        }
    }
}

fn open_at(directory: &OwnedFd, name: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
    openat(directory, name, OFlag::O_PATH | OFlag::O_CLOEXEC | flags, Mode::empty())
}

fn same_file(one: impl AsFd, other: impl AsFd) -> Result<bool, Errno> {
    let (one, other) = (fstat(one)?, fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

fn link_text(path: &str) -> Option<Vec<u8>> {
    readlink(Path::new(path)).ok().map(|text| text.as_bytes().to_vec())
}

fn file_type(stat: &FileStat) -> FileType {
    crate::collect::file_type(stat.st_mode)
}

fn inode(stat: &FileStat) -> Inode {
    let file_type = file_type(stat);
    let is_device = matches!(file_type, FileType::CharDevice | FileType::BlockDevice);
    Inode {
        file_type,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        user: accounts::user_by_uid(stat.st_uid).map(|user| user.name),
        gid: stat.st_gid,
        group: accounts::group_by_gid(stat.st_gid).map(|group| group.name),
        device: is_device.then(|| (libc::major(stat.st_rdev), libc::minor(stat.st_rdev))),
    }
}

/// The descriptor argument of a call: `None` for the working directory.
pub(super) fn directory(argument: u64) -> Option<i32> {
    // The kernel takes the low 32 bits.
    let fd = argument as i32;
    (fd != AT_FDCWD.as_raw_fd()).then_some(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn own() -> View {
        View { tid: nix::unistd::gettid().as_raw(), tgid: std::process::id() }
    }

    fn target(path: &Path, follow: bool) -> Target {
        Target { fd: None, path: Some(path.as_os_str().as_bytes().to_vec()), follow }
    }

    fn find(path: &Path, follow: bool) -> Result<PathObject, Errno> {
        let target = target(path, follow);
        own().find(&target).map(|found| own().describe(&target, &found))
    }

    #[test]
    fn links_are_followed_as_asked() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap();
        let at = |name: &str| real.join(name);
        std::fs::create_dir(at("dir")).unwrap();
        std::fs::write(at("dir/file"), "").unwrap();
        symlink("dir", at("link")).unwrap();
        symlink(at("link/file"), at("absolute")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let path = |name: &str, follow| {
            find(&at(name), follow).map(|object| {
                assert!(object.resolved && object.inode.is_some(), "{name}");
                String::from_utf8(object.path.as_bytes().to_vec()).unwrap()
            })
        };
        let expect = |name: &str| Ok(at(name).to_str().unwrap().to_owned());
        assert_eq!(path("link/../link/./file", false), expect("dir/file"));
        assert_eq!(path("absolute", true), expect("dir/file"));
        assert_eq!(path("absolute", false), expect("absolute"));
        assert_eq!(path("link", false), expect("link"));
        assert_eq!(path("link/", false), expect("dir"));
        assert_eq!(path("loop", true), Err(Errno::ELOOP));
        assert_eq!(path("none", true), Err(Errno::ENOENT));
        assert_eq!(path("none/file", true), Err(Errno::ENOENT));
        assert_eq!(path("dir/file/x", true), Err(Errno::ENOTDIR));
        assert_eq!(path("dir/file/", true), Err(Errno::ENOTDIR));
        assert_eq!(find(Path::new("/../../proc/.."), true).unwrap().path, RawText::from("/"));
        assert_eq!(find(Path::new(""), true), Err(Errno::ENOENT));
    }

    #[test]
    fn links_of_procfs_are_the_threads_own() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().canonicalize().unwrap().join("file");
        let open = std::fs::File::create(&file).unwrap();
        let fd = format!("/dev/fd/{}", open.as_raw_fd());
        let object = find(Path::new(&fd), true).unwrap();
        assert_eq!(object.path.as_bytes(), file.as_os_str().as_bytes());
        assert_eq!(object.seen.as_bytes(), fd.as_bytes());
        let status = find(Path::new("/proc/self/status"), true).unwrap();
        assert_eq!(status.path.to_text(), format!("/proc/{}/status", std::process::id()));
        // An ordinary link that passes through `self`.
        let mounts = find(Path::new("/proc/mounts"), true).unwrap();
        assert_eq!(mounts.path.to_text(), format!("/proc/{}/mounts", std::process::id()));
    }

    #[test]
    fn descriptors_and_relative_paths() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap();
        let handle = std::fs::File::open(&real).unwrap();
        std::fs::write(real.join("file"), "").unwrap();
        let fd = Some(handle.as_raw_fd());
        let relative = Target { fd, path: Some(b"./file".to_vec()), follow: true };
        let object = own().describe(&relative, &own().find(&relative).unwrap());
        assert_eq!(object.seen.as_bytes(), real.join("file").as_os_str().as_bytes());
        assert_eq!(object.parent.unwrap().file_type, FileType::Directory);
        let itself = Target { fd, path: None, follow: true };
        assert_eq!(
            own().describe(&itself, &own().find(&itself).unwrap()).path.as_bytes(),
            real.as_os_str().as_bytes()
        );
        let bad = Target { fd: Some(9999), path: None, follow: true };
        assert_eq!(own().find(&bad).err(), Some(Errno::EBADF));
        let removed = std::fs::File::open(real.join("file")).unwrap();
        std::fs::remove_file(real.join("file")).unwrap();
        let deleted = Target { fd: Some(removed.as_raw_fd()), path: None, follow: true };
        let object = own().describe(&deleted, &own().find(&deleted).unwrap());
        assert!(!object.resolved && object.path.as_bytes().ends_with(b"/file"));
        assert_eq!(super::directory(libc::AT_FDCWD as u32 as u64), None);
    }
}
