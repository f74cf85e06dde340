//! The volumes of one run, as a pod has them: directories of its own, given to `fsGroup` as the kubelet does it.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};

use super::{Error, Podman, Volume, system};

/// The mode of an `emptyDir` that a group was given: everybody's, and what is made in it is the group's.
const GIVEN: u32 = 0o2777;
/// The mode of one that no group was given.
const OPEN: u32 = 0o777;

/// How often the directory of trials may be taken away by an nrtrace that ends while another one begins.
const ATTEMPTS: usize = 10;

/// Whether there is a directory of trials already.
///
/// # Errors
/// When it is a link, or others may write there.
pub(super) fn is_there(base: &Path) -> Result<bool, Error> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(base)
        .and_then(|directory| directory.metadata());
    match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(system(base)(error)),
        Ok(facts) if facts.uid() != nix::unistd::geteuid().as_raw() || facts.mode() & 0o022 != 0 => {
            Err(system(base)(io::Error::other("others may write there, so that no trials are kept in it")))
        }
        Ok(_) => Ok(true),
    }
}

/// Makes the directory of an nrtrace in that of all trials.
pub(super) fn make(base: &Path, own: &Path) -> Result<(), Error> {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    let mut made = Ok(());
    for _ in 0..ATTEMPTS {
        if !is_there(base)? {
            match builder.create(base) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(system(base)(error)),
                _ => continue,
            }
        }
        made = builder.create(own);
        match &made {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // Left by one that had the same number.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
            _ => break,
        }
    }
    made.map_err(system(own))
}

/// The directory of one run. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Volumes {
    at: PathBuf,
    made: u32,
}

impl Volumes {
    /// Makes it.
    pub(super) fn new(at: PathBuf) -> Result<Self, Error> {
        fs::create_dir(&at).map_err(system(&at))?;
        Ok(Self { at, made: 0 })
    }

    /// An `emptyDir` for the group.
    pub(super) fn empty(&mut self, group: Option<u32>) -> Result<PathBuf, Error> {
        self.made += 1;
        let path = self.at.join(self.made.to_string());
        fs::create_dir(&path).map_err(system(&path))?;
        chown(&path, None, group).map_err(system(&path))?;
        // After chown(2), which may take away the bit.
        let mode = if group.is_some() { GIVEN } else { OPEN };
        fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(system(&path))?;
        Ok(path)
    }

    /// The option that mounts what was given: nothing that a run does to it reaches the original. A named volume is a copy,
    /// given to the group as that of a claim is.
    pub(super) fn given(
        &mut self,
        volume: &Volume,
        podman: &Podman,
        group: Option<u32>,
    ) -> Result<String, Error> {
        let Volume { source, target, read_only } = volume;
        if volume.is_bind() {
            let whole = Path::new(source).is_dir() && !read_only;
            return Ok(format!("--volume={source}:{target}:{}", if whole { "O" } else { "ro" }));
        }
        let path = self.empty(group)?;
        // One that is not there yet is empty.
        let there =
            podman.ask(&["volume", "inspect", "--format={{.Mountpoint}}", source]).unwrap_or_default();
        let there = Path::new(there.trim_end());
        if there.is_absolute() {
            copy(there, &path, group)?;
        }
        let access = if *read_only { ":ro" } else { "" };
        Ok(format!("--volume={}:{target}{access}", path.display()))
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        // What is left is taken away with all the rest in the end.
        let _ = fs::remove_dir_all(&self.at);
    }
}

/// Copies what is in a directory; where a group is given, it may do with all of it what the owner may.
fn copy(from: &Path, to: &Path, group: Option<u32>) -> Result<(), Error> {
    for entry in fs::read_dir(from).map_err(system(from))? {
        let entry = entry.map_err(system(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let facts = entry.metadata().map_err(system(&source))?;
        let kind = facts.file_type();
        if kind.is_symlink() {
            let leads = fs::read_link(&source).map_err(system(&source))?;
            std::os::unix::fs::symlink(leads, &target).map_err(system(&target))?;
        } else if kind.is_dir() {
            fs::create_dir(&target).map_err(system(&target))?;
            copy(&source, &target, group)?;
        } else if kind.is_file() {
            fs::copy(&source, &target).map_err(system(&source))?;
        } else {
            // Sockets and pipes are made by who uses them.
            continue;
        }
        lchown(&target, Some(facts.uid()), group.or(Some(facts.gid()))).map_err(system(&target))?;
        if !kind.is_symlink() {
            let more = match (group.is_some(), kind.is_dir()) {
                (false, _) => 0,
                (true, true) => 0o2770,
                (true, false) => 0o660,
            };
            let mode = facts.mode() & 0o7777 | more;
            fs::set_permissions(&target, Permissions::from_mode(mode)).map_err(system(&target))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_group() -> u32 {
        nix::unistd::getgid().as_raw()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn an_empty_dir_is_its_groups_and_is_gone_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("run");
        let mut volumes = Volumes::new(at.clone()).unwrap();
        let given = volumes.empty(Some(own_group())).unwrap();
        let open = volumes.empty(None).unwrap();
        assert_eq!((mode(&given), mode(&open)), (GIVEN, OPEN));
        drop(volumes);
        assert!(!at.exists());
    }

    #[test]
    fn trials_are_kept_in_no_directory_of_others_and_behind_no_link() {
        let place = tempfile::tempdir().unwrap();
        let base = place.path().join("trials");
        assert!(!is_there(&base).unwrap());
        make(&base, &base.join("7")).unwrap();
        assert_eq!((mode(&base), mode(&base.join("7"))), (0o700, 0o700));
        fs::set_permissions(&base, Permissions::from_mode(0o777)).unwrap();
        assert!(make(&base, &base.join("8")).is_err() && !base.join("8").exists());
        fs::set_permissions(&base, Permissions::from_mode(0o700)).unwrap();
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&base, &link).unwrap();
        assert!(is_there(&link).is_err() && make(&link, &link.join("9")).is_err());
    }

    #[test]
    fn a_copy_is_opened_for_the_group_and_leads_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let from = directory.path().join("from");
        fs::create_dir_all(from.join("below")).unwrap();
        fs::write(from.join("below/file"), "x").unwrap();
        fs::set_permissions(from.join("below/file"), Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", from.join("link")).unwrap();
        let mut volumes = Volumes::new(directory.path().join("run")).unwrap();
        let to = volumes.empty(Some(own_group())).unwrap();
        let before = mode(Path::new("/etc/passwd"));
        copy(&from, &to, Some(own_group())).unwrap();
        assert_eq!(mode(&to.join("below/file")), 0o660);
        assert_eq!(mode(&to.join("below")) & 0o2770, 0o2770);
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(mode(Path::new("/etc/passwd")), before);
        assert_eq!(mode(&from.join("below/file")), 0o600, "the original stays");
    }

    #[test]
    fn what_the_host_mounts_is_not_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let mut volumes = Volumes::new(directory.path().join("run")).unwrap();
        let podman = Podman::new(vec!["podman".into()]);
        let bind = |source: &str, read_only| Volume { source: source.into(), target: "/x".into(), read_only };
        let mut option = |volume| volumes.given(&volume, &podman, None).unwrap();
        assert_eq!(option(bind("/etc", false)), "--volume=/etc:/x:O");
        assert_eq!(option(bind("/etc", true)), "--volume=/etc:/x:ro");
        assert_eq!(option(bind("/etc/passwd", false)), "--volume=/etc/passwd:/x:ro");
    }
}
