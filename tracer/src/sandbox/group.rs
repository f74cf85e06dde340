//! A control group of version 2 for the program in a sandbox: below the one that nrtrace is in, and gone with the sandbox.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pipe2, setsid};
use serde::{Deserialize, Serialize};

use super::mounts;

/// What is known of it in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its directory, on the machine and in the sandbox.
    pub path: PathBuf,
    /// Inherited and open for writing: the file by which tasks join it.
    pub joins: RawFd,
}

/// The side that has made it. Dropped, it is gone.
#[derive(Debug)]
pub struct Kept {
    group: Group,
    _joins: File,
    /// Held open for as long as the group is wanted.
    wanted: Option<OwnedFd>,
    remover: Pid,
}

/// So often a group is tried to be removed, and how long is waited in between: what was in it may still be ending.
const ATTEMPTS: u32 = 1000;
const BETWEEN: Duration = Duration::from_millis(5);

impl Kept {
    /// Makes one, to be called from a process with one thread. A process of its own takes it away when this one is gone,
    /// however that comes.
    ///
    /// # Errors
    /// In words, when none can be had: no such hierarchy is mounted, or it is read-only.
    pub fn make() -> Result<Self, String> {
        let own = own().ok_or("no control groups of version 2 are mounted here")?;
        let path = make_below(&own).map_err(|error| format!("{}: {error}", own.display()))?;
        Self::keep(path.clone()).map_err(|error| {
            let _ = remove(&path);
            format!("{}: {error}", path.display())
        })
    }

    fn keep(path: PathBuf) -> io::Result<Self> {
        let joins = OpenOptions::new().write(true).open(path.join("cgroup.procs"))?;
        let (end, wanted) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        // SAFETY: this process has one thread, so the child may use whatever it likes.
        let remover = match unsafe { fork() }? {
            ForkResult::Child => {
                drop((wanted, joins));
                remove_later(File::from(end), &path);
                std::process::exit(0)
            }
            ForkResult::Parent { child } => child,
        };
        let group = Group { path, joins: joins.as_raw_fd() };
        Ok(Self { group, _joins: joins, wanted: Some(wanted), remover })
    }

    /// As the sandbox knows it.
    pub fn group(&self) -> &Group {
        &self.group
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.wanted.take();
        let _ = waitpid(self.remover, None);
    }
}

/// The directory of the group that this process is in.
fn own() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let of_it = |mount: &mounts::Mount| mount.kind == "cgroup2" && mount.root == Path::new("/");
    let mut mounts = mounts::visible().ok()?;
    mounts.retain(of_it);
    mounts.iter().map(|mount| mount.point.join(own)).find(|path| path.join("cgroup.procs").exists())
}

fn make_below(own: &Path) -> io::Result<PathBuf> {
    let number = std::process::id();
    // Of two that nrtrace is started in, each with process numbers of its own, this may be one.
    let names = std::iter::once(format!("nrtrace-{number}"))
        .chain((1..100).map(|more| format!("nrtrace-{number}-{more}")));
    for path in names.map(|name| own.join(name)) {
        match fs::DirBuilder::new().mode(0o755).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| path),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Waits for the end of all who have the other end of the pipe, and removes the group.
fn remove_later(mut end: File, path: &Path) {
    // What ends nrtrace from a terminal is not meant for this.
    let _ = setsid();
    let _ = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None);
    let _ = end.read(&mut [0]);
    for _ in 0..ATTEMPTS {
        match remove(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(BETWEEN),
            _ => return,
        }
    }
}

/// Removes a group, and what the program has made below it.
fn remove(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_gone_with_what_was_made_below_it() {
        // Where there is none to be had, that is said.
        let Ok(path) = own().ok_or("none").and_then(|own| make_below(&own).map_err(|_| "read-only")) else {
            return;
        };
        fs::create_dir_all(path.join("a/b")).unwrap();
        assert_ne!(
            make_below(path.parent().unwrap()).map(|other| remove(&other).map(|()| other)).unwrap().unwrap(),
            path
        );
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
