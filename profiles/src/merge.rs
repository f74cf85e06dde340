//! Several runs as one profile.
//!
//! A merged profile holds the runs it was made of ([`Profile::runs`]), and everything else in it follows from the *set*
//! of these. So merging is the union of sets: idempotent, commutative and associative, and no run is counted twice,
//! however often and in whatever order profiles are merged.

use std::collections::{BTreeMap, BTreeSet};

use crate::RawText;
use crate::accesses::Accesses;
use crate::classify::{files, unite, unite_unexplained};
use crate::event::{Exit, Greeting, Identity, Mode, Record};
use crate::glob::Pattern;
use crate::profile::{Listen, Profile, Run, Timeline};
use crate::requirement::{Access, Need, Requirement, Seconds, Severity};

/// Profiles that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// There are none.
    #[error("there is nothing to merge")]
    Nothing,
    /// They are of different programs.
    #[error("these are profiles of different programs, {0} and {1}; merge takes several runs of one")]
    Programs(String, String),
    /// They are judged for different users.
    #[error(
        "these profiles are for different users, {0} and {1}, and what one lacks the other may have; trace with the \
         same --as, or judge the recordings anew with nrtrace replay --as"
    )]
    Users(String, String),
}

/// What makes a run the same as another: its id; where it has none, all of it.
type Key = (String, String);

/// The profile of all runs that `profiles` are of. Of one run alone, it is that run's.
///
/// # Errors
/// When they are of different programs or users, or there are none.
pub fn merge<'a>(profiles: impl IntoIterator<Item = &'a Profile>) -> Result<Profile, MergeError> {
    let mut runs = BTreeMap::new();
    for profile in profiles {
        gather(profile, &mut runs);
    }
    let runs: Vec<Profile> = runs.into_values().collect();
    let all: Vec<&Profile> = runs.iter().collect();
    let Some((first, rest)) = all.split_first() else { return Err(MergeError::Nothing) };
    for other in rest {
        if other.name != first.name {
            return Err(MergeError::Programs(first.name.clone(), other.name.clone()));
        }
        if other.identity.user != first.identity.user {
            return Err(MergeError::Users(first.identity.user.clone(), other.identity.user.clone()));
        }
    }
    if rest.is_empty() {
        return Ok((*first).clone());
    }
    Ok(derive(first, &all, runs.clone()))
}

/// The runs a profile is of: those it was merged from, or itself.
pub fn runs(profile: &Profile) -> Vec<Profile> {
    let mut runs = BTreeMap::new();
    gather(profile, &mut runs);
    runs.into_values().collect()
}

fn gather(profile: &Profile, into: &mut BTreeMap<Key, Profile>) {
    if !profile.runs.is_empty() {
        for run in proved_runs(profile) {
            gather(&run, into);
        }
        return;
    }
    let text = if profile.run.id.is_empty() { unproved(profile).to_json() } else { String::new() };
    let key = (profile.run.id.clone(), text);
    match into.get_mut(&key) {
        Some(known) if weight(known) < weight(profile) => known.clone_from(profile),
        Some(_) => {}
        None => {
            into.insert(key, profile.clone());
        }
    }
}

/// The profile as it was before anything was proved of it.
fn unproved(profile: &Profile) -> Profile {
    let mut profile = profile.clone();
    profile.proof = None;
    for requirement in &mut profile.requirements {
        requirement.severity = Severity::Required;
        requirement.proof = None;
    }
    profile
}

/// Of two accounts of one run the one with more proofs counts; any order will do beyond that.
fn weight(profile: &Profile) -> (usize, usize, String) {
    let needs = || profile.requirements.iter();
    let tolerated = needs().filter(|requirement| requirement.severity == Severity::Tolerated).count();
    let proved = needs().filter(|requirement| requirement.proof.is_some()).count();
    (tolerated, proved + usize::from(profile.proof.is_some()), profile.to_json())
}

/// The runs of a merged profile. What was proved of it after it had been merged holds for each of them.
fn proved_runs(merged: &Profile) -> Vec<Profile> {
    let mut runs = merged.runs.clone();
    let Some((first, all)) = runs.first().map(|first| (first, runs.iter().collect::<Vec<_>>())) else {
        return runs;
    };
    let plain = derive(first, &all, Vec::new());
    let is_news = |need: &&Requirement| {
        let before = plain.requirements.iter().find(|other| other.id == need.id);
        before.is_some_and(|before| (before.severity, &before.proof) != (need.severity, &need.proof))
    };
    let news: Vec<&Requirement> = merged.requirements.iter().filter(is_news).collect();
    let whole = merged.proof.clone().filter(|_| merged.proof != plain.proof);
    for run in &mut runs {
        run.proof = whole.clone().or_else(|| run.proof.take());
        for requirement in &mut run.requirements {
            if let Some(need) = place(&merged.requirements, requirement).filter(|need| news.contains(need)) {
                requirement.severity = need.severity;
                // A severity of its own takes no proof away.
                if need.proof.is_some() {
                    requirement.proof.clone_from(&need.proof);
                }
            }
        }
    }
    runs
}

/// The need of a merged profile that a run's need is part of.
fn place<'a>(merged: &'a [Requirement], part: &Requirement) -> Option<&'a Requirement> {
    let find = |is: &dyn Fn(&Requirement) -> bool| merged.iter().find(|need| is(need));
    find(&|need| need.id == part.id)
        .or_else(|| find(&|need| covers(need, part)))
        .or_else(|| find(&|need| settles(need, part)))
}

/// Whether `directory` is one that is written to, and `other` a name in it that varies: merged, they are one need.
fn settles(directory: &Requirement, other: &Requirement) -> bool {
    match (&directory.need, &other.need) {
        (Need::Path { path: directory, access, .. }, Need::Path { path, access: made, .. }) => {
            let made_alone = made.iter().all(|access| matches!(access, Access::Create | Access::Delete));
            access.contains(&Access::Write) && made_alone && files::parent(path) == *directory
        }
        _ => false,
    }
}

/// Whether `general` is the same need as `other`, or a pattern that its name fits.
pub fn covers(general: &Requirement, other: &Requirement) -> bool {
    if general.id == other.id {
        return true;
    }
    match (&general.need, &other.need) {
        (Need::Path { path: pattern, pattern: true, .. }, Need::Path { path, pattern: false, .. }) => {
            Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(path.as_bytes()))
        }
        _ => false,
    }
}

fn derive(first: &Profile, all: &[&Profile], runs: Vec<Profile>) -> Profile {
    let mut notes: Vec<String> = Vec::new();
    for note in all.iter().flat_map(|run| &run.notes) {
        if !notes.contains(note) {
            notes.push(note.clone());
        }
    }
    Profile {
        schema: first.schema.clone(),
        name: first.name.clone(),
        command: first.command.clone(),
        executable: all.iter().find_map(|run| run.executable.clone()),
        identity: identity(first, all),
        run: run(first, all),
        requirements: unite(all),
        listens: listens(all),
        unit: all.iter().find_map(|run| run.unit.clone()),
        container: all.iter().find_map(|run| run.container.clone()),
        unexplained: unite_unexplained(all),
        gave_up: all.iter().find_map(|run| run.gave_up.clone()),
        notes,
        writes: all
            .iter()
            .flat_map(|run| &run.writes)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .cloned()
            .collect(),
        programs: all
            .iter()
            .flat_map(|run| &run.programs)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .cloned()
            .collect(),
        knowledge: all
            .iter()
            .flat_map(|run| &run.knowledge)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .cloned()
            .collect(),
        accesses: accesses(all),
        proof: first.proof.clone().filter(|_| all.iter().all(|run| run.proof == first.proof)),
        runs,
    }
}

/// What the runs did together with the files of `--paths`.
fn accesses(all: &[&Profile]) -> Option<Accesses> {
    let mut each = all.iter().filter_map(|run| run.accesses.as_ref());
    let mut joined = each.next()?.clone();
    each.for_each(|other| joined.join(other));
    Some(joined)
}

/// A user that exists on one of the machines exists; one that was made up may have had other numbers elsewhere.
fn identity(first: &Profile, all: &[&Profile]) -> Identity {
    let known = all.iter().find(|run| run.identity.exists).unwrap_or(&first);
    let groups: BTreeSet<u32> = all.iter().flat_map(|run| &run.identity.groups).copied().collect();
    Identity { groups: groups.into_iter().collect(), ..known.identity.clone() }
}

fn run(first: &Profile, all: &[&Profile]) -> Run {
    let each = || all.iter().map(|profile| &profile.run);
    let kernels: BTreeSet<&str> = each().map(|run| run.kernel.as_str()).collect();
    let environment: BTreeSet<&(RawText, RawText)> = each().flat_map(|run| &run.environment).collect();
    let given: BTreeSet<&(RawText, RawText)> = each().flat_map(|run| &run.given).collect();
    let missing: BTreeSet<_> = each().flat_map(|run| &run.missing_capabilities).copied().collect();
    let sum = |of: fn(&Run) -> u64| each().map(of).fold(0, u64::saturating_add);
    let most_telling = |run: &&Run| match run.mode {
        Mode::Permissive => 0,
        Mode::Observation => 1,
        Mode::Enforced => 2,
    };
    Run {
        id: String::new(),
        mode: each().min_by_key(most_telling).map_or(first.run.mode, |run| run.mode),
        backend: first.run.backend,
        record: if each().any(|run| run.record == Record::Calls) { Record::Calls } else { Record::Needs },
        kernel: kernels.into_iter().collect::<Vec<_>>().join(", "),
        lost: sum(|run| run.lost),
        unresolved: sum(|run| run.unresolved),
        unjudged: sum(|run| run.unjudged),
        complete: each().all(|run| run.complete),
        exit: each().map(|run| run.exit).max_by_key(|exit| rank(*exit)).unwrap_or(first.run.exit),
        said: each()
            .filter(|run| !run.said.is_empty())
            .max_by_key(|run| rank(run.exit))
            .map_or(Vec::new(), |run| run.said.clone()),
        duration: Seconds(sum(|run| run.duration.0)),
        greetings: greetings(all),
        cwd: first.run.cwd.clone(),
        environment: environment.into_iter().cloned().collect(),
        given: given.into_iter().cloned().collect(),
        timeline: timeline(all),
        daemon: each().any(|run| run.daemon),
        attached: each().find_map(|run| run.attached.clone()),
        missing_capabilities: missing.into_iter().collect(),
        unprivileged_port_start: each().map(|run| run.unprivileged_port_start).max().unwrap_or_default(),
    }
}

/// What each run answered.
fn greetings(all: &[&Profile]) -> Vec<Greeting> {
    let each = || all.iter().map(|profile| &profile.run.greetings);
    let mut common = each().next().cloned().unwrap_or_default();
    common.retain(|greeting| each().all(|of_run| of_run.contains(greeting)));
    common
}

/// The worst end counts.
fn rank(exit: Exit) -> (u8, i64) {
    match exit {
        Exit::Running => (0, 0),
        Exit::Stopped { status } => (1, status.map_or(0, i64::from)),
        Exit::Exited { status: 0 } => (2, 0),
        Exit::Exited { status } => (3, status.into()),
        Exit::Signaled { signal } => (4, signal.into()),
    }
}

fn listens(all: &[&Profile]) -> Vec<Listen> {
    let mut places: BTreeMap<_, BTreeSet<RawText>> = BTreeMap::new();
    for listen in all.iter().flat_map(|run| &run.listens) {
        let place = (listen.protocol, listen.address.clone(), listen.port);
        places.entry(place).or_default().extend(listen.processes.iter().cloned());
    }
    let listen = |((protocol, address, port), processes): ((_, _, _), BTreeSet<RawText>)| Listen {
        protocol,
        address,
        port,
        processes: processes.into_iter().collect(),
    };
    places.into_iter().map(listen).collect()
}

/// The latest of each, and what all of them did; nothing where no run has one.
fn timeline(all: &[&Profile]) -> Option<Timeline> {
    all.iter().filter_map(|run| run.run.timeline).reduce(|one, other| Timeline {
        ready: one.ready.max(other.ready),
        exercised: one.exercised.max(other.exercised),
        stopping: one.stopping.max(other.stopping),
        last_privileged: one.last_privileged.max(other.last_privileged),
        notified: one.notified && other.notified,
    })
}
