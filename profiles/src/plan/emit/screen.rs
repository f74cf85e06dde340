//! The arrangement on a screen: who runs as what, which groups open which files to whom, and what to do next.

use std::collections::BTreeSet;

use super::super::model::{Arrangement, Entry, GroupOf};
use super::parts::{components, line};
use crate::event::FileType;
use crate::text::printable;

/// Paths that are named for a group; the page has all.
const MOST: usize = 6;

/// A few lines in plain text: users, groups, and how many files are whose.
pub fn screen(arrangement: &Arrangement) -> String {
    let mut out = String::new();
    users(&mut out, arrangement);
    groups(&mut out, arrangement);
    line(&mut out, "");
    line(&mut out, &files(arrangement));
    out
}

fn users(out: &mut String, arrangement: &Arrangement) {
    let mut rows = vec![["component", "runs as", "uid", "gid", "further groups"].map(str::to_owned)];
    for (index, (component, user)) in arrangement.components.iter().zip(&arrangement.users).enumerate() {
        let groups: Vec<&str> = arrangement.groups_of(index).map(|group| group.name.as_str()).collect();
        let groups = if groups.is_empty() { "none".to_owned() } else { groups.join(", ") };
        rows.push([
            printable(component).into_owned(),
            user.name.clone(),
            user.uid.to_string(),
            user.gid.to_string(),
            groups,
        ]);
    }
    table(out, &rows);
}

fn groups(out: &mut String, arrangement: &Arrangement) {
    if arrangement.groups.is_empty() {
        return;
    }
    line(out, "");
    let mut rows = vec![["shared group", "gid", "members", "opens"].map(str::to_owned)];
    for (index, group) in arrangement.groups.iter().enumerate() {
        let opened = arrangement.entries.iter().filter(|(_, entry)| entry.group == GroupOf::Shared(index));
        let mut paths: Vec<String> =
            opened.map(|(path, entry)| format!("{}{}", printable(&path.to_text()), slash(entry))).collect();
        if paths.len() > MOST {
            let more = paths.len() - MOST + 1;
            paths.truncate(MOST - 1);
            paths.push(format!("and {more} more"));
        }
        let members = components(arrangement, &group.members);
        for (n, path) in paths.into_iter().enumerate() {
            let first = |text: &str| if n == 0 { text.to_owned() } else { String::new() };
            rows.push([first(&group.name), first(&group.gid.to_string()), first(&printable(&members)), path]);
        }
    }
    table(out, &rows);
}

fn slash(entry: &Entry) -> &'static str {
    if entry.file_type == FileType::Directory { "/" } else { "" }
}

/// How many are of one component, shared, and left.
fn files(arrangement: &Arrangement) -> String {
    let count = |fits: &dyn Fn(&Entry) -> bool| {
        arrangement
            .entries
            .values()
            .filter(|entry| entry.file_type != FileType::Directory && fits(entry))
            .count()
    };
    let users = |entry: &Entry| entry.uses.keys().collect::<BTreeSet<_>>().len();
    let own = count(&|entry| !entry.left && users(entry) < 2);
    let shared = count(&|entry| !entry.left && users(entry) > 1);
    let left = count(&|entry| entry.left);
    let mut parts = vec![format!("{own} of one component alone"), format!("{shared} shared")];
    if left > 0 {
        parts.push(format!("{left} left as they are, since everybody may read them"));
    }
    format!("{} files: {}", own + shared + left, parts.join(", "))
}

/// Columns as wide as their widest cell; the last one is not filled up.
fn table<const N: usize>(out: &mut String, rows: &[[String; N]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        line(out, cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
