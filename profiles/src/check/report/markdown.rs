//! Markdown, for GitHub's step summary and merge request comments.

use super::super::CheckResult;
use super::common::summary;
use crate::emit::escape::markdown;
use crate::text::printable;

pub fn write(verdict: &CheckResult) -> String {
    let mark = if verdict.passed { "\u{2705}" } else { "\u{274c}" };
    let mut out = format!("### {mark} nrtrace: {}\n", markdown::text(&summary(verdict)));
    if !verdict.findings.is_empty() {
        out.push_str("\n| | what | caused by | to accept |\n|---|---|---|---|\n");
    }
    for finding in &verdict.findings {
        let cell = |text: &str| markdown::text(&printable(text));
        out.push_str(&format!(
            "| **{}** | {} | {} | {} |\n",
            finding.rule.id(),
            cell(&finding.message),
            finding.cause.as_deref().map(cell).unwrap_or_default(),
            cell(&finding.accept),
        ));
    }
    for caution in &verdict.cautions {
        out.push_str(&format!("\n> {}\n", markdown::text(&printable(caution))));
    }
    out
}
