//! What is to happen in and to each directory, gathered over all needs.

use std::collections::{BTreeMap, BTreeSet};

use super::groups::is_made_up;
use super::names::fixed_part;
use crate::RawText;
use crate::calls::{self, File, Operation};
use crate::event::{FileType, Inode};
use crate::grants::Method;
use crate::place::parent;
use crate::requirement::{Access, Evidence, Need, Requirement};

/// A need for a path, taken apart.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) id: &'a str,
    pub(super) path: &'a RawText,
    pub(super) file_type: FileType,
    pub(super) access: &'a BTreeSet<Access>,
    pub(super) pattern: bool,
    pub(super) evidence: &'a Evidence,
    /// The way that trials chose.
    pub(super) way: Option<Method>,
    /// The user of the run: what another user of nrtrace's making left behind counts as not there.
    run_uid: u32,
}

impl<'a> Wish<'a> {
    pub(super) fn of(requirement: &'a Requirement, run_uid: u32) -> Option<Self> {
        match &requirement.need {
            Need::Path { path, file_type, access, pattern } => Some(Self {
                id: &requirement.id,
                path,
                file_type: *file_type,
                access,
                pattern: *pattern,
                evidence: &requirement.evidence,
                way: requirement.way,
                run_uid,
            }),
            _ => None,
        }
    }

    pub(super) fn has(&self, access: Access) -> bool {
        self.access.contains(&access) || (access == Access::Create && self.is_leftover(self.path))
    }

    /// Whether what refused there was left behind by a user that an earlier run made up.
    pub(super) fn is_leftover(&self, path: &RawText) -> bool {
        let at =
            self.evidence.refused_inode.as_ref().filter(|_| self.evidence.refused_at.as_ref() == Some(path));
        at.is_some_and(|inode| is_made_up(inode.uid) && inode.user.is_none() && inode.uid != self.run_uid)
    }

    /// Facts of `path` when it was the component that refused.
    pub(super) fn inode_of(&self, path: &RawText) -> Option<&'a Inode> {
        let there = self.evidence.refused_at.as_ref() == Some(path) && !self.is_leftover(path);
        self.evidence.refused_inode.as_ref().filter(|_| there)
    }

    /// Facts of the wanted object itself, where it was the component that refused.
    pub(super) fn inode(&self) -> Option<&'a Inode> {
        self.inode_of(self.path)
    }

    pub(super) fn is_directory(&self) -> bool {
        self.file_type == FileType::Directory
            || self.inode().is_some_and(|i| i.file_type == FileType::Directory)
    }

    /// Whether it changes the entries of the directory that holds it.
    pub(super) fn changes_parent(&self) -> bool {
        self.has(Access::Create) || self.has(Access::Delete) || self.pattern
    }

    /// Whether it changes a directory that is there: its entries in general, or the directory itself.
    pub(super) fn changes_itself(&self) -> bool {
        let existing = !self.has(Access::Create) && !self.pattern;
        existing && self.is_directory() && self.writes()
    }

    /// The directory whose entries it changes.
    pub(super) fn holder(&self) -> RawText {
        if self.pattern { fixed_part(self.path) } else { parent(self.path) }
    }

    /// Whether it writes to it, or wants to be its owner.
    pub(super) fn writes(&self) -> bool {
        self.bits() & 2 != 0 || self.has(Access::Own)
    }

    /// Whether the name is put in place by a call that replaces what is there, so that nothing made beforehand helps.
    pub(super) fn replaces(&self) -> bool {
        let does = || self.evidence.calls.iter().map(|call| calls::operation(call));
        let replaces =
            |does: Operation| matches!(does, Operation::File(File::Rename | File::Link | File::MakeLink));
        let makes = |does: Operation| {
            matches!(does, Operation::File(File::Open(_) | File::MakeDirectory(_) | File::MakeNode(_)))
        };
        does().any(replaces) && !does().any(makes)
    }

    /// The permission bits it takes on the object itself: 4 read, 2 write, 1 execute or search.
    pub(super) fn bits(&self) -> u32 {
        Access::bits(self.access)
    }
}

/// What is to happen in and to one directory.
#[derive(Default)]
pub(super) struct Tally<'a> {
    /// Makes and removes entries.
    pub(super) changes: Vec<Wish<'a>>,
    /// Writes to the directory in general, or wants to be its owner.
    pub(super) on_itself: Vec<Wish<'a>>,
    /// Lists or passes through it, and is refused.
    pub(super) looks: Vec<Wish<'a>>,
}

impl<'a> Tally<'a> {
    /// Facts of the directory, when it was seen to refuse.
    pub(super) fn inode(&self, directory: &RawText) -> Option<&'a Inode> {
        self.all().find_map(|wish| wish.inode_of(directory))
    }

    /// Whether it was left behind by a user that an earlier run made up.
    pub(super) fn is_leftover(&self, directory: &RawText) -> bool {
        self.all().any(|wish| wish.is_leftover(directory))
    }

    /// What changes it or what is in it.
    pub(super) fn writes(&self) -> impl Iterator<Item = &Wish<'a>> {
        self.changes.iter().chain(&self.on_itself)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Wish<'a>> {
        self.writes().chain(&self.looks)
    }

    /// Whether nothing less than write access to the directory does; `inode` is the directory's, where that is known.
    pub(super) fn needs_the_directory(&self, inode: Option<&Inode>) -> bool {
        let in_it = |wish: &Wish| {
            wish.pattern
                || wish.has(Access::Delete)
                || wish.replaces()
                || !matches!(
                    wish.file_type,
                    FileType::File | FileType::Directory | FileType::Fifo | FileType::Unknown
                )
        };
        // Directories of fixed names are made one by one, which leaves their own directory closed. Where there are
        // files too, or the directory was made for a service's user to keep its data in, there may be more another day.
        let entries: BTreeSet<&RawText> = self.changes.iter().map(|wish| wish.path).collect();
        let any_file = self.changes.iter().any(|wish| !wish.is_directory());
        let is_data = any_file || inode.is_some_and(|inode| inode.uid != 0);
        !self.on_itself.is_empty()
            || self.changes.iter().any(in_it)
            || (is_data && entries.len() > 1)
            || (!self.changes.is_empty() && !self.looks.is_empty())
    }
}

/// The tallies of all directories, each before those below it.
pub(super) fn by_directory<'a>(wishes: &[Wish<'a>]) -> BTreeMap<RawText, Tally<'a>> {
    let mut tallies: BTreeMap<RawText, Tally<'a>> = BTreeMap::new();
    for wish in wishes {
        if wish.changes_parent() {
            tallies.entry(wish.holder()).or_default().changes.push(*wish);
        } else if wish.changes_itself() {
            tallies.entry(wish.path.clone()).or_default().on_itself.push(*wish);
        } else if wish.is_directory() {
            tallies.entry(wish.path.clone()).or_default().looks.push(*wish);
        }
    }
    tallies
}
