//! The verdict in the formats that people and CI systems read. No text from the tracee gets into one unescaped.

mod common;
mod github;
mod gitlab;
mod junit;
mod markdown;
mod sarif;
mod text;

use super::CheckResult;
use crate::emit::Style;
use crate::text::indented_json;

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// For a terminal.
    Text,
    /// The verdict itself.
    Json,
    /// Static Analysis Results Interchange Format 2.1.0 (OASIS).
    Sarif,
    /// JUnit's XML, as Ant, Jenkins and GitLab read it.
    Junit,
    /// Workflow commands that GitHub shows as annotations.
    Github,
    /// Markdown, for GitHub's step summary.
    Markdown,
    /// GitLab's code quality report.
    Gitlab,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 7] =
        [Self::Text, Self::Json, Self::Sarif, Self::Junit, Self::Github, Self::Markdown, Self::Gitlab];

    /// Writes a verdict. `time` is now, as `YYYY-MM-DDThh:mm:ss` in UTC.
    pub fn write(self, verdict: &CheckResult, style: Style, time: &str) -> String {
        match self {
            Self::Text => text::write(verdict, style),
            Self::Json => indented_json(verdict),
            Self::Sarif => sarif::write(verdict),
            Self::Junit => junit::write(verdict, time),
            Self::Github => github::write(verdict),
            Self::Markdown => markdown::write(verdict),
            Self::Gitlab => gitlab::write(verdict),
        }
    }
}
