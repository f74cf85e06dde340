//! The files of `-o DIR`: which of them nrtrace wrote is kept beside them, so that it writes over nothing else, and takes
//! away what an earlier run left and this one does not write.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use nrtrace_profiles::changes::{Changes, FILE, FORMAT};
use nrtrace_profiles::emit::Emitted;
use nrtrace_tracer::changes::{STATE, applied};

use crate::output::{Losses, OutputDir};

/// The list: a line for each file, its text's number in front.
const LIST: &str = ".nrtrace";
/// The profile's own file.
pub const PROFILE: &str = "profile.json";
/// What a profile begins with, of whatever version.
const PROFILE_BEGINS: &str = "{\n  \"schema\": \"nrtrace/profile/";
/// No list is longer.
const MOST: u64 = 1 << 20;

/// Files by their names, each with the number of its text.
type List = BTreeMap<String, u64>;

/// What is there and was not written by nrtrace, or was changed since.
pub struct Guard<'a> {
    output: &'a OutputDir,
    before: List,
    /// Whether all may be written over.
    force: bool,
    /// Whether the profile may be, since what is written came from there.
    is_source: bool,
}

impl<'a> Guard<'a> {
    /// Reads what was written before.
    pub fn of(output: &'a OutputDir, force: bool) -> Self {
        let before = output.read(LIST, MOST).map(|text| parse(&text)).unwrap_or_default();
        Self { output, before, force, is_source: false }
    }

    /// Lets the profile be written over that what is written was read from.
    pub fn with_source(self, is_source: bool) -> Self {
        Self { is_source, ..self }
    }

    /// Whether a file may be written.
    ///
    /// # Errors
    /// When there is one that nrtrace did not write, or that was changed since.
    pub fn check(&self, name: &str, text: Option<&str>) -> Result<()> {
        const LONGEST: u64 = 64 << 20;
        if self.force || (self.is_source && name == PROFILE) || !self.output.has(name) {
            return Ok(());
        }
        let there = self.output.read(name, LONGEST);
        let is_same = there.as_deref() == text && text.is_some();
        let is_ours = there.is_some_and(|there| {
            // A profile says of itself who wrote it.
            let is_profile = name == PROFILE && there.trim_start().starts_with(PROFILE_BEGINS);
            is_profile || self.before.get(name) == Some(&number(&there))
        });
        if is_same || is_ours {
            return self.unapplied(name, text);
        }
        let path = self.output.path().join(name);
        let what =
            if self.before.contains_key(name) { "it was changed since" } else { "nrtrace did not write it" };
        bail!("{} is there, and {what}: --force writes over it, or name another directory", path.display())
    }

    /// What was applied to this machine is what takes it back.
    fn unapplied(&self, name: &str, text: Option<&str>) -> Result<()> {
        let changes = |text: Option<String>| Changes::from_json(&text?).ok();
        if name != FILE {
            return Ok(());
        }
        let Some(there) = changes(self.output.read(name, FORMAT.max_bytes)) else { return Ok(()) };
        let is_other = changes(text.map(str::to_owned)).is_none_or(|new| new.key() != there.key());
        if is_other && applied(Path::new(STATE)).contains(&there.key()) {
            let path = self.output.path();
            let at = path.display();
            bail!(
                "{at}/{FILE} was applied to this machine, for {}, and takes it back: `nrtrace undo {at}` first, or name \
                 another directory (--force writes over it)",
                there.key()
            );
        }
        Ok(())
    }

    /// Writes files, each of them whatever becomes of the others, and removes those of before that are none of them.
    pub fn write(&self, files: &[Emitted], losses: &mut Losses) {
        self.write_beside(List::new(), files, losses);
    }

    /// Writes files beside those of before.
    pub fn add(&self, files: &[Emitted], losses: &mut Losses) {
        self.write_beside(self.before.clone(), files, losses);
    }

    fn write_beside(&self, mut list: List, files: &[Emitted], losses: &mut Losses) {
        for file in files {
            let written = self
                .check(&file.file_name, Some(&file.text))
                .and_then(|()| self.output.write(&file.file_name, &file.text, file.executable));
            if losses.unless(written) {
                list.insert(file.file_name.clone(), number(&file.text));
            } else if let Some(number) = self.before.get(&file.file_name) {
                list.insert(file.file_name.clone(), *number);
            }
        }
        for name in self.before.keys().filter(|name| !list.contains_key(*name)) {
            if self.check(name, None).is_ok() {
                self.output.remove(name);
            }
        }
        losses.unless(self.output.write(LIST, &text(&list), false));
    }
}

/// Whether a profile is that of the directory.
pub fn is_of(directory: &Path, profile: &Path) -> bool {
    let of = std::fs::canonicalize(directory.join(PROFILE));
    of.is_ok_and(|of| std::fs::canonicalize(profile).is_ok_and(|profile| profile == of))
}

fn parse(text: &str) -> List {
    let line = |line: &str| {
        let (number, name) = line.split_once(' ')?;
        Some((name.to_owned(), u64::from_str_radix(number, 16).ok()?))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
}

fn text(list: &List) -> String {
    let mut out = "# What nrtrace wrote here; other files it leaves alone.\n".to_owned();
    for (name, number) in list {
        out.push_str(&format!("{number:016x} {name}\n"));
    }
    out
}

/// FNV-1a of 64 bits: tells a text that was changed by hand, no forgery.
fn number(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::ExitCode;

    fn file(name: &str, text: &str) -> Emitted {
        Emitted { file_name: name.into(), text: text.into(), executable: false, unmet: Vec::new() }
    }

    fn write(output: &OutputDir, files: &[Emitted], force: bool) -> bool {
        let mut losses = Losses::default();
        Guard::of(output, force).write(files, &mut losses);
        losses.status(ExitCode::SUCCESS) == ExitCode::SUCCESS
    }

    #[test]
    fn what_others_wrote_stays_and_what_is_stale_goes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let read = |name: &str| std::fs::read_to_string(at(name)).ok();
        let output = OutputDir::open(dir.path()).unwrap();
        std::fs::write(at("theirs"), "theirs").unwrap();
        assert!(write(&output, &[file("a", "1"), file("d/b", "1"), file("c", "1")], false));
        assert!(write(&output, &[file("a", "2")], false), "what it wrote it writes anew");
        assert_eq!((read("a").as_deref(), read("d/b"), read("c")), (Some("2"), None, None));
        assert!(!at("d").exists(), "a directory that is empty by now");
        std::fs::write(at("a"), "edited").unwrap();
        assert!(!write(&output, &[file("a", "3"), file("theirs", "3"), file("e", "3")], false));
        assert_eq!((read("a").as_deref(), read("theirs").as_deref()), (Some("edited"), Some("theirs")));
        assert_eq!(read("e").as_deref(), Some("3"), "one that cannot be written costs no other");
        assert!(write(&output, &[file("e", "4")], false));
        assert_eq!(read("a").as_deref(), Some("edited"), "what was changed is not taken away");
        assert!(write(&output, &[file("theirs", "theirs")], false), "the same text harms nobody");
        std::fs::write(at("theirs"), "changed").unwrap();
        assert!(write(&output, &[file("theirs", "5"), file("a", "5")], true));
        assert_eq!((read("theirs").as_deref(), read("a").as_deref()), (Some("5"), Some("5")));
    }
}
