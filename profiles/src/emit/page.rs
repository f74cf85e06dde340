//! A file that is written, and how one of lines and comments is made.

use super::escape;
use crate::grants::{Unmet, Why};

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// Where it goes, relative to the output directory. Made of letters, digits, `.`, `_`, `-` and `/` alone.
    pub file_name: String,
    /// Its text.
    pub text: String,
    /// Whether it is a program.
    pub executable: bool,
    /// Needs that this target cannot express, on top of [`Grants::unmet`](crate::grants::Grants::unmet).
    pub unmet: Vec<Unmet>,
}

impl Emitted {
    pub(super) fn plain(file_name: impl Into<String>, text: String) -> Self {
        Self { file_name: file_name.into(), text, executable: false, unmet: Vec::new() }
    }
}

/// A text file made line by line, with the comments all targets share. Comments start with `# `, which holds
/// for every target.
pub(super) struct Page {
    pub(super) text: String,
    pub(super) unmet: Vec<Unmet>,
}

impl Page {
    pub(super) fn new(title: &str) -> Self {
        let mut page = Self { text: String::new(), unmet: Vec::new() };
        page.comment(title);
        page.comment(
            "Written by nrtrace from what a run needed. Each comment names the needs that its line serves.",
        );
        page
    }

    /// A line as it is: its parts have been escaped by the caller.
    pub(super) fn line(&mut self, line: &str) {
        debug_assert!(!line.contains('\n'));
        self.text.push_str(line);
        self.text.push('\n');
    }

    pub(super) fn comment(&mut self, text: &str) {
        self.indented_comment(0, text);
    }

    pub(super) fn indented_comment(&mut self, indent: usize, text: &str) {
        self.line(&format!("{:indent$}# {}", "", escape::comment(text)));
    }

    pub(super) fn blank(&mut self) {
        self.text.push('\n');
    }

    /// The comment before a granting line.
    pub(super) fn why(&mut self, why: &Why) {
        self.indented_why(0, why);
    }

    pub(super) fn indented_why(&mut self, indent: usize, why: &Why) {
        self.indented_comment(indent, &reason(why));
    }

    /// Notes a need this target cannot express.
    pub(super) fn cannot(&mut self, why: &Why, reason: &str, hint: &str) {
        for need in &why.needs {
            self.unmet.push(Unmet::new(need, reason, hint));
        }
    }

    pub(super) fn section(&mut self, title: &str, lines: impl IntoIterator<Item = String>) {
        let mut lines = lines.into_iter().peekable();
        if lines.peek().is_none() {
            return;
        }
        self.blank();
        self.comment(title);
        for line in lines {
            self.comment(&format!("  {line}"));
        }
    }

    /// The closing comments, and the finished file.
    pub(super) fn finish(self, file_name: String) -> Emitted {
        self.finish_with(file_name, &[])
    }

    /// The same for the one file of a platform that also says what cannot be granted there at all.
    pub(super) fn finish_with(mut self, file_name: String, unmet: &[Unmet]) -> Emitted {
        let text = |unmet: &Unmet| format!("[{}] {}; {}", unmet.need, unmet.reason, unmet.hint);
        self.unmet.sort();
        self.unmet.dedup();
        let here: Vec<String> = self.unmet.iter().map(text).collect();
        self.section("This file cannot express:", here);
        self.section("Cannot be granted safely:", unmet.iter().map(text));
        Emitted { file_name, text: self.text, executable: false, unmet: self.unmet }
    }
}

/// A grant's reason, with the needs it serves; the first few, where they are many.
pub(super) fn reason(why: &Why) -> String {
    const SHOWN: usize = 6;
    if why.needs.is_empty() {
        return why.reason.clone();
    }
    let mut needs: Vec<&str> = why.needs.iter().take(SHOWN).map(String::as_str).collect();
    let rest = format!("and {} more", why.needs.len().saturating_sub(SHOWN));
    if why.needs.len() > SHOWN {
        needs.push(&rest);
    }
    format!("{} [{}]", why.reason, needs.join(", "))
}
