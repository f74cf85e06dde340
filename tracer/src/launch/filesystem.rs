//! Files as a thread of the tree sees them: from its root, working directory and descriptors.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, readlink};
use nix::sys::stat::Mode;
use nrtrace_profiles::RawText;
use nrtrace_profiles::calls::Want;
use nrtrace_profiles::event::{Inode, PathObject};

use crate::accounts;
use crate::oracle::{Asker, FoundFile, Question, find};

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

impl View {
    /// Finds what `target` names.
    ///
    /// # Errors
    /// The errno that the call itself would meet, or one that says that the thread is gone or may not be looked at.
    pub(super) fn find(&self, target: &Target) -> Result<FoundFile, Errno> {
        let root = self.magic("root")?;
        let path = target.path.as_deref().unwrap_or_default();
        let base = (!path.starts_with(b"/")).then(|| self.start(target.fd)).transpose()?;
        find(&Question {
            follow: target.follow,
            empty_path: target.path.is_none(),
            process: Some(Asker { pid: self.tgid, tid: self.tid as u32 }),
            ..Question::new(root.as_fd(), base.as_ref().unwrap_or(&root).as_fd(), path, Want::Reach)
        })
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
    pub(super) fn describe(&self, target: &Target, found: &FoundFile) -> PathObject {
        let (path, deleted) = found.path();
        PathObject {
            given: RawText::new(target.path.clone().unwrap_or_default()),
            seen: RawText::new(self.seen(target, path.as_bytes())),
            resolved: path.as_bytes().starts_with(b"/") && !deleted,
            path,
            parent: found.parent().map(named).map(Box::new),
            inode: Some(Box::new(named(found.inode()))),
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

fn link_text(path: &str) -> Option<Vec<u8>> {
    readlink(Path::new(path)).ok().map(|text| text.as_bytes().to_vec())
}

/// With the names of its owners.
fn named(inode: Inode) -> Inode {
    let user = accounts::user_by_uid(inode.uid).map(|user| user.name);
    let group = accounts::group_by_gid(inode.gid).map(|group| group.name);
    Inode { user, group, ..inode }
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
    use nrtrace_profiles::event::FileType;
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
