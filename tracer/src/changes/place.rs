//! Finds what a path names, by descriptors: each component is opened in the directory before it and looked at, so that
//! nobody who may write along the way can lead it elsewhere.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nrtrace_profiles::RawText;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::Error;
use super::node::Node;

/// More links than the kernel follows in one path.
const MOST_LINKS: usize = 40;

/// A name in a directory.
#[derive(Debug)]
pub struct DirectoryEntry {
    /// The path without links.
    pub path: RawText,
    /// The directory, and the name in it; `None` while the directory is not there.
    pub entry: Option<(OwnedFd, OsString)>,
    /// What is there.
    pub node: Option<Node>,
    /// Directories above it that are not there, topmost first.
    pub missing: Vec<RawText>,
    /// Whether somebody other than root may put things along the way.
    pub exposed: bool,
}

/// Finds what `path` names.
///
/// A link is followed only when root made it where nobody else may write, as `/var/run` is.
///
/// # Errors
/// When it goes through another link, or through something that is no directory.
pub fn find(path: &RawText) -> Result<DirectoryEntry, Error> {
    let fail = |reason: String| Error::Path { path: path.clone(), reason };
    let mut walk = Descent::start().map_err(|errno| fail(format!("/: {errno}")))?;
    let mut rest = components(path).ok_or_else(|| fail("it is no path from the root".into()))?;
    while let Some(name) = rest.pop() {
        let is_last = rest.is_empty();
        match walk.look(&name) {
            Ok(status) if FileType::from_raw_mode(status.st_mode) == FileType::Symlink => {
                let at = walk.path.join(&name);
                if walk.exposed || status.st_uid != 0 {
                    return Err(fail(format!("{} is a symbolic link", at.display())));
                }
                let target =
                    walk.follow(&name, rest).map_err(|reason| fail(format!("{}: {reason}", at.display())))?;
                rest = target;
                if rest.is_empty() {
                    return Err(fail(format!("{} leads to the root directory", at.display())));
                }
            }
            Ok(_) if is_last => return walk.end(name).map_err(fail),
            Ok(_) => walk.enter(&name).map_err(fail)?,
            Err(Errno::NOENT) => {
                rest.push(name);
                return Ok(walk.absent(&rest));
            }
            Err(errno) => return Err(fail(format!("{}: {errno}", walk.path.join(&name).display()))),
        }
    }
    Err(fail("it is the root directory".into()))
}

/// The components, last first; `None` where the path is not absolute and normal.
fn components(path: &RawText) -> Option<Vec<OsString>> {
    let rest = path.as_bytes().strip_prefix(b"/")?;
    let odd = |name: &[u8]| name.is_empty() || name == b"." || name == b".." || name.contains(&0);
    let names: Vec<&[u8]> = rest.split(|byte| *byte == b'/').collect();
    let is_normal = path.as_bytes().len() < 4096 && !names.iter().any(|name| odd(name));
    is_normal.then(|| names.into_iter().rev().map(|name| OsStr::from_bytes(name).to_owned()).collect())
}

/// Where a walk is.
struct Descent {
    at: OwnedFd,
    path: PathBuf,
    exposed: bool,
    links: usize,
}

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Descent {
    fn start() -> Result<Self, Errno> {
        let at = openat(CWD, "/", DIRECTORY, Mode::empty())?;
        let exposed = is_exposed(&fstat(&at)?);
        Ok(Self { at, path: "/".into(), exposed, links: 0 })
    }

    fn look(&self, name: &OsStr) -> Result<Stat, Errno> {
        statat(&self.at, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn enter(&mut self, name: &OsStr) -> Result<(), String> {
        let path = self.path.join(name);
        let opened = openat(&self.at, name, DIRECTORY, Mode::empty());
        let opened = opened.map_err(|errno| format!("{}: {errno}", path.display()))?;
        let status = fstat(&opened).map_err(|errno| format!("{}: {errno}", path.display()))?;
        self.exposed |= is_exposed(&status);
        (self.at, self.path) = (opened, path);
        Ok(())
    }

    /// What is to be walked in place of a link: it starts anew at the root.
    fn follow(&mut self, name: &OsStr, rest: Vec<OsString>) -> Result<Vec<OsString>, String> {
        let target = readlinkat(&self.at, name, Vec::new()).map_err(|errno| errno.to_string())?;
        let mut whole =
            if target.as_bytes().starts_with(b"/") { PathBuf::from("/") } else { self.path.clone() };
        for part in Path::new(OsStr::from_bytes(target.as_bytes())).components() {
            match part {
                std::path::Component::ParentDir => drop(whole.pop()),
                std::path::Component::Normal(name) => whole.push(name),
                _ => {}
            }
        }
        let links = self.links + 1;
        if links > MOST_LINKS {
            return Err("too many symbolic links".into());
        }
        *self = Self { links, ..Self::start().map_err(|errno| errno.to_string())? };
        let above = components(&RawText::new(whole.into_os_string().into_vec())).unwrap_or_default();
        Ok(rest.into_iter().chain(above).collect())
    }

    fn end(self, name: OsString) -> Result<DirectoryEntry, String> {
        let path = raw(&self.path.join(&name));
        let node = Node::open(&self.at, &name).map_err(|errno| format!("{path}: {errno}"))?;
        let entry = Some((self.at, name));
        Ok(DirectoryEntry { path, entry, node, missing: Vec::new(), exposed: self.exposed })
    }

    /// What is not there, with what is missing above it; `rest` is last first.
    fn absent(self, rest: &[OsString]) -> DirectoryEntry {
        let mut path = self.path.clone();
        let mut missing: Vec<RawText> = Vec::new();
        for name in rest.iter().rev() {
            path.push(name);
            missing.push(raw(&path));
        }
        missing.pop();
        let entry = match rest {
            [name] => Some((self.at, name.clone())),
            _ => None,
        };
        DirectoryEntry { path: raw(&path), entry, node: None, missing, exposed: self.exposed }
    }
}

fn raw(path: &Path) -> RawText {
    RawText::new(path.as_os_str().as_bytes())
}

/// Whether somebody other than root may put something into a directory.
fn is_exposed(directory: &Stat) -> bool {
    directory.st_uid != 0 || directory.st_mode & 0o022 != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_of_others_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| raw(&directory.path().join(name));
        fs::create_dir(directory.path().join("real")).unwrap();
        symlink("real", directory.path().join("link")).unwrap();
        assert!(find(&at("real")).unwrap().node.is_some());
        // Below /tmp, where everybody may write.
        for name in ["link", "link/x"] {
            let error = find(&at(name)).unwrap_err().to_string();
            assert!(error.contains("symbolic link"), "{error}");
        }
        let absent = find(&at("a/b/c")).unwrap();
        assert_eq!((absent.missing, absent.node.is_none()), (vec![at("a"), at("a/b")], true));
        for odd in ["", "/", "x", "/a//b", "/a/../b", "/a/./b"] {
            assert!(find(&odd.into()).is_err(), "{odd}");
        }
        assert!(find(&"/etc/passwd/x".into()).is_err());
    }

    #[test]
    fn the_systems_own_links_are() {
        // Where a distribution has it.
        if Path::new("/var/run").is_symlink() {
            assert_eq!(find(&"/var/run/nrtrace-none/x".into()).unwrap().path, "/run/nrtrace-none/x".into());
        }
        if Path::new("/bin").is_symlink() {
            assert_eq!(find(&"/bin/sh-none".into()).unwrap().path, "/usr/bin/sh-none".into());
        }
    }
}
