//! What a trial says about a profile.

use std::collections::BTreeSet;

use crate::calls;
use crate::event::{Exit, Mode, Phase};
use crate::grants::Choices;
use crate::profile::Profile;
use crate::requirement::{Access, Basis, IdentityOperation, Need, Requirement, Severity};
use crate::ways::plan;

/// What was refused in a trial, compared with what the profile grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// Refused, and not granted; the last one first.
    pub missing: Vec<Requirement>,
    /// Granted, and refused all the same: the grant is not enough, or it gives a part of the need only. The id, and what
    /// was refused of it.
    pub insufficient: Vec<(String, BTreeSet<Access>)>,
    /// Refused once the program had been told to stop: the ids, and what was refused.
    pub at_the_end: Vec<(String, BTreeSet<Access>)>,
    /// Low ports that it bound by the capability for others, which `SocketBindDeny=` of the unit would have refused: the
    /// ids, which are among the missing.
    pub beyond: Vec<String>,
    /// Ids of needs that it says nothing about: they were neither granted nor taken away in it.
    pub untried: BTreeSet<String>,
    /// Ids of needs that are granted where they can be, and were not in it.
    pub withheld: BTreeSet<String>,
    /// Ids of needs that were met in it, and that the plan for a machine does not grant.
    pub by_volume: BTreeSet<String>,
}

impl Trial {
    /// Whether all that was refused of a need that is granted is to remove it.
    pub fn keeps_from_removing(&self, id: &str) -> bool {
        let mut refused = self.insufficient.iter().filter(|(of, _)| of == id).peekable();
        refused.peek().is_some() && refused.all(|(_, access)| access.iter().eq([&Access::Delete]))
    }
}

/// Compares the recording of a trial, classified as `seen`, with the profile whose grants it ran with.
pub fn refused(profile: &Profile, seen: &Profile) -> Trial {
    let mut trial = Trial { missing: beyond(profile, seen), ..Trial::default() };
    trial.beyond = trial.missing.iter().map(|found| found.id.clone()).collect();
    for requirement in seen.requirements.iter().filter(|found| was_refused(found)) {
        let access = access_of(&requirement.need);
        let known = profile.requirements.iter().find(|known| is_same(known, requirement));
        let granted = known.filter(|known| known.severity == Severity::Required);
        if requirement.phase == Phase::Shutdown {
            let id = known.map_or(&requirement.id, |known| &known.id).clone();
            trial.at_the_end.push((id, access));
            continue;
        }
        match granted {
            Some(granted) if access.is_subset(&access_of(&granted.need)) => {
                trial.insufficient.push((granted.id.clone(), access));
            }
            _ => trial.missing.push(requirement.clone()),
        }
    }
    for (id, phase) in kept_from_removing(profile, seen) {
        let refused = (id.clone(), BTreeSet::from([Access::Delete]));
        if phase == Phase::Shutdown {
            trial.at_the_end.push(refused)
        } else {
            trial.insufficient.push(refused)
        }
    }
    trial.missing.sort_by(|a, b| b.evidence.last.cmp(&a.evidence.last).then_with(|| a.id.cmp(&b.id)));
    trial
}

/// The low ports that were bound although the profile names other ones only.
fn beyond(profile: &Profile, seen: &Profile) -> Vec<Requirement> {
    let port_of = |requirement: &Requirement| match requirement.need {
        Need::Port { protocol, port, .. } => Some((protocol, port)),
        _ => None,
    };
    let required = profile.requirements.iter().filter(|known| known.severity == Severity::Required);
    let named: Vec<_> = required.filter_map(port_of).collect();
    let other = |found: &&Requirement| port_of(found).is_some_and(|port| !named.contains(&port));
    // Without a port that is named, there is no capability to bind one with.
    let bound = seen.requirements.iter().filter(|found| !named.is_empty() && !was_refused(found));
    bound.filter(other).cloned().collect()
}

/// What is made beforehand in a directory that the unit keeps read-only cannot be removed: which needs, and when.
fn kept_from_removing<'a>(
    profile: &'a Profile,
    seen: &'a Profile,
) -> impl Iterator<Item = (&'a String, Phase)> {
    let removals =
        seen.unexplained.iter().filter(|refused| refused.outcome == "EROFS" && calls::removes(&refused.call));
    removals.filter_map(|refused| {
        let is_it = |known: &&Requirement| match &known.need {
            // One that it only makes was not there to be removed in the recorded run.
            Need::Path { path, access, .. } => {
                let made = [Access::Create, Access::Delete].iter().any(|change| access.contains(change));
                *path == refused.object && made
            }
            _ => false,
        };
        let known =
            profile.requirements.iter().filter(|known| known.severity == Severity::Required).find(is_it)?;
        Some((&known.id, refused.phase))
    })
}

/// A check that a grant has answered is no refusal.
fn was_refused(found: &Requirement) -> bool {
    found.evidence.outcomes.keys().any(|outcome| matches!(outcome.as_str(), "EACCES" | "EPERM" | "EROFS"))
}

/// Whether a program that failed in its recorded run, with every right, is given something in a trial that it had not
/// there: what it was refused all the same, a directory that was not there, another setting; or whether its changes of
/// identity, which may have been answered and not done, end otherwise.
pub fn gives_more(profile: &Profile, choices: &Choices) -> bool {
    let lacked = |requirement: &Requirement| {
        let identity = matches!(requirement.need, Need::Identity { .. });
        identity || (requirement.basis == Basis::Denied && requirement.severity == Severity::Required)
    };
    let plan = plan(profile, choices);
    let set = !plan.environment.is_empty() || !plan.directives.is_empty();
    set || profile.requirements.iter().any(lacked)
}

/// How the recorded run ended, if it failed by itself although it had every right.
pub fn recorded_failure(profile: &Profile) -> Option<Exit> {
    let exit = profile.run.exit;
    (profile.run.mode == Mode::Permissive && exit.is_failure()).then_some(exit)
}

fn access_of(need: &Need) -> BTreeSet<Access> {
    match need {
        Need::Path { access, .. } | Need::Device { access, .. } => access.clone(),
        _ => BTreeSet::new(),
    }
}

/// Whether a requirement of the profile is about what was refused: the same, or a pattern for its name.
fn is_same(known: &Requirement, refused: &Requirement) -> bool {
    match (&known.need, &refused.need) {
        (Need::Path { path, pattern: true, .. }, Need::Path { path: name, pattern: false, .. }) => {
            matches(path.as_bytes(), name.as_bytes())
        }
        // Where the call was refused, the list of groups is not always told.
        (
            Need::Identity { operation: IdentityOperation::SetGroups, .. },
            Need::Identity { operation: IdentityOperation::SetGroups, ids, .. },
        ) => ids.is_empty() || known.id == refused.id,
        _ => known.id == refused.id,
    }
}

/// Whether a path matches a pattern of [`Need::Path`], where `*` is a part of one name.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'[', literal, b']', rest @ ..] => {
            name.split_first().is_some_and(|(c, tail)| c == literal && matches(rest, tail))
        }
        [b'*', rest @ ..] => {
            let end = name.iter().position(|c| *c == b'/').unwrap_or(name.len());
            (0..=end).any(|skipped| matches(rest, name.get(skipped..).unwrap_or_default()))
        }
        [c, rest @ ..] => name.split_first().is_some_and(|(first, tail)| first == c && matches(rest, tail)),
    }
}

/// Adds a need that a trial was refused to the profile, as required.
pub fn add(profile: &mut Profile, refused: &Requirement) {
    let added = Requirement { severity: Severity::Required, proof: None, ..refused.clone() };
    match profile.requirements.iter_mut().find(|known| is_same(known, refused)) {
        Some(known) => {
            if let (
                Need::Path { access, .. } | Need::Device { access, .. },
                Need::Path { access: more, .. } | Need::Device { access: more, .. },
            ) = (&mut known.need, &refused.need)
            {
                access.extend(more);
            }
            known.evidence.calls.extend(refused.evidence.calls.iter().cloned());
            known.severity = Severity::Required;
            known.proof = None;
        }
        None => {
            let place = profile.requirements.partition_point(|known| order(known) < order(&added));
            profile.requirements.insert(place, added);
        }
    }
}

/// The order of a profile's requirements: by kind, then by id.
fn order(requirement: &Requirement) -> (u8, &str) {
    (requirement.need.rank(), &requirement.id)
}

/// Adds what was refused and tolerated, so that the profile tells of it.
pub(super) fn add_tolerated(profile: &mut Profile, refused: &Requirement) {
    if profile.requirements.iter().all(|known| !is_same(known, refused)) {
        add(profile, refused);
        if let Some(added) = profile.requirements.iter_mut().find(|known| known.id == refused.id) {
            added.severity = Severity::Tolerated;
        }
    }
}
