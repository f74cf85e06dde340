//! What each component does with each file and directory: search of the directories on the way included.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Component, Options, Remark};
use crate::RawText;
use crate::accesses::FileAccess;
use crate::event::{FileType, Inode};
use crate::paths::parent;
use crate::requirement::Access;

/// Permission to read a file, or to list a directory.
pub const READ: u32 = 4;
/// Permission to write a file, or to make and remove entries of a directory.
pub const WRITE: u32 = 2;
/// Permission to run a file, or to pass through a directory.
pub const PASS: u32 = 1;

/// A file or directory, and what is done with it.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// What it is.
    pub file_type: Option<FileType>,
    /// What each component does with it, as permission bits.
    pub uses: BTreeMap<usize, u32>,
    /// Those that change its mode or times, which its owner alone may.
    pub own: BTreeSet<usize>,
    /// Those that make it.
    pub makers: BTreeSet<usize>,
    /// Those that remove or replace it.
    pub removers: BTreeSet<usize>,
    /// What it was like.
    pub inode: Option<Inode>,
}

impl Node {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.file_type == Some(FileType::Directory)
    }

    /// Whether everybody may do what is done with it today, and no component has to own or make it.
    pub fn is_open(&self) -> bool {
        let Some(inode) = &self.inode else { return false };
        let all = inode.mode & inode.mode >> 3 & inode.mode >> 6 & 7;
        let claimed = [&self.own, &self.makers, &self.removers].iter().any(|set| !set.is_empty());
        !claimed && self.uses.values().all(|bits| bits & !all == 0)
    }

    fn grant(&mut self, component: usize, bits: u32) {
        if bits != 0 {
            *self.uses.entry(component).or_default() |= bits;
        }
    }
}

/// All of them, by path.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    /// Those that are arranged.
    pub nodes: BTreeMap<RawText, Node>,
    /// Directories above them that are left as they are, and those that pass through them.
    above: BTreeMap<RawText, Node>,
}

impl Matrix {
    /// Takes together what the components do.
    pub fn of(components: &[Component], options: &Options) -> Self {
        let mut matrix = Self::default();
        for (index, component) in components.iter().enumerate() {
            for file in &component.files {
                matrix.add(index, file, options);
            }
        }
        matrix
    }

    fn add(&mut self, component: usize, file: &FileAccess, options: &Options) {
        for directory in ancestors(&file.path) {
            self.pass(component, &directory, options);
        }
        if !is_arranged(&file.path, options) {
            let above = self.above.entry(file.path.clone()).or_default();
            above.inode = above.inode.take().or_else(|| file.inode.clone());
            return;
        }
        let node = self.nodes.entry(file.path.clone()).or_default();
        if node.file_type.is_none_or(|known| known == FileType::Unknown) {
            node.file_type = Some(file.file_type);
        }
        node.inode = node.inode.take().or_else(|| file.inode.clone());
        let directory = node.is_directory();
        for access in &file.access {
            match access {
                // Names that are listed are looked at next.
                Access::Read if directory => node.grant(component, READ | PASS),
                Access::Read => node.grant(component, READ),
                Access::Write if directory => node.grant(component, WRITE | PASS),
                Access::Write | Access::Append => node.grant(component, WRITE),
                Access::Execute | Access::Search => node.grant(component, PASS),
                Access::Own => {
                    node.own.insert(component);
                }
                Access::Create => {
                    node.makers.insert(component);
                    // Its maker is its owner, and uses it.
                    node.grant(component, if directory { READ | WRITE | PASS } else { READ | WRITE });
                }
                Access::Delete => {
                    node.removers.insert(component);
                }
            }
        }
        if file.access.contains(&Access::Create) || file.access.contains(&Access::Delete) {
            let parent = parent(&file.path);
            if is_arranged(&parent, options) {
                self.directory(&parent).grant(component, WRITE | PASS);
            } else {
                let above = self.above.entry(parent).or_default();
                above.grant(component, WRITE | PASS);
            }
        }
    }

    fn directory(&mut self, path: &RawText) -> &mut Node {
        let node = self.nodes.entry(path.clone()).or_default();
        node.file_type = Some(FileType::Directory);
        node
    }

    fn pass(&mut self, component: usize, directory: &RawText, options: &Options) {
        if is_arranged(directory, options) {
            self.directory(directory).grant(component, PASS);
        } else {
            self.above.entry(directory.clone()).or_default().grant(component, PASS);
        }
    }

    /// Directories that are left as they are, and do not let a component through or make something in them.
    pub fn cannot_pass(&self, components: &[Component]) -> Vec<Remark> {
        let mut out = Vec::new();
        for (path, node) in &self.above {
            let open = node.inode.as_ref().map_or(PASS, |inode| inode.mode & 7);
            for (component, wanted) in &node.uses {
                let writes = wanted & WRITE != 0;
                if wanted & !open == 0 || (path.as_bytes() == b"/" && !writes) {
                    continue;
                }
                let name = &components[*component].name;
                let what = if writes { "makes or removes names in it" } else { "has to pass through it" };
                out.push(Remark {
                    path: path.clone(),
                    text: format!(
                        "{name} {what}, and it is not among the paths that are arranged: add it to --paths"
                    ),
                });
            }
        }
        out
    }

    /// The nodes in a directory, itself not included.
    pub fn inside<'a>(&'a self, directory: &'a RawText) -> impl Iterator<Item = (&'a RawText, &'a Node)> {
        self.nodes.iter().filter(move |(path, _)| parent(path) == *directory && *path != directory)
    }
}

fn is_arranged(path: &RawText, options: &Options) -> bool {
    options.paths.iter().any(|pattern| pattern.covers(path.as_bytes()))
}

/// All directories on the way to `path`, the nearest first.
fn ancestors(path: &RawText) -> Vec<RawText> {
    let mut out = Vec::new();
    let mut at = path.clone();
    while at.as_bytes().len() > 1 {
        at = parent(&at);
        out.push(at.clone());
    }
    out
}
