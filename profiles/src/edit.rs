//! Lines of a program's own configuration: what is changed in them, and taken back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::RawText;

/// What is changed in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// The file.
    pub file: RawText,
    /// The line that goes, whole; `None` where something is added at the end of the file.
    pub line: Option<String>,
    /// What comes in its place, or is added: one line or several.
    pub with: String,
}

/// What a line begins with that says nothing to the program.
const COMMENTS: [&str; 3] = ["#", ";", "//"];

/// The longest line that is changed, in bytes.
const LONGEST: usize = 4096;

impl Edit {
    /// Sets a key: in the one line that sets it today, else at the end, as lines that come together always are. `None` where it is set so
    /// already, or in several lines.
    pub fn set(file: &RawText, text: &str, key: &str, with: &str) -> Option<Self> {
        let edit = |line| Self { file: file.clone(), line, with: with.to_owned() };
        if edit(None).is_done(text) {
            return None;
        }
        let sets = |line: &&str| {
            let rest = line.trim_start().strip_prefix(key);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || "_-.".contains(c)))
        };
        let mut now = text.lines().filter(|_| !with.contains('\n')).filter(sets);
        match (now.next(), now.next()) {
            (None, _) => Some(edit(None)),
            (Some(line), None) => {
                let indent = &line[..line.len() - line.trim_start().len()];
                Some(Self { with: format!("{indent}{with}"), ..edit(Some(line.to_owned())) })
            }
            _ => None,
        }
    }

    /// Has the one line that names a path name another one. `None` where no line does, or several.
    pub fn moved(file: &RawText, text: &str, from: &str, to: &str) -> Option<Self> {
        let mut named = text.lines().filter(|line| !is_comment(line) && names(line, from).is_some());
        let line = named.next().filter(|line| line.len() < LONGEST)?;
        let at = names(line, from)?;
        if named.next().is_some() || names(&line[at + from.len()..], from).is_some() {
            return None;
        }
        let with = format!("{}{to}{}", &line[..at], &line[at + from.len()..]);
        Some(Self { file: file.clone(), line: Some(line.to_owned()), with })
    }

    /// Whether the text says so already.
    pub fn is_done(&self, text: &str) -> bool {
        find(text, &self.with).is_some() && self.line.as_ref().is_none_or(|line| find(text, line).is_none())
    }

    /// The text with the change; `None` where the line is not in it.
    pub fn apply(&self, text: &str) -> Option<String> {
        match &self.line {
            Some(line) => replace(text, line, Some(&self.with)),
            None => {
                let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
                Some(format!("{text}{end}{}\n", self.with))
            }
        }
    }

    /// The text without the change; `None` where what it said is not in it any more.
    pub fn revert(&self, text: &str) -> Option<String> {
        replace(text, &self.with, self.line.as_deref())
    }

    /// The first line of what comes, which tells it from others.
    pub fn first_line(&self) -> &str {
        self.with.lines().next().unwrap_or_default().trim()
    }

    /// In a few words, what is done.
    pub fn text(&self) -> String {
        let first = self.first_line();
        let with = match self.with.lines().count() {
            0 | 1 => format!("`{first}`"),
            lines => format!("`{first}` and {} more lines", lines - 1),
        };
        match &self.line {
            Some(line) => format!("change `{}` to {with} in {}", line.trim(), self.file),
            None => format!("put {with} into {}", self.file),
        }
    }
}

fn is_comment(line: &str) -> bool {
    COMMENTS.iter().any(|mark| line.trim_start().starts_with(mark))
}

/// Where a line names a path, as a whole.
fn names(line: &str, path: &str) -> Option<usize> {
    let of_path = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    line.match_indices(path)
        .find(|(at, _)| {
            let (before, after) = (&line[..*at], &line[at + path.len()..]);
            !before.ends_with(of_path) && !after.starts_with(of_path)
        })
        .map(|(at, _)| at)
}

/// Where these lines are in a text, the last time: the bytes that they take, with their end.
fn find(text: &str, lines: &str) -> Option<(usize, usize)> {
    let is_whole = |at: &usize| {
        let end = &text[at + lines.len()..];
        (*at == 0 || text[..*at].ends_with('\n'))
            && (end.is_empty() || end.starts_with('\n') || end.starts_with("\r\n"))
    };
    let at = text.rmatch_indices(lines).map(|(at, _)| at).find(is_whole)?;
    Some((at, at + lines.len()))
}

fn replace(text: &str, lines: &str, with: Option<&str>) -> Option<String> {
    let (at, end) = find(text, lines)?;
    let (before, after) = (&text[..at], &text[end..]);
    Some(match with {
        Some(with) => format!("{before}{with}{after}"),
        None => format!("{before}{}", after.strip_prefix('\n').unwrap_or(after)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# pid = /run/a.pid\n  pid = /var/run/a.pid\nlog = /var/run/a.pid.log\n";

    fn file() -> RawText {
        "/etc/a.conf".into()
    }

    #[test]
    fn a_path_is_moved_where_one_line_names_it_and_back() {
        let edit = Edit::moved(&file(), TEXT, "/var/run/a.pid", "/run/a/a.pid").unwrap();
        assert_eq!(edit.line.as_deref(), Some("  pid = /var/run/a.pid"));
        let changed = edit.apply(TEXT).unwrap();
        assert_eq!(changed, TEXT.replace("  pid = /var/run/a.pid\n", "  pid = /run/a/a.pid\n"));
        assert!(edit.is_done(&changed) && !edit.is_done(TEXT));
        assert_eq!(edit.revert(&changed).as_deref(), Some(TEXT));
        assert_eq!(edit.apply(&changed), None, "the line is gone");
        // A comment does not count, part of a path neither, and of two lines none is the one.
        assert_eq!(Edit::moved(&file(), TEXT, "/run/a.pid", "/run/a/a.pid"), None);
        assert_eq!(Edit::moved(&file(), "a /run/a\nb /run/a\n", "/run/a", "/run/b"), None);
        assert_eq!(Edit::moved(&file(), "a /run/a /run/a\n", "/run/a", "/run/b"), None);
    }

    #[test]
    fn a_key_is_set_in_its_line_or_at_the_end() {
        let set = |text: &str, with: &str| Edit::set(&file(), text, "user", with);
        let edit = set("a\n\tuser = root\nuser_name = x\n", "user = a").unwrap();
        assert_eq!((edit.line.as_deref(), edit.with.as_str()), (Some("\tuser = root"), "\tuser = a"));
        let added = set("#user = x\nend", "user = a").unwrap();
        let text = added.apply("#user = x\nend").unwrap();
        assert_eq!(text, "#user = x\nend\nuser = a\n");
        assert!(added.is_done(&text));
        assert_eq!(added.revert(&text).as_deref(), Some("#user = x\nend\n"));
        assert_eq!(set("user = a\n", "user = a"), None, "it is so already");
        assert_eq!(set("user = b\nuser = c\n", "user = a"), None, "which of them counts is not known");
    }

    #[test]
    fn several_lines_are_added_and_taken_away_as_one() {
        let with = "user = a\nservice b {\n  chroot =\n}";
        let before = "user = x\n}\n";
        let edit = Edit::set(&file(), before, "user", with).unwrap();
        let text = edit.apply(before).unwrap();
        assert_eq!(text, format!("{before}{with}\n"));
        assert_eq!(edit.revert(&text).as_deref(), Some(before));
        assert_eq!(edit.revert("user = a\n}\n"), None, "somebody has changed them since");
        assert_eq!(edit.text(), "put `user = a` and 3 more lines into /etc/a.conf");
    }
}
