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
const NOT_ROOTS: &str = "can be replaced by others than root, or has another name: change it by hand";

/// What a file holds, and where it is.
struct Text {
    place: DirectoryEntry,
    text: String,
    /// Whether root alone can put another file in its place.
    is_roots: bool,
}

fn read(path: &RawText) -> Result<Text, Error> {
    let fail = |reason: &str| Error::Path { path: path.clone(), reason: reason.into() };
    let place = place::find(path)?;
    let node = place.node.as_ref().ok_or_else(|| fail("is not there"))?;
    let facts = node.facts().map_err(|errno| fail(&errno.to_string()))?;
    if facts.kind != Kind::Regular {
        return Err(fail("is not a regular file"));
    }
    let is_roots = !place.exposed && facts.links == 1;
    let opened = File::open(node.magic()).map_err(|error| fail(&error.to_string()))?;
    let mut text = String::new();
    let length = opened.take(MOST + 1).read_to_string(&mut text).map_err(|error| fail(&error.to_string()))?;
    if length as u64 > MOST {
        return Err(fail("is too long for a configuration"));
    }
    Ok(Text { place, text, is_roots })
}

/// Puts a file with another text in its place, with the same owner, mode and ACL; which inode that is.
fn write(read: &Text, text: &str) -> Result<(u64, u64), Error> {
    let place = &read.place;
    let fail = |reason: String| Error::Path { path: place.path.clone(), reason };
    if !read.is_roots {
        return Err(fail(NOT_ROOTS.into()));
    }
    let (Some((directory, name)), Some(node)) = (&place.entry, &place.node) else {
        return Err(fail("is not there".into()));
    };
    let rights = node.facts().map_err(|errno| fail(errno.to_string()))?.rights;
    let mut new = std::ffi::OsString::from(".");
    new.push(name);
    new.push(".nrtrace-new");
    // Left by one that was killed.
    let _ = unlinkat(directory, &new, AtFlags::empty());
    let made = Node::make(directory, &new, Kind::Regular).map_err(|errno| fail(errno.to_string()))?;
    let fill = || -> std::io::Result<(u64, u64)> {
        let mut file = File::options().write(true).open(made.magic())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        made.settle(&rights)?;
        renameat(directory, &new, directory, name)?;
        Ok(made.facts()?.inode)
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
    if !read.is_roots {
        return Err(Error::Path { path: edit.file.clone(), reason: NOT_ROOTS.into() });
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
        let inode = write(&read, &changed)?;
        self.replaced(&read, inode)
    }

    /// Who holds the file holds the one in its place.
    fn replaced(&mut self, read: &Text, inode: (u64, u64)) -> Result<(), Error> {
        if let Some(kept) = self.state.paths.get_mut(&read.place.path) {
            kept.made = Some(inode);
        }
        self.store.save(&self.state)
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
            Some(_) if !read.is_roots => {
                self.tell(format!("{}: {NOT_ROOTS}; left as it is", edit.file));
                Ok(())
            }
            Some(text) => {
                self.step()?;
                let inode = write(&read, &text)?;
                self.replaced(&read, inode)
            }
            None => {
                self.tell(format!("{}: `{}` was changed since: left as it is", edit.file, edit.first_line()));
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::PathBuf;

    use nrtrace_profiles::changes::{Action, Change, Changes, SCHEMA};

    use super::*;
    use crate::changes::Selection;

    const BEFORE: &str = "# one\nuser = root\n";

    /// A configuration file where root alone can put one, and a place for the state.
    struct Machine(tempfile::TempDir, tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            let directory = tempfile::tempdir_in("/var/lib").unwrap();
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
            let machine = Self(directory, tempfile::tempdir().unwrap());
            fs::write(machine.file(), BEFORE).unwrap();
            fs::set_permissions(machine.file(), fs::Permissions::from_mode(0o640)).unwrap();
            machine
        }

        fn file(&self) -> PathBuf {
            self.0.path().join("a.conf")
        }

        fn raw(&self) -> RawText {
            RawText::from(self.file().to_str().unwrap())
        }

        fn changes(&self, name: &str, actions: Vec<Action>) -> Changes {
            let change = |action| Change { needs: Default::default(), reason: String::new(), action };
            Changes {
                schema: SCHEMA.into(),
                name: name.into(),
                program: RawText::from("/usr/bin/a"),
                user: "daemon".into(),
                uid: None,
                group: "daemon".into(),
                gid: None,
                changes: actions.into_iter().map(change).collect(),
                file_capabilities: Vec::new(),
                on_file: false,
            }
        }

        fn job(&self, changes: &Changes, undo: bool) -> Result<Vec<String>, Error> {
            let mut step = || Ok(());
            let job = Job::open(changes, Selection::default(), &self.1.path().join("state"), &mut step)?;
            if undo { job.undo() } else { job.apply() }
        }

        fn text(&self) -> String {
            fs::read_to_string(self.file()).unwrap()
        }

        fn edit(&self, line: Option<&str>, with: &str) -> Action {
            Action::Edit(Edit { file: self.raw(), line: line.map(str::to_owned), with: with.into() })
        }
    }

    #[test]
    fn a_line_is_changed_and_comes_back_with_all_rights() {
        let machine = Machine::new();
        let acl = Action::Acl { path: machine.raw(), bits: 4 };
        let changes = machine.changes("a", vec![machine.edit(Some("user = root"), "user = a"), acl]);
        machine.job(&changes, false).unwrap();
        let after = fs::metadata(machine.file()).unwrap();
        assert_eq!((machine.text().as_str(), after.uid()), ("# one\nuser = a\n", 0));
        // Once more changes nothing.
        machine.job(&changes, false).unwrap();
        assert_eq!(machine.text(), "# one\nuser = a\n");
        machine.job(&changes, true).unwrap();
        let after = fs::metadata(machine.file()).unwrap();
        assert_eq!((machine.text().as_str(), after.mode() & 0o7777), (BEFORE, 0o640));
        let names: Vec<_> = fs::read_dir(machine.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["a.conf"], "nothing is left");
    }

    #[test]
    fn a_directory_that_changes_hands_does_not_keep_the_line_from_changing() {
        let machine = Machine::new();
        let directory = RawText::from(machine.0.path().to_str().unwrap());
        let own = Action::Directory { path: directory, mode: 0o755, group: None };
        let changes = machine.changes("a", vec![own, machine.edit(Some("user = root"), "user = a")]);
        for _ in 0..2 {
            machine.job(&changes, false).unwrap();
            assert_eq!(machine.text(), "# one\nuser = a\n");
        }
        machine.job(&changes, true).unwrap();
        assert_eq!((machine.text().as_str(), fs::metadata(machine.0.path()).unwrap().uid()), (BEFORE, 0));
    }

    #[test]
    fn what_two_want_stays_until_the_last_and_what_somebody_changed_is_left() {
        let machine = Machine::new();
        let [one, two] =
            ["a", "b"].map(|name| machine.changes(name, vec![machine.edit(None, "x = 1\ny = 2")]));
        machine.job(&one, false).unwrap();
        machine.job(&two, false).unwrap();
        let with = format!("{BEFORE}x = 1\ny = 2\n");
        assert_eq!(machine.text(), with);
        machine.job(&one, true).unwrap();
        assert_eq!(machine.text(), with);
        fs::write(machine.file(), "x = 1\ny = 3\n").unwrap();
        let notes = machine.job(&two, true).unwrap();
        assert!(notes.iter().any(|note| note.contains("changed since")), "{notes:?}");
        assert_eq!(machine.text(), "x = 1\ny = 3\n");
    }

    #[test]
    fn what_is_not_there_or_not_roots_alone_is_refused() {
        let machine = Machine::new();
        let gone = machine.changes("a", vec![machine.edit(Some("user = x"), "user = a")]);
        let error = machine.job(&gone, false).unwrap_err().to_string();
        assert!(error.contains("not in it any more"), "{error}");
        fs::set_permissions(machine.0.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let exposed = machine.changes("a", vec![machine.edit(Some("user = root"), "user = a")]);
        let error = machine.job(&exposed, false).unwrap_err().to_string();
        assert!(error.contains("by hand"), "{error}");
        assert_eq!(machine.text(), BEFORE);
    }
}
