//! From the first run to a profile that the program lives with: whom it runs as, and what it may have missed.

use std::collections::{BTreeSet, VecDeque};

use anyhow::Result;
use nrtrace_profiles::RawText;
use nrtrace_profiles::classify;
use nrtrace_profiles::event::{Identity, Mode};
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
use crate::origin;
use crate::place;
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
    /// What further runs showed.
    seen: Vec<Profile>,
}

/// How many users are tried beside the first.
const MOST: usize = 4;

/// Tries the users that come into question, and takes the one as whom the program lives with the fewest needs.
pub fn choose(wanted: &Wanted<'_>, prover: &Prover) -> Result<Chosen> {
    let first = record(wanted, prover, &wanted.identity, None, Capture::Pass)?;
    if wanted.args.subject.user.is_some() {
        return Ok(live(wanted, prover, first)?.0);
    }
    let program =
        wanted.args.command.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default();
    let shown = Trials::new(&wanted.name, &wanted.args.results.talk);
    let mut waiting = VecDeque::from(others(&first.profile, program));
    let (mut first, mut tried) = (Some(first), Vec::new());
    let mut known: BTreeSet<(u32, u32)> = BTreeSet::new();
    loop {
        let next = if known.len() < MOST { waiting.pop_front() } else { None };
        let (who, recorded) = match (next, &mut first) {
            (Some(Candidate { identity, .. }), _) if !known.insert((identity.uid, identity.gid)) => continue,
            (Some(Candidate { identity, why }), _) => {
                let identity = Identity { groups: wanted.identity.groups.clone(), ..identity };
                let who = format!("{}, {why}", identity.user);
                shown.say(&format!("running as {who}"));
                (who, record(wanted, prover, &identity, None, Capture::Keep)?)
            }
            (None, first) => match first.take() {
                Some(first) => ("a new user".to_owned(), first),
                None => break,
            },
        };
        let (chosen, seen) = live(wanted, prover, recorded)?;
        let (lives, cost) = (chosen.verified.lives(), users::cost(&chosen.profile));
        tried.push((who, chosen));
        if lives && cost == 0 {
            break;
        }
        if !lives {
            // A run that went further, or its trials, may point to somebody else.
            waiting.extend(seen.iter().flat_map(|profile| others(profile, program)));
        }
    }
    Ok(best(tried, &shown))
}

/// The one that lives with the fewest needs, of equals the first; if none lives, the first that could be tried at all. All
/// are told of where there are several.
fn best(mut tried: Vec<(String, Chosen)>, shown: &Trials) -> Chosen {
    let words = |(who, tried): &(String, Chosen)| match (&tried.verified.failure, users::cost(&tried.profile))
    {
        (None, 1) => format!("as {who}: 1 need"),
        (None, needs) => format!("as {who}: {needs} needs"),
        (Some(failure), _) => format!("as {who}: it {failure}"),
    };
    let told = tried.iter().map(words).collect::<Vec<_>>().join("; ");
    let rank = |(_, tried): &(String, Chosen)| {
        let (lives, trials) = (tried.verified.lives(), tried.verified.trials);
        (!lives, trials == 0, if lives { users::cost(&tried.profile) } else { 0 })
    };
    let place = (0..tried.len()).min_by_key(|place| tried.get(*place).map(rank)).unwrap_or_default();
    let several = tried.len() > 1;
    let (_, mut chosen) = tried.swap_remove(place);
    if several {
        shown.note(&told);
        chosen.profile.notes.push(told);
    }
    chosen
}

/// Proves what a run showed; one that failed is repeated first, with what it may have missed. What further runs and trials
/// showed comes with it.
fn live(wanted: &Wanted<'_>, prover: &Prover, mut recorded: Recorded) -> Result<(Chosen, Vec<Profile>)> {
    let made = made(&recorded.profile);
    let mut prover = prover.clone();
    if recorded.failure.is_some() {
        recorded = repeat(wanted, &prover, recorded, &made)?;
    }
    let Recorded { mut profile, report, failure, suspected, mut seen } = recorded;
    let recorded_well = failure.is_none();
    if let Some(failure) = failure {
        let goes_on = judge::gives_more(&profile, &prover.choices);
        profile.notes.push(came_short(&profile, &failure, &report, goes_on));
        if !goes_on {
            let verified = Verified::without_trial(failure, report);
            return Ok((Chosen { prover, profile, verified }, seen));
        }
    }
    prover.course = course(&wanted.args.course, &profile);
    if prover.course.readiness.is_empty() && recorded_well {
        prover.course.readiness.ports = ports(&profile);
    }
    let hints = Hints { made, suspected };
    let verified = verify::verify(&prover, &mut profile, Some(&hints), &wanted.args.results.talk)?;
    seen.push(profile.clone());
    Ok((Chosen { prover, profile, verified }, seen))
}

/// The ports that take a right to bind: where nothing else tells when the program is ready, it is not without them.
fn ports(profile: &Profile) -> Vec<u16> {
    let needs = profile.requirements.iter().filter(|known| known.severity == Severity::Required);
    let ports: BTreeSet<u16> = needs
        .filter_map(|known| match known.need {
            Need::Port { port, .. } => Some(port),
            _ => None,
        })
        .collect();
    ports.into_iter().collect()
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
    let rights = Rights::Recorded {
        identity: identity.clone(),
        mode: Mode::Permissive,
        policy: wanted.policy,
        prepared,
    };
    let request = prover.request(rights, prover.course.clone(), true, capture);
    let mut report = trial::run(&request, &prover.lender)?;
    let mut profile = classify::profile(&report.trace, &wanted.name);
    let program = std::fs::canonicalize(&report.program).ok();
    profile.executable = program.map(|path| RawText::new(path.into_os_string().into_encoded_bytes()));
    profile.notes.extend(report.remarks.iter().cloned().chain(place::out_of_reach(&report.trace)));
    wanted.library.annotate(&mut profile);
    origin::note(&mut profile, &report.trace);
    let failure = match report.verdict.clone() {
        Some(Verdict::Failed(failure)) => Some(failure),
        _ => None,
    };
    if matches!(capture, Capture::Pass) {
        // It went where nrtrace's own output goes; what the probe saw of it is kept.
        report.output =
            report.trace.end.stderr.iter().map(RawText::as_bytes).collect::<Vec<_>>().join(&b'\n');
    }
    Ok(Recorded { profile, report, failure, suspected: Vec::new(), seen: Vec::new() })
}

/// A run that failed although it was refused nothing, again with what it missed or may have missed, for as long as that
/// changes how it ends. What was of no use is left out of the result.
fn repeat(wanted: &Wanted<'_>, prover: &Prover, first: Recorded, made: &[RawText]) -> Result<Recorded> {
    let shown = Trials::new(&wanted.name, &wanted.args.results.talk);
    let identity = first.profile.identity.clone();
    let (mut prepared, mut last) = (first.profile.clone(), first.profile.clone());
    let (mut tried, mut suspected, mut seen) = (BTreeSet::new(), Vec::new(), Vec::new());
    let mut prepared_for = BTreeSet::new();
    for _ in 0..MOST_REPEATED {
        // What was not there is told by the run itself, and comes before all that is only suspected.
        let absent: Vec<String> = last
            .requirements
            .iter()
            .filter(|known| is_wanting(known))
            .map(|known| known.id.clone())
            .collect();
        let before = prepared_for.len();
        prepared_for.extend(absent);
        let wanting = prepared_for.len() > before;
        let more = if wanting { Vec::new() } else { suspects::suspects(&prepared, &last, made, &tried) };
        if more.is_empty() && !wanting {
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
            (again.suspected, again.seen) = (suspected, seen);
            return Ok(again);
        }
        seen.push(last.clone());
        prepared = again.profile;
    }
    if !suspected.is_empty() {
        shown.note(&format!("tried in vain: {}", suspected.join(", ")));
    }
    Ok(Recorded { seen, ..first })
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
