//! Paths as processes pass them, made absolute and free of symbolic links.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use nrtrace_ebpf::record::{FLAG_DEEP, FLAG_FD_ONLY, FLAG_TRUNCATED, FLAG_UNREADABLE, Head, PATH_MAX};
use nrtrace_profiles::RawText;
use nrtrace_profiles::event::{Inode, PathObject};

use super::Within;
use super::facts::Names;
use super::tree::{Tree, Trees};

/// How long what was seen of a directory is believed, in nanoseconds.
const BELIEVED: u64 = 1_000_000_000;
/// The same for what was not there: a program that misses a directory makes it next.
const BELIEVED_MISSING: u64 = 10_000_000;
/// Directories remembered.
const DIRECTORIES: usize = 4096;
/// Symbolic links followed in one path, as path_resolution(7) has it.
const LINKS: u32 = 40;
/// Components walked for one path, those of symbolic links included.
const STEPS: u32 = 512;

/// A path as a record has it.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// As passed.
    pub path: &'a [u8],
    /// Where it starts when relative; leaf first.
    pub base: &'a [u8],
    /// Whether a symbolic link in the last component is followed.
    pub follow: bool,
}

/// Makes [`PathObject`]s.
#[derive(Debug, Default)]
pub struct Paths {
    trees: Trees,
    names: Names,
    directories: HashMap<u64, Directory>,
    inodes: HashMap<u64, (Inode, u64)>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Directory {
    resolved: RawText,
    /// Nothing is there, so nothing below need be looked for.
    missing: bool,
    expires: u64,
}

/// One path on its way, with what it may cost.
struct Lookup<'a> {
    mnt_ns: u32,
    /// The process's root; absolute symbolic links and `..` stay inside.
    root: &'a [u8],
    /// A path that the kernel itself gave, so free of symbolic links.
    known: &'a [u8],
    now: u64,
    links: u32,
    steps: u32,
}

impl Paths {
    /// For a program in those surroundings.
    pub fn new(within: Within) -> Self {
        Self { names: Names::new(within), ..Self::default() }
    }

    /// Looks at files by those trees, too.
    pub fn keep(&mut self, trees: Trees) {
        self.trees = trees;
    }

    /// Notices that `head`'s process lives in a mount namespace, while it can be opened.
    pub fn meet(&mut self, head: &Head) {
        self.trees.meet(head.mnt_ns, head.pid);
    }

    /// The files of a mount namespace, where they can be looked at.
    pub fn tree(&self, mnt_ns: u32) -> Option<&Tree> {
        self.trees.get(mnt_ns)
    }

    /// Names of users and groups.
    pub fn names(&mut self) -> &mut Names {
        &mut self.names
    }

    /// The object that `given` names for the process of `head`, whose root is `root` (leaf first), without
    /// facts of inodes.
    pub fn object(&mut self, head: &Head, root: &[u8], given: Given<'_>) -> PathObject {
        let root = upright(root);
        let fd_only = head.flags & FLAG_FD_ONLY != 0 && given.path.is_empty();
        let absolute = given.path.first() == Some(&b'/');
        if !absolute && !is_sound(head, given.path, fd_only) {
            let known = RawText::from(given.path);
            return PathObject {
                given: known.clone(),
                seen: known.clone(),
                path: known,
                ..Default::default()
            };
        }
        let start = if absolute { root.clone() } else { upright(given.base) };
        if fd_only || given.path.is_empty() {
            let path = RawText::new(start);
            let seen = below(path.as_bytes(), &root).map_or_else(|| path.clone(), RawText::from);
            let given = RawText::from(given.path);
            return PathObject { given, seen, path, resolved: true, ..Default::default() };
        }
        let text = join(&start, given.path);
        let resolved = head.flags & FLAG_TRUNCATED == 0 || given.path.len() < PATH_MAX;
        let name = RawText::from(given.path);
        let seen = share(&name, self.seen(&text, given.path, absolute, &root));
        let walk =
            Lookup { mnt_ns: head.mnt_ns, root: &root, known: &start, now: head.time, links: 0, steps: 0 };
        let path = share(&seen, self.resolve(walk, &text, given.follow));
        PathObject { given: name, seen, path, resolved, ..Default::default() }
    }

    fn seen(&self, text: &[u8], given: &[u8], absolute: bool, root: &[u8]) -> Vec<u8> {
        if absolute {
            return clean(given);
        }
        let whole = clean(text);
        below(&whole, root).map(<[u8]>::to_vec).unwrap_or(whole)
    }

    fn resolve(&mut self, mut walk: Lookup<'_>, text: &[u8], follow: bool) -> Vec<u8> {
        let end = text.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let (parent, name) = split(&text[..end]);
        if follow || end < text.len() || matches!(name, b"." | b"..") {
            return self.directory(&mut walk, text).0.as_bytes().to_vec();
        }
        let (parent, _) = self.directory(&mut walk, parent);
        join(parent.as_bytes(), name)
    }

    /// `text` with every symbolic link in it followed, and whether it is known that nothing is there.
    fn directory(&mut self, walk: &mut Lookup<'_>, text: &[u8]) -> (RawText, bool) {
        if text.len() <= 1 || text == walk.root || text == walk.known {
            return (RawText::from(if text.is_empty() { b"/" } else { text }), false);
        }
        let key = self.hasher.hash_one((walk.mnt_ns, walk.root, text));
        if let Some(known) = self.directories.get(&key).filter(|known| walk.now < known.expires) {
            return (known.resolved.clone(), known.missing);
        }
        walk.steps += 1;
        if walk.steps > STEPS {
            return (RawText::new(clean(text)), true);
        }
        let (parent, name) = split(text);
        let (parent, absent) = self.directory(walk, parent);
        let (resolved, missing) = match name {
            b"" | b"." => (parent, absent),
            b".." if parent.as_bytes() == walk.root => (parent, absent),
            b".." => (RawText::from(split(parent.as_bytes()).0), absent),
            name => self.step(walk, join(parent.as_bytes(), name), &parent, absent),
        };
        let expires = walk.now.saturating_add(if missing { BELIEVED_MISSING } else { BELIEVED });
        self.remember(key, Directory { resolved: resolved.clone(), missing, expires });
        (resolved, missing)
    }

    /// From a directory free of symbolic links to an entry of it, `path`.
    fn step(
        &mut self,
        walk: &mut Lookup<'_>,
        path: Vec<u8>,
        parent: &RawText,
        absent: bool,
    ) -> (RawText, bool) {
        // The links below /proc depend on who reads them, or are no paths at all.
        let reader_dependent = path.starts_with(b"/proc/");
        let found = match self.trees.get(walk.mnt_ns) {
            Some(tree) if !absent && !reader_dependent => tree.look(&path),
            _ => return (RawText::new(path), absent),
        };
        let Some(found) = found else { return (RawText::new(path), true) };
        let Some(link) = found.link else { return (RawText::new(path), false) };
        walk.links += 1;
        if walk.links > LINKS {
            return (RawText::new(path), true);
        }
        let start = if link.first() == Some(&b'/') { walk.root } else { parent.as_bytes() };
        self.directory(walk, &join(start, &link))
    }

    fn remember(&mut self, key: u64, directory: Directory) {
        if self.directories.len() >= DIRECTORIES {
            self.directories.clear();
        }
        self.directories.insert(key, directory);
    }

    /// What is at `path` in the mount namespace, as of at most a second ago.
    pub fn inode(&mut self, mnt_ns: u32, path: &[u8], now: u64) -> Option<Inode> {
        let key = self.hasher.hash_one((mnt_ns, path));
        if let Some((inode, _)) = self.inodes.get(&key).filter(|(_, expires)| now < *expires) {
            return Some(inode.clone());
        }
        let inode = self.look(mnt_ns, path)?;
        if self.inodes.len() >= DIRECTORIES {
            self.inodes.clear();
        }
        self.inodes.insert(key, (inode.clone(), now.saturating_add(BELIEVED)));
        Some(inode)
    }

    fn look(&mut self, mnt_ns: u32, path: &[u8]) -> Option<Inode> {
        let found = self.trees.get(mnt_ns).and_then(|tree: &Tree| tree.look(path))?;
        Some(self.names.of_stat(&found.stat))
    }

    /// Fills in what is at the object's path, and the directory that holds it.
    pub fn add_facts(&mut self, object: &mut PathObject, mnt_ns: u32, now: u64) {
        if !object.resolved || object.path.as_bytes().starts_with(b"/proc/self/") {
            return;
        }
        object.parent = self.inode(mnt_ns, split(object.path.as_bytes()).0, now).map(Box::new);
        // The file itself may have been made just now, so it is looked at anew.
        let inode = object.parent.as_ref().and_then(|_| self.look(mnt_ns, object.path.as_bytes()));
        object.inode = inode.map(Box::new);
    }
}

/// Whether a relative path, or a file descriptor's, can be relied upon.
fn is_sound(head: &Head, path: &[u8], fd_only: bool) -> bool {
    let broken = head.flags & (FLAG_UNREADABLE | FLAG_DEEP) != 0;
    // A base is cut at its upper end, so nothing remains to start from.
    let cut = head.flags & FLAG_TRUNCATED != 0 && (fd_only || path.len() < PATH_MAX);
    !broken && !cut
}

/// An absolute path with its components in the order of a walk from the file to the root, as records carry it.
pub fn leaf_first(path: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).rev().collect();
    parts.join(&b'/')
}

/// A leaf-first path the right way round, absolute.
pub fn upright(leaf_first: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(leaf_first.len() + 1);
    for component in leaf_first.rsplit(|byte| *byte == b'/').filter(|component| !component.is_empty()) {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

/// `path` below `start`.
fn join(start: &[u8], path: &[u8]) -> Vec<u8> {
    let start = start.strip_suffix(b"/").unwrap_or(start);
    let path = path.strip_prefix(b"/").unwrap_or(path);
    [start, b"/", path].concat()
}

/// An absolute path without `.`, `..`, repeated and trailing slashes; symbolic links are not looked at.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => out.truncate(out.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            name => {
                out.push(b'/');
                out.extend_from_slice(name);
            }
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

/// An absolute path's directory and last component.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) | None => (b"/", path.strip_prefix(b"/").unwrap_or(path)),
        Some(at) => (&path[..at], &path[at + 1..]),
    }
}

/// `path` as seen from `root`, when it lies below.
fn below<'a>(path: &'a [u8], root: &[u8]) -> Option<&'a [u8]> {
    if root == b"/" {
        return Some(path);
    }
    match path.strip_prefix(root)? {
        b"" => Some(b"/"),
        rest if rest.starts_with(b"/") => Some(rest),
        _ => None,
    }
}

/// `bytes`, in the memory of `like` when equal.
fn share(like: &RawText, bytes: Vec<u8>) -> RawText {
    if like.as_bytes() == bytes { like.clone() } else { RawText::new(bytes) }
}
