//! Users and groups with their ids.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::model::{Component, Group, Options, PlanError, User};
use super::settle::Settled;
use crate::grants::is_account_name;

/// A user for each component, and the shared groups with their ids.
pub fn assign(
    components: &[Component],
    settled: &Settled,
    options: &Options,
) -> Result<(Vec<User>, Vec<Group>), PlanError> {
    let mut uids = Pool::new("user", &options.uids, &options.taken_uids);
    let mut gids = Pool::new("group", &options.gids, &options.taken_gids);
    let mut holders: BTreeMap<u32, &str> = BTreeMap::new();
    for component in components {
        let given = options.given.get(&component.name).map(|(uid, _)| *uid);
        let Some(uid) = given.or_else(|| component.user.as_ref().map(|user| user.uid)) else { continue };
        if let Some(first) = holders.insert(uid, &component.name) {
            return Err(PlanError::Twice {
                id: uid,
                first: first.to_owned(),
                second: component.name.clone(),
            });
        }
    }
    for (uid, gid) in options.given.values() {
        uids.taken.insert(*uid);
        gids.taken.insert(*gid);
    }
    for user in components.iter().filter_map(|component| component.user.as_ref()) {
        uids.taken.insert(user.uid);
        gids.taken.insert(user.gid);
    }
    let mut users: Vec<User> = Vec::new();
    for component in components {
        let user = user(component, options, &mut uids, &mut gids)?;
        let name = distinct(&user.name, &users);
        users.push(if user.exists { user } else { User { group: name.clone(), name, ..user } });
    }
    let mut groups = Vec::new();
    for (name, members) in &settled.groups {
        let gid = gids.take(name)?;
        groups.push(Group { name: name.clone(), gid, members: members.clone() });
    }
    Ok((users, groups))
}

fn user(
    component: &Component,
    options: &Options,
    uids: &mut Pool,
    gids: &mut Pool,
) -> Result<User, PlanError> {
    if let Some(user) = &component.user {
        return Ok(user.clone());
    }
    let name = account(&format!("{}{}", options.prefix, component.name));
    let (uid, gid) = match options.given.get(&component.name) {
        Some(given) => *given,
        None => {
            let uid = uids.take(&component.name)?;
            // The same number for both where that is free.
            let same = options.gids.contains(&uid) && gids.taken.insert(uid);
            (uid, if same { uid } else { gids.take(&component.name)? })
        }
    };
    Ok(User { group: name.clone(), name, uid, gid, exists: false })
}

/// A name that sysusers.d(5) accepts.
fn account(wanted: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '-' };
    let name: String = wanted.chars().map(plain).take(31).collect();
    if is_account_name(&name) { name } else { format!("_{}", name.chars().take(30).collect::<String>()) }
}

/// The name, with a number where another user has it already, since two long ones may begin alike.
fn distinct(name: &str, others: &[User]) -> String {
    let numbered = |number: usize| {
        let ending = format!("-{number}");
        format!("{}{ending}", name.get(..31 - ending.len()).unwrap_or(name))
    };
    std::iter::once(name.to_owned())
        .chain((2..).map(numbered))
        .find(|name| others.iter().all(|other| other.name != *name))
        .unwrap_or_default()
}

struct Pool {
    kind: &'static str,
    range: RangeInclusive<u32>,
    taken: BTreeSet<u32>,
}

impl Pool {
    fn new(kind: &'static str, range: &RangeInclusive<u32>, taken: &BTreeSet<u32>) -> Self {
        Self { kind, range: range.clone(), taken: taken.clone() }
    }

    /// The highest free id, as useradd(8) takes it for system users.
    fn take(&mut self, wanted: &str) -> Result<u32, PlanError> {
        let free = self.range.clone().rev().find(|id| *id != 0 && !self.taken.contains(id));
        let Some(id) = free else {
            return Err(PlanError::Ids {
                kind: self.kind,
                first: *self.range.start(),
                last: *self.range.end(),
                wanted: wanted.to_owned(),
            });
        };
        self.taken.insert(id);
        Ok(id)
    }
}
