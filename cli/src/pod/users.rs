//! Whom the containers of a pod are tried as: first the user that a program itself becomes, then a new one, then who owns what
//! it uses.

use std::collections::BTreeMap;

use nrtrace_profiles::event::Mode;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::prove::users::{Hint, becomes, owners};

/// So many users are tried at the most.
const MOST: usize = 3;

/// A user for each container that has one but the new user it was recorded for: a number, and a group where one is known.
pub type Users = BTreeMap<String, String>;

/// The users to try, in order, of the containers that were recorded as root for a new user.
pub fn attempts(profiles: &BTreeMap<String, Profile>) -> Vec<Users> {
    let all: BTreeMap<&String, Vec<Option<Hint>>> = profiles
        .iter()
        .filter(|(_, profile)| profile.run.mode == Mode::Observation && !profile.identity.exists)
        .map(|(name, profile)| (name, candidates(profile)))
        .collect();
    let count = all.values().map(Vec::len).max().unwrap_or(1).min(MOST);
    let user = |hint: &Hint| match hint.gid {
        Some(gid) => format!("{}:{gid}", hint.uid),
        None => hint.uid.to_string(),
    };
    let attempt = |at: usize| {
        all.iter()
            .filter_map(|(name, of)| {
                let hint = of.get(at).or(of.last())?.as_ref()?;
                Some(((*name).clone(), user(hint)))
            })
            .collect()
    };
    (0..count).map(attempt).collect()
}

/// Nothing stands for the new user.
fn candidates(profile: &Profile) -> Vec<Option<Hint>> {
    let own = becomes(profile);
    let others = owners(profile).into_iter().filter(|hint| own.iter().all(|known| known.uid != hint.uid));
    let mut all: Vec<Option<Hint>> = own.iter().take(1).cloned().map(Some).collect();
    all.push(None);
    all.extend(others.map(Some));
    all
}
