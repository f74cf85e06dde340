//! From the first run to a profile that the program lives with: whom it runs as, and what it may have missed.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use nrtrace_profiles::RawText;
use nrtrace_profiles::classify;
use nrtrace_profiles::event::{Identity, Mode, Protocol};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::prove::{judge, suspects, users, ways};
use nrtrace_profiles::requirement::{Basis, Need, Requirement, Severity};
use nrtrace_tracer::course::{Capture, FIRST_CHOSEN, Failure, Greets, Verdict};
use nrtrace_tracer::launch::IdentityPolicy;
use nrtrace_tracer::trial::{self, Report, Rights};

use super::bench::last_words;
use super::given::course;
use super::greeted::{self, as_root};
use super::minimize::beside;
use super::prover::{Prover, TrialPlace, end_again};
use super::task::ProofTask;
use super::users::{Candidate, made, others};
use super::verify::{self, Hints, Verified, ready_timeout};
use crate::configuration;
use crate::hidden;
use crate::origin;
use crate::programs;
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
pub fn choose(wanted: &ProofTask<'_>, prover: &Prover) -> Result<Chosen> {
    let is_asked = prover.private_network && wanted.args.course.exercise.is_none();
    let (as_root, first) = beside(
        is_asked,
        || if is_asked { as_root(prover, &wanted.identity) } else { Vec::new() },
        || record(wanted, prover, &wanted.identity, wanted.policy, None, Capture::Pass),
    );
    let first = first?;
    let prover = &Prover { as_root, ..prover.clone() };
    if wanted.args.subject.user.is_some() {
        return Ok(live(wanted, prover, first)?.0);
    }
    let program =
        wanted.args.command.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default();
    let shown = Trials::new(&wanted.name, &wanted.args.results.talk);
    let waiting = VecDeque::from(others(&first.profile, program));
    let side_by_side = prover.private_network && first.failure.is_none() && !waiting.is_empty();
    let first = move || live(wanted, prover, first);
    std::thread::scope(|scope| {
        // Trials mostly wait: the first user's cost no time beside those of others.
        let last: Box<dyn FnOnce() -> Result<(Chosen, Vec<Profile>)>> = if side_by_side {
            let first = scope.spawn(first);
            Box::new(|| first.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        } else {
            Box::new(first)
        };
        Ok(best(tried(wanted, prover, (waiting, program), last, &shown)?, &shown))
    })
}

/// Tries users, and if none of them needs nothing, the one who is `last`.
fn tried(
    wanted: &ProofTask<'_>,
    prover: &Prover,
    (mut waiting, program): (VecDeque<Candidate>, &str),
    last: impl FnOnce() -> Result<(Chosen, Vec<Profile>)>,
    shown: &Trials,
) -> Result<Vec<Tried>> {
    let (mut last, mut tried) = (Some(last), Vec::new());
    let mut known: BTreeSet<(u32, u32)> = BTreeSet::new();
    loop {
        let next = if known.len() < MOST && !prover.patience.is_over() { waiting.pop_front() } else { None };
        let (who, is_weak, (chosen, seen)) = match next {
            Some(Candidate { identity, .. }) if !known.insert((identity.uid, identity.gid)) => continue,
            Some(Candidate { identity, why, is_weak }) => {
                let identity = Identity { groups: wanted.identity.groups.clone(), ..identity };
                let who = format!("{}, {why}", identity.user);
                shown.say(&format!("running as {who}"));
                let recorded = record(wanted, prover, &identity, wanted.policy, None, Capture::Keep)?;
                (who, is_weak, live(wanted, prover, recorded)?)
            }
            None => match last.take() {
                Some(last) => ("a new user".to_owned(), false, last()?),
                None => return Ok(tried),
            },
        };
        let (lives, cost) = (chosen.verified.lives(), users::cost(&chosen.profile));
        tried.push(Tried { who, is_weak, chosen });
        if lives && cost == 0 && !is_weak {
            return Ok(tried);
        }
        if !lives {
            // A run that went further, or its trials, may point to somebody else.
            waiting.extend(seen.iter().flat_map(|profile| others(profile, program)));
        }
    }
}

/// A user, and what came of it.
pub struct Tried {
    pub who: String,
    pub is_weak: bool,
    pub chosen: Chosen,
}

/// The one that lives with the fewest needs, of equals the first, but a new user before one that files are only given to; if
/// none lives, the first as whom it was ready, or else could be tried at all. All are told of where there are several.
pub fn best(mut tried: Vec<Tried>, shown: &Trials) -> Chosen {
    let words =
        |Tried { who, chosen, .. }: &Tried| match (&chosen.verified.failure, users::cost(&chosen.profile)) {
            (None, 1) => format!("as {who}: 1 need"),
            (None, needs) => format!("as {who}: {needs} needs"),
            (Some(failure), _) => format!("as {who}: it {failure}"),
        };
    let told = tried.iter().map(words).collect::<Vec<_>>().join("; ");
    let rank = |Tried { is_weak, chosen, .. }: &Tried| {
        let (lives, trials) = (chosen.verified.lives(), chosen.verified.trials);
        let far = chosen.verified.failure.as_ref().is_none_or(Failure::was_ready);
        (!lives, trials == 0, !far, if lives { users::cost(&chosen.profile) } else { 0 }, *is_weak)
    };
    let place = (0..tried.len()).min_by_key(|place| tried.get(*place).map(rank)).unwrap_or_default();
    let several = tried.len() > 1;
    let mut chosen = tried.swap_remove(place).chosen;
    if several {
        shown.note(&told);
        chosen.profile.notes.push(told);
    }
    chosen
}

/// Proves what a run showed; one that failed is repeated first, with what it may have missed. What further runs and trials
/// showed comes with it.
fn live(wanted: &ProofTask<'_>, prover: &Prover, mut recorded: Recorded) -> Result<(Chosen, Vec<Profile>)> {
    let made = made(&recorded.profile);
    let mut prover = prover.clone();
    prover.lasts = outlasting(&recorded);
    prover.grace = end_again(&recorded.profile, prover.grace);
    if recorded.failure.is_some() {
        recorded = repeat(wanted, &prover, recorded, &made)?;
    }
    let Recorded { mut profile, report, failure, suspected, mut seen } = recorded;
    profile.run.greetings = greeted::wanted(&profile, &prover.as_root);
    origin::note(&mut profile, &report.trace);
    let recorded_well = failure.is_none();
    if let Some(verified) = failure.and_then(|failure| without_trial(&prover, &mut profile, failure, report))
    {
        return Ok((Chosen { prover, profile, verified }, seen));
    }
    prover.course = course(&wanted.args.course, &profile, None);
    if !prover.settles {
        prover.course.settle = prover.course.settle.max(prover.lasts);
    }
    if recorded_well {
        if prover.learns_ports {
            prover.course.readiness.ports = listened(&profile);
        }
        prover.patience = Arc::default();
        if prover.course.readiness.is_empty() {
            prover.course.readiness.ports = ports(&profile);
        }
        prover.course.ready_timeout = ready_timeout(&prover, &profile, None);
    }
    let hints = Hints { made, suspected };
    let verified = verify::verify(&prover, &mut profile, Some(&hints), &wanted.args.results.talk)?;
    if verified.lives() {
        if greeted::improved(&mut profile, &verified.report) {
            prover.course.greets = Greets::As(profile.run.greetings.clone());
        }
        prover.course.ready_timeout = ready_timeout(&prover, &profile, Some(&verified));
    }
    seen.push(profile.clone());
    Ok((Chosen { prover, profile, verified }, seen))
}

/// Notes how a run came short; where no grant gives it more, what it came to without a trial.
pub fn without_trial(
    prover: &Prover,
    profile: &mut Profile,
    failure: Failure,
    report: Report,
) -> Option<Verified> {
    let goes_on = judge::gives_more(profile, &prover.choices);
    profile.notes.push(came_short(profile, &failure, &report, goes_on));
    (!goes_on).then(|| Verified::without_trial(failure, report))
}

/// A program that died some time after it was ready, of something that it missed, may do so in each trial: several times as
/// long tells.
fn outlasting(recorded: &Recorded) -> Duration {
    match recorded.failure {
        Some(Failure::NoLongerReady { .. } | Failure::Ended { was_ready: None | Some(true), .. }) => {
            Duration::from_nanos(recorded.report.trace.end.duration) * 3
        }
        _ => Duration::ZERO,
    }
}

/// The ports that take a right to bind: where nothing else tells when the program is ready, it is not without them.
pub fn ports(profile: &Profile) -> Vec<u16> {
    let needs = profile.requirements.iter().filter(|known| known.severity == Severity::Required);
    let ports: BTreeSet<u16> = needs
        .filter_map(|known| match known.need {
            Need::Port { port, .. } => Some(port),
            _ => None,
        })
        .collect();
    ports.into_iter().collect()
}

/// The ports on which it listened: a service that does no more is none. What the kernel chose is another one each time.
fn listened(profile: &Profile) -> Vec<u16> {
    let of_network =
        profile.listens.iter().filter(|listen| matches!(listen.protocol, Protocol::Tcp | Protocol::Udp));
    let ports: BTreeSet<u16> = of_network.filter_map(|listen| listen.port).collect();
    ports.into_iter().filter(|port| (1..FIRST_CHOSEN).contains(port)).collect()
}

/// Runs the program as a user who is refused nothing, with the files of a profile made beforehand.
fn record(
    wanted: &ProofTask<'_>,
    prover: &Prover,
    identity: &Identity,
    policy: IdentityPolicy,
    prepared: Option<&Profile>,
    capture: Capture,
) -> Result<Recorded> {
    let shown = Trials::new(&wanted.name, &wanted.args.results.talk);
    shown.say("running in a sandbox, refused nothing");
    let prepared = prepared.map(|profile| Box::new(profile.clone()));
    let rights = Rights::Recorded { identity: identity.clone(), mode: Mode::Permissive, policy, prepared };
    let mut request = prover.request(rights, prover.patience.course(&prover.course), true, capture);
    let TrialPlace::Machine(lender) = &prover.place else { bail!("an image is recorded in its container") };
    if wanted.args.course.exercise.is_none() {
        request.course.iter_mut().for_each(|course| course.greets = Greets::Anybody);
    }
    let mut report = trial::run(&request, lender)?;
    if greeted::is_ended_by_client(&report) {
        shown.say("a client ended it; running again without");
        request.course.iter_mut().for_each(|course| course.greets = Greets::Nobody);
        report = trial::run(&request, lender)?;
    }
    prover.patience.learn(report.verdict.as_ref());
    let mut profile = classify::profile(&report.trace, &wanted.name);
    if let Some(unit) = &wanted.unit {
        // The unit sets them already.
        profile.run.given.clear();
        profile.unit = Some(unit.kept.clone());
    }
    let program = std::fs::canonicalize(&report.program).ok();
    profile.executable = program.map(|path| RawText::new(path.into_os_string().into_encoded_bytes()));
    profile.notes.extend(report.remarks.iter().cloned().chain(hidden::services(&report.trace)));
    configuration::annotate(&mut profile, &report.trace, &wanted.library);
    programs::note(&mut profile);
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
/// changes how it ends; and where it ended by itself all the same, once more told that it is root. What was of no use is left
/// out of the result.
fn repeat(wanted: &ProofTask<'_>, prover: &Prover, first: Recorded, made: &[RawText]) -> Result<Recorded> {
    let shown = Trials::new(&wanted.name, &wanted.args.results.talk);
    let mut repeated = Repeated::new(wanted, prover, &first, made);
    let mut found = repeated.until_it_lives(&shown)?;
    if found.is_none() && !repeated.waited && matches!(first.failure, Some(Failure::Ended { .. })) {
        // A setting of its own is better than to believe what is not so.
        for by_setting in [true, false] {
            if found.is_none() && repeated.as_root(by_setting, &first) {
                let words = if by_setting {
                    "by its own setting for who is not root"
                } else {
                    "told that it is root"
                };
                shown.say(&format!("it ended by itself; running again, {words}"));
                found = match repeated.once(&shown)? {
                    None => repeated.until_it_lives(&shown)?,
                    lives => lives,
                };
            }
        }
    }
    if found.is_none() && !repeated.suspected.is_empty() {
        shown.note(&format!("tried in vain: {}", repeated.suspected.join(", ")));
    }
    let Repeated { suspected, seen, .. } = repeated;
    Ok(match found {
        Some(lives) => Recorded { suspected, seen, ..lives },
        None => Recorded { seen, ..first },
    })
}

/// Runs of a program that failed in its first one.
struct Repeated<'a> {
    wanted: &'a ProofTask<'a>,
    prover: &'a Prover,
    made: &'a [RawText],
    policy: IdentityPolicy,
    /// What is made and given beforehand.
    prepared: Profile,
    /// The last run.
    last: Profile,
    /// Whether time had run out in it.
    waited: bool,
    /// Ids of what was not there, and of what was suspected.
    absent: BTreeSet<String>,
    suspected: Vec<String>,
    seen: Vec<Profile>,
}

impl<'a> Repeated<'a> {
    fn new(wanted: &'a ProofTask<'a>, prover: &'a Prover, first: &Recorded, made: &'a [RawText]) -> Self {
        Self {
            wanted,
            prover,
            made,
            policy: wanted.policy,
            prepared: first.profile.clone(),
            last: first.profile.clone(),
            waited: first.failure.as_ref().is_some_and(Failure::is_timeout),
            absent: BTreeSet::new(),
            suspected: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Begins anew, with what serves a program that insists on being root: a setting of its own, or being told that it is. Whether
    /// there is such a thing.
    fn as_root(&mut self, by_setting: bool, first: &Recorded) -> bool {
        let root = suspects::root();
        let mut prepared = first.profile.clone();
        judge::add(&mut prepared, &root);
        let mut policy = IdentityPolicy::Root;
        if by_setting {
            configuration::annotate_known(&mut prepared, &self.wanted.library);
            let Some(other) = ways::next(&prepared, &root.id, &self.prover.choices) else { return false };
            (prepared, policy) = (other, self.wanted.policy);
        }
        let seen = std::mem::take(&mut self.seen);
        *self = Self { seen, prepared, policy, ..Self::new(self.wanted, self.prover, first, self.made) };
        self.suspected.push(root.id);
        true
    }

    /// Runs it with more and more, while there is something more.
    fn until_it_lives(&mut self, shown: &Trials) -> Result<Option<Recorded>> {
        for turn in 0..MOST_REPEATED {
            // To wait in vain takes long.
            if self.waited && turn > 0 {
                break;
            }
            // What was not there is told by the run itself, and comes before all that is only suspected.
            let before = self.absent.len();
            let absent = self.last.requirements.iter().filter(|known| is_wanting(known));
            self.absent.extend(absent.map(|known| known.id.clone()));
            let wanting = self.absent.len() > before;
            let tried = self.suspected.iter().cloned().collect();
            let more = if wanting {
                Vec::new()
            } else {
                suspects::suspects(&self.prepared, &self.last, self.made, &tried)
            };
            if more.is_empty() && !wanting {
                break;
            }
            self.suspected.extend(more.iter().map(|suspect| suspect.id.clone()));
            more.iter().for_each(|suspect| judge::add(&mut self.prepared, suspect));
            let words: Vec<String> = more.iter().map(suspects::words).collect();
            let words = if words.is_empty() { "what it did not find".to_owned() } else { words.join(", ") };
            shown.say(&format!("it ended by itself; running again with {words}"));
            if let Some(lives) = self.once(shown)? {
                return Ok(Some(lives));
            }
        }
        Ok(None)
    }

    /// One more run, with what is prepared; `None` when it failed as well.
    fn once(&mut self, shown: &Trials) -> Result<Option<Recorded>> {
        let identity = self.prepared.identity.clone();
        let (prepared, policy) = (Some(&self.prepared), self.policy);
        let mut again = record(self.wanted, self.prover, &identity, policy, prepared, Capture::Keep)?;
        self.seen.push(std::mem::replace(&mut self.last, again.profile.clone()));
        let kept = |known: &&Requirement| known.severity == Severity::Required;
        // What was made beforehand was not refused this time: what it took is known from the run before.
        self.prepared
            .requirements
            .iter()
            .filter(kept)
            .for_each(|known| judge::add(&mut again.profile, known));
        configuration::annotate_known(&mut again.profile, &self.wanted.library);
        let Some(failure) = &again.failure else { return Ok(Some(again)) };
        shown.say(&format!("it {failure}: {}", last_words(&again.report)));
        self.waited = failure.is_timeout();
        self.prepared = again.profile;
        Ok(None)
    }
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
    terminal::note(&format!("{}: {note}: {then}", profile.name));
    note
}
