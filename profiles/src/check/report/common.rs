//! What the formats have in common.

use crate::check::{CheckResult, Finding, Rule};
use crate::text::printable;

/// The whole of a finding in printable lines.
pub fn lines(finding: &Finding) -> Vec<String> {
    let mut lines = vec![printable(&finding.message).into_owned()];
    lines.extend(finding.cause.iter().map(|cause| format!("caused by: {}", printable(cause))));
    lines.push(format!("to accept: {}", printable(&finding.accept)));
    lines
}

/// The file that a finding is shown at: the one that is kept with the source.
pub fn place(verdict: &CheckResult) -> &str {
    verdict.baseline.as_deref().unwrap_or(&verdict.profile)
}

/// One line on the whole.
pub fn summary(verdict: &CheckResult) -> String {
    let failing = verdict.findings.iter().filter(|finding| finding.fails).count();
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let (name, needs) = (printable(&verdict.name), count(verdict.checked.len(), "need"));
    match failing {
        0 => format!("{name}: {needs}, all as agreed"),
        _ => format!("{name}: {needs}, {}", count(failing, "finding")),
    }
}

/// A fingerprint that is the same for the same finding in every run: FNV-1a of 128 bits.
pub fn fingerprint(finding: &Finding) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let text = format!("{}\n{}", finding.rule.id(), finding.need.as_deref().unwrap_or(&finding.message));
    let hash = text.bytes().fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    format!("{hash:032x}")
}

impl Rule {
    /// Its name in all formats.
    pub fn id(self) -> String {
        crate::requirement::word(&self)
    }
}
