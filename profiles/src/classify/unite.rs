//! The needs of several runs, put together. What differs from run to run shows here and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use crate::RawText;
use crate::glob::Pattern;
use crate::profile::{Profile, Unexplained};
use crate::proof::Finding;
use crate::requirement::{Access, Need, Requirement, Severity};

use super::files;
use super::fold::{Fold, Key};
use super::pattern;

/// The needs of all `runs`, one for each id, in the order of a profile.
pub fn unite(runs: &[&Profile]) -> Vec<Requirement> {
    let mut fold = Fold::until(u64::MAX);
    for requirement in runs.iter().flat_map(|run| &run.requirements) {
        fold.add_need(requirement.clone());
    }
    join_varying(&mut fold, runs);
    join_matching(&mut fold);
    let mut requirements = fold.finish().0;
    for requirement in &mut requirements {
        // Another run needs what the program was seen to live without in one.
        if requirement.severity != Severity::Tolerated {
            requirement.proof.take_if(|proof| proof.finding == Finding::Tolerated);
        }
    }
    requirements
}

/// A name that was made, and the need it is of.
fn made(requirement: &Requirement) -> Option<&RawText> {
    match &requirement.need {
        Need::Path { path, access, pattern: false, .. } if access.contains(&Access::Create) => Some(path),
        _ => None,
    }
}

/// Names that each run makes once and no two runs make alike become one pattern.
fn join_varying(fold: &mut Fold, runs: &[&Profile]) {
    let mut seen: BTreeMap<&RawText, BTreeSet<usize>> = BTreeMap::new();
    for (run, profile) in runs.iter().enumerate() {
        for path in profile.requirements.iter().filter_map(made) {
            seen.entry(path).or_default().insert(run);
        }
    }
    let mut directories: BTreeMap<RawText, Vec<(&RawText, usize)>> = BTreeMap::new();
    for (path, runs) in seen {
        if let (Some(run), 1) = (runs.first(), runs.len()) {
            directories.entry(files::parent(path)).or_default().push((path, *run));
        }
    }
    for (directory, members) in directories {
        let names: Vec<(&[u8], usize)> =
            members.iter().map(|(path, run)| (files::name(path), *run)).collect();
        for (name, indexes) in pattern::varying(&names) {
            let paths: BTreeSet<&RawText> =
                indexes.iter().filter_map(|index| members.get(*index)).map(|(path, _)| *path).collect();
            let keys = keys_of(fold, |path| paths.contains(path));
            fold.join(pattern::within(&directory, name), keys.iter());
        }
    }
}

/// A name that a pattern of another run fits belongs to the pattern.
fn join_matching(fold: &mut Fold) {
    let patterns: BTreeSet<RawText> = fold
        .requirements()
        .filter_map(|(_, requirement)| match &requirement.need {
            Need::Path { path, pattern: true, .. } => Some(path.clone()),
            _ => None,
        })
        .collect();
    for text in patterns {
        let Ok(pattern) = Pattern::new(&text) else { continue };
        let keys = keys_of(fold, |path| pattern.matches(path.as_bytes()));
        fold.join(text, keys.iter());
    }
}

fn keys_of(fold: &Fold, wanted: impl Fn(&RawText) -> bool) -> Vec<Key> {
    let wanted = |requirement: &Requirement| made(requirement).is_some_and(&wanted);
    fold.requirements().filter(|(_, requirement)| wanted(requirement)).map(|(key, _)| key.clone()).collect()
}

/// What no run could place, equal ones counted together.
pub fn unite_unexplained(runs: &[&Profile]) -> Vec<Unexplained> {
    let mut out: Vec<Unexplained> = Vec::new();
    for entry in runs.iter().flat_map(|run| &run.unexplained) {
        let same = |other: &&mut Unexplained| {
            let counted = Unexplained { count: entry.count, phase: entry.phase, ..(*other).clone() };
            counted == *entry
        };
        match out.iter_mut().find(same) {
            Some(known) => {
                known.count = known.count.saturating_add(entry.count);
                known.phase = known.phase.min(entry.phase);
            }
            None => out.push(entry.clone()),
        }
    }
    out
}
