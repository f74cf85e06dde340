//! The findings of all kernels as one table.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::compare::{BACKENDS, Findings};
use super::guest::Outcome;

/// The table that follows this line in docs/kernels.md is generated.
const MARK: &str = "<!-- seen: cargo xtask vm --write -->";

/// A table in Markdown: a row for each thing looked at, a column for each kernel and backend.
pub fn table(outcomes: &[Outcome], findings: &[Findings]) -> String {
    let mut text = String::from("| |");
    for (Outcome { kernel, .. }, backend) in
        outcomes.iter().flat_map(|outcome| BACKENDS.map(|backend| (outcome, backend)))
    {
        let _ = write!(text, " {kernel} {backend} |");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(BACKENDS.len() * outcomes.len()));
    for (index, row) in findings.first().iter().flat_map(|first| first.rows.iter().enumerate()) {
        let _ = write!(text, "\n| {} |", row.what);
        for how in findings.iter().filter_map(|findings| findings.rows.get(index)).flat_map(|row| &row.how) {
            let _ = write!(text, " {how} |");
        }
    }
    text.push('\n');
    text
}

/// Replaces the table in the documentation.
pub fn write(path: &Path, outcomes: &[Outcome], findings: &[Findings]) -> Result<()> {
    replace(path, MARK, &table(outcomes, findings))
}

/// Replaces the table that follows a line of a page.
pub fn replace(path: &Path, mark: &str, table: &str) -> Result<()> {
    let old = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (head, rest) = old.split_once(mark).with_context(|| format!("{} lost its mark", path.display()))?;
    let after = rest.split_inclusive('\n').skip_while(|line| line.starts_with(['\n', '|']));
    let after: String = after.collect();
    let gap = if after.is_empty() { "" } else { "\n" };
    let text = format!("{head}{mark}\n\n{table}{gap}{after}");
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
