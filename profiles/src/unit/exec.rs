//! Command lines: `ExecStart=` and its kind, systemd.service(5).

use std::collections::BTreeMap;

use super::name::Name;
use super::specifier::{Host, expand};
use super::syntax::words;

/// What stands before the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// `-`: that it fails is no failure.
    pub may_fail: bool,
    /// `+`: with all rights, and outside of what the unit closes.
    pub full: bool,
    /// `!`: not as the user of the unit.
    pub unchanged: bool,
    /// `:`: variables are not put in.
    pub literal: bool,
    /// `@`: the word after the path is the name it is called by.
    pub named: bool,
}

impl Prefix {
    /// Whether the command does not run as the unit's user.
    pub fn is_privileged(self) -> bool {
        self.full || self.unchanged
    }
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// What stands before it.
    pub prefix: Prefix,
    /// The program, and its arguments.
    pub words: Vec<String>,
    /// The name that it is called by, where that is another one than its own.
    pub called: Option<String>,
}

/// The commands of a value, which `;` parts; `None` when a quote is not closed or one is empty.
pub(super) fn parse(value: &str, name: &Name, host: &Host) -> Option<Vec<Exec>> {
    let mut all = Vec::new();
    let mut given = words(value)?.into_iter().peekable();
    while given.peek().is_some() {
        let mut line: Vec<String> = given.by_ref().take_while(|word| word != ";").collect();
        if line.is_empty() {
            continue;
        }
        let (prefix, path) = prefix(&line[0]);
        line[0] = path.to_owned();
        let expanded = |word: String| match word.as_str() {
            // An escaped one, `\;`, which is no escape of C.
            "\\;" => ";".to_owned(),
            _ => expand(&word, name, host),
        };
        let mut line: Vec<String> = line.into_iter().map(expanded).collect();
        let called = (prefix.named && line.len() > 1).then(|| line.remove(1));
        (!line[0].is_empty()).then(|| all.push(Exec { prefix, words: line, called }))?;
    }
    Some(all)
}

fn prefix(word: &str) -> (Prefix, &str) {
    let mut prefix = Prefix::default();
    let mut marks = 0;
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        match first {
            '-' => prefix.may_fail = true,
            '+' => prefix.full = true,
            '!' => marks += 1,
            ':' => prefix.literal = true,
            '@' => prefix.named = true,
            _ => break,
        }
        rest = &rest[1..];
    }
    // Two are of effect only where there are no ambient capabilities, which is before Linux 4.3.
    prefix.unchanged = marks == 1;
    (prefix, rest)
}

/// A command line without what has it run with other rights than its unit's user.
pub(super) fn unprivileged(value: &str) -> String {
    let (_, rest) = prefix(value);
    let marks = value[..value.len() - rest.len()].chars().filter(|mark| !matches!(mark, '+' | '!'));
    marks.chain(rest.chars()).collect()
}

impl Exec {
    /// Its words, with variables put in: `${A}` where it stands, `$A` as a word of its own for the words that it holds.
    pub fn resolved(&self, variables: &BTreeMap<String, String>) -> Vec<String> {
        let Some((program, arguments)) = self.words.split_first() else { return Vec::new() };
        let mut out = vec![program.clone()];
        for word in arguments {
            let alone = word.strip_prefix('$').filter(|name| is_name(name) && !self.prefix.literal);
            match alone {
                Some(name) => {
                    let value = variables.get(name).map(String::as_str).unwrap_or_default();
                    out.extend(words(value).unwrap_or_else(|| vec![value.to_owned()]));
                }
                None if self.prefix.literal => out.push(word.clone()),
                None => out.push(put_in(word, variables)),
            }
        }
        out
    }
}

fn is_name(text: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(is_first) && text.chars().all(|c| is_first(c) || c.is_ascii_digit())
}

/// A word with its `${A}`, and `$` for `$$`.
fn put_in(word: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        rest = match braced.filter(|(name, _)| is_name(name)) {
            Some((name, behind)) => {
                out.push_str(variables.get(name).map(String::as_str).unwrap_or_default());
                behind
            }
            None => {
                out.push('$');
                after.strip_prefix('$').unwrap_or(after)
            }
        };
    }
    out.push_str(rest);
    out
}
