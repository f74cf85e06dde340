//! Something that the user gains beyond what the program did, and how much that is.

use schemars::JsonSchema;
use serde::Serialize;

use crate::RawText;

/// How much is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// Nothing.
    None,
    /// More of the very things that are needed, or what a group has that opens nothing of note.
    Low,
    /// What is worth a thought.
    Medium,
    /// Root, in all but name.
    High,
}

/// Something that the user gains and the program did not use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reach {
    /// On what.
    pub on: On,
    /// In a few words, without the subject. They may hold text from the tracee.
    pub words: String,
    /// How much that is.
    pub grade: Grade,
}

/// What a reach is on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    /// An object itself: these permission bits, 4 read, 2 write, 1 search.
    Itself(RawText, u32),
    /// The entries of a directory: they can be removed and renamed, whoever owns them.
    Entries(RawText),
    /// What lies below a directory and is open to everybody there.
    Open(RawText),
    /// More than files that are known.
    Machine(String),
}

impl Reach {
    pub(super) fn low(on: On, words: impl Into<String>) -> Self {
        Self { on, words: words.into(), grade: Grade::Low }
    }

    pub(super) fn machine(subject: impl Into<String>, words: impl Into<String>, grade: Grade) -> Self {
        Self { on: On::Machine(subject.into()), words: words.into(), grade }
    }

    /// Subject and words.
    pub fn text(&self) -> String {
        let (On::Itself(path, _) | On::Entries(path) | On::Open(path)) = &self.on else {
            let On::Machine(subject) = &self.on else { return self.words.clone() };
            return format!("{subject}: {}", self.words);
        };
        format!("{path}: {}", self.words)
    }
}
