//! What a sandbox shows as it is on the machine, and what keeps nrtrace's own hands off it.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::MsFlags;
use nix::sys::stat::Mode;

use super::Bind;
use super::mounts::{self, Mount};
use super::root::remount;
use crate::launch::Error;

/// As many symbolic links are followed in a row, as path_resolution(7) has it.
const LINKS: usize = 40;

/// The mounts of a sandbox through which data of the machine can be written.
///
/// What nrtrace does to prepare a trial (clear away, give to the user, set modes and ACLs) is meant for the sandbox's own
/// copies. While that goes on, these mounts are [closed](Shares::close), so that the kernel refuses what slips through.
pub struct Shares {
    mounts: Vec<Mount>,
}

impl Shares {
    /// Finds those of `binds`, with what is mounted below. To be called in the sandbox.
    ///
    /// # Errors
    /// When the mounts cannot be read.
    pub fn find(binds: &[Bind]) -> Result<Self, Error> {
        let shared: Vec<&PathBuf> =
            binds.iter().filter(|bind| bind.writable).map(|bind| &bind.target).collect();
        if shared.is_empty() {
            return Ok(Self { mounts: Vec::new() });
        }
        let mut mounts = mounts::visible()?;
        mounts.retain(|mount| shared.iter().any(|target| mount.point.starts_with(target)));
        if let Some(lost) = shared.iter().find(|target| !mounts.iter().any(|mount| mount.point == ***target))
        {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(Error::system("finding the mount of", lost.display().to_string(), missing));
        }
        Ok(Self { mounts })
    }

    /// Makes all of them read-only, for whoever it is.
    ///
    /// # Errors
    /// When one stays open: then nothing must be prepared.
    pub fn close(&self) -> Result<(), Error> {
        self.mounts.iter().try_for_each(|mount| set(mount, mount.flags | MsFlags::MS_RDONLY))
    }

    /// Lets them be written to as on the machine.
    ///
    /// # Errors
    /// When one stays closed.
    pub fn open(&self) -> Result<(), Error> {
        self.mounts.iter().try_for_each(|mount| set(mount, mount.flags))
    }

    /// Whether a path leads to one of them, by way of symbolic links too. One that is not there leads where it would be
    /// made.
    pub fn hold(&self, path: &Path) -> bool {
        let known: BTreeSet<u64> = self.mounts.iter().map(|mount| mount.id).collect();
        !known.is_empty() && leads(path, &known, LINKS)
    }
}

fn set(mount: &Mount, flags: MsFlags) -> Result<(), Error> {
    let point = || mount.point.display().to_string();
    remount(&mount.point, flags).map_err(|errno| Error::system("changing the mount of", point(), errno))
}

fn leads(path: &Path, known: &BTreeSet<u64>, links: usize) -> bool {
    let [itself, target] = [OFlag::O_NOFOLLOW, OFlag::empty()].map(|flag| mount_of(path, flag));
    if [itself, target].into_iter().flatten().any(|id| known.contains(&id)) {
        return true;
    }
    if target.is_some() {
        return false;
    }
    let Some(parent) = path.parent() else { return false };
    match fs::read_link(path) {
        // Nobody knows where such a chain ends.
        Ok(_) if links == 0 => true,
        Ok(to) => leads(&parent.join(to), known, links - 1),
        Err(_) => leads(parent, known, links),
    }
}

/// The number of the mount that something lies on.
fn mount_of(path: &Path, follow: OFlag) -> Option<u64> {
    let fd = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC | follow, Mode::empty()).ok()?;
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    told.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}
