//! Other ways to meet a need that was granted in vain.

use crate::grants::{Choices, Grants, Method};
use crate::profile::Profile;
use crate::requirement::Need;
use crate::ways::plan;

/// The ways that are worth a trial, least first. A capability never stands in for a path or an identity.
const ORDER: [Method; 7] = [
    Method::Make,
    Method::Group,
    Method::Own,
    Method::Acl,
    Method::Credential,
    Method::Unit,
    Method::Configure,
];

/// The profile with the next way for a need that was refused although something was done about it; `None` when no other
/// way changes what is granted.
pub fn next(profile: &Profile, id: &str, choices: &Choices) -> Option<Profile> {
    let place = profile.requirements.iter().position(|known| known.id == id)?;
    let known = profile.requirements.get(place)?;
    if !matches!(known.need, Need::Path { .. } | Need::Identity { .. }) {
        return None;
    }
    let after = match known.way {
        Some(way) => ORDER.iter().position(|method| *method == way)? + 1,
        None => 0,
    };
    let now = plan(profile, choices);
    let before = without_way(profile, place).map(|profile| plan(&profile, choices));
    for method in ORDER.iter().skip(after) {
        let mut other = profile.clone();
        other.requirements.get_mut(place)?.way = Some(*method);
        let changed = plan(&other, choices);
        let is_new = |plan: &Grants| differs(plan, &changed);
        if is_new(&now) && before.as_ref().is_none_or(is_new) && grants(&changed, id) {
            return Some(other);
        }
    }
    None
}

fn without_way(profile: &Profile, place: usize) -> Option<Profile> {
    let mut plain = profile.clone();
    plain.requirements.get_mut(place)?.way.take()?;
    Some(plain)
}

fn differs(one: &Grants, other: &Grants) -> bool {
    (&one.directories, &one.files, &one.acls, &one.groups, &one.credentials, &one.directives, &one.edits)
        != (
            &other.directories,
            &other.files,
            &other.acls,
            &other.groups,
            &other.credentials,
            &other.directives,
            &other.edits,
        )
}

/// Whether something is done about the need.
fn grants(plan: &Grants, id: &str) -> bool {
    plan.unmet.iter().all(|unmet| unmet.need != id) && !plan.advice.iter().any(|why| why.needs.contains(id))
}
