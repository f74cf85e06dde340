//! What is in a directory that changes hands with it: what is root's, has one name and runs with nobody else's rights.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use nrtrace_profiles::RawText;
use rustix::io::Errno;

use super::node::{Facts, Kind, Node};

/// More than are changed one by one.
const MOST: usize = 1_000_000;

/// How deep directories are nested at most.
const DEEPEST: usize = 200;

/// What is below a directory.
#[derive(Debug, Default)]
pub struct Found {
    /// What changes hands.
    pub given: BTreeMap<RawText, Facts>,
    /// How many do not.
    pub left: usize,
}

/// Looks through a directory, on its own file system and along no link. `uid` is the user's, where there is such a user;
/// `held` tells what was given already.
///
/// # Errors
/// When it cannot be read, or holds too much.
pub fn below(
    node: &Node,
    path: &RawText,
    uid: Option<u32>,
    held: &dyn Fn(&RawText, &Node, &Facts) -> bool,
) -> Result<Found, String> {
    let device = node.facts().map_err(text)?.inode.0;
    let mut look = Look { device, uid, held, found: Found::default() };
    look.descend(node, path.as_bytes(), DEEPEST)?;
    Ok(look.found)
}

fn text(errno: Errno) -> String {
    errno.to_string()
}

struct Look<'a> {
    device: u64,
    uid: Option<u32>,
    held: &'a dyn Fn(&RawText, &Node, &Facts) -> bool,
    found: Found,
}

impl Look<'_> {
    fn descend(&mut self, node: &Node, path: &[u8], depth: usize) -> Result<(), String> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        node.each_name(|name| names.push(name.to_vec())).map_err(text)?;
        for name in names.iter().filter(|name| !matches!(name.as_slice(), b"." | b"..")) {
            let Some(child) = Node::open(node.descriptor(), OsStr::from_bytes(name)).map_err(text)? else {
                continue;
            };
            let facts = child.facts().map_err(text)?;
            if facts.kind == Kind::Link {
                continue;
            }
            let below = RawText::new([path, b"/", name].concat());
            let goes_on = self.take(&below, &child, &facts);
            if self.found.given.len() > MOST || depth == 0 {
                return Err("holds more, or deeper, than is given away one by one".into());
            }
            if goes_on && facts.kind == Kind::Directory {
                self.descend(&child, below.as_bytes(), depth - 1)?;
            }
        }
        Ok(())
    }

    /// Whether what is in it, if it is a directory, is looked at too: not what lies in somebody else's.
    fn take(&mut self, path: &RawText, node: &Node, facts: &Facts) -> bool {
        let rights = &facts.rights;
        let is_here = facts.inode.0 == self.device;
        let is_plain = facts.kind == Kind::Directory
            || (facts.links == 1 && rights.mode & 0o6000 == 0 && rights.capabilities.is_none());
        if is_here && ((is_plain && rights.uid == 0) || (self.held)(path, node, facts)) {
            self.found.given.insert(path.clone(), facts.clone());
            return true;
        }
        let is_users = is_here && self.uid == Some(rights.uid);
        self.found.left += usize::from(!is_users);
        is_users
    }
}
