//! The smallest profile that the program lives with.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::proof::ProfileProof;
use nrtrace_profiles::prove::{self, Found, atoms, conclude, without};
use nrtrace_tracer::course::Verdict;

use super::bench::{Trying, tried};
use super::harden::{self, Hardened};
use super::journal::Journal;
use super::verify::{self, Verified};
use super::{Prover, asleep, late, ready_timeout};
use crate::args::{SearchArgs, Talk};
use crate::progress::Trials;

/// What is to be made smaller, and how.
pub struct Wanted<'a> {
    pub prover: &'a Prover,
    pub search: &'a SearchArgs,
    /// What the trials before it showed.
    pub verified: &'a Verified,
    /// Where what was tried is kept meanwhile; `None` for nowhere.
    pub journal: Option<&'a Path>,
    pub talk: &'a Talk,
}

/// How many times as long the result has to live.
const LONGER_LIFE: u32 = 3;
/// One death with all that hardens may be bad luck.
const HARDENED: usize = 2;
/// How often the search is made again with a longer time to settle.
const LONGER: usize = 3;

/// Makes the profile as small as can be; false when the program did not live with the result either.
///
/// The profile has been verified.
pub fn minimize(wanted: &Wanted<'_>, profile: &mut Profile) -> Result<bool> {
    let shown = Trials::new(&profile.name, wanted.talk);
    let mut prover = wanted.prover.clone();
    prover.course.ready_timeout = ready_timeout(&prover, profile, Some(wanted.verified));
    prover.course.asleep = asleep(profile, Some(wanted.verified));
    // It has been ready; a trial that is not says nothing of the next.
    prover.patience = Arc::default();
    let whole = prover.course.settle;
    prover.course.settle = brief(&prover, profile);
    let jobs = wanted.search.jobs.map_or_else(|| jobs(prover.private_network), usize::from);
    let mut journal = Journal::open(wanted.journal, &prover, profile, wanted.search.restart, &shown);
    if journal.len() > 0 {
        shown.note(&format!("going on after {} trials of an earlier search", journal.len()));
    }
    let (mut trials, before) = profile.proof.as_ref().map_or((0, 0), |proof| (proof.trials, proof.flaked));
    for _ in 0..LONGER {
        let mut trying = Trying::new(&prover, profile, jobs, journal, &shown);
        let mut atoms = atoms(profile);
        atoms.retain(|atom| atom.needs.is_disjoint(&wanted.verified.refused.untried));
        let found = prove::minimize(atoms, &mut trying)?;
        journal = trying.into_journal();
        trials += found.trials;
        if !found.lives() {
            shown.note(&format!("with everything granted, the program {}", found.how));
            return Ok(refuted(profile));
        }
        let hardened = harden::search(&prover, &without(profile, &found.removed()), &shown)?;
        trials += hardened.trials;
        let length = whole.max(prover.course.settle);
        let mut last = prover.clone();
        last.course.settle = length;
        let (outlived, watched) = beside(
            prover.private_network,
            || outlives(&prover, profile, &found, &hardened, length, &shown),
            || watched(&last, profile, &found, wanted.talk),
        );
        let (outlived, watched) = (outlived?, watched?);
        if let Some(longer) = outlived.longer {
            prover.course.settle = longer;
            continue;
        }
        let died = before + outlived.died;
        let lives = finish(&last, profile, &found, trials, Outlived { died, ..outlived }, watched, &shown);
        journal.remove();
        if lives {
            harden::tell(profile, &prover.choices, &hardened, &shown);
        } else if let Some(often) =
            profile.proof.as_ref().map(|proof| proof.flaked).filter(|often| *often > 0)
        {
            shown.note(&format!(
                "it is flaky: with all that is granted it failed {often} times and lived at others, so nothing is proved"
            ));
        }
        return Ok(lives);
    }
    shown.note("the program died later each time it was given longer to settle");
    Ok(refuted(profile))
}

/// What the trials before it seemed to prove does not hold.
fn refuted(profile: &mut Profile) -> bool {
    profile.proof.iter_mut().for_each(|proof| proof.lives = false);
    false
}

/// Trials at the same time.
fn jobs(private_network: bool) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    // On one network they would bind the same ports.
    if private_network { processors.min(8) } else { 1 }
}

/// How long each trial of the search settles, unless that was said. Where little that the run needed came after it was ready,
/// most of what is missed shows soon; the result has to live long, and where it does not, the search is made again with
/// more time.
fn brief(prover: &Prover, profile: &Profile) -> Duration {
    let whole = prover.course.settle;
    match late(profile) {
        Some(late) if !prover.settles => whole.min((whole / 4 + late * 4).max(prover.lasts)),
        _ => whole,
    }
}

/// What a longer life showed.
#[derive(Default)]
struct Outlived {
    /// How long the trials should have lasted.
    longer: Option<Duration>,
    /// How often the program died although nothing that was left out is to blame.
    died: u32,
    /// What hardens, where it lived with all that can be tried.
    hardening: BTreeSet<String>,
}

/// Early green is false: the result has to live much longer once, with all that was found to harden. Who lives so lives
/// with what is granted; who does not is tried without that.
fn outlives(
    prover: &Prover,
    profile: &Profile,
    found: &Found,
    hardened: &Hardened,
    whole: Duration,
    shown: &Trials,
) -> Result<Outlived> {
    let settle = prover.course.settle;
    let removed = found.removed();
    let mut course = prover.course.clone();
    course.settle = whole * LONGER_LIFE;
    shown.say(&format!("the result has to live for {:.0} s", course.settle.as_secs_f64()));
    let smaller = without(profile, &removed);
    let mut outlived = Outlived::default();
    for _ in 0..HARDENED {
        if !hardened.held.is_empty() && harden::lives(prover, &smaller, &hardened.held, &course)? {
            outlived.hardening.clone_from(&hardened.held);
            return Ok(outlived);
        }
    }
    for _ in 0..prove::search::BASELINE {
        let report = prover.trial(&smaller, &course, false)?;
        let Some(Verdict::Failed(_)) = &report.verdict else { break };
        if removed.is_empty() || prover.trial(profile, &course, false)?.verdict != Some(Verdict::Lived) {
            // Not for what was left out.
            outlived.died += 1;
            continue;
        }
        shown.note(&format!(
            "what was left out is missed later than {:.1} s after readiness ({}): searching again with {:.1} s",
            settle.as_secs_f64(),
            tried(&report).how,
            course.settle.as_secs_f64()
        ));
        outlived.longer = Some(course.settle);
        return Ok(outlived);
    }
    if !hardened.held.is_empty() {
        shown.note("with what hardens it lives for a short time only: that is left out");
    }
    Ok(outlived)
}

/// Both at the same time, unless one is in the other's way.
pub fn beside<A: Send, B: Send>(
    can_be: bool,
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B + Send,
) -> (A, B) {
    if !can_be {
        return (one(), other());
    }
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), other)
    })
}

/// The profile without what the program lives without, and a trial of it that is watched: it tells what the program
/// tolerates.
fn watched(prover: &Prover, profile: &Profile, found: &Found, talk: &Talk) -> Result<(Profile, Verified)> {
    let mut smaller = profile.clone();
    conclude::minimized(&mut smaller, found);
    let verified = verify::verify(prover, &mut smaller, None, talk)?;
    Ok((smaller, verified))
}

/// Writes down what it all came to; whether it lived each time.
fn finish(
    prover: &Prover,
    profile: &mut Profile,
    found: &Found,
    trials: u32,
    outlived: Outlived,
    (smaller, verified): (Profile, Verified),
    shown: &Trials,
) -> bool {
    conclude::minimized(profile, found);
    match &verified.failure {
        None => *profile = smaller,
        Some(failure) => shown
            .note(&format!("with all that is left, and watched, the program {failure}: nothing is proved")),
    }
    let last = profile.proof.take();
    let flaked = verified.flaked + found.flaked + found.died + outlived.died;
    let lives = verified.lives() && flaked == 0;
    profile.proof = Some(ProfileProof {
        lives,
        // What a volume alone meets is in no plan of a machine, so that nothing leaves it out.
        minimal: lives && verified.refused.untried.is_empty() && verified.refused.by_volume.is_empty(),
        readiness: prover.course.readiness.words(),
        exercise: prover.course.exercise.as_ref().map(|text| text.display().to_string()),
        greetings: prover.greetings(),
        settled: prover.course.settle.into(),
        trials: trials + verified.trials,
        took: None,
        flaked,
        hardening: outlived.hardening,
        image: prover.tried_image(),
        not_applied: last.map(|proof| proof.not_applied).unwrap_or_default(),
    });
    lives
}
