//! Lines of configuration files: read, changed and taken back, each file whole or not at all.

use std::fs::File;
use std::io::{Read, Write};

use nrtrace_profiles::RawText;
use nrtrace_profiles::edit::Edit;
use rustix::fs::{AtFlags, renameat, unlinkat};

use super::node::{Kind, Node};
use super::place::{self, DirectoryEntry};
use super::state::{Kept, KeptEdit, Present};
use super::{Error, Job};

/// No configuration file that is changed is longer.
const MOST: u64 = 1 << 20;

/// What a file holds, and where it is.
struct Text {
    place: DirectoryEntry,
    text: String,
}

/// Reads a file that root alone can change.
fn read(path: &RawText) -> Result<Text, Error> {
    let fail = |reason: &str| Error::Path { path: path.clone(), reason: reason.into() };
    let place = place::find(path)?;
    let node = place.node.as_ref().ok_or_else(|| fail("is not there"))?;
    let facts = node.facts().map_err(|errno| fail(&errno.to_string()))?;
    if facts.kind != Kind::Regular {
        return Err(fail("is not a regular file"));
    }
    if place.exposed || facts.links > 1 {
        return Err(fail("can be replaced by others than root, or has another name: change it by hand"));
    }
    let opened = File::open(node.magic()).map_err(|error| fail(&error.to_string()))?;
    let mut text = String::new();
    let length = opened.take(MOST + 1).read_to_string(&mut text).map_err(|error| fail(&error.to_string()))?;
    if length as u64 > MOST {
        return Err(fail("is too long for a configuration"));
    }
    Ok(Text { place, text })
}

/// Puts a file with another text in its place, with the same owner, mode and ACL.
fn write(Text { place, .. }: &Text, text: &str) -> Result<(), Error> {
    let path = &place.path;
    let fail = |reason: String| Error::Path { path: path.clone(), reason };
    let (Some((directory, name)), Some(node)) = (&place.entry, &place.node) else { return Ok(()) };
    let rights = node.facts().map_err(|errno| fail(errno.to_string()))?.rights;
    let mut new = std::ffi::OsString::from(".");
    new.push(name);
    new.push(".nrtrace-new");
    // Left by one that was killed.
    let _ = unlinkat(directory, &new, AtFlags::empty());
    let made = Node::make(directory, &new, Kind::Regular).map_err(|errno| fail(errno.to_string()))?;
    let fill = || -> std::io::Result<()> {
        let mut file = File::options().write(true).open(made.magic())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        made.settle(&rights)?;
        renameat(directory, &new, directory, name)?;
        Ok(())
    };
    fill().map_err(|error| {
        let _ = unlinkat(directory, &new, AtFlags::empty());
        fail(error.to_string())
    })
}

/// Whether a file says so already.
///
/// # Errors
/// When it cannot be made to.
pub(super) fn look(edit: &Edit) -> Result<bool, Error> {
    let read = read(&edit.file)?;
    if edit.is_done(&read.text) {
        return Ok(true);
    }
    edit.apply(&read.text).map(|_| false).ok_or_else(|| Error::Path {
        path: edit.file.clone(),
        reason: format!(
            "the line `{}` is not in it any more, so that it cannot become `{}`",
            edit.line.as_deref().unwrap_or_default().trim(),
            edit.with.trim()
        ),
    })
}

impl Job<'_> {
    /// Enters a change, with whether it was so before.
    pub(super) fn hold_edit(&mut self, edit: &Edit, done: bool) {
        let key = self.key.clone();
        let edits = &mut self.state.edits;
        let known = edits.iter().position(|kept| kept.edit == *edit);
        let place = known.unwrap_or_else(|| {
            edits.push(KeptEdit { edit: edit.clone(), kept: Kept::new(Present::when(done)) });
            edits.len() - 1
        });
        if let Some(kept) = edits.get_mut(place) {
            kept.kept.holds.insert(key, ());
        }
    }

    /// Makes it so.
    pub(super) fn edit(&mut self, edit: &Edit) -> Result<(), Error> {
        let read = read(&edit.file)?;
        let changed = (!edit.is_done(&read.text)).then(|| edit.apply(&read.text)).flatten();
        let Some(changed) = changed else { return Ok(()) };
        self.step()?;
        write(&read, &changed)
    }

    /// Takes it back, unless somebody else wants it or it was so before.
    pub(super) fn release_edit(&mut self, edit: &Edit) -> Result<(), Error> {
        let Some(place) = self.state.edits.iter().position(|kept| kept.edit == *edit) else { return Ok(()) };
        let Some(kept) = self.state.edits.get(place).map(|kept| &kept.kept) else { return Ok(()) };
        let is_last = kept.holds.keys().all(|key| *key == self.key);
        if is_last && kept.before.is_none() {
            self.revert(edit)?;
        }
        if let Some(kept) = self.state.edits.get_mut(place) {
            kept.kept.holds.remove(&self.key);
        }
        self.state.edits.retain(|kept| !kept.kept.holds.is_empty());
        Ok(())
    }

    fn revert(&mut self, edit: &Edit) -> Result<(), Error> {
        let read = match read(&edit.file) {
            Ok(read) => read,
            Err(error) => {
                self.tell(format!("{error}: left as it is"));
                return Ok(());
            }
        };
        match edit.revert(&read.text) {
            Some(text) => {
                self.step()?;
                write(&read, &text)
            }
            None => {
                let with = edit.with.lines().next().unwrap_or_default().trim();
                self.tell(format!("{}: `{with}` was changed since: left as it is", edit.file));
                Ok(())
            }
        }
    }
}

/// The file, in words for a person.
pub(super) fn line(edit: &Edit) -> String {
    match &edit.line {
        Some(line) => format!("~ {}: `{}` -> `{}`", edit.file, line.trim(), edit.with.trim()),
        None => {
            let lines: Vec<String> = edit.with.lines().map(|line| format!("`{}`", line.trim())).collect();
            format!("~ {}: + {}", edit.file, lines.join(", "))
        }
    }
}
