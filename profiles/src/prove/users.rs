//! Whom else a program could run as, as far as its run tells.

use std::collections::{BTreeMap, BTreeSet};

use crate::RawText;
use crate::event::Inode;
use crate::grants::Choices;
use crate::profile::Profile;
use crate::requirement::{IdentityOperation, Need, Requirement, Severity};
use crate::ways::plan;

/// A user that a run points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The user.
    pub uid: u32,
    /// The group, where the program names one.
    pub gid: Option<u32>,
    /// Why, in words that follow "who" or "which".
    pub why: String,
    /// Whether the program only gives files to that user, who owns nothing that it uses: a new user owns less.
    pub is_weak: bool,
}

/// The first number of a user who may be a person.
const FIRST_PERSON: u32 = 1000;
/// "Unchanged", as the calls spell it.
const UNCHANGED: u32 = u32::MAX;

/// Whether an executable runs what others wrote, so that what is said of it says nothing of the program.
pub fn is_interpreter(executable: &RawText) -> bool {
    crate::interpreter::is_interpreter(executable)
}

/// The users that the program itself changes to, in the order in which it does.
pub fn becomes(profile: &Profile) -> Vec<Hint> {
    let of = |wanted: IdentityOperation| {
        let mut all: Vec<(&Requirement, u32)> = profile
            .requirements
            .iter()
            .filter_map(|requirement| match &requirement.need {
                Need::Identity { operation, ids, .. } if *operation == wanted => {
                    Some((requirement, *ids.iter().find(|id| ![UNCHANGED, 0].contains(*id))?))
                }
                _ => None,
            })
            .collect();
        all.sort_by_key(|(requirement, _)| requirement.evidence.first);
        all
    };
    let groups = of(IdentityOperation::SetGroup);
    let mut hints: Vec<Hint> = Vec::new();
    for (requirement, uid) in of(IdentityOperation::SetUser) {
        if uid == profile.identity.uid || hints.iter().any(|known| known.uid == uid) {
            continue;
        }
        // The group is set before the user, while that is still allowed.
        let before = groups.iter().rfind(|(group, _)| group.evidence.first <= requirement.evidence.first);
        hints.push(Hint {
            uid,
            gid: before.map(|(_, gid)| *gid),
            why: "whom the program itself becomes".into(),
            is_weak: false,
        });
    }
    hints
}

/// Service users that own what the program wants, who owns most of it first; and those it gives files to.
pub fn owners(profile: &Profile) -> Vec<Hint> {
    let grants = plan(profile, &Choices::default());
    let foreign: BTreeSet<&String> =
        grants.present_owners.values().flat_map(|present| &present.needs).collect();
    let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
    let wanted = profile.requirements.iter().filter(|known| known.severity == Severity::Required);
    let inodes = wanted.filter(|known| foreign.contains(&known.id) || is_kept_private(known));
    for inode in inodes.filter_map(|known| known.evidence.refused_inode.as_ref()) {
        count(inode, &mut counts);
    }
    let looked_at = profile.gave_up.iter().flat_map(|gave_up| &gave_up.looked_at);
    looked_at.filter_map(|looked| looked.inode.as_ref()).for_each(|inode| count(inode, &mut counts));
    let mut owners: Vec<(u32, u32)> = counts.into_iter().collect();
    owners.sort_by_key(|(uid, count)| (u32::MAX - count, *uid));
    let owned = owners.into_iter().map(|(uid, _)| (uid, "who owns what it uses", false));
    let given = profile.requirements.iter().filter_map(|known| match &known.need {
        Need::Identity { operation: IdentityOperation::Chown, ids, .. } => {
            ids.first().filter(|uid| is_service(**uid)).map(|uid| (*uid, "whom it gives files to", true))
        }
        _ => None,
    });
    let mut hints: Vec<Hint> = Vec::new();
    for (uid, why, is_weak) in owned.chain(given) {
        if uid != profile.identity.uid && hints.iter().all(|known| known.uid != uid) {
            hints.push(Hint { uid, gid: None, why: why.into(), is_weak });
        }
    }
    hints
}

/// What only its owner may use.
fn is_kept_private(requirement: &Requirement) -> bool {
    let private = |inode: &Inode| inode.mode & 0o007 == 0;
    matches!(requirement.need, Need::Path { .. })
        && requirement.evidence.refused_inode.as_ref().is_some_and(private)
}

fn count(inode: &Inode, counts: &mut BTreeMap<u32, u32>) {
    // One without a name is nobody that a package made.
    if is_service(inode.uid) && inode.user.is_some() {
        *counts.entry(inode.uid).or_default() += 1;
    }
}

/// Neither root nor a person; nobody's files are nobody's.
fn is_service(uid: u32) -> bool {
    (1..FIRST_PERSON).contains(&uid)
}

/// How much a profile that lives asks for: its needs that something is done about.
pub fn cost(profile: &Profile) -> usize {
    profile.requirements.iter().filter(|known| known.severity == Severity::Required).count()
}
