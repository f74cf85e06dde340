//! What today's owners and modes allow beyond what is done.

use std::collections::BTreeSet;

use super::matrix::{Matrix, READ, WRITE};
use super::model::{Component, Excess, Options, Public};
use crate::RawText;

/// Why root can.
pub const AS_ROOT: &str = "it runs as root";

/// Who can read or write today what it does not.
pub fn excess(matrix: &Matrix, components: &[Component], options: &Options) -> Vec<Excess> {
    let mut found: Vec<Excess> = Vec::new();
    let mut note = |component: Option<usize>, bits: u32, because: String, path: &RawText| {
        let same = |excess: &&mut Excess| {
            excess.component == component && excess.bits == bits && excess.because == because
        };
        match found.iter_mut().find(same) {
            Some(excess) => {
                excess.paths.insert(path.clone());
            }
            None => found.push(Excess { component, bits, because, paths: BTreeSet::from([path.clone()]) }),
        }
    };
    for (path, node) in matrix.nodes.iter().filter(|(_, node)| !node.is_directory()) {
        let Some(inode) = &node.inode else { continue };
        if inode.mode & READ != 0 && (options.public == Public::Close || !node.is_open()) {
            note(None, inode.mode & (READ | WRITE), "it is open to everybody".into(), path);
        }
        for (index, component) in components.iter().enumerate() {
            let used = node.uses.get(&index).copied().unwrap_or(0);
            let reader = &component.today;
            let (bits, because) = if reader.uid == 0 {
                (READ | WRITE, AS_ROOT.to_owned())
            } else if reader.uid == inode.uid {
                (inode.mode >> 6, "it owns them".to_owned())
            } else if reader.gids.contains(&inode.gid) {
                let group = inode.group.clone().unwrap_or_else(|| inode.gid.to_string());
                (inode.mode >> 3, format!("it runs with group {group} (gid {})", inode.gid))
            } else {
                continue;
            };
            let more = bits & (READ | WRITE) & !used;
            // Who reads a file anyway, and could write it, is told of as well.
            if more != 0 {
                note(Some(index), more, because, path);
            }
        }
    }
    found.sort();
    found
}
