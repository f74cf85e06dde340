//! For a terminal.

use super::super::CheckResult;
use super::common::{lines, summary};
use crate::emit::Style;
use crate::text::printable;

pub fn write(verdict: &CheckResult, style: Style) -> String {
    let paint = |code: &str, text: &str| match style {
        Style::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
        Style::Plain => text.to_owned(),
    };
    let mut out = String::new();
    for finding in &verdict.findings {
        let code = if finding.fails { "1;31" } else { "1;33" };
        let need = finding.need.as_ref().map(|need| format!(" {}", printable(need))).unwrap_or_default();
        out.push_str(&format!("{}{need}\n", paint(code, &finding.rule.id())));
        for line in lines(finding) {
            out.push_str(&format!("  {line}\n"));
        }
    }
    for caution in &verdict.cautions {
        out.push_str(&format!("note: {}\n", printable(caution)));
    }
    let code = if verdict.passed { "1;32" } else { "1;31" };
    out.push_str(&paint(code, &summary(verdict)));
    out.push('\n');
    out
}
