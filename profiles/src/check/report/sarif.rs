//! Static Analysis Results Interchange Format 2.1.0, an OASIS standard; GitHub's code scanning takes it.

use serde_json::{Value, json};

use super::super::{CheckResult, Finding, Rule};
use super::common::{fingerprint, lines, place};
use crate::text::{indented_json, printable};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

pub fn write(verdict: &CheckResult) -> String {
    let rules: Vec<Value> = Rule::ALL.iter().map(|rule| describe(*rule)).collect();
    let results: Vec<Value> = verdict.findings.iter().map(|finding| result(verdict, finding)).collect();
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "nrtrace",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": rules,
            } },
            "automationDetails": { "id": format!("nrtrace/{}/", printable(&verdict.name)) },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    indented_json(&log)
}

fn describe(rule: Rule) -> Value {
    json!({
        "id": rule.id(),
        "name": format!("{rule:?}"),
        "shortDescription": { "text": rule.summary() },
        "fullDescription": { "text": rule.summary() },
        "help": { "text": "See nrtrace explain PROFILE NEED for all that is known, and docs/ci.md for how to accept it." },
        "defaultConfiguration": { "level": if rule == Rule::Unexplained { "note" } else { "error" } },
    })
}

fn result(verdict: &CheckResult, finding: &Finding) -> Value {
    let index = Rule::ALL.iter().position(|rule| *rule == finding.rule);
    let mut location = json!({
        "physicalLocation": {
            "artifactLocation": { "uri": uri(place(verdict)) },
            "region": { "startLine": 1 },
        },
    });
    if let Some(need) = &finding.need {
        let name = printable(need);
        location["logicalLocations"] = json!([{ "fullyQualifiedName": name, "kind": "resource" }]);
    }
    json!({
        "ruleId": finding.rule.id(),
        "ruleIndex": index,
        "level": if finding.fails { "error" } else { "note" },
        "message": { "text": lines(finding).join("\n") },
        "locations": [location],
        "partialFingerprints": { "nrtraceNeed/v1": fingerprint(finding) },
        "properties": {
            "need": finding.need.as_deref().map(printable),
            "cause": finding.cause.as_deref().map(printable),
            "accept": printable(&finding.accept),
        },
    })
}

/// A file's name as a reference of RFC 3986: relative to the sources, or absolute.
fn uri(path: &str) -> String {
    let mut out = String::new();
    if path.starts_with('/') {
        out.push_str("file://");
    } else if path.split('/').next().is_some_and(|first| first.contains(':')) {
        out.push_str("./");
    }
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b'/'
            | b':'
            | b'@'
            | b'+'
            | b','
            | b'=' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_become_references() {
        assert_eq!(super::uri("a b/%c.json"), "a%20b/%25c.json");
        assert_eq!(super::uri("/x"), "file:///x");
        assert_eq!(super::uri("a:b"), "./a:b");
    }
}
