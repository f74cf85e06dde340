//! The findings of all kernels as one table.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::compare::Findings;
use super::guest::Outcome;

/// What follows this line in docs/kernels.md is generated.
const MARK: &str = "<!-- seen: cargo xtask vm --write -->";

/// A table in Markdown: a row for each thing looked at, a column for each kernel.
pub fn table(outcomes: &[Outcome], findings: &[Findings]) -> String {
    let mut text = String::from("| |");
    for outcome in outcomes {
        let _ = write!(text, " {} |", outcome.kernel);
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(outcomes.len()));
    let rows = findings.first().map_or(0, |first| first.rows.len());
    for index in 0..rows {
        let at =
            |findings: &Findings| findings.rows.get(index).map(|row| (row.what.clone(), row.how.clone()));
        let cells: Vec<_> = findings.iter().filter_map(at).collect();
        let what = cells.first().map_or("", |cell| &cell.0);
        let _ = write!(text, "\n| {what} |");
        for (_, how) in &cells {
            let _ = write!(text, " {how} |");
        }
    }
    text.push('\n');
    text
}

/// Replaces the table in the documentation.
pub fn write(path: &Path, outcomes: &[Outcome], findings: &[Findings]) -> Result<()> {
    let old = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (head, _) = old.split_once(MARK).with_context(|| format!("{} lost its mark", path.display()))?;
    let text = format!("{head}{MARK}\n\n{}", table(outcomes, findings));
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
