//! From the first run to a profile that the program lives with: whom it runs as, and what it may have missed.

use std::collections::BTreeSet;

use anyhow::Result;
use nrtrace_profiles::RawText;
use nrtrace_profiles::classify;
use nrtrace_profiles::event::Identity;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::prove::{judge, suspects, users};
use nrtrace_profiles::requirement::{Basis, Need, Requirement, Severity};
use nrtrace_profiles::text::printable;
use nrtrace_tracer::course::{Capture, Failure, Verdict};
use nrtrace_tracer::trial::{self, Report, Rights};

use super::bench::last_words;
use super::run::Wanted;
use super::users::{Candidate, made, others};
use super::verify::{self, Hints, Verified};
use super::{Prover, course};
use crate::progress::Trials;
use crate::terminal;

/// So often the program is run again with what it may have missed, refused nothing.
const MOST_REPEATED: usize = 3;

/// Whom the program runs as, and what the trials as that user showed.
pub struct Chosen {
    pub prover: Prover,
    pub profile: Profile,
    pub verified: Verified,
}

/// A run that was refused nothing.
struct Recorded {
    profile: Profile,
    report: Report,
    failure: Option<Failure>,
    /// Ids of what was made or given beforehand without a refusal that told of it.
    suspected: Vec<String>,
}

/// Tries the users that come into question, and takes the one as whom the program lives with the fewest needs.
pub fn choose(wanted: &Wanted<'_>, prover: &Prover) -> Result<Chosen> {
    let first = record(wanted, prover, &wanted.identity, None, Capture::Pass)?;
    let asked_for = wanted.args.subject.user.is_some();
    let base = wanted.args.command.first().map(|word| word.to_string_lossy().into_owned());
    let base = base.unwrap_or_default();
    let base = base.rsplit('/').next().unwrap_or_default();
    let candidates = if asked_for { Vec::new() } else { others(&first.profile, base) };
    if candidates.is_empty() {
        return live(wanted, prover, first);
    }
    let shown = Trials::new(&wanted.name, &wanted.args.results.talk);
    let mut tried: Vec<(String, Chosen)> = Vec::new();
    for Candidate { identity, why } in candidates {
        let who = format!("{}, {why}", identity.user);
        shown.say(&format!("running as {who}"));
        let recorded = record(wanted, prover, &identity, None, Capture::Keep)?;
        tried.push((who, live(wanted, prover, recorded)?));
        if tried.last().is_some_and(|(_, tried)| tried.verified.lives() && users::cost(&tried.profile) == 0) {
            break;
        }
    }
    let free = tried.iter().any(|(_, tried)| tried.verified.lives() && users::cost(&tried.profile) == 0);
    if !free {
        let who = if wanted.identity.exists { wanted.identity.user.clone() } else { "a new user".to_owned() };
        tried.push((who, live(wanted, prover, first)?));
    }
    Ok(best(tried, &shown))
}

/// The one that lives with the fewest needs, of equals the first; else the last one, a new user, whose result depends on
/// nobody else. All are told of where they differ.
fn best(tried: Vec<(String, Chosen)>, shown: &Trials) -> Chosen {
    let words = |(who, tried): &(String, Chosen)| match &tried.verified.failure {
        None => format!("as {who}: {} needs", users::cost(&tried.profile)),
        Some(failure) => format!("as {who}: it {failure}"),
    };
    let told = tried.iter().map(words).collect::<Vec<_>>().join("; ");
    shown.note(&told);
    let lives = |(_, tried): &&(String, Chosen)| tried.verified.lives();
    let best = tried.iter().filter(lives).map(|(_, tried)| users::cost(&tried.profile)).min();
    let is_best = |(_, tried): &(String, Chosen)| {
        tried.verified.lives() && Some(users::cost(&tried.profile)) == best
    };
    let place = tried.iter().position(is_best).unwrap_or(tried.len() - 1);
    let mut chosen = tried.into_iter().nth(place).map(|(_, chosen)| chosen).unwrap_or_else(|| unreachable!());
    chosen.profile.notes.push(told);
    chosen
}

/// Proves what a run showed; one that failed is repeated first, with what it may have missed.
fn live(wanted: &Wanted<'_>, prover: &Prover, mut recorded: Recorded) -> Result<Chosen> {
    let made = made(&recorded.profile);
    let mut prover = prover.clone();
    if recorded.failure.is_some() {
        recorded = repeat(wanted, &prover, recorded, &made)?;
    }
    let Recorded { mut profile, report, failure, suspected } = recorded;
    if let Some(failure) = failure {
        let goes_on = judge::gives_more(&profile, &prover.choices);
        profile.notes.push(came_short(&profile, &failure, &report, goes_on));
        if !goes_on {
            return Ok(Chosen { prover, profile, verified: Verified::without_trial(failure, report) });
        }
    }
    prover.course = course(&wanted.args.course, &profile);
    let hints = Hints { made, suspected };
    let verified = verify::verify(&prover, &mut profile, Some(&hints), &wanted.args.results.talk)?;
    Ok(Chosen { prover, profile, verified })
}

/// Runs the program as a user who is refused nothing, with the files of a profile made beforehand.
fn record(
    wanted: &Wanted<'_>,
    prover: &Prover,
    identity: &Identity,
    prepared: Option<&Profile>,
    capture: Capture,
) -> Result<Recorded> {
    let shown = Trials::new(&wanted.name, &wanted.args.results.talk);
    shown.say("running in a sandbox, refused nothing");
    let prepared = prepared.map(|profile| Box::new(profile.clone()));
    let rights = Rights::Permissive { identity: identity.clone(), policy: wanted.policy, prepared };
    let mut report = trial::run(&prover.request(rights, prover.course.clone(), true, capture))?;
    let mut profile = classify::profile(&report.trace, &wanted.name);
    let program = std::fs::canonicalize(&report.program).ok();
    profile.executable = program.map(|path| RawText::new(path.into_os_string().into_encoded_bytes()));
    profile.notes.extend(report.remarks.iter().cloned());
    wanted.library.annotate(&mut profile);
    let failure = match report.verdict.clone() {
        Some(Verdict::Failed(failure)) => Some(failure),
        _ => None,
    };
    if matches!(capture, Capture::Pass) {
        // It went where nrtrace's own output goes; what the probe saw of it is kept.
        report.output =
            report.trace.end.stderr.iter().map(RawText::as_bytes).collect::<Vec<_>>().join(&b'\n');
    }
    Ok(Recorded { profile, report, failure, suspected: Vec::new() })
}

/// A run that failed although it was refused nothing, again with what it missed or may have missed, for as long as that
/// changes how it ends. What was of no use is left out of the result.
fn repeat(
    wanted: &Wanted<'_>,
    prover: &Prover,
    first: Recorded,
    made: &[RawText],
) -> Result<Recorded> {
    let shown = Trials::new(&wanted.name, &wanted.args.results.talk);
    let identity = first.profile.identity.clone();
    let (mut prepared, mut last) = (first.profile.clone(), first.profile.clone());
    let (mut tried, mut suspected) = (BTreeSet::new(), Vec::new());
    for _ in 0..MOST_REPEATED {
        let more = suspects::suspects(&prepared, &last, made, &tried);
        if more.is_empty() && !last.requirements.iter().any(is_wanting) {
            break;
        }
        tried.extend(more.iter().map(|suspect| suspect.id.clone()));
        suspected.extend(more.iter().map(|suspect| suspect.id.clone()));
        more.iter().for_each(|suspect| judge::add(&mut prepared, suspect));
        let words: Vec<String> = more.iter().map(suspects::words).collect();
        let words = if words.is_empty() { "what it did not find".to_owned() } else { words.join(", ") };
        shown.say(&format!("it ended by itself; running again with {words}"));
        let mut again = record(wanted, prover, &identity, Some(&prepared), Capture::Keep)?;
        last = again.profile.clone();
        let kept = |known: &&Requirement| known.severity == Severity::Required;
        prepared.requirements.iter().filter(kept).for_each(|known| {
            if again.profile.requirements.iter().all(|seen| seen.id != known.id) {
                judge::add(&mut again.profile, known);
            }
        });
        if again.failure.is_none() {
            again.suspected = suspected;
            return Ok(again);
        }
        prepared = again.profile;
    }
    if !suspected.is_empty() {
        shown.note(&format!("tried in vain: {}", suspected.join(", ")));
    }
    Ok(first)
}

/// A need of a failed run that a trial can prepare: what was not there.
fn is_wanting(requirement: &Requirement) -> bool {
    requirement.severity == Severity::Required
        && requirement.basis == Basis::Denied
        && matches!(requirement.need, Need::Path { .. })
}

/// Says that the recorded run itself did not live, and what that means for a proof.
fn came_short(profile: &Profile, failure: &Failure, report: &Report, goes_on: bool) -> String {
    let said = last_words(report);
    let said = if said.is_empty() { said } else { format!(" (it said last: {said})") };
    let note = format!("the recorded run itself, with every right, {failure}{said}");
    let then = if goes_on {
        "a trial shows whether it lives with what it was refused or did not find"
    } else {
        "no grant can mend that, so nothing could be proved"
    };
    terminal::tell(format_args!("nrtrace: {}", printable(&format!("{}: {note}: {then}", profile.name))));
    note
}
