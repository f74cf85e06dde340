//! What the files of an arrangement have in common.

use std::fmt::Write;

use super::super::model::{Arrangement, Entry, GroupOf, Owner};
use crate::emit::Emitted;
use crate::emit::escape;
use crate::event::FileType;
use crate::text::letters;

/// A file that is written.
pub fn emitted(file_name: String, text: String) -> Emitted {
    Emitted { file_name, text, executable: false, unmet: Vec::new() }
}

/// A name that is safe in file names.
pub fn file_name(component: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = component.chars().map(plain).take(100).collect();
    match name.trim_start_matches(['.', '-']) {
        "" => "component".into(),
        name => name.to_owned(),
    }
}

/// A line of a comment; nothing from outside can end it.
pub fn comment(out: &mut String, indent: usize, text: &str) {
    line(out, &format!("{:indent$}# {}", "", escape::comment(text)));
}

/// A line.
pub fn line(out: &mut String, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

/// The names of components.
pub fn components<'a>(arrangement: &Arrangement, indexes: impl IntoIterator<Item = &'a usize>) -> String {
    let names = indexes.into_iter().filter_map(|index| arrangement.components.get(*index));
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The components that use something, by name, with what they do.
pub fn users(arrangement: &Arrangement, entry: &Entry) -> String {
    let names = entry.uses.iter().filter_map(|(user, bits)| {
        let name = arrangement.components.get(*user)?;
        Some(format!("{name} {}", letters(*bits)))
    });
    names.collect::<Vec<_>>().join(", ")
}

/// Whether root makes and keeps it, and not one of the components.
pub fn is_kept(entry: &Entry) -> bool {
    !entry.made && !matches!(entry.file_type, FileType::Socket | FileType::Symlink)
}

/// Whether only numbers of groups and users that exist already are named.
pub fn is_root(entry: &Entry) -> bool {
    entry.owner == Owner::Root && entry.group == GroupOf::Root
}
