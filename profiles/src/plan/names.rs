//! Names of the groups, after what they open.

use std::collections::BTreeSet;

use super::matrix::{Matrix, WRITE};
use super::model::{Grouping, Options};
use super::solve::{Set, Way};
use crate::RawText;
use crate::paths::parent;

/// Longest name that sysusers.d(5) accepts.
const LONGEST: usize = 31;

/// The groups that the ways need: names and members, in order of what they were made for.
pub fn groups(ways: &[(&RawText, &Way)], matrix: &Matrix, options: &Options) -> Vec<(String, Set)> {
    let mut sets: Vec<(Set, Vec<&RawText>)> = Vec::new();
    for (path, way) in ways.iter().filter(|(_, way)| way.group.len() > 1) {
        let directory = matrix.nodes.get(*path).is_some_and(|node| node.is_directory());
        let own = options.grouping == Grouping::File && !directory;
        match sets.iter_mut().find(|(set, _)| *set == way.group).filter(|_| !own) {
            Some((_, paths)) => paths.push(path),
            None => sets.push((way.group.clone(), vec![path])),
        }
    }
    if options.grouping == Grouping::File {
        // A group for a directory alone is none that a file of the same components has.
        let of_files: Vec<Set> =
            sets.iter().filter(|(_, paths)| has_file(paths, matrix)).map(|(set, _)| set.clone()).collect();
        sets.retain(|(set, paths)| has_file(paths, matrix) || !of_files.contains(set));
    }
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut out = Vec::new();
    for (set, paths) in sets {
        let name = name(&paths, &set, matrix, options, &taken);
        taken.insert(name.clone());
        out.push((name, set));
    }
    out
}

fn has_file(paths: &[&RawText], matrix: &Matrix) -> bool {
    paths.iter().any(|path| matrix.nodes.get(*path).is_some_and(|node| !node.is_directory()))
}

/// The group of a set, for a path: with one group for each file, the one named after it.
pub fn find(groups: &[(String, Set)], set: &Set, path: &RawText, options: &Options) -> usize {
    let of_set = || groups.iter().enumerate().filter(|(_, (_, members))| members == set);
    let short = stem(&[path], 1);
    let long = stem(&[path], 2);
    let named = |stem: &String| {
        of_set().find(|(_, (name, _))| {
            name.strip_prefix(options.prefix.as_str())
                .is_some_and(|rest| rest.rsplit_once('-').is_some_and(|(start, _)| start == stem.as_str()))
        })
    };
    let chosen = match options.grouping {
        Grouping::File => named(&long).or_else(|| named(&short)),
        Grouping::Set => None,
    };
    chosen.or_else(|| of_set().next()).map_or(0, |(index, _)| index)
}

fn name(
    paths: &[&RawText],
    set: &Set,
    matrix: &Matrix,
    options: &Options,
    taken: &BTreeSet<String>,
) -> String {
    let files: Vec<&RawText> = paths
        .iter()
        .copied()
        .filter(|path| matrix.nodes.get(*path).is_some_and(|node| !node.is_directory()))
        .collect();
    let subject = if files.is_empty() { paths } else { files.as_slice() };
    let writes = subject.iter().any(|path| {
        let node = matrix.nodes.get(*path);
        node.is_some_and(|node| node.uses.iter().any(|(user, bits)| set.contains(user) && bits & WRITE != 0))
    });
    let endings: [&str; 2] = if files.is_empty() || writes { ["users", "us"] } else { ["readers", "rd"] };
    // A name that is told apart by its directory, when another file has the same.
    for depth in [1, 2, 3] {
        let stem = stem(subject, depth);
        for ending in endings {
            let name = format!("{}{stem}-{ending}", options.prefix);
            let ambiguous = depth == 1 && subject.len() == 1 && is_ambiguous(subject[0], matrix);
            if name.len() <= LONGEST && !taken.contains(&name) && !ambiguous {
                return name;
            }
        }
    }
    let stem = stem(subject, 1);
    let cut = |room: usize| stem.chars().take(room).collect::<String>();
    let mut number = 1;
    loop {
        let ending = if number == 1 { format!("-{}", endings[1]) } else { format!("-{number}") };
        let room = LONGEST.saturating_sub(options.prefix.len() + ending.len());
        let name = format!("{}{}{ending}", options.prefix, cut(room));
        if !taken.contains(&name) {
            return name;
        }
        number += 1;
    }
}

/// Whether another shared file has the same name.
fn is_ambiguous(path: &RawText, matrix: &Matrix) -> bool {
    let name = |path: &RawText| stem(&[path], 1);
    let own = name(path);
    let is_top = |path: &RawText| {
        matrix
            .nodes
            .keys()
            .filter(|other| name(other) == own)
            .all(|other| other.as_bytes().len() >= path.as_bytes().len())
    };
    let others = matrix
        .nodes
        .iter()
        .filter(|(other, node)| *other != path && node.uses.len() > 1 && name(other) == own);
    others.count() > 0 && !is_top(path)
}

/// What paths are called together: the file's name, or that of the directory they have in common; with more of the
/// directories above it for a greater depth.
fn stem(paths: &[&RawText], depth: usize) -> String {
    let common = match paths {
        [one] => (*one).clone(),
        [first, rest @ ..] => {
            let mut common = parent(first);
            while common.as_bytes().len() > 1
                && !rest.iter().all(|path| path.as_bytes().starts_with(&[common.as_bytes(), b"/"].concat()))
            {
                common = parent(&common);
            }
            common
        }
        [] => RawText::from("/shared"),
    };
    let text = common.to_text();
    let names: Vec<&str> = text.split('/').filter(|name| !name.is_empty()).collect();
    let from = names.len().saturating_sub(depth);
    let joined = names[from..].join("-");
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let stem: String = joined.chars().map(plain).collect();
    let stem = stem.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    if stem.is_empty() { "shared".into() } else { stem }
}
