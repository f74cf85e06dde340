mod accesses;
mod attached;
mod build;
mod callers;
mod fixtures;
mod modes;
mod ownership;
mod paths;
mod rejudge;
mod structures;
mod sysctls;
mod total;
mod traps;
mod variables;
mod writes;

use std::path::Path;

use crate::classify::{Context, classify, profile};
use crate::event::Trace;
use crate::profile::Profile;
use crate::requirement::{Need, Requirement, Severity, word};

/// What the classifier makes of a trace.
fn run(trace: &Trace) -> Profile {
    profile(trace, "test")
}

/// A need in a line: its id, what is done with it, `?` behind a probe.
fn line(requirement: &Requirement) -> String {
    let id = &requirement.id;
    let mut line = match &requirement.need {
        Need::Path { access, file_type, .. } => {
            let words: Vec<String> = access.iter().map(word).collect();
            format!("{id} {} {}", word(file_type), words.join(","))
        }
        Need::Device { access, .. } => {
            let words: Vec<String> = access.iter().map(word).collect();
            format!("{id} {}", words.join(","))
        }
        Need::Limit { value: Some(value), .. } => format!("{id} {value}"),
        Need::Sysctl { value: Some(value), .. } => format!("{id}={value}"),
        _ => id.clone(),
    };
    if requirement.severity == Severity::Probe {
        line.push('?');
    }
    line
}

fn lines(profile: &Profile) -> Vec<String> {
    profile.requirements.iter().map(line).collect()
}

/// The trace's needs are these, and nothing is left unexplained.
#[track_caller]
fn needs(trace: &Trace, expected: &[&str]) {
    let profile = run(trace);
    assert_eq!(lines(&profile), expected);
    assert_eq!(profile.unexplained, []);
}

/// The trace needs what `truth` says, which was worked out by hand, and the whole of the profile is as in
/// `testdata/CASE/profile.json`; `UPDATE=1` writes that file anew.
#[track_caller]
fn check(case: &str, trace: &Trace, truth: &[&str]) {
    let text = serde_json::to_string(trace).unwrap();
    assert_eq!(&serde_json::from_str::<Trace>(&text).unwrap(), trace, "the trace survives its own format");
    let profile = run(trace);
    assert_eq!(lines(&profile), truth);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(case);
    let file = directory.join("profile.json");
    let found = serde_json::to_string_pretty(&profile).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(&file, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(found, expected, "{} differs; UPDATE=1 writes it anew", file.display());
}

#[test]
fn classify_and_profile_agree() {
    let trace = fixtures::nginx();
    let classified = classify(&trace.events, &Context::new(&trace));
    assert_eq!(classified.requirements, run(&trace).requirements);
}
