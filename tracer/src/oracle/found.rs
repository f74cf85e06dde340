//! What a path leads to, where nobody is judged.

use nix::errno::Errno;
use nrtrace_profiles::RawText;
use nrtrace_profiles::event::Inode;

use super::node::Node;
use super::question::Question;
use super::walk::{End, Final, Last, Step, mount, walk};
use crate::oracle::Error;

/// A file that was found: it stays the same whatever is done to its path next.
pub(crate) struct FoundFile {
    file: Node,
    parent: Option<Inode>,
}

/// Goes the way of a question with nrtrace's own rights, whatever is wanted of the file.
///
/// # Errors
/// The errno that a call would meet whose user may go everywhere.
pub(crate) fn find(question: &Question) -> Result<FoundFile, Errno> {
    let treat = if question.follow { Final::Follow } else { Final::NoFollow };
    let mut walk = walk(None, question, treat).map_err(|error| match error {
        Error::Start { errno } => errno,
        _ => Errno::EACCES,
    })?;
    let at = match walk.end {
        End::Found(at) => at,
        End::Absent => return Err(Errno::ENOENT),
        End::Failed(errno) => return Err(errno),
        End::Blocked => {
            let refused = walk.steps.iter().find_map(|step| match step {
                Step::Refused { errno, .. } => Some(*errno),
                Step::Ask { .. } => None,
            });
            return Err(refused.unwrap_or(Errno::EACCES));
        }
    };
    let parent = walk.parent.filter(|_| walk.last == Last::Name).map(|parent| walk.nodes[parent].inode());
    let file = walk.nodes.swap_remove(at);
    if walk.slash && !file.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    Ok(FoundFile { file, parent })
}

impl FoundFile {
    /// Its path in its mount namespace, as the kernel writes it, and whether it has been removed.
    pub(crate) fn path(&self) -> (RawText, bool) {
        let path = self.file.path();
        match path.as_bytes().strip_suffix(b" (deleted)") {
            Some(known) if self.file.links == 0 => (RawText::from(known), true),
            _ => (path, false),
        }
    }

    /// What it is. Names of owners are the caller's to add.
    pub(crate) fn inode(&self) -> Inode {
        self.file.inode()
    }

    /// The directory in which its name is, where it was found by name.
    pub(crate) fn parent(&self) -> Option<Inode> {
        self.parent.clone()
    }

    /// Whether it is on a file system, or behind a mount, that is read-only.
    pub(crate) fn is_read_only(&self) -> bool {
        mount(&self.file).read_only
    }
}
