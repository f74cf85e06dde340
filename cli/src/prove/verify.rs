//! Does the program live with what the profile grants?

use std::collections::BTreeSet;

use anyhow::Result;
use nrtrace_profiles::classify;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::proof::ProfileProof;
use nrtrace_profiles::prove::{Trial, conclude, judge, refused, without};
use nrtrace_profiles::requirement::{Requirement, Seconds, Severity};
use nrtrace_tracer::course::{Failure, Verdict};
use nrtrace_tracer::trial::Report;

use super::Prover;
use crate::args::Talk;
use crate::progress::Trials;

/// A trial that fails without a reason to be seen is repeated so often: the program may be flaky.
const RETRIES: u32 = 2;
/// So many needs are added at the most.
const MOST_ADDED: usize = 100;

/// What the trials showed.
pub struct Verified {
    /// Why the program did not live in the last of them; `None` when it did.
    pub failure: Option<Failure>,
    /// The last trial.
    pub report: Report,
    /// What it was refused.
    pub refused: Trial,
    /// Ids of needs that were added to the profile.
    pub added: Vec<String>,
    /// Trials made.
    pub trials: u32,
    /// Trials that failed although a later one of the same kind did not.
    pub flaked: u32,
}

impl Verified {
    /// No trial was worth making: the recorded run itself failed.
    pub fn without_trial(failure: Failure, report: Report) -> Self {
        Self {
            failure: Some(failure),
            report,
            refused: Trial::default(),
            added: Vec::new(),
            trials: 0,
            flaked: 0,
        }
    }

    /// Whether the program lives.
    pub fn lives(&self) -> bool {
        self.failure.is_none()
    }
}

/// Makes trials until the program lives; with `update`, what it was refused is added to the profile meanwhile.
pub fn verify(prover: &Prover, profile: &mut Profile, update: bool, talk: &Talk) -> Result<Verified> {
    let shown = Trials::new(&profile.name, talk);
    let mut added: Vec<String> = Vec::new();
    let (mut trials, mut flaked, mut retries) = (0, 0, 0);
    let mut verified = loop {
        shown.say(&format!("trial {} with what the profile grants", trials + 1));
        let (report, refused, failure) = attempt(prover, profile)?;
        trials += 1;
        let Some(failure) = failure else {
            break Verified { failure: None, report, refused, added, trials, flaked };
        };
        let next = refused.missing.iter().find(|missing| !is_in_vain(missing, profile, &added));
        match next.filter(|_| update && added.len() < MOST_ADDED) {
            Some(missing) => {
                shown.say(&format!("adding {}", missing.id));
                added.push(missing.id.clone());
                judge::add(profile, missing);
                retries = 0;
            }
            // It takes long to wait in vain, and is rarely bad luck.
            None if retries < RETRIES && !(failure.is_timeout() && retries > 0) => {
                retries += 1;
                flaked += 1;
            }
            None => {
                let failure = Some(failure);
                break Verified { failure, report, refused, added, trials, flaked: 0 };
            }
        }
    };
    if verified.lives() {
        reduce(prover, profile, &mut verified)?;
        conclude::lived(profile, &verified.refused);
    }
    let hardening = profile.proof.take().map(|proof| proof.hardening).unwrap_or_default();
    profile.proof = Some(ProfileProof { hardening, ..proof(prover, &verified) });
    Ok(verified)
}

/// One trial that is watched: what it showed, what it was refused, and why it failed.
fn attempt(prover: &Prover, profile: &Profile) -> Result<(Report, Trial, Option<Failure>)> {
    let report = prover.trial(profile, &prover.course, true)?;
    let seen = classify::profile(&report.trace, &profile.name);
    let mut refused = refused(profile, &seen);
    refused.untried = report.on_shares.clone();
    refused.withheld = report.withheld.clone();
    let failure = match &report.verdict {
        Some(Verdict::Failed(failure)) => Some(failure.clone()),
        _ if refused.beyond.is_empty() => None,
        _ => Some(Failure::Beyond { ids: refused.beyond.clone() }),
    };
    Ok((report, refused, failure))
}

/// Whether a need has been added already and is refused all the same.
fn is_in_vain(missing: &Requirement, profile: &Profile, added: &[String]) -> bool {
    added.contains(&missing.id)
        && profile
            .requirements
            .iter()
            .any(|known| known.id == missing.id && known.severity == Severity::Required)
}

/// Takes away again what was added before the reason was found.
fn reduce(prover: &Prover, profile: &mut Profile, verified: &mut Verified) -> Result<()> {
    if verified.added.len() < 2 && verified.flaked == 0 {
        return Ok(());
    }
    for id in verified.added.clone() {
        let less = without(profile, &BTreeSet::from([id.clone()]));
        let (report, refused, failure) = attempt(prover, &less)?;
        verified.trials += 1;
        if failure.is_none() {
            *profile = less;
            verified.added.retain(|added| *added != id);
            (verified.report, verified.refused) = (report, refused);
        }
    }
    Ok(())
}

fn proof(prover: &Prover, verified: &Verified) -> ProfileProof {
    ProfileProof {
        lives: verified.lives(),
        minimal: false,
        readiness: prover.course.readiness.words(),
        exercise: prover.course.exercise.as_ref().map(|text| text.display().to_string()),
        settled: Seconds(u64::try_from(prover.course.settle.as_nanos()).unwrap_or(u64::MAX)),
        trials: verified.trials,
        flaked: verified.flaked,
        hardening: BTreeSet::new(),
        not_applied: verified.report.not_applied.clone(),
    }
}
