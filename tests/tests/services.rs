//! Real services, from the first run to the proof.
//!
//! One run of `nrtrace run` must report exactly what is known about the service ([`truth`](nrtrace_tests::truth)), and
//! what it wrote must be enough: applied by the real systemd-sysusers and systemd-tmpfiles, it lets the service start as
//! that user, with no other right, and serve.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;

use nrtrace_profiles::event::Exit;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::Severity;
use nrtrace_tests::compare::{difference, line, lines};
use nrtrace_tests::record::record;
use nrtrace_tests::sandbox::{OUT, Sandbox};
use nrtrace_tests::service::{Trial, start_and_exercise};
use nrtrace_tests::truth::Truth;
use nrtrace_tests::unit::DropIn;

fn check(name: &str, backend: &str) {
    let truth = Truth::load(name).unwrap();
    let sandbox = Sandbox::new().unwrap();
    let (profile, log) = record(&truth, &sandbox, backend).unwrap();
    assert_eq!(
        (profile.run.lost, profile.run.unresolved, profile.run.complete),
        (0, 0, true),
        "{name}: {log}"
    );
    let known = |severity| -> BTreeSet<String> {
        let needs = truth.needs.iter().filter(|need| need.severity == severity);
        needs.map(|need| line(&need.id, need.file_type, &need.access)).collect()
    };
    if let Some(difference) = difference(&profile, &known(Severity::Required)) {
        panic!("{name}: {difference}\n{log}");
    }
    let probes = known(Severity::Probe);
    assert!(
        probes.is_subset(&lines(&profile, Severity::Probe)),
        "{name}: wanted probes {probes:#?} in {profile:#?}"
    );
    if truth.gives_up.is_some() {
        gave_up(&truth, &profile);
    }
    if truth.can_serve() {
        prove(&truth, &sandbox);
    }
}

/// What the run wrote is enough.
fn prove(truth: &Truth, sandbox: &Sandbox) {
    let result = sandbox.out().join("result");
    let unit = DropIn::find(&result).unwrap();
    let setup = format!(
        "shopt -s nullglob\n\
         files=({OUT}/result/sysusers.d/*.conf); [ ${{#files[@]}} = 0 ] || systemd-sysusers \"${{files[@]}}\"\n\
         files=({OUT}/result/tmpfiles.d/*.conf); [ ${{#files[@]}} = 0 ] || systemd-tmpfiles --create \"${{files[@]}}\"\n\
         {}\n",
        unit.setup
    );
    if let Trial::Failed(finished) = start_and_exercise(sandbox, truth, true, &setup, &unit.rights).unwrap() {
        let written =
            std::process::Command::new("grep").args(["-r", "", "."]).current_dir(&result).output().unwrap();
        panic!(
            "{} does not serve with what the run wrote: {finished}\n{}",
            truth.name,
            String::from_utf8_lossy(&written.stdout)
        );
    }
}

/// The report says that the program ended by its own decision, and shows the evidence.
fn gave_up(truth: &Truth, profile: &Profile) {
    let known = truth.gives_up.as_ref().unwrap();
    let report =
        profile.gave_up.as_ref().unwrap_or_else(|| panic!("{}: not reported: {profile:#?}", truth.name));
    assert_eq!(report.exit, Exit::Exited { status: known.status }, "{}", truth.name);
    let stderr: Vec<String> = report.stderr.iter().map(ToString::to_string).collect();
    assert!(stderr.join("\n").contains(&known.says), "{}: {stderr:#?}", truth.name);
    if let Some(path) = &known.looks_at {
        assert!(
            report.looked_at.iter().any(|look| look.path.to_string() == *path),
            "{}: {report:#?}",
            truth.name
        );
    }
}

/// One test for each truth and backend, named after its file.
macro_rules! services {
    ($($function:ident = $name:literal),* $(,)?) => {
        mod ebpf {
            $(#[test] fn $function() { super::check($name, "ebpf"); })*
        }

        /// The same truths: what the oracle predicts is what the kernel asks.
        mod ptrace {
            $(#[test] fn $function() { super::check($name, "ptrace"); })*
        }
    };
}

nrtrace_tests::each_truth!(services);
