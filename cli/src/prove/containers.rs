//! From the first run of an image to a profile that it lives with: whom its containers run as.

use std::ffi::OsString;

use anyhow::Result;
use nrtrace_profiles::RawText;
use nrtrace_profiles::classify;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::prove::judge;
use nrtrace_profiles::prove::users::{becomes, owners};
use nrtrace_tracer::course::{Capture, FIRST_CHOSEN, Failure, Verdict};
use nrtrace_tracer::image::{Image, Request, Rights};
use nrtrace_tracer::trial::Report;

use super::bench::last_words;
use super::choose::{self, Chosen, Tried, best, without_trial};
use super::given::course;
use super::prover::Prover;
use super::task::ProofTask;
use super::verify::{self, Hints, Verified, ready_timeout};
use crate::progress::Trials;

/// A user whom no image knows, of the numbers above those of accounts.
const NEW: (u32, u32) = (10_001, 10_001);

/// So many users are tried at the most.
const MOST: usize = 3;

/// A user and group of an image, and why they come into question.
type Candidate = ((u32, u32), String);

/// The command of its container.
pub fn command(image: &Image) -> Vec<OsString> {
    image.command().into_iter().map(OsString::from).collect()
}

/// Tries the users that come into question, and takes the one as whom the program lives with the fewest needs: who was asked
/// for or the image's own, else a new one, and then those whose files it uses.
pub fn choose(wanted: &ProofTask<'_>, prover: &Prover, image: &Image) -> Result<Chosen> {
    let shown = Trials::new(&wanted.name, &wanted.args.results.talk);
    let given = image.user()?;
    let whose = given.map_or_else(|| "a new user".to_owned(), |(uid, gid)| format!("{uid}:{gid}"));
    let mut waiting = vec![(given.unwrap_or(NEW), whose)];
    let mut known = Vec::new();
    let mut tried = Vec::new();
    while let Some((user, whose)) = (!waiting.is_empty()).then(|| waiting.remove(0)) {
        if known.contains(&user) || known.len() == MOST {
            continue;
        }
        let capture = if known.is_empty() { Capture::Pass } else { Capture::Keep };
        known.push(user);
        shown.say(&format!("running as {whose}, refused nothing"));
        let (chosen, others) = live(wanted, prover, image, user, capture)?;
        let (lives, cost) = (chosen.verified.lives(), nrtrace_profiles::prove::users::cost(&chosen.profile));
        tried.push(Tried { who: whose, is_weak: false, chosen });
        if given.is_some() || (lives && cost == 0) {
            break;
        }
        waiting.extend(others);
    }
    Ok(best(tried, &shown))
}

/// A run as a user, and the trials that follow; with the users that it points to.
fn live(
    wanted: &ProofTask<'_>,
    prover: &Prover,
    image: &Image,
    user: (u32, u32),
    capture: Capture,
) -> Result<(Chosen, Vec<Candidate>)> {
    let mut prover = prover.clone();
    let mut recorded = record(wanted, &prover, image, user, capture)?;
    let ended = |recorded: &Recorded| matches!(recorded.failure, Some(Failure::Ended { .. }));
    if ended(&recorded) && !judge::gives_more(&recorded.profile, &prover.choices) && image.build() {
        // It may look its user up, which the image does not know.
        let again = record(wanted, &prover, image, user, Capture::Keep)?;
        // One that ends for another reason tells more than one that did not find its user.
        match ended(&again) && last_words(&again.report) == last_words(&recorded.report) {
            true => image.leave(),
            false => recorded = again,
        }
    }
    let Recorded { mut profile, report, failure } = recorded;
    let others = others(&profile, image);
    let recorded_well = failure.is_none();
    if let Some(verified) = failure.and_then(|failure| without_trial(&prover, &mut profile, failure, report))
    {
        return Ok((Chosen { prover, profile, verified }, others));
    }
    prover.course = course(&wanted.args.course, &profile, Some(image));
    if recorded_well {
        if prover.course.readiness.is_empty() {
            prover.course.readiness.ports = ports(&profile);
        }
        prover.course.ready_timeout = ready_timeout(&prover, &profile, None);
    }
    let verified = prove(wanted, &prover, image, &mut profile)?;
    Ok((Chosen { prover, profile, verified }, others))
}

/// Trials with the image as it is; where it does not live and nothing tells why, of one that holds what the lines of the
/// Containerfile say.
fn prove(wanted: &ProofTask<'_>, prover: &Prover, image: &Image, profile: &mut Profile) -> Result<Verified> {
    let talk = &wanted.args.results.talk;
    let before = profile.clone();
    let verified = verify::verify(prover, profile, Some(&Hints::default()), talk)?;
    if verified.lives() || !matches!(verified.failure, Some(Failure::Ended { .. })) || !image.build() {
        return Ok(verified);
    }
    Trials::new(&wanted.name, talk)
        .note("not in the image as it is: trying one with the lines of Containerfile");
    *profile = before;
    verify::verify(prover, profile, Some(&Hints::default()), talk)
}

/// A run that is refused nothing.
struct Recorded {
    profile: Profile,
    report: Report,
    failure: Option<Failure>,
}

fn record(
    wanted: &ProofTask<'_>,
    prover: &Prover,
    image: &Image,
    user: (u32, u32),
    capture: Capture,
) -> Result<Recorded> {
    let mut course = prover.course.clone();
    if course.readiness.is_empty() {
        course.readiness.command = image.health().map(OsString::from);
    }
    let mut report = image.run(&Request {
        rights: Rights::Recorded(user),
        course,
        watch: Some(prover.watch),
        grace: prover.grace,
        capture,
    })?;
    if matches!(capture, Capture::Pass) {
        report.output =
            report.trace.end.stderr.iter().map(RawText::as_bytes).collect::<Vec<_>>().join(&b'\n');
    }
    let mut profile = classify::profile(&report.trace, &wanted.name);
    let program = report.program.as_encoded_bytes();
    profile.executable = (!program.is_empty()).then(|| RawText::new(program));
    wanted.library.annotate(&mut profile);
    let failure = match report.verdict.clone() {
        Some(Verdict::Failed(failure)) => Some(failure),
        _ => None,
    };
    Ok(Recorded { profile, report, failure })
}

/// The TCP ports that it chose itself: a service that goes on without them does not serve.
fn ports(profile: &Profile) -> Vec<u16> {
    use nrtrace_profiles::event::Protocol;
    let tcp = profile.listens.iter().filter(|listen| listen.protocol == Protocol::Tcp);
    let mut ports: Vec<u16> =
        tcp.filter_map(|listen| listen.port).filter(|port| (1..FIRST_CHOSEN).contains(port)).collect();
    ports.extend(choose::ports(profile));
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Users of the image that a run points to.
fn others(profile: &Profile, image: &Image) -> Vec<Candidate> {
    let hints = becomes(profile).into_iter().chain(owners(profile));
    hints
        .filter_map(|hint| {
            let (uid, gid) = image.account(hint.uid)?;
            Some(((uid, hint.gid.unwrap_or(gid)), format!("{uid}, {}", hint.why)))
        })
        .collect()
}
