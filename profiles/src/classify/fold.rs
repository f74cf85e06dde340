//! Puts equal findings together.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Ancestor, Event, FileType, Obstacle, Outcome, Phase};
use crate::profile::Unexplained;
use crate::requirement::{Access, Caller, Evidence, Limit, Need, Requirement, Seconds};
use crate::{Capability, RawText};

use super::errno;
use super::files;
use super::finding::{Finding, Judged, Unplaced};
use super::pattern;

/// Order of a need's kind, then its id.
pub type Key = (u8, String);

/// What makes two things that could not be placed the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct UnplacedKey {
    call: String,
    process: RawText,
    object: RawText,
    capability: Option<Capability>,
    outcome: String,
    frames: Vec<String>,
    obstacle: Option<Obstacle>,
}

/// Findings put together so far; events are added in order of time.
#[derive(Default)]
pub struct Fold {
    requirements: BTreeMap<Key, Requirement>,
    unexplained: BTreeMap<UnplacedKey, (u64, Phase)>,
    notes: BTreeSet<String>,
    last_privileged: Option<u64>,
    /// When what the program does by itself is over: clients come, to learn how it answers.
    until: u64,
}

impl Fold {
    /// Nothing yet, of a program that is left to itself so long.
    pub fn until(until: u64) -> Self {
        Self { until, ..Self::default() }
    }

    /// Adds what an event means.
    pub fn add(&mut self, event: &Event, judged: Judged) {
        let privileged = !judged.findings.is_empty() || !judged.unexplained.is_empty();
        if privileged && event.phase != Phase::Shutdown && event.time < self.until {
            self.last_privileged = self.last_privileged.max(Some(event.last.max(event.time)));
        }
        // Several checks of one call that come to the same need are one call.
        let mut of_event: BTreeMap<Key, Requirement> = BTreeMap::new();
        for finding in judged.findings {
            let requirement = requirement(event, finding);
            insert(&mut of_event, requirement, Count::Once);
        }
        for requirement in of_event.into_values() {
            insert(&mut self.requirements, requirement, Count::Sum);
        }
        let mut unexplained: Vec<UnplacedKey> =
            judged.unexplained.into_iter().map(|unplaced| unplaced_key(event, unplaced)).collect();
        unexplained.sort();
        unexplained.dedup();
        for key in unexplained {
            let entry = self.unexplained.entry(key).or_insert((0, event.phase));
            entry.0 = entry.0.saturating_add(event.count);
        }
        self.notes.extend(judged.notes);
    }

    /// When, before the program was told to stop, the last call was made that takes more rights than its user has.
    pub fn last_privileged(&self) -> Option<u64> {
        self.last_privileged
    }

    /// Adds a need of another run.
    pub fn add_need(&mut self, requirement: Requirement) {
        insert(&mut self.requirements, requirement, Count::Sum);
    }

    /// The needs so far.
    pub fn requirements(&self) -> impl Iterator<Item = (&Key, &Requirement)> {
        self.requirements.iter()
    }

    /// Everything, in order, with names that vary put together.
    pub fn finish(mut self) -> (Vec<Requirement>, Vec<Unexplained>, BTreeSet<String>) {
        self.join_repeated();
        self.settle_temporary();
        let unexplained = self.unexplained.into_iter().map(|(key, (count, phase))| {
            let UnplacedKey { call, process, object, capability, outcome, frames, obstacle } = key;
            Unexplained { call, process, object, capability, outcome, frames, obstacle, count, phase }
        });
        (self.requirements.into_values().collect(), unexplained.collect(), self.notes)
    }

    /// Names made in one directory that differ in one varying part become one pattern.
    fn join_repeated(&mut self) {
        let mut directories: BTreeMap<RawText, Vec<(Key, RawText)>> = BTreeMap::new();
        for (key, requirement) in &self.requirements {
            if let Need::Path { path, access, pattern: false, .. } = &requirement.need
                && access.contains(&Access::Create)
            {
                directories.entry(files::parent(path)).or_default().push((key.clone(), path.clone()));
            }
        }
        for (directory, members) in directories {
            let names: Vec<&[u8]> = members.iter().map(|(_, path)| files::name(path)).collect();
            for (pattern, indexes) in pattern::repeated(&names) {
                let path = pattern::within(&directory, pattern);
                let keys = indexes.into_iter().filter_map(|index| members.get(index)).map(|(key, _)| key);
                self.join(path, keys);
            }
        }
    }

    /// Names that vary belong to their directory, where that is to be written anyway.
    fn settle_temporary(&mut self) {
        let is_temporary = |requirement: &Requirement| match &requirement.need {
            Need::Path { path, access, pattern: true, .. } => {
                let made_alone =
                    access.iter().all(|access| matches!(access, Access::Create | Access::Delete));
                made_alone.then(|| files::parent(path))
            }
            _ => None,
        };
        let temporary: Vec<(Key, RawText)> = self
            .requirements
            .iter()
            .filter_map(|(key, made)| Some((key.clone(), is_temporary(made)?)))
            .collect();
        for (key, parent) in temporary {
            let directory = self.requirements.values().find(|requirement| match &requirement.need {
                Need::Path { path, access, pattern: false, .. } => {
                    *path == parent && access.contains(&Access::Write)
                }
                _ => false,
            });
            let Some(directory) = directory.map(|found| (found.id.clone(), found.need.clone())) else {
                continue;
            };
            let Some(mut made) = self.requirements.remove(&key) else { continue };
            let (id, need) = directory;
            if let Need::Path { path, .. } = std::mem::replace(&mut made.need, need) {
                made.evidence.objects.insert(path);
            }
            made.id = id;
            insert(&mut self.requirements, made, Count::Sum);
        }
    }

    /// Puts the needs of `keys` together as one for the pattern `general`.
    pub fn join<'a>(&mut self, general: RawText, keys: impl Iterator<Item = &'a Key>) {
        let mut members: Vec<Requirement> = keys.filter_map(|key| self.requirements.remove(key)).collect();
        members.sort_by_key(|member| member.evidence.first);
        for mut member in members {
            if let Need::Path { path, pattern, .. } = &mut member.need {
                member.evidence.objects.insert(std::mem::replace(path, general.clone()));
                *pattern = true;
            }
            member.id = member.need.id();
            insert(&mut self.requirements, member, Count::Sum);
        }
    }
}

/// Whether merged requirements are of one call or of several.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Count {
    Once,
    Sum,
}

fn insert(into: &mut BTreeMap<Key, Requirement>, requirement: Requirement, count: Count) {
    let key = (requirement.need.rank(), requirement.id.clone());
    match into.get_mut(&key) {
        Some(earlier) => merge(earlier, requirement, count),
        None => {
            into.insert(key, requirement);
        }
    }
}

fn requirement(event: &Event, finding: Finding) -> Requirement {
    let (refused_at, refused_inode) = match finding.refused {
        Some(component) => (Some(component.path), Some(component.inode)),
        None => (None, None),
    };
    let evidence = Evidence {
        count: event.count,
        first: Seconds(event.time),
        last: Seconds(event.last.max(event.time)),
        calls: BTreeSet::from([event.call.name.to_string()]),
        processes: BTreeSet::from([event.process.name.clone()]),
        callers: BTreeSet::from([caller(event)]),
        refused_at,
        refused_inode,
        checks: finding.check.into_iter().collect(),
        objects: finding.objects,
        placement: None,
        names: Vec::new(),
        origins: BTreeSet::new(),
        outcomes: BTreeMap::from([(outcome(event), event.count)]),
    };
    Requirement {
        id: finding.need.id(),
        need: finding.need,
        severity: finding.severity,
        basis: finding.basis,
        phase: event.phase,
        evidence,
        proof: None,
        way: None,
    }
}

fn caller(event: &Event) -> Caller {
    let known = |ancestor: &Ancestor| ancestor.exe.clone().unwrap_or_else(|| ancestor.name.clone());
    Caller {
        name: event.process.name.clone(),
        executable: event.process.exe.clone(),
        ancestors: event.process.ancestors.iter().map(known).collect(),
    }
}

/// How a call ended, in a word.
pub fn outcome(event: &Event) -> String {
    match event.outcome {
        Outcome::Success { .. } => "ok".into(),
        Outcome::Answered => "answered".into(),
        Outcome::Unknown => "unknown".into(),
        Outcome::Failure { errno } => errno::name(errno),
    }
}

fn unplaced_key(event: &Event, unplaced: Unplaced) -> UnplacedKey {
    let Unplaced { object, capability, frames, obstacle } = unplaced;
    UnplacedKey {
        call: event.call.name.to_string(),
        process: event.process.name.clone(),
        object,
        capability,
        outcome: outcome(event),
        frames,
        obstacle,
    }
}

/// Adds a later requirement of the same id to an earlier one.
fn merge(earlier: &mut Requirement, later: Requirement, count: Count) {
    merge_need(&mut earlier.need, later.need);
    earlier.severity = earlier.severity.max(later.severity);
    earlier.basis = earlier.basis.max(later.basis);
    earlier.phase = earlier.phase.min(later.phase);
    earlier.proof = match (earlier.proof.take(), later.proof) {
        (Some(one), Some(other)) => Some(one.join(other)),
        (one, other) => one.or(other),
    };
    let (into, from) = (&mut earlier.evidence, later.evidence);
    into.first = into.first.min(from.first);
    into.last = into.last.max(from.last);
    into.calls.extend(from.calls);
    into.processes.extend(from.processes);
    into.callers.extend(from.callers);
    into.bound_callers();
    into.checks.extend(from.checks);
    if into.refused_at.is_none() {
        into.refused_at = from.refused_at;
        into.refused_inode = from.refused_inode;
    }
    into.origins.extend(from.origins);
    into.objects.extend(from.objects);
    while into.objects.len() > Evidence::OBJECTS {
        into.objects.pop_last();
    }
    if count == Count::Sum {
        into.count = into.count.saturating_add(from.count);
        for (outcome, number) in from.outcomes {
            let total = into.outcomes.entry(outcome).or_default();
            *total = total.saturating_add(number);
        }
    }
}

fn merge_need(into: &mut Need, from: Need) {
    match (into, from) {
        (
            Need::Path { access, file_type, pattern, .. },
            Need::Path { access: more, file_type: other, pattern: general, .. },
        ) => {
            access.extend(more);
            *pattern |= general;
            if *file_type == FileType::Unknown {
                *file_type = other;
            }
        }
        (Need::Device { access, .. }, Need::Device { access: more, .. }) => access.extend(more),
        (
            Need::Exec { capabilities, set_user, set_group, .. },
            Need::Exec { capabilities: more, set_user: user, set_group: group, .. },
        ) => {
            capabilities.extend(more);
            // Of two files under one name, the one that gives more: the lower id is root's.
            *set_user = [*set_user, user].into_iter().flatten().min();
            *set_group = [*set_group, group].into_iter().flatten().min();
        }
        (Need::Sysctl { value, .. }, Need::Sysctl { value: other, .. }) => *value = other.or(value.take()),
        (Need::Limit { limit, value }, Need::Limit { value: other, .. }) => {
            *value = match (*value, other) {
                // Lower is more, for these.
                (Some(a), Some(b)) if matches!(limit, Limit::Nice | Limit::OomScore) => Some(a.min(b)),
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            };
        }
        _ => {}
    }
}
