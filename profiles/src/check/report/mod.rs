//! The verdict in the formats that people and CI systems read. No text from the tracee gets into one unescaped.

mod github;
mod gitlab;
mod junit;
mod markdown;
mod sarif;
mod text;

use super::{Finding, Verdict};
use crate::emit::Style;
use crate::text::{indented_json, printable};

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
    pub fn write(self, verdict: &Verdict, style: Style, time: &str) -> String {
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

/// The whole of a finding in printable lines.
fn lines(finding: &Finding) -> Vec<String> {
    let mut lines = vec![printable(&finding.message).into_owned()];
    lines.extend(finding.cause.iter().map(|cause| format!("caused by: {}", printable(cause))));
    lines.push(format!("to accept: {}", printable(&finding.accept)));
    lines
}

/// The file that a finding is shown at: the one that is kept with the source.
fn place(verdict: &Verdict) -> &str {
    verdict.baseline.as_deref().unwrap_or(&verdict.profile)
}

/// One line on the whole.
fn summary(verdict: &Verdict) -> String {
    let failing = verdict.findings.iter().filter(|finding| finding.fails).count();
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let (name, needs) = (printable(&verdict.name), count(verdict.checked.len(), "need"));
    match failing {
        0 => format!("{name}: {needs}, all as agreed"),
        _ => format!("{name}: {needs}, {}", count(failing, "finding")),
    }
}

/// A fingerprint that is the same for the same finding in every run: FNV-1a of 128 bits.
fn fingerprint(finding: &Finding) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let text = format!("{}\n{}", finding.rule.id(), finding.need.as_deref().unwrap_or(&finding.message));
    let hash = text.bytes().fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    format!("{hash:032x}")
}

impl super::Rule {
    /// Its name in all formats.
    pub fn id(self) -> String {
        crate::requirement::word(&self)
    }
}
