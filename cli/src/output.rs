//! Writing results: atomically, and never through a link that somebody else made.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::terminal;

/// The directory results go to, held open from before the program starts, so that nothing
/// the program does to its path can redirect them.
pub struct OutputDir {
    fd: OwnedFd,
    path: PathBuf,
}

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_RDONLY).union(OFlag::O_CLOEXEC);

impl OutputDir {
    /// Opens the directory, making it and its parents where they are missing.
    pub fn open(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path)
            .with_context(|| format!("cannot make the directory {}", path.display()))?;
        let fd = open(path, DIRECTORY, Mode::empty())
            .with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Its path, as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `name` (with at most one directory in front) whole or not at all, replacing what is there.
    pub fn write(&self, name: &str, contents: &str, executable: bool) -> Result<()> {
        self.try_write(name, contents, executable)
            .with_context(|| format!("cannot write {}", self.path.join(name).display()))
    }

    fn try_write(&self, name: &str, contents: &str, executable: bool) -> Result<()> {
        let (folder, file) = match name.rsplit_once('/') {
            Some((folder, file)) => (Some(self.subdirectory(folder)?), file),
            None => (None, name),
        };
        let dir = folder.as_ref().unwrap_or(&self.fd);
        let mode = Mode::from_bits_truncate(if executable { 0o755 } else { 0o644 });
        let temporary = format!(".{file}.{}", std::process::id());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = match openat(dir, temporary.as_str(), flags, mode) {
            // Left by a process of the same number that was killed.
            Err(Errno::EEXIST) => {
                unlinkat(dir, temporary.as_str(), UnlinkatFlags::NoRemoveDir)?;
                openat(dir, temporary.as_str(), flags, mode)?
            }
            other => other?,
        };
        let mut handle = File::from(opened);
        let written = handle.write_all(contents.as_bytes()).and_then(|()| handle.sync_all());
        let renamed = written
            .map_err(anyhow::Error::from)
            .and_then(|()| renameat(dir, temporary.as_str(), dir, file).map_err(anyhow::Error::from));
        if renamed.is_err() {
            // The error that is reported is the first one.
            let _ = unlinkat(dir, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        renamed
    }

    fn subdirectory(&self, name: &str) -> Result<OwnedFd> {
        if name.contains('/') {
            bail!("more than one directory in {name:?}");
        }
        match mkdirat(&self.fd, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(openat(&self.fd, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())?)
    }
}

/// Writes a file whole or not at all, or to standard output where none is named.
pub fn write_or_print(path: Option<&Path>, contents: &str) -> Result<()> {
    let Some(path) = path else { return terminal::print(contents) };
    // What is no regular file, such as a pipe, is not replaced.
    if std::fs::metadata(path).is_ok_and(|facts| !facts.is_file()) {
        return std::fs::write(path, contents).with_context(|| format!("cannot write {}", path.display()));
    }
    let Some(name) = path.file_name() else { bail!("{} is no name of a file", path.display()) };
    let name = name.to_str().with_context(|| format!("{} is not text (UTF-8)", path.display()))?;
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    OutputDir::open(directory.unwrap_or(Path::new(".")))?.write(name, contents, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn writes_replace_links_and_leave_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        let out = OutputDir::open(&dir.path().join("a/b")).unwrap();
        symlink(&victim, out.path().join("profile.json")).unwrap();
        out.write("profile.json", "{}", false).unwrap();
        out.write("tmpfiles.d/x.conf", "d", false).unwrap();
        out.write("setcap.sh", "#!/bin/sh", true).unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
        assert_eq!(std::fs::read_to_string(out.path().join("profile.json")).unwrap(), "{}");
        assert_eq!(std::fs::read_to_string(out.path().join("tmpfiles.d/x.conf")).unwrap(), "d");
        let mode = std::fs::metadata(out.path().join("setcap.sh")).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111);
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 3);
    }

    #[test]
    fn single_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/x.json");
        write_or_print(Some(&path), "1").unwrap();
        write_or_print(Some(&path), "2").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "2");
        write_or_print(Some(Path::new("/dev/null")), "3").unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
        assert!(write_or_print(Some(dir.path()), "4").is_err());
    }

    #[test]
    fn a_planted_directory_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let out = OutputDir::open(&dir.path().join("out")).unwrap();
        symlink(dir.path(), out.path().join("tmpfiles.d")).unwrap();
        assert!(out.write("tmpfiles.d/x.conf", "d", false).is_err());
    }
}
