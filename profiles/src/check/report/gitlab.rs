//! GitLab's code quality report, a subset of Code Climate's format.

use serde_json::{Value, json};

use super::super::{CheckResult, Finding};
use super::common::{fingerprint, lines, place};
use crate::text::indented_json;

pub fn write(verdict: &CheckResult) -> String {
    let path = place(verdict);
    let path = path.strip_prefix("./").unwrap_or(path);
    let entry = |finding: &Finding| {
        json!({
            "description": lines(finding).join(" \u{2014} "),
            "check_name": finding.rule.id(),
            "fingerprint": fingerprint(finding),
            "severity": if finding.fails { "major" } else { "info" },
            "location": { "path": path, "lines": { "begin": 1 } },
        })
    };
    let report: Value = verdict.findings.iter().map(entry).collect();
    indented_json(&report)
}
