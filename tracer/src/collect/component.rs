//! Which file a capability check was about, where the kernel does not say: from the function that asked, the call,
//! and what is found on the way.

use std::sync::Arc;

use nrtrace_profiles::Capability;
use nrtrace_profiles::RawText;
use nrtrace_profiles::calls::{File, Operation};
use nrtrace_profiles::event::{Check, Component, Credentials, FileType, Identity, Object, PathObject};

use super::facts::{SEARCH, WRITE};
use super::paths::{Paths, split};

/// What a check was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// A directory on the way.
    Search,
    /// The directory that holds the name.
    Parent,
    /// The file itself.
    File,
    /// The directory when the call may make the file, else the file: the function that asks is part of this one.
    Opened,
}

/// Kernel functions that tell; the innermost one on the stack decides.
const FUNCTIONS: &[(&str, Subject)] = &[
    ("link_path_walk", Subject::Search),
    ("may_lookup", Subject::Search),
    ("may_create", Subject::Parent),
    ("may_create_dentry", Subject::Parent),
    ("may_delete", Subject::Parent),
    ("may_delete_dentry", Subject::Parent),
    ("__check_sticky", Subject::Parent),
    ("may_o_create", Subject::Parent),
    ("lookup_open", Subject::Parent),
    ("vfs_create", Subject::Parent),
    ("vfs_mkdir", Subject::Parent),
    ("vfs_mknod", Subject::Parent),
    ("vfs_symlink", Subject::Parent),
    ("vfs_link", Subject::Parent),
    ("vfs_rename", Subject::Parent),
    ("vfs_unlink", Subject::Parent),
    ("vfs_rmdir", Subject::Parent),
    ("may_open", Subject::File),
    ("vfs_tmpfile", Subject::File),
    ("path_openat", Subject::Opened),
    ("may_linkat", Subject::File),
    ("may_follow_link", Subject::File),
    ("setattr_prepare", Subject::File),
    ("notify_change", Subject::File),
    ("vfs_truncate", Subject::File),
    ("xattr_permission", Subject::File),
    ("do_faccessat", Subject::File),
    ("do_open_execat", Subject::File),
    ("path_setxattr", Subject::File),
    ("unix_find_other", Subject::File),
];

/// What a check is judged for.
pub struct ComponentSearch<'a> {
    /// Whom the program runs as.
    pub identity: &'a Identity,
    /// As whom the check was made.
    pub credentials: Credentials,
    /// Mount namespace of the call.
    pub mnt_ns: u32,
    /// Time of the call.
    pub now: u64,
    /// What the call does.
    pub does: Operation,
    /// Its arguments, in place.
    pub args: &'a [u64; 6],
}

impl ComponentSearch<'_> {
    /// Fills in the component of each check on a file that has none yet.
    pub fn add_components(&self, paths: &mut Paths, object: &Object, checks: &mut [Check]) {
        for check in checks.iter_mut().filter(|check| check.component.is_none() && is_about_files(check)) {
            check.component = self.component(paths, object, &check.frames);
        }
    }

    fn component(&self, paths: &mut Paths, object: &Object, frames: &[Arc<str>]) -> Option<Component> {
        let (first, second) = match object {
            Object::Path(path) | Object::Program { path, .. } | Object::Gift { path, .. } => (path, None),
            Object::Socket(socket) => (socket.path.as_ref()?, None),
            // The target of a symbolic link is text, not a file that is judged.
            Object::TwoPaths { from, .. } if self.does.has_text() => (from.as_ref(), None),
            Object::TwoPaths { from, to } => (from.as_ref(), Some(to.as_ref())),
            Object::Nothing | Object::Ids { .. } => return None,
        };
        let subject = self.subject(first, frames);
        if subject == Subject::Search || frames.is_empty() {
            let mut both = [Some(first), second].into_iter().flatten();
            let closed = both.find_map(|path| self.unsearchable(paths, path));
            if subject == Subject::Search || closed.is_some() {
                return closed;
            }
        }
        match subject {
            Subject::Search => None,
            Subject::File | Subject::Opened => self.facts(paths, first.path.as_bytes()),
            Subject::Parent => {
                // `link` changes the new name's directory alone, `rename` both.
                let old = (second.is_none() || self.does.is(File::Rename)).then_some(first);
                let parents = [old, second].into_iter().flatten().filter(|path| path.resolved);
                let mut found: Vec<Component> =
                    parents.filter_map(|path| self.facts(paths, split(path.path.as_bytes()).0)).collect();
                let refused = found.iter().position(|parent| !self.allows(parent, WRITE | SEARCH));
                (!found.is_empty()).then(|| found.swap_remove(refused.unwrap_or(0)))
            }
        }
    }

    fn subject(&self, path: &PathObject, frames: &[Arc<str>]) -> Subject {
        let creates = self.does.creates(self.args);
        let told = frames.iter().find_map(|frame| FUNCTIONS.iter().find(|(name, _)| **name == **frame));
        match told {
            Some((_, Subject::Opened)) if creates => return Subject::Parent,
            Some((_, Subject::Opened)) => return Subject::File,
            Some((_, subject)) => return *subject,
            None => {}
        }
        // A file of the user's own was most likely made by this very call.
        let own = path.inode.as_ref().is_some_and(|inode| inode.uid == self.credentials.uid);
        let absent = path.inode.is_none() && path.parent.is_some();
        let of_entry = self.does.makes_name() || self.does.removes_name();
        match of_entry || ((absent || own) && creates) {
            true => Subject::Parent,
            false => Subject::File,
        }
    }

    /// The uppermost directory on the way that may not be searched: first along the path as it was given, which
    /// may lead to a symbolic link, then along the one it leads to.
    fn unsearchable(&self, paths: &mut Paths, object: &PathObject) -> Option<Component> {
        if !object.resolved {
            return None;
        }
        let (seen, path) = (object.seen.as_bytes(), object.path.as_bytes());
        // What a process with another root sees is no path of the mount namespace.
        let given = (!path.ends_with(seen)).then_some(seen);
        let mut ways = given.into_iter().chain([path]);
        ways.find_map(|way| self.unsearchable_on(paths, way))
    }

    fn unsearchable_on(&self, paths: &mut Paths, path: &[u8]) -> Option<Component> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at.max(1));
        for end in ends {
            let directory = self.facts(paths, &path[..end])?;
            if directory.inode.file_type != FileType::Directory {
                return None;
            }
            if !self.allows(&directory, SEARCH) {
                return Some(directory);
            }
        }
        None
    }

    fn allows(&self, component: &Component, bits: u32) -> bool {
        let Credentials { uid, gid } = self.credentials;
        component.inode.allows(uid, gid, self.identity, bits)
    }

    fn facts(&self, paths: &mut Paths, path: &[u8]) -> Option<Component> {
        let inode = paths.inode(self.mnt_ns, path, self.now)?;
        Some(Component { path: RawText::from(path), inode })
    }
}

fn is_about_files(check: &Check) -> bool {
    let files = [Capability::CHOWN, Capability::FOWNER, Capability::FSETID];
    check.capability.is_dac() || files.contains(&check.capability)
}
