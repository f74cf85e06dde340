//! The files that bring an arrangement about, and the page that explains it.

mod kubernetes;
mod page;
mod systemd;

use std::fmt::Write;

use super::{Arrangement, Entry, GroupOf, Owner};
use crate::emit::Emitted;
use crate::emit::escape;
use crate::event::FileType;
use crate::text::letters;

pub use page::markdown;

/// All files: `sysusers.d` and `tmpfiles.d`, a drop-in and a Kubernetes patch for each component, and the page.
pub fn files(arrangement: &Arrangement, name: &str) -> Vec<Emitted> {
    let mut out = vec![systemd::sysusers(arrangement, name), systemd::tmpfiles(arrangement, name)];
    for component in 0..arrangement.components.len() {
        out.push(systemd::drop_in(arrangement, component));
        out.push(kubernetes::patch(arrangement, component));
    }
    out.push(emitted(format!("{name}.md"), markdown(arrangement, name)));
    out
}

/// sysusers.d(5)
pub fn sysusers(arrangement: &Arrangement, name: &str) -> String {
    systemd::sysusers(arrangement, name).text
}

/// tmpfiles.d(5)
pub fn tmpfiles(arrangement: &Arrangement, name: &str) -> String {
    systemd::tmpfiles(arrangement, name).text
}

/// One document for each component.
pub fn kubernetes(arrangement: &Arrangement) -> String {
    let patches =
        (0..arrangement.components.len()).map(|component| kubernetes::patch(arrangement, component).text);
    patches.collect::<Vec<_>>().join("---\n")
}

fn emitted(file_name: String, text: String) -> Emitted {
    Emitted { file_name, text, executable: false, unmet: Vec::new() }
}

/// A name that is safe in file names.
fn file_name(component: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = component.chars().map(plain).take(100).collect();
    match name.trim_start_matches(['.', '-']) {
        "" => "component".into(),
        name => name.to_owned(),
    }
}

/// A line of a comment; nothing from outside can end it.
fn comment(out: &mut String, indent: usize, text: &str) {
    line(out, &format!("{:indent$}# {}", "", escape::comment(text)));
}

fn line(out: &mut String, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

/// The names of components.
fn components<'a>(arrangement: &Arrangement, indexes: impl IntoIterator<Item = &'a usize>) -> String {
    let names = indexes.into_iter().filter_map(|index| arrangement.components.get(*index));
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The components that use something, by name, with what they do.
fn users(arrangement: &Arrangement, entry: &Entry) -> String {
    let names = entry.uses.iter().filter_map(|(user, bits)| {
        let name = arrangement.components.get(*user)?;
        Some(format!("{name} {}", letters(*bits)))
    });
    names.collect::<Vec<_>>().join(", ")
}

/// Whether root makes and keeps it, and not one of the components.
fn is_kept(entry: &Entry) -> bool {
    !entry.made && !matches!(entry.file_type, FileType::Socket | FileType::Symlink)
}

/// Whether only numbers of groups and users that exist already are named.
fn is_root(entry: &Entry) -> bool {
    entry.owner == Owner::Root && entry.group == GroupOf::Root
}
