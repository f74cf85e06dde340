//! Both backends on one table of scenarios: equal requirements, and what cannot be equal.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use nrtrace_profiles::event::Backend;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::{Basis, Need, Severity, word};
use nrtrace_tests::compare::line_of;
use nrtrace_tests::sandbox::{BIN, OUT, Sandbox};
use nrtrace_tests::scenario::PREPARE;
use nrtrace_tests::service::quote;

/// What one backend finds and the other does not, in the nature of things.
struct Difference {
    /// The scenario.
    scenario: &'static str,
    /// The line, with its severity, that only eBPF gives.
    ebpf: Option<&'static str>,
    /// The line that only ptrace gives.
    ptrace: Option<&'static str>,
    /// Why.
    #[expect(dead_code, reason = "says why the row is there")]
    reason: &'static str,
}

const DIFFERENCES: &[Difference] = &[];

/// Requirements as lines, with their severity.
fn found(profile: &Profile) -> BTreeSet<String> {
    let line = |need| format!("{} ({})", line_of(need), word(&need.severity));
    profile.requirements.iter().map(line).collect()
}

fn profile_at(path: &Path) -> Profile {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The profile of a fixture under one backend.
fn record(backend: &str, options: &str, words: &[&str], prepare: &str) -> Profile {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(120));
    let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
    let script = format!(
        "{PREPARE}\n{prepare}\ncd /\n{BIN}/nrtrace run -o {OUT}/result --backend {backend} {options} -- \
         {BIN}/fixture {}",
        words.join(" ")
    );
    let finished = sandbox.script(&script).unwrap().ok().unwrap_or_else(|error| panic!("{backend}: {error}"));
    let profile = profile_at(&sandbox.out().join("result/profile.json"));
    assert_eq!((profile.run.lost, profile.run.unresolved), (0, 0), "{backend}: {finished}");
    assert!(profile.unexplained.is_empty(), "{backend}: {:#?}", profile.unexplained);
    profile
}

/// Both backends, in each way of recording, find the same, and predictions are called so.
fn compare(scenario: &str, words: &[&str], prepare: &str, required: &[&str]) {
    for options in ["--record calls", "--record needs"] {
        let ebpf = record("ebpf", options, words, prepare);
        let ptrace = record("ptrace", options, words, prepare);
        assert_eq!((ebpf.run.backend, ptrace.run.backend), (Backend::Ebpf, Backend::Ptrace));
        let (mut left, mut right) = (found(&ebpf), found(&ptrace));
        for known in DIFFERENCES.iter().filter(|known| known.scenario == scenario) {
            known.ebpf.inspect(|line| assert!(left.remove(*line), "{scenario}: {line} is known of eBPF"));
            known
                .ptrace
                .inspect(|line| assert!(right.remove(*line), "{scenario}: {line} is known of ptrace"));
        }
        assert_eq!(left, right, "{scenario} {options}: eBPF on the left, ptrace on the right");
        if options == "--record calls" {
            let lines = nrtrace_tests::compare::lines(&ptrace, Severity::Required);
            assert_eq!(lines, required.iter().map(|line| (*line).to_owned()).collect(), "{scenario}");
        }
        assert!(
            ptrace.requirements.iter().all(|need| {
                // What nrtrace answers in the kernel's place is no prediction.
                need.basis != Basis::Kernel || matches!(need.need, Need::Identity { .. })
            }),
            "{scenario}: {:#?}",
            ptrace.requirements
        );
    }
}

macro_rules! equal {
    ($($name:ident: [$($word:expr),*] after $prepare:literal => [$($need:expr),* $(,)?];)*) => {
        $(#[test] fn $name() { compare(stringify!($name), &[$($word),*], $prepare, &[$($need),*]); })*
    };
}

nrtrace_tests::scenarios!(equal);
