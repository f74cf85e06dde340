//! What two profiles have in common, and what not. Needs are told apart by their stable ids; how often and when
//! something was seen does not matter.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use crate::RawText;
use crate::event::FileType;
use crate::merge::covers;
use crate::profile::{Listen, Profile, Unexplained};
use crate::requirement::{Limit, Need, Requirement, word};

/// What changes from one profile to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Diff {
    /// [`Diff::SCHEMA`].
    pub schema: String,
    /// Needs that only the new profile has.
    pub added: Vec<Requirement>,
    /// Needs that only the old profile has.
    pub gone: Vec<Requirement>,
    /// Needs that both have, and that differ.
    pub changed: Vec<Change>,
    /// Addresses that only the new program binds.
    pub listens_added: Vec<Listen>,
    /// Addresses that only the old program binds.
    pub listens_gone: Vec<Listen>,
    /// What only the new profile has and could not place.
    pub unexplained_added: Vec<Unexplained>,
    /// What only the old profile has and could not place.
    pub unexplained_gone: Vec<Unexplained>,
    /// Why the two are hard to compare, where they are.
    pub cautions: Vec<String>,
}

/// A need that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Change {
    /// The new need's id.
    pub id: String,
    /// What changes, and how.
    pub aspects: Vec<Aspect>,
    /// As it is in the new profile.
    pub new: Requirement,
}

/// One thing that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Aspect {
    /// What: `access`, `type`, `name`, `value`, `severity`, `phase`.
    pub field: &'static str,
    /// What it was.
    pub old: String,
    /// What it is.
    pub new: String,
    /// Whether the new need takes more rights than the old one.
    pub wider: bool,
}

impl Diff {
    /// [`Diff::schema`] of what this version writes.
    pub const SCHEMA: &str = "nrtrace/diff/v1";

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.gone.is_empty()
            && self.changed.is_empty()
            && self.listens_added.is_empty()
            && self.listens_gone.is_empty()
            && self.unexplained_added.is_empty()
            && self.unexplained_gone.is_empty()
    }
}

impl Change {
    /// Whether the new need takes more rights than the old one.
    pub fn is_wider(&self) -> bool {
        self.aspects.iter().any(|aspect| aspect.wider)
    }
}

/// Compares two profiles.
pub fn diff(old: &Profile, new: &Profile) -> Diff {
    let mut met: BTreeSet<&str> = BTreeSet::new();
    let (mut added, mut changed) = (Vec::new(), Vec::new());
    for need in &new.requirements {
        let known = counterparts(&old.requirements, need);
        met.extend(known.iter().map(|known| known.id.as_str()));
        let Some(first) = known.first() else {
            added.push(need.clone());
            continue;
        };
        let aspects = compare(first, need);
        if !aspects.is_empty() {
            changed.push(Change { id: need.id.clone(), aspects, new: need.clone() });
        }
    }
    let gone = old.requirements.iter().filter(|need| !met.contains(need.id.as_str()));
    let place = |listen: &Listen| (listen.protocol, listen.address.clone(), listen.port);
    let riddle = |entry: &Unexplained| (entry.call.clone(), entry.object.clone(), entry.capability);
    Diff {
        schema: Diff::SCHEMA.to_owned(),
        added,
        gone: gone.cloned().collect(),
        changed,
        listens_added: only(&new.listens, &old.listens, place),
        listens_gone: only(&old.listens, &new.listens, place),
        unexplained_added: only(&new.unexplained, &old.unexplained, riddle),
        unexplained_gone: only(&old.unexplained, &new.unexplained, riddle),
        cautions: cautions(old, new),
    }
}

/// What the old profile has for a need of the new one: the same need, a pattern that it fits, or the names that a new
/// pattern stands for.
fn counterparts<'a>(old: &'a [Requirement], need: &Requirement) -> Vec<&'a Requirement> {
    // Of several with one id, which nrtrace does not write, the very same one.
    let same = old.iter().find(|known| *known == need);
    if let Some(same) = same.or_else(|| old.iter().find(|known| known.id == need.id)) {
        return vec![same];
    }
    if let Some(general) = old.iter().find(|known| covers(known, need)) {
        return vec![general];
    }
    old.iter().filter(|known| covers(need, known)).collect()
}

fn only<T: Clone, K: Ord>(these: &[T], those: &[T], key: impl Fn(&T) -> K) -> Vec<T> {
    let those: BTreeSet<K> = those.iter().map(&key).collect();
    let mut seen = BTreeSet::new();
    these.iter().filter(|item| !those.contains(&key(item)) && seen.insert(key(item))).cloned().collect()
}

fn compare(old: &Requirement, new: &Requirement) -> Vec<Aspect> {
    let mut out = compare_needs(&old.need, &new.need);
    let mut word_of = |field, old: String, new: String, wider| {
        if old != new {
            out.push(Aspect { field, old, new, wider });
        }
    };
    word_of("severity", word(&old.severity), word(&new.severity), new.severity > old.severity);
    word_of("phase", word(&old.phase), word(&new.phase), false);
    out
}

fn compare_needs(old: &Need, new: &Need) -> Vec<Aspect> {
    let mut out = Vec::new();
    let mut put = |field, old: String, new: String, wider| {
        if old != new {
            out.push(Aspect { field, old, new, wider });
        }
    };
    match (old, new) {
        (
            Need::Path { path, file_type, access, pattern },
            Need::Path { path: new_path, file_type: new_type, access: new_access, pattern: new_pattern },
        ) => {
            // A name that a known pattern stands for is no news.
            if *new_pattern || !*pattern {
                put("name", path.to_text(), new_path.to_text(), true);
            }
            let unknown = [file_type, new_type].contains(&&FileType::Unknown);
            put("type", word(file_type), word(new_type), !unknown);
            put("access", words(access), words(new_access), !new_access.is_subset(access));
        }
        (Need::Device { access, .. }, Need::Device { access: new_access, .. }) => {
            put("access", words(access), words(new_access), !new_access.is_subset(access));
        }
        (
            Need::Exec { capabilities, set_user, set_group, .. },
            Need::Exec { capabilities: more, set_user: user, set_group: group, .. },
        ) => {
            put("capabilities", words(capabilities), words(more), !more.is_subset(capabilities));
            let id = |id: &Option<u32>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
            put("set-user-ID", id(set_user), id(user), user.is_some());
            put("set-group-ID", id(set_group), id(group), group.is_some());
        }
        (Need::Sysctl { value, .. }, Need::Sysctl { value: new_value, .. }) => {
            let text =
                |value: &Option<RawText>| value.as_ref().map_or_else(|| "any".into(), RawText::to_text);
            put("value", text(value), text(new_value), true);
        }
        (Need::Limit { limit, value }, Need::Limit { value: new_value, .. }) => {
            let text = |value: &Option<i64>| match value {
                Some(i64::MAX) => "no limit".to_owned(),
                Some(value) => value.to_string(),
                None => "not known".to_owned(),
            };
            let lower_is_more = matches!(limit, Limit::Nice | Limit::OomScore);
            let wider = match (value, new_value) {
                (Some(old), Some(new)) => {
                    if lower_is_more {
                        new < old
                    } else {
                        new > old
                    }
                }
                _ => false,
            };
            put("value", text(value), text(new_value), wider);
        }
        _ => {}
    }
    out
}

fn words<'a, T: serde::Serialize + 'a>(set: impl IntoIterator<Item = &'a T>) -> String {
    set.into_iter().map(word).collect::<Vec<_>>().join(", ")
}

/// What makes two profiles hard to compare.
fn cautions(old: &Profile, new: &Profile) -> Vec<String> {
    let mut out = Vec::new();
    let mut differ = |what: &str, old: String, new: String, why: &str| {
        if old != new {
            out.push(format!("{what}: {old} there, {new} here; {why}"));
        }
    };
    differ("program", old.name.clone(), new.name.clone(), "these may be different programs");
    differ(
        "user",
        old.identity.user.clone(),
        new.identity.user.clone(),
        "what one user lacks another may have",
    );
    differ(
        "mode",
        word(&old.run.mode),
        word(&new.run.mode),
        "an enforced run shows less than a permissive one",
    );
    differ("record", word(&old.run.record), word(&new.run.record), "capability checks alone show less");
    for (which, profile) in [("old", old), ("new", new)] {
        if let Some(shortfall) = profile.run.shortfall() {
            out.push(format!("the {which} profile is incomplete: {shortfall}"));
        }
    }
    out
}
