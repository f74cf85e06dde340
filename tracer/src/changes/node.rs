//! What is at a place, held by a descriptor: its owner, mode, ACL and capabilities.

use std::ffi::{OsStr, OsString};
use std::fs::DirEntry;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Uid, XattrFlags, chmod, chownat, fstat, getxattr,
    mkdirat, mknodat, openat, removexattr, setxattr,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::acl::{self, ACCESS, Acl};

const CAPABILITIES: &str = "security.capability";

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular,
    /// A named pipe.
    Fifo,
    /// A socket or a device node.
    Special,
    /// A symbolic link.
    Link,
}

/// Who may do what with something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Its ACL, where that says more than the mode.
    pub acl: Option<Acl>,
    /// The value of `security.capability`.
    pub capabilities: Option<Vec<u8>>,
}

/// What was at a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// The device of its file system, and its inode number.
    pub inode: (u64, u64),
    /// What it is.
    pub kind: Kind,
    /// How many names it has.
    pub links: libc::nlink_t,
    /// Who may do what with it.
    pub rights: Rights,
}

/// Something that is there.
#[derive(Debug)]
pub struct Node {
    fd: OwnedFd,
}

/// The longest value of the attributes; an ACL has some 8 bytes an entry.
const LONGEST: usize = 64 << 10;

impl From<OwnedFd> for Node {
    /// What the descriptor holds, which may be one of `O_PATH`.
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl Node {
    /// Opens a name in a directory, without following it; `None` when nothing is there.
    pub fn open(directory: &OwnedFd, name: &OsStr) -> Result<Option<Self>, Errno> {
        match openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Makes something, closed to all but root.
    pub fn make(directory: &OwnedFd, name: &OsStr, kind: Kind) -> Result<Self, Errno> {
        match kind {
            Kind::Directory => mkdirat(directory, name, Mode::RWXU)?,
            Kind::Fifo => {
                mknodat(directory, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
            }
            _ => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                return Ok(Self { fd: openat(directory, name, flags, Mode::RUSR | Mode::WUSR)? });
            }
        }
        let made = Self::open(directory, name)?.ok_or(Errno::NOENT)?;
        // Whoever may write in the directory can have put something else there since.
        let facts = made.facts()?;
        let own = nix::unistd::geteuid().as_raw();
        let is_ours = facts.kind == kind && facts.rights.uid == own && made.is_empty()?;
        if is_ours { Ok(made) } else { Err(Errno::EXIST) }
    }

    fn status(&self) -> Result<Stat, Errno> {
        fstat(&self.fd)
    }

    /// The name by which calls reach it that take no such descriptor. It leads to the very thing, wherever that is by now.
    pub fn magic(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }

    /// What it is, and who may do what with it.
    pub fn facts(&self) -> Result<NodeFacts, Errno> {
        let status = self.status()?;
        let kind = match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::Regular,
            FileType::Fifo => Kind::Fifo,
            FileType::Symlink => Kind::Link,
            _ => Kind::Special,
        };
        let has_more = kind != Kind::Link;
        let acl = if has_more { self.attribute(ACCESS)?.and_then(|value| Acl::decode(&value)) } else { None };
        let capabilities = if kind == Kind::Regular { self.attribute(CAPABILITIES)? } else { None };
        let (uid, gid, mode) = (status.st_uid, status.st_gid, status.st_mode & 0o7777);
        let rights = Rights { uid, gid, mode, acl, capabilities };
        Ok(NodeFacts { inode: (status.st_dev, status.st_ino), kind, links: status.st_nlink, rights })
    }

    /// A program in a directory that another user owns: who may change the directory may put another one in its place.
    pub fn program_of_others(&self, user: Option<u32>) -> Option<OsString> {
        let runs = |entry: &DirEntry| {
            entry
                .metadata()
                .is_ok_and(|what| what.is_file() && what.mode() & 0o111 != 0 && Some(what.uid()) != user)
        };
        let entries = std::fs::read_dir(self.magic()).into_iter().flatten().flatten();
        entries.into_iter().find(runs).map(|entry| entry.file_name())
    }

    /// Whether its file system keeps ACLs.
    pub fn keeps_acls(&self) -> bool {
        acl::are_kept(self.magic())
    }

    fn attribute(&self, name: &str) -> Result<Option<Vec<u8>>, Errno> {
        let mut value = vec![0; 1024];
        loop {
            match getxattr(self.magic(), name, &mut value[..]) {
                Ok(length) => {
                    value.truncate(length);
                    return Ok(Some(value));
                }
                Err(Errno::RANGE) if value.len() < LONGEST => value.resize(value.len() * 4, 0),
                Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
    }

    fn set_attribute(&self, name: &str, value: Option<&[u8]>) -> Result<(), Errno> {
        match value {
            Some(value) => setxattr(self.magic(), name, value, XattrFlags::empty()),
            None => match removexattr(self.magic(), name) {
                Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
                other => other,
            },
        }
    }

    /// Makes the rights what they are to be; what is so already is not touched.
    pub fn settle(&self, rights: &Rights) -> Result<(), Errno> {
        let mut now = self.facts()?.rights;
        if (now.uid, now.gid) != (rights.uid, rights.gid) {
            let (uid, gid) = (Uid::from_raw(rights.uid), Gid::from_raw(rights.gid));
            chownat(&self.fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
            // That takes set-id bits and capabilities away.
            now = self.facts()?.rights;
        }
        if now.acl != rights.acl {
            self.set_attribute(ACCESS, rights.acl.as_ref().map(Acl::encode).as_deref())?;
            now = self.facts()?.rights;
        }
        if now.mode != rights.mode {
            chmod(self.magic(), Mode::from_raw_mode(rights.mode))?;
        }
        if now.capabilities != rights.capabilities {
            self.set_attribute(CAPABILITIES, rights.capabilities.as_deref())?;
        }
        Ok(())
    }

    /// Whether a file holds nothing, or a directory no name. A pipe holds nothing.
    pub fn is_empty(&self) -> Result<bool, Errno> {
        match self.facts()?.kind {
            Kind::Directory => {
                let mut empty = true;
                self.each_name(|name| empty &= matches!(name, b"." | b".."))?;
                Ok(empty)
            }
            Kind::Regular => Ok(self.status()?.st_size == 0),
            _ => Ok(true),
        }
    }

    /// Whether a file holds the number of a process and no more, and that process is gone.
    pub fn names_the_dead(&self) -> Result<bool, Errno> {
        const LONGEST: i64 = 32;
        if self.facts()?.kind != Kind::Regular || self.status()?.st_size > LONGEST {
            return Ok(false);
        }
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let text = std::fs::read(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let number = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse::<u32>().ok());
        Ok(number.is_some_and(|pid| pid > 0 && !std::path::Path::new(&format!("/proc/{pid}")).exists()))
    }

    /// Calls `with` for each name in a directory.
    pub fn each_name(&self, mut with: impl FnMut(&[u8])) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(&self.fd, ".", flags, Mode::empty())?;
        let mut buffer = Vec::with_capacity(16 << 10);
        let mut names = RawDir::new(opened, buffer.spare_capacity_mut());
        while let Some(entry) = names.next() {
            with(entry?.file_name().to_bytes());
        }
        Ok(())
    }

    /// Whether its first bytes say that an interpreter runs it.
    pub fn is_script(&self) -> bool {
        let Ok(mut file) = std::fs::File::open(self.magic()) else { return false };
        let mut start = [0; 2];
        std::io::Read::read_exact(&mut file, &mut start).is_ok() && start == *b"#!"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_of_the_dead_holds_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let names_the_dead = |text: &str| {
            let path = directory.path().join("pid");
            std::fs::write(&path, text).unwrap();
            Node::from(OwnedFd::from(std::fs::File::open(path).unwrap())).names_the_dead().unwrap()
        };
        // No process has a number so high.
        assert!(names_the_dead("4194305\n"));
        assert!(!names_the_dead(&format!("{}\n", std::process::id())), "it lives");
        for text in ["", "0", "-1", "4194305 data", "4194305\n4194306\n"] {
            assert!(!names_the_dead(text), "{text:?}");
        }
    }
}
