//! All that what is granted lets the user do beyond what the program did.

use super::Grants;
use super::carriers::carriers;
use super::grade::{Grade, Reach};
use crate::profile::Profile;

/// The title of what [`reach()`] tells.
pub(crate) const BEYOND: &str = "What this lets the user do beyond what the program did";

/// All that is gained beyond the needs, each once.
pub fn reach(profile: &Profile, grants: &Grants) -> Vec<Reach> {
    let taken = grants.ways.values().flatten().filter(|way| way.chosen);
    let mut out: Vec<Reach> = taken.flat_map(|way| way.reach.iter().cloned()).collect();
    let member = |name: &String| {
        Reach::machine(format!("group {name}"), "whatever it may on this machine", Grade::Low)
    };
    let kept = grants.groups.iter().filter(|(_, membership)| membership.why.needs.is_empty());
    out.extend(kept.map(|(name, _)| member(name)));
    if grants.on_file {
        for path in carriers(profile, grants, |_| true).files.keys() {
            out.push(Reach::machine(path.to_text(), "whoever runs it has its capabilities", Grade::Medium));
        }
    }
    out.sort();
    out.dedup();
    out
}
