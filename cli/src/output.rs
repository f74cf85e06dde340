//! Writing results: atomically, never through a link that somebody else made, and tried before the work begins.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{AccessFlags, UnlinkatFlags, faccessat, unlinkat};
use nrtrace_tracer::files::bounded;

use crate::failure::BROKEN;
use crate::terminal;

/// What could not be written. One result that fails does not keep the others from being written and shown.
#[derive(Default)]
pub struct Losses(Vec<anyhow::Error>);

impl Losses {
    /// Remembers the error, if there is one; whether there is none.
    pub fn unless(&mut self, result: Result<()>) -> bool {
        result.map_err(|error| self.0.push(error)).is_ok()
    }

    /// Whether everything was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Says at the end what was lost, which makes the status that of an nrtrace that could not do its work.
    pub fn status(self, otherwise: ExitCode) -> ExitCode {
        for error in &self.0 {
            terminal::note(&crate::failure::words(error));
        }
        if self.0.is_empty() { otherwise } else { ExitCode::from(BROKEN) }
    }
}

/// The directory results go to, held open from before the program starts, so that nothing
/// the program does to its path can redirect them.
pub struct OutputDir {
    fd: OwnedFd,
    path: PathBuf,
    /// Directories that were not there, outermost first. They are taken away again when nothing is written.
    made: Vec<PathBuf>,
    used: AtomicBool,
}

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_RDONLY).union(OFlag::O_CLOEXEC);

impl OutputDir {
    /// Opens the directory, making it and its parents where they are missing, and tries whether a file can be made in it.
    pub fn open(path: &Path) -> Result<Self> {
        let missing = path.ancestors().take_while(|at| !at.as_os_str().is_empty() && !at.exists());
        let mut made: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        made.reverse();
        let opened = std::fs::create_dir_all(path)
            .with_context(|| format!("cannot make the directory {}", path.display()))
            .and_then(|()| {
                open(path, DIRECTORY, Mode::empty())
                    .with_context(|| format!("cannot open {}", path.display()))
            });
        let fd = opened.inspect_err(|_| take_away(&made))?;
        let directory = Self { fd, path: path.to_owned(), made, used: AtomicBool::new(false) };
        let (_, name) = temporary(&directory.fd, "nrtrace", Mode::S_IRUSR | Mode::S_IWUSR)
            .with_context(|| format!("cannot write to the directory {}", path.display()))?;
        unlinkat(&directory.fd, name.as_str(), UnlinkatFlags::NoRemoveDir)
            .with_context(|| format!("cannot remove {name} from {}", path.display()))?;
        Ok(directory)
    }

    /// Its path, as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `name` (with at most one directory in front) whole or not at all, replacing what is there.
    pub fn write(&self, name: &str, contents: &str, executable: bool) -> Result<()> {
        self.used.store(true, Ordering::Relaxed);
        self.try_write(name, contents, executable)
            .with_context(|| format!("cannot write {}", self.path.join(name).display()))
    }

    /// Removes a file, and its directory where that is empty then. Where it was never written, or cannot be removed, it
    /// does no harm.
    pub fn remove(&self, name: &str) {
        let Some((folder, file)) = name.rsplit_once('/') else {
            let _ = unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir);
            return;
        };
        if let Ok(inside) = openat(&self.fd, folder, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty()) {
            let _ = unlinkat(&inside, file, UnlinkatFlags::NoRemoveDir);
            let _ = unlinkat(&self.fd, folder, UnlinkatFlags::RemoveDir);
        }
    }

    /// Whether there is something of that name, with at most one directory in front.
    pub fn has(&self, name: &str) -> bool {
        nix::sys::stat::fstatat(&self.fd, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// The text of a regular file in it, of at most `most` bytes.
    pub fn read(&self, name: &str, most: u64) -> Option<String> {
        let (inside, file) = match name.rsplit_once('/') {
            Some((folder, file)) => {
                (Some(openat(&self.fd, folder, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty()).ok()?), file)
            }
            None => (None, name),
        };
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(inside.as_ref().unwrap_or(&self.fd), file, flags, Mode::empty()).ok()?);
        file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        String::from_utf8(bounded(file, most).ok()?).ok()
    }

    fn try_write(&self, name: &str, contents: &str, executable: bool) -> Result<()> {
        let (folder, file) = match name.rsplit_once('/') {
            Some((folder, file)) => (Some(self.subdirectory(folder)?), file),
            None => (None, name),
        };
        let dir = folder.as_ref().unwrap_or(&self.fd);
        let mode = Mode::from_bits_truncate(if executable { 0o755 } else { 0o644 });
        let (mut handle, temporary) = temporary(dir, file, mode)?;
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

impl Drop for OutputDir {
    fn drop(&mut self) {
        if !self.used.load(Ordering::Relaxed) {
            take_away(&self.made);
        }
    }
}

/// Removes directories that were made, the innermost first, as far as they are empty.
fn take_away(made: &[PathBuf]) {
    for path in made.iter().rev() {
        // Where it cannot be removed, something is in it by now.
        let _ = std::fs::remove_dir(path);
    }
}

/// A new file in a directory, to be renamed to `name` or removed, and what it is called.
fn temporary(dir: &OwnedFd, name: &str, mode: Mode) -> Result<(File, String)> {
    let temporary = format!(".{name}.{}", std::process::id());
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let opened = match openat(dir, temporary.as_str(), flags, mode) {
        // Left by a process of the same number that was killed.
        Err(Errno::EEXIST) => {
            unlinkat(dir, temporary.as_str(), UnlinkatFlags::NoRemoveDir)?;
            openat(dir, temporary.as_str(), flags, mode)?
        }
        other => other?,
    };
    Ok((File::from(opened), temporary))
}

/// Where one result goes.
pub enum Target {
    /// Standard output.
    Standard,
    /// What is no regular file, such as a pipe or a device, and is not replaced.
    Special(PathBuf),
    /// A file of a directory, which is written whole or not at all.
    File(OutputDir, String),
}

impl Target {
    /// Finds out whether it can be written to, without changing anything that is there.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::Standard) };
        if is_special(path) {
            faccessat(AT_FDCWD, path, AccessFlags::W_OK, nix::fcntl::AtFlags::AT_EACCESS)
                .with_context(|| format!("cannot write {}", path.display()))?;
            return Ok(Self::Special(path.to_owned()));
        }
        let Some(name) = path.file_name().filter(|_| !path.is_dir()) else {
            bail!("cannot write {}: it is no name of a file", path.display())
        };
        let name = name.to_str().with_context(|| format!("{} is not text (UTF-8)", path.display()))?;
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        Ok(Self::File(OutputDir::open(directory.unwrap_or(Path::new(".")))?, name.to_owned()))
    }

    /// Writes it.
    pub fn write(&self, contents: &str) -> Result<()> {
        match self {
            Self::Standard => terminal::print(contents),
            Self::Special(path) => {
                std::fs::write(path, contents).with_context(|| format!("cannot write {}", path.display()))
            }
            Self::File(directory, name) => directory.write(name, contents, false),
        }
    }
}

/// Whether a path leads to what is written to as it is: a pipe, a device, or what a link of `/dev` or `/proc` names, such
/// as `/dev/stdout`, which may be a regular file.
fn is_special(path: &Path) -> bool {
    let is_link = || std::fs::symlink_metadata(path).is_ok_and(|facts| facts.is_symlink());
    let is_magic = ["/dev", "/proc"].iter().any(|top| path.starts_with(top)) && is_link();
    is_magic || std::fs::metadata(path).is_ok_and(|facts| !facts.is_file() && !facts.is_dir())
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
        let write = |path: &Path, text: &str| Target::open(Some(path))?.write(text);
        write(&path, "1").unwrap();
        write(&path, "2").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "2");
        write(Path::new("/dev/null"), "3").unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
        let file = File::options().write(true).open(&path).unwrap();
        write(Path::new(&format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))), "4").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "4");
        assert!(write(dir.path(), "5").is_err());
    }

    #[test]
    fn what_cannot_be_written_is_told_before_anything_is_made() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["/proc/none/x", "/sys/x", "/dev/null/x"] {
            assert!(Target::open(Some(Path::new(path))).is_err(), "{path}");
            assert!(OutputDir::open(Path::new(path)).is_err(), "{path}");
        }
        drop(OutputDir::open(&dir.path().join("a/b/c")).unwrap());
        drop(Target::open(Some(&dir.path().join("d/e/file"))).unwrap());
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            0,
            "nothing was written, so nothing stays"
        );
    }

    #[test]
    fn a_planted_directory_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let out = OutputDir::open(&dir.path().join("out")).unwrap();
        symlink(dir.path(), out.path().join("tmpfiles.d")).unwrap();
        assert!(out.write("tmpfiles.d/x.conf", "d", false).is_err());
    }
}
