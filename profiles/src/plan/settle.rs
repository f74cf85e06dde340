//! Owner, group and mode of every file and directory.

use std::collections::BTreeMap;

use super::matrix::{Matrix, Node, PASS, READ, WRITE};
use super::model::{Component, Entry, GroupOf, Options, Owner, Owners, Public, Remark, Surplus};
use super::names::{self, Named};
use super::solve::{self, Set, Way};
use crate::RawText;
use crate::event::FileType;
use crate::paths::{is_below, parent};
use crate::text::letters;

const STICKY: u32 = 0o1000;
const SET_GROUP: u32 = 0o2000;

/// What has been settled, but for ids.
#[derive(Debug, Default)]
pub struct Settled {
    /// What becomes of each file and directory.
    pub entries: BTreeMap<RawText, Entry>,
    /// The groups: names and members.
    pub groups: Vec<(String, Set)>,
    /// Wishes that contradict each other.
    pub conflicts: Vec<Remark>,
    /// What is allowed beyond what is done.
    pub surplus: Vec<Surplus>,
    /// What has to be seen to besides.
    pub notes: Vec<Remark>,
}

/// Settles everything.
pub fn settle(matrix: &Matrix, components: &[Component], options: &Options) -> Settled {
    let mut settled = Settled::default();
    let (left, used): (Vec<(&RawText, &Node)>, Vec<_>) = matrix
        .nodes
        .iter()
        .filter(|(_, node)| !node.uses.is_empty() || !node.own.is_empty())
        .partition(|(_, node)| options.public == Public::Leave && node.is_open());
    let mut ownership =
        Ownership { matrix, components, options, owned: BTreeMap::new(), conflicts: Vec::new() };
    let ways: Vec<Vec<Way>> =
        used.iter().map(|(path, node)| solve::ways(&node.uses, &ownership.owners(path, node))).collect();
    settled.conflicts = ownership.conflicts;
    let chosen = solve::choose(&ways);
    let shared: Vec<(&RawText, &Way)> = used.iter().map(|(path, _)| *path).zip(&chosen).collect();
    let groups = names::groups(&shared, matrix, options);
    for ((path, node), way) in used.iter().zip(&chosen) {
        settled.entries.insert((*path).clone(), entry(path, node, way, &groups));
    }
    settled.entries.extend(left.iter().filter_map(|(path, node)| Some(((*path).clone(), left_as_is(node)?))));
    settled.groups = groups.into_iter().map(|group| (group.name, group.members)).collect();
    let settling = Settling { matrix, components };
    settling.directories(&mut settled);
    settling.remark(&mut settled);
    settled.surplus.sort();
    settled.surplus.dedup();
    settled.notes.sort();
    settled.notes.dedup();
    settled
}

/// Who may own what.
struct Ownership<'a> {
    matrix: &'a Matrix,
    components: &'a [Component],
    options: &'a Options,
    /// Directories that one component owns for certain.
    owned: BTreeMap<RawText, usize>,
    conflicts: Vec<Remark>,
}

impl Ownership<'_> {
    /// Who may own it; to be asked of directories before what is in them.
    fn owners(&mut self, path: &RawText, node: &Node) -> Vec<Owner> {
        let owners = self.candidates(path, node);
        if let ([Owner::Component(owner)], true) = (owners.as_slice(), node.is_directory()) {
            self.owned.insert(path.clone(), *owner);
        }
        owners
    }

    fn candidates(&mut self, path: &RawText, node: &Node) -> Vec<Owner> {
        if let Some(owner) = self.forced(path, node) {
            return vec![Owner::Component(owner)];
        }
        let above = self.above(path);
        let sole = if node.uses.len() == 1 { node.uses.keys().next().copied() } else { None };
        if let Some(user) = sole {
            let own = self.owns_alone(node, user) || above == Some(user);
            return vec![if own { Owner::Component(user) } else { Owner::Root }];
        }
        let possible = solve::owners(&node.uses);
        if let Some(owner) = above {
            // systemd-tmpfiles does not go from the directory of one user to the file of another.
            if possible.contains(&Owner::Component(owner)) {
                return vec![Owner::Component(owner)];
            }
            let name = &self.components[owner].name;
            let text = format!(
                "{name} owns a directory above it, so systemd-tmpfiles refuses to set its owner: set it by hand, or keep what is shared elsewhere"
            );
            self.conflicts.push(Remark { path: path.clone(), text });
        }
        if !node.is_directory() {
            return possible;
        }
        let fits = |owner: &Owner| match owner {
            Owner::Root => true,
            Owner::Component(user) => self.is_alone(path, node, *user),
        };
        possible.into_iter().filter(fits).collect()
    }

    /// The one that makes it, or changes what an owner alone may.
    fn forced(&mut self, path: &RawText, node: &Node) -> Option<usize> {
        let forced = if node.own.is_empty() { &node.makers } else { &node.own };
        if forced.len() > 1 {
            let names: Vec<&str> = forced.iter().map(|index| self.components[*index].name.as_str()).collect();
            let what = if node.own.is_empty() {
                "make it: it belongs to whichever comes first, and its mode is that one's choice"
            } else {
                "change its mode or times, which its owner alone may: the others are refused"
            };
            self.conflicts
                .push(Remark { path: path.clone(), text: format!("{} {what}", names.join(" and ")) });
        }
        forced.first().copied()
    }

    /// The component that owns a directory above.
    fn above(&self, path: &RawText) -> Option<usize> {
        let mut at = parent(path);
        while at.as_bytes().len() > 1 {
            if let Some(owner) = self.owned.get(&at) {
                return Some(*owner);
            }
            at = parent(&at);
        }
        None
    }

    /// Whether what one component alone uses is to be its own.
    fn owns_alone(&self, node: &Node, user: usize) -> bool {
        let writes = node.uses.get(&user).is_some_and(|bits| bits & WRITE != 0);
        self.options.owners == Owners::Component && (writes || !node.is_directory())
    }

    /// Whether a component alone writes in a directory, and owns all that is in it: the owner of a directory can remove
    /// what is there.
    fn is_alone(&self, path: &RawText, node: &Node, user: usize) -> bool {
        let writers = node.uses.values().filter(|bits| **bits & WRITE != 0).count();
        let below = self.matrix.nodes.iter().filter(|(other, _)| is_below(other.as_bytes(), path.as_bytes()));
        let its = |node: &Node| {
            let made = node.makers.iter().chain(&node.own).eq([&user]);
            made || (node.uses.keys().eq([&user]) && self.owns_alone(node, user))
        };
        writers == 1 && below.into_iter().all(|(_, node)| its(node))
    }
}

fn entry(path: &RawText, node: &Node, way: &Way, groups: &[Named<'_>]) -> Entry {
    let bits_of = |user: usize| node.uses.get(&user).copied().unwrap_or(0);
    let any: u32 = node.uses.values().fold(0, |all, bits| all | bits);
    let pass = if node.is_directory() { PASS } else { any & PASS };
    let owner_bits = match way.owner {
        Owner::Root => READ | WRITE | pass,
        // Its owner can change the mode, so that less would promise what it does not keep.
        Owner::Component(user) => READ | WRITE | pass | bits_of(user),
    };
    let group = match way.group.iter().collect::<Vec<_>>().as_slice() {
        [] => match way.owner {
            Owner::Root => GroupOf::Root,
            Owner::Component(user) => GroupOf::Component(user),
        },
        [one] => GroupOf::Component(**one),
        _ => GroupOf::Shared(names::find(groups, &way.group, path)),
    };
    let group_bits = if way.group.is_empty() { 0 } else { way.bits };
    // With ACL entries the group's digit is the mask.
    let mask = way.acl.values().fold(group_bits, |all, bits| all | bits);
    Entry {
        file_type: node.file_type.unwrap_or(FileType::Unknown),
        owner: way.owner,
        group,
        mode: owner_bits << 6 | mask << 3,
        group_bits,
        acl: way.acl.clone(),
        uses: node.uses.clone(),
        // A directory is made but once; a file that is opened to be made may have been there.
        made: !node.makers.is_empty() && (node.is_directory() || node.inode.is_none()),
        left: false,
        before: node.inode.clone(),
    }
}

/// What stays as it is.
fn left_as_is(node: &Node) -> Option<Entry> {
    let inode = node.inode.as_ref()?;
    Some(Entry {
        file_type: inode.file_type,
        owner: Owner::Root,
        group: GroupOf::Root,
        mode: inode.mode,
        group_bits: inode.mode >> 3 & 7,
        acl: BTreeMap::new(),
        uses: node.uses.clone(),
        made: false,
        left: true,
        before: node.inode.clone(),
    })
}

struct Settling<'a> {
    matrix: &'a Matrix,
    components: &'a [Component],
}

impl Settling<'_> {
    /// Sticky and set-group-ID bits of directories that components write in.
    fn directories(&self, settled: &mut Settled) {
        let directories: Vec<RawText> = settled
            .entries
            .iter()
            .filter(|(_, entry)| entry.file_type == FileType::Directory && !entry.left)
            .map(|(path, _)| path.clone())
            .collect();
        for path in directories {
            let Some(entry) = settled.entries.get(&path).cloned() else { continue };
            let writers: Vec<usize> =
                entry.uses.iter().filter(|(_, bits)| **bits & WRITE != 0).map(|(user, _)| *user).collect();
            let mode = self.mode_of(&path, &entry, &writers, settled);
            if let Some(entry) = settled.entries.get_mut(&path) {
                entry.mode |= mode;
            }
        }
    }

    fn mode_of(&self, path: &RawText, entry: &Entry, writers: &[usize], settled: &mut Settled) -> u32 {
        let mut mode = 0;
        let name = |index: &usize| self.components[*index].name.as_str();
        // What is in it and belongs to others than the one that writes.
        let mut at_stake: Vec<(usize, RawText)> = Vec::new();
        let mut replaced: Vec<(usize, RawText)> = Vec::new();
        for (inside, node) in self.matrix.inside(path) {
            let owner = settled.entries.get(inside).map_or(Owner::Root, |entry| entry.owner);
            for writer in writers.iter().filter(|writer| owner != Owner::Component(**writer)) {
                let changes = node.removers.contains(writer) || node.makers.contains(writer);
                let list = if changes { &mut replaced } else { &mut at_stake };
                list.push((*writer, inside.clone()));
            }
        }
        let shared = writers.len() > 1 || !at_stake.is_empty();
        if shared && replaced.is_empty() && !writers.is_empty() && entry.owner == Owner::Root {
            // Each removes its own alone.
            mode |= STICKY;
        } else {
            for (writer, inside) in &at_stake {
                settled.surplus.push(Surplus {
                    component: *writer,
                    path: inside.clone(),
                    bits: 0,
                    why: format!("writes in {path}, so it could remove or replace it"),
                });
            }
        }
        for (writer, inside) in replaced.iter().filter(|_| shared) {
            let text = format!(
                "{} removes or replaces it in {path}, where others write too: {path} cannot be sticky, and each of them can remove what the others make",
                name(writer)
            );
            settled.conflicts.push(Remark { path: inside.clone(), text });
        }
        mode | self.inherited(path, entry, settled)
    }

    /// What one makes in a directory and others use gets the directory's group.
    fn inherited(&self, path: &RawText, entry: &Entry, settled: &mut Settled) -> u32 {
        let mut mode = 0;
        for (inside, node) in self.matrix.inside(path) {
            let Some(maker) = node.makers.first() else { continue };
            let others: Set = node.uses.keys().copied().filter(|user| user != maker).collect();
            let Some(made) = settled.entries.get(inside) else { continue };
            if others.is_empty() {
                continue;
            }
            let who = &self.components[*maker].name;
            if made.group == entry.group {
                mode = SET_GROUP;
                let umask = if node.uses.iter().any(|(user, bits)| user != maker && bits & WRITE != 0) {
                    "0007"
                } else {
                    "0027"
                };
                let text = format!(
                    "{who} makes it anew, in the directory's group: it needs UMask={umask}, or an option for the mode"
                );
                settled.notes.push(Remark { path: inside.clone(), text });
            } else {
                let text = format!(
                    "{who} makes it anew, and its group is then not the one that others use it by: have {who} set its group, or give it a directory of its own"
                );
                settled.conflicts.push(Remark { path: inside.clone(), text });
            }
        }
        mode
    }

    fn remark(&self, settled: &mut Settled) {
        for (path, entry) in &settled.entries {
            if !entry.acl.is_empty() {
                let list = |(user, bits): (&usize, &u32)| {
                    format!("{} {}", self.components[*user].name, letters(*bits))
                };
                let uses: Vec<String> = entry.uses.iter().map(list).collect();
                let text = format!(
                    "owner, group and mode cannot express who does what with it ({}): an ACL entry for each of the rest does",
                    uses.join(", ")
                );
                settled.conflicts.push(Remark { path: path.clone(), text });
            }
            if let Owner::Component(user) = entry.owner {
                let used = entry.uses.get(&user).copied().unwrap_or(0);
                let more = (entry.mode >> 6 & 7) & !used;
                if more != 0 {
                    settled.surplus.push(Surplus {
                        component: user,
                        path: path.clone(),
                        bits: more,
                        why: "owns it".into(),
                    });
                }
            }
        }
        self.replaced_files(settled);
    }

    /// A file that is replaced by its writer takes the writer's user and group, whatever it had.
    fn replaced_files(&self, settled: &mut Settled) {
        for (path, node) in &self.matrix.nodes {
            let kept = settled.entries.contains_key(&parent(path));
            if !kept && !node.makers.is_empty() && node.uses.len() > 1 {
                let text = "it is made anew in a directory that is not arranged, so its group is its maker's: add the directory to --paths";
                settled.conflicts.push(Remark { path: path.clone(), text: text.into() });
            }
        }
    }
}
