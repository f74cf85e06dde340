//! How the program answers a client as root, so that it is known what trials have to come to.

use nrtrace_profiles::event::{Exit, Greeting, Identity, Mode, Protocol};
use nrtrace_profiles::profile::Profile;
use nrtrace_tracer::course::{Capture, Course, Greets, Verdict};
use nrtrace_tracer::launch::IdentityPolicy;
use nrtrace_tracer::trial::{self, Report, Rights};

use super::prover::{Prover, TrialPlace};

/// Runs it as root in a sandbox, and has a client connect. One that does not live so, or ends with its client, answers
/// nothing; what cannot be tried is no error, as the recorded run tells the same in most cases.
pub fn as_root(prover: &Prover, identity: &Identity) -> Vec<Greeting> {
    let TrialPlace::Machine(lender) = &prover.place else { return Vec::new() };
    let rights = Rights::Recorded {
        identity: identity.clone(),
        mode: Mode::Observation,
        policy: IdentityPolicy::Switch,
        prepared: None,
    };
    let course = Course { greets: Greets::Anybody, ..prover.course.clone() };
    match trial::run(&prover.request(rights, course, false, Capture::Keep), lender) {
        Ok(report) if report.verdict == Some(Verdict::Lived) && !is_ended_by_client(&report) => {
            report.trace.end.greetings
        }
        _ => Vec::new(),
    }
}

/// What is to be answered on the ports of a recorded run: as root, unless that is an error.
pub fn wanted(profile: &Profile, as_root: &[Greeting]) -> Vec<Greeting> {
    let mut wanted = profile.run.greetings.clone();
    let listens = |port| {
        profile.listens.iter().any(|listen| listen.protocol == Protocol::Tcp && listen.port == Some(port))
    };
    for greeting in as_root.iter().filter(|greeting| listens(greeting.port) && !greeting.is_error()) {
        wanted.retain(|known| known.port != greeting.port);
        wanted.push(greeting.clone());
    }
    wanted
}

/// What is wanted from now on, of a program that has answered better than it did: no error where there was one.
pub fn improved(profile: &mut Profile, report: &Report) -> bool {
    let before = profile.run.greetings.clone();
    for wanted in profile.run.greetings.iter_mut().filter(|wanted| wanted.is_error()) {
        let mut answers = report.trace.end.greetings.iter();
        if let Some(better) = answers.find(|answer| wanted.is_met_by(answer)) {
            wanted.clone_from(better);
        }
    }
    before != profile.run.greetings
}

/// Whether it ended by itself once a client had come that was only to learn how it answers.
pub fn is_ended_by_client(report: &Report) -> bool {
    let end = &report.trace.end;
    let asked = end.milestones.is_some_and(|reached| reached.asked.is_some());
    asked && !end.daemon && !matches!(end.exit, Exit::Stopped { .. })
}
