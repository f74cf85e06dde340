//! Names of the groups, after what they open.

use std::collections::BTreeSet;

use super::matrix::{Matrix, WRITE};
use super::model::{Grouping, Options};
use super::solve::{Set, Way};
use crate::RawText;
use crate::paths::parent;

/// Longest name that sysusers.d(5) accepts.
const LONGEST: usize = 31;

/// A group that is made.
#[derive(Clone, Debug)]
pub struct Named<'a> {
    /// Its name.
    pub name: String,
    /// Its members.
    pub members: Set,
    /// What it is made for.
    paths: Vec<&'a RawText>,
}

/// The groups that the ways need, in order of what they were made for.
pub fn groups<'a>(ways: &[(&'a RawText, &Way)], matrix: &Matrix, options: &Options) -> Vec<Named<'a>> {
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
    for (members, paths) in sets {
        let name = name(&paths, &members, matrix, options, &taken);
        taken.insert(name.clone());
        out.push(Named { name, members, paths });
    }
    out
}

fn has_file(paths: &[&RawText], matrix: &Matrix) -> bool {
    paths.iter().any(|path| matrix.nodes.get(*path).is_some_and(|node| !node.is_directory()))
}

/// The group of a set, for a path: with one group for each file, the file's own.
pub fn find(groups: &[Named<'_>], set: &Set, path: &RawText) -> usize {
    let own = groups.iter().position(|group| group.members == *set && group.paths.contains(&path));
    own.or_else(|| groups.iter().position(|group| group.members == *set)).unwrap_or(0)
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
    let ending = if files.is_empty() || writes { "users" } else { "readers" };
    let fits = |name: &String| name.len() <= LONGEST && !taken.contains(name);
    // A name that is told apart by its directory, when another file has the same.
    let from = if subject.len() == 1 && is_ambiguous(subject[0], matrix) { 2 } else { 1 };
    let full = (from..=3).map(|depth| format!("{}{}-{ending}", options.prefix, stem(subject, depth)));
    // Else without what kind of file it is, where no other is called so, and without what the group may do.
    let short = without_ending(subject, matrix);
    let short = short.into_iter().map(|stem| format!("{}{stem}-{ending}", options.prefix));
    let plain = (from..=3).map(|depth| format!("{}{}", options.prefix, stem(subject, depth)));
    if let Some(name) = full.chain(short).chain(plain).find(fits) {
        return name;
    }
    let stem = stem(subject, 1);
    let numbered = |number: usize| {
        let ending = if number == 1 { format!("-{ending}") } else { format!("-{number}") };
        let room = LONGEST.saturating_sub(options.prefix.len() + ending.len());
        format!("{}{}{ending}", options.prefix, whole_words(&stem, room))
    };
    (1..).map(numbered).find(|name| !taken.contains(name)).unwrap_or_default()
}

/// As many whole words of a name as there is room for; of a single long one its beginning.
fn whole_words(stem: &str, room: usize) -> &str {
    // A stem is ASCII.
    let cut = stem.get(..room).unwrap_or(stem);
    let broken = stem.get(room..).is_some_and(|rest| !rest.is_empty() && !rest.starts_with('-'));
    match cut.rsplit_once('-') {
        Some((whole, _)) if broken => whole,
        _ => cut.trim_end_matches('-'),
    }
}

/// The name of a file without its ending, if no other file beside it is called so.
fn without_ending(paths: &[&RawText], matrix: &Matrix) -> Option<String> {
    let [path] = paths else { return None };
    let cut = |path: &RawText| {
        let bytes = path.as_bytes();
        let name = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let dot = bytes.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > name)?;
        Some(RawText::from(&bytes[..dot]))
    };
    let own = cut(path)?;
    let shared = matrix.nodes.iter().filter(|(other, node)| *other != *path && node.uses.len() > 1);
    let alone = shared.into_iter().all(|(other, _)| cut(other).as_ref() != Some(&own));
    alone.then(|| stem(&[&own], 1))
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
