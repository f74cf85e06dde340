//! Does the program live with what the profile grants?

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use nrtrace_profiles::RawText;
use nrtrace_profiles::classify;
use nrtrace_profiles::event::FileType;
use nrtrace_profiles::grants::Method;
use nrtrace_profiles::profile::{Profile, Written};
use nrtrace_profiles::proof::ProfileProof;
use nrtrace_profiles::prove::{self, Trial, conclude, judge, refused, suspects, without};
use nrtrace_profiles::requirement::{Requirement, Severity};
use nrtrace_tracer::course::{Failure, Verdict};
use nrtrace_tracer::image::Image;
use nrtrace_tracer::trial::Report;

use super::prover::Prover;
use crate::args::Talk;
use crate::progress::Trials;
use nrtrace_profiles::calls;

/// A trial that fails without a reason to be seen is repeated so often: the program may be flaky.
const RETRIES: u32 = 2;
/// So often it is suspected what the program may have missed.
const MOST_SUSPICIONS: u32 = 3;
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

    /// Whether it lived each time that it had all that is granted.
    pub fn is_proved(&self) -> bool {
        self.lives() && self.flaked == 0
    }
}

/// What is known of the machine that trials may try.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// Directories that the program's packages would have made.
    pub made: Vec<RawText>,
    /// Ids of suspects that are in the profile already, on trial.
    pub suspected: Vec<String>,
}

/// Makes trials until the program lives; with `hints`, what it was refused is added to the profile meanwhile, other ways
/// are taken, and what it may have missed is tried.
pub fn verify(
    prover: &Prover,
    profile: &mut Profile,
    hints: Option<&Hints>,
    talk: &Talk,
) -> Result<Verified> {
    let shown = Trials::new(&profile.name, talk);
    let added = hints.map(|hints| hints.suspected.clone()).unwrap_or_default();
    let mut growth = Growth { tried: added.iter().cloned().collect(), added, suspicions: 0 };
    let (mut trials, mut flaked, mut retries) = (0, 0, 0);
    let mut verified = loop {
        shown.say(&format!("trial {} with what the profile grants", trials + 1));
        let (report, refused, seen, failure) = attempt(prover, profile)?;
        trials += 1;
        let Some(failure) = failure else {
            let added = growth.added;
            break Verified { failure: None, report, refused, added, trials, flaked };
        };
        if let Some(hints) = hints
            && let Some(step) = growth.step(prover, profile, &refused, &seen, hints)
        {
            shown.say(&step);
            (retries, flaked) = (0, 0);
        } else if retries < RETRIES && !(failure.is_timeout() && retries > 0) {
            // It takes long to wait in vain, and is rarely bad luck.
            retries += 1;
            flaked += 1;
        } else {
            growth.give_up(profile, &shown);
            let failure = Some(failure);
            break Verified { failure, report, refused, added: growth.added, trials, flaked: 0 };
        }
    };
    if verified.lives() {
        reduce(prover, profile, &mut verified, &growth.tried, &shown)?;
        conclude::lived(profile, &verified.refused);
        conclude::tried(profile, &growth.tried);
    }
    let hardening = profile.proof.take().map(|proof| proof.hardening).unwrap_or_default();
    profile.proof = Some(ProfileProof { hardening, ..proof(prover, &verified) });
    Ok(verified)
}

/// What a profile is given beyond what the first run showed, until the program lives.
struct Growth {
    /// Ids of what was added.
    added: Vec<String>,
    /// Of these, what no refusal told of.
    tried: BTreeSet<String>,
    /// How often something was suspected.
    suspicions: u32,
}

impl Growth {
    /// The next thing to try, after a trial that failed; in words, or `None` when there is nothing.
    fn step(
        &mut self,
        prover: &Prover,
        profile: &mut Profile,
        refused: &Trial,
        seen: &Profile,
        hints: &Hints,
    ) -> Option<String> {
        let next = refused.missing.iter().find(|missing| !is_in_vain(missing, profile, &self.added));
        if let Some(missing) = next.filter(|_| self.added.len() < MOST_ADDED) {
            self.added.push(missing.id.clone());
            judge::add(profile, missing);
            return Some(format!("adding {}", missing.id));
        }
        if let Some((id, other)) = refused
            .insufficient
            .iter()
            .find_map(|(id, _)| Some((id, prove::ways::next(profile, id, &prover.choices)?)))
        {
            *profile = other;
            return Some(format!("trying another way for {id}"));
        }
        let before = profile.writes.len();
        let root = prover.place.image().map_or(Path::new("/"), Image::root);
        profile.writes.extend(closed(seen, &profile.writes, root));
        if profile.writes.len() > before {
            return Some("leaving writable what it would write to".to_owned());
        }
        if self.suspicions == MOST_SUSPICIONS {
            return self.without_root(profile);
        }
        self.suspicions += 1;
        let suspects = suspects::suspects(profile, seen, &hints.made, &self.tried);
        if suspects.is_empty() {
            return self.without_root(profile);
        }
        suspects.iter().for_each(|suspect| judge::add(profile, suspect));
        self.added.extend(suspects.iter().map(|suspect| suspect.id.clone()));
        self.tried.extend(suspects.iter().map(|suspect| suspect.id.clone()));
        let words: Vec<String> = suspects.iter().map(suspects::words).collect();
        Some(format!("nothing was refused that explains it; trying {}", words.join(", ")))
    }

    /// What lets a run go on that is refused nothing may be what ends a trial: a program that believes to be root asks for
    /// what only root has.
    fn without_root(&mut self, profile: &mut Profile) -> Option<String> {
        let root = suspects::root();
        let of_root = profile.requirements.iter_mut().find(|known| known.id == root.id);
        if let Some(known) = of_root.filter(|known| known.way == Some(Method::Configure)) {
            known.way = root.way;
            return Some(
                "trying without its own setting for who is not root, but telling it that it is".into(),
            );
        }
        let root = root.id;
        if !self.tried.remove(&root) {
            return None;
        }
        self.added.retain(|id| *id != root);
        profile.requirements.retain(|known| known.id != root);
        Some("trying without telling it that it is root".to_owned())
    }

    /// What was suspected is refuted by the end.
    fn give_up(&mut self, profile: &mut Profile, shown: &Trials) {
        if self.tried.is_empty() {
            return;
        }
        let tried: Vec<&str> = self.tried.iter().map(String::as_str).collect();
        shown.note(&format!("tried in vain: {}", tried.join(", ")));
        self.added.retain(|id| !self.tried.contains(id));
        profile.requirements.retain(|known| !self.tried.contains(&known.id));
    }
}

/// Places that the unit alone keeps the program from writing to, by `ProtectSystem=strict`: the user's own rights are
/// enough.
fn closed(seen: &Profile, known: &[Written], root: &Path) -> Vec<Written> {
    let refused =
        seen.unexplained.iter().filter(|entry| entry.outcome == "EROFS" && !calls::removes(&entry.call));
    let written = refused.filter_map(|entry| {
        let path = Path::new(OsStr::from_bytes(entry.object.as_bytes()));
        let facts = |path: &Path| root.join(path.strip_prefix("/").ok()?).metadata().ok();
        let (path, metadata) = match facts(path) {
            Some(metadata) => (path, metadata),
            None => (path.parent()?, facts(path.parent()?)?),
        };
        // The kernel says that a mount is read-only before it looks at owner and mode.
        if !seen.identity.may_write(metadata.uid(), metadata.gid(), metadata.mode()) {
            return None;
        }
        let file_type = if metadata.is_dir() { FileType::Directory } else { FileType::File };
        let path = RawText::new(path.as_os_str().as_bytes());
        Some(Written { path, file_type, made: false })
    });
    let mut closed: Vec<Written> = written.filter(|place| !known.contains(place)).collect();
    closed.dedup();
    closed
}

/// One trial that is watched: what it showed, what it was refused, and why it failed.
fn attempt(prover: &Prover, profile: &Profile) -> Result<(Report, Trial, Profile, Option<Failure>)> {
    let report = prover.trial(profile, &prover.patience.course(&prover.course), true)?;
    prover.patience.learn(report.verdict.as_ref());
    let seen = classify::profile(&report.trace, &profile.name);
    let mut refused = refused(profile, &seen);
    refused.untried = report.on_shares.clone();
    refused.withheld = report.withheld.clone();
    refused.by_volume = report.by_volume.clone();
    let failure = match &report.verdict {
        Some(Verdict::Failed(failure)) => Some(failure.clone()),
        _ if refused.beyond.is_empty() => None,
        _ => Some(Failure::Beyond { ids: refused.beyond.clone() }),
    };
    Ok((report, refused, seen, failure))
}

/// Whether a need has been added already and is refused all the same.
fn is_in_vain(missing: &Requirement, profile: &Profile, added: &[String]) -> bool {
    added.contains(&missing.id)
        && profile
            .requirements
            .iter()
            .any(|known| known.id == missing.id && known.severity == Severity::Required)
}

/// Takes away again what was added before the reason was found. What was only suspected leaves nothing behind.
fn reduce(
    prover: &Prover,
    profile: &mut Profile,
    verified: &mut Verified,
    tried: &BTreeSet<String>,
    shown: &Trials,
) -> Result<()> {
    if verified.added.len() < 2 && verified.flaked == 0 && tried.is_empty() {
        return Ok(());
    }
    let mut refuted = Vec::new();
    for id in verified.added.clone() {
        let mut less = without(profile, &BTreeSet::from([id.clone()]));
        // It died without what was suspected, so that a single life says little.
        let times = if tried.contains(&id) { 2 } else { 1 };
        let mut lived = None;
        for _ in 0..times {
            let (report, refused, _, failure) = attempt(prover, &less)?;
            verified.trials += 1;
            lived = failure.is_none().then_some((report, refused));
            if lived.is_none() {
                break;
            }
        }
        if let Some(last) = lived {
            if tried.contains(&id) {
                less.requirements.retain(|known| known.id != id);
                refuted.push(id.clone());
            }
            *profile = less;
            verified.added.retain(|added| *added != id);
            (verified.report, verified.refused) = last;
        }
    }
    if !refuted.is_empty() {
        shown.note(&format!("suspected, and it lives without: {}", refuted.join(", ")));
    }
    Ok(())
}

fn proof(prover: &Prover, verified: &Verified) -> ProfileProof {
    ProfileProof {
        lives: verified.is_proved(),
        minimal: false,
        readiness: prover.course.readiness.words(),
        exercise: prover.course.exercise.as_ref().map(|text| text.display().to_string()),
        greetings: prover.greetings(),
        settled: prover.course.settle.into(),
        trials: verified.trials,
        took: None,
        flaked: verified.flaked,
        hardening: BTreeSet::new(),
        image: prover.tried_image(),
        not_applied: verified.report.not_applied.clone(),
    }
}

/// How long a trial waits for readiness: several times what the run or the last trial took.
pub(super) fn ready_timeout(prover: &Prover, profile: &Profile, verified: Option<&Verified>) -> Duration {
    let given = prover.course.ready_timeout;
    readied(profile, verified).map_or(given, |took| (took * 8 + Duration::from_secs(4)).min(given))
}

/// How long a trial waits for who only sleeps: longer than it took to be ready as a whole.
pub(super) fn asleep(profile: &Profile, verified: Option<&Verified>) -> Option<Duration> {
    readied(profile, verified).map(|took| took * 2 + Duration::from_secs(1))
}

/// How long the run or the last trial took to be ready.
fn readied(profile: &Profile, verified: Option<&Verified>) -> Option<Duration> {
    let recorded = profile.run.timeline.and_then(|timeline| timeline.ready).map(|took| took.0);
    let tried = verified.and_then(|verified| verified.report.trace.end.milestones?.ready);
    recorded.max(tried).map(Duration::from_nanos)
}

/// Notes how long the trials took.
pub(super) fn took(profile: &mut Profile, started: Instant) {
    if let Some(proof) = &mut profile.proof {
        proof.took = Some(started.elapsed().into());
    }
}
