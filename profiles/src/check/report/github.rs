//! Workflow commands, which GitHub shows as annotations: `::error file=F,line=1,title=T::text`.

use super::super::CheckResult;
use super::common::{lines, place, summary};
use crate::text::printable;

pub fn write(verdict: &CheckResult) -> String {
    let mut out = String::new();
    let file = property(place(verdict));
    for finding in &verdict.findings {
        let level = if finding.fails { "error" } else { "notice" };
        let title = match &finding.need {
            Some(need) => format!("{} {}", finding.rule.id(), printable(need)),
            None => finding.rule.id(),
        };
        let (title, text) = (property(&title), data(&lines(finding).join("\n")));
        out.push_str(&format!("::{level} file={file},line=1,title={title}::{text}\n"));
    }
    for caution in &verdict.cautions {
        out.push_str(&format!(
            "::warning file={file},line=1,title=comparison::{}\n",
            data(&printable(caution))
        ));
    }
    out.push_str(&summary(verdict));
    out.push('\n');
    out
}

/// The text of a command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a property.
fn property(text: &str) -> String {
    data(&printable(text)).replace(':', "%3A").replace(',', "%2C")
}
