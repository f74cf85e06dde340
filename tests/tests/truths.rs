//! The truths hold: with all its grants a service serves as an ordinary user, and without each fatal one it does not.
//!
//! nrtrace has no part in this; it is the evidence for what its runs are compared with.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use nrtrace_tests::sandbox::Finished;
use nrtrace_tests::service::{Trial, try_grants};
use nrtrace_tests::truth::{Grant, Truth};

fn check(name: &str) {
    let truth = Truth::load(name).unwrap();
    let all: Vec<&Grant> = truth.grants().into_iter().collect();
    match try_grants(&truth, &all).unwrap() {
        Trial::Served => assert!(truth.can_serve(), "{name} serves, and was thought to give up"),
        Trial::Failed(finished) if !truth.can_serve() => return gives_up(&truth, &finished),
        Trial::Failed(finished) => panic!("{name} does not serve with all its grants: {finished}"),
    }
    for removed in &all {
        let needs: Vec<_> = truth.needs.iter().filter(|need| need.grant == **removed).collect();
        let fatal = needs.iter().any(|need| need.fatal);
        let rest: Vec<&Grant> = all.iter().copied().filter(|grant| grant != removed).collect();
        match try_grants(&truth, &rest).unwrap() {
            Trial::Served => assert!(!fatal, "{name} serves without {removed:?}, which was thought fatal"),
            Trial::Failed(finished) => {
                assert!(fatal, "{name} does not serve without {removed:?}: {finished}")
            }
        }
    }
}

/// The program ended as it is known to, although it had all its grants.
fn gives_up(truth: &Truth, finished: &Finished) {
    let known = truth.gives_up.as_ref().unwrap();
    let stdout = String::from_utf8_lossy(&finished.stdout);
    let stderr = String::from_utf8_lossy(&finished.stderr);
    assert!(stdout.contains(&format!("ended with status {}\n", known.status)), "{}: {finished}", truth.name);
    assert!(stderr.contains(&known.says), "{}: {finished}", truth.name);
}

/// One test for each truth, named after its file.
macro_rules! truths {
    ($($function:ident = $name:literal),* $(,)?) => {
        $(#[test] fn $function() { check($name); })*

        #[test]
        fn every_truth_is_tried() {
            let mut files: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/truth"))
                .unwrap()
                .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
                .collect();
            files.sort();
            let mut tried = [$($name),*];
            tried.sort_unstable();
            assert_eq!(files, tried);
        }
    };
}

nrtrace_tests::each_truth!(truths);
