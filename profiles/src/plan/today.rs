//! What today's owners and modes allow beyond what is done.

use std::collections::BTreeSet;

use super::matrix::{Matrix, READ, WRITE};
use super::model::{Component, Excess, Options, Public};
use crate::RawText;

/// Who can read or write today what it does not.
pub fn excess(matrix: &Matrix, components: &[Component], options: &Options) -> Vec<Excess> {
    let mut found: Vec<Excess> = Vec::new();
    let mut note = |component: Option<usize>, writes: bool, because: String, path: &RawText| {
        let same = |excess: &&mut Excess| {
            excess.component == component && excess.writes == writes && excess.because == because
        };
        match found.iter_mut().find(same) {
            Some(excess) => {
                excess.paths.insert(path.clone());
            }
            None => found.push(Excess { component, writes, because, paths: BTreeSet::from([path.clone()]) }),
        }
    };
    for (path, node) in matrix.nodes.iter().filter(|(_, node)| !node.is_directory()) {
        let Some(inode) = &node.inode else { continue };
        if inode.mode & READ != 0 && (options.public == Public::Close || !node.is_open()) {
            note(None, inode.mode & WRITE != 0, "it is open to everybody".into(), path);
        }
        for (index, component) in components.iter().enumerate() {
            let used = node.uses.get(&index).copied().unwrap_or(0);
            let reader = &component.today;
            let (bits, because) = if reader.uid == 0 {
                (READ | WRITE, "it runs as root".to_owned())
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
            if used & READ == 0 && more & READ != 0 {
                note(Some(index), more & WRITE != 0, because, path);
            } else if used & WRITE == 0 && more & WRITE != 0 {
                note(Some(index), true, because, path);
            }
        }
    }
    found.sort();
    found
}
