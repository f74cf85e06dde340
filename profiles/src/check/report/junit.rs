//! JUnit's XML. There is no standard of it; this holds to the schemas of Ant's tasks and of Jenkins' xUnit plugin.

use super::super::{CheckResult, Finding};
use super::common::{lines, summary};
use crate::emit::escape::xml;

pub fn write(verdict: &CheckResult, time: &str) -> String {
    let whole: Vec<&Finding> = verdict.findings.iter().filter(|finding| finding.need.is_none()).collect();
    let failing = |finding: &&&Finding| finding.fails;
    let mut cases = String::new();
    let (mut tests, mut failures) = (0, 0);
    for need in &verdict.checked {
        let found =
            verdict.findings.iter().filter(|finding| finding.need.as_ref() == Some(need) && finding.fails);
        let found: Vec<&Finding> = found.collect();
        (tests, failures) = (tests + 1, failures + usize::from(!found.is_empty()));
        case(&mut cases, &verdict.name, need, &found);
    }
    let about_run: Vec<&Finding> = whole.iter().filter(failing).copied().collect();
    (tests, failures) = (tests + 1, failures + usize::from(!about_run.is_empty()));
    case(&mut cases, &verdict.name, "the run as a whole", &about_run);
    let notes = whole.iter().filter(|finding| !finding.fails).map(|finding| lines(finding).join("\n"));
    let said: Vec<String> =
        [summary(verdict)].into_iter().chain(verdict.cautions.clone()).chain(notes).collect();
    let name = xml::text(&verdict.name);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  \
         <testsuite name=\"{name}\" package=\"nrtrace\" id=\"0\" timestamp=\"{time}\" hostname=\"localhost\" \
         tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" time=\"0\">\n    <properties/>\n{cases}    \
         <system-out>{}</system-out>\n    <system-err/>\n  </testsuite>\n</testsuites>\n",
        xml::text(&said.join("\n")),
    )
}

fn case(out: &mut String, program: &str, name: &str, found: &[&Finding]) {
    let (class, name) = (xml::text(&format!("nrtrace.{program}")), xml::text(name));
    out.push_str(&format!("    <testcase classname=\"{class}\" name=\"{name}\" time=\"0\""));
    let Some(first) = found.first() else {
        out.push_str("/>\n");
        return;
    };
    let all: Vec<String> = found.iter().flat_map(|finding| lines(finding)).collect();
    out.push_str(&format!(
        ">\n      <failure type=\"{}\" message=\"{}\">{}</failure>\n    </testcase>\n",
        xml::text(&first.rule.id()),
        xml::text(&first.message),
        xml::text(&all.join("\n")),
    ));
}
