//! Programs whose files give rights to whoever executes them (execve(2), capabilities(7)).
//!
//! Where the bounding set lacks a capability that such a file insists on, the kernel refuses to execute it. Under
//! `NoNewPrivileges=yes` it is executed, and gives nothing that the service has not got already.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::groups::usable;
use super::kernel::{danger, is_never_granted};
use super::{Grants, Why};
use crate::event::Inode;
use crate::profile::Profile;
use crate::requirement::{Need, Requirement};
use crate::{Capability, RawText};

/// What the execution of such programs takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Executes {
    /// Capabilities that stay in the bounding set, and are nobody's until a file gives them.
    pub kept: BTreeMap<Capability, Why>,
    /// Why processes of the service may gain what files give; without one they may not.
    pub gains: Vec<Why>,
    /// The capabilities that each file gives, and its program may use.
    #[serde(skip)]
    given: BTreeMap<RawText, BTreeSet<Capability>>,
}

impl Executes {
    /// Adds what another run takes.
    pub fn extend(&mut self, other: Self) {
        for (capability, why) in other.kept {
            self.kept.entry(capability).or_insert_with(|| why.clone()).also(why);
        }
        self.gains.extend(other.gains);
        self.gains.sort();
        self.gains.dedup();
    }
}

/// Plans for all of them. What they give is then not given to the service itself.
pub(super) fn plan(required: &[&Requirement], profile: &Profile, grants: &mut Grants) {
    for requirement in required {
        let Need::Exec { path, capabilities, set_user, set_group } = &requirement.need else { continue };
        let id = requirement.id.as_str();
        let why = Why::new(id, format!("{path} carries it, and is not executed where that is out of bounds"));
        for capability in capabilities {
            grants.executes.kept.entry(*capability).or_insert_with(|| why.clone()).also(why.clone());
        }
        let inode = requirement.evidence.refused_inode.as_ref();
        let used: BTreeSet<Capability> = capabilities
            .iter()
            .copied()
            .filter(|capability| !amounts_to_root(*capability) && uses(profile, path, *capability))
            .collect();
        if !used.is_empty() {
            let names: Vec<String> = used.iter().map(Capability::to_string).collect();
            grants.gain(id, format!("{path} uses what its file gives it: {}", names.join(", ")));
            grants.executes.given.insert(path.clone(), used);
        }
        match set_user {
            Some(0) => grants.refuse(
                id,
                format!("{path} runs as root, whoever executes it, which amounts to root; it is executed as the user"),
                "have systemd do that step as root before the start (ExecStartPre=+), or a service of its own; \
                 NoNewPrivileges=no would let it, and every other such program",
            ),
            Some(uid) => {
                let user = inode.and_then(|inode| inode.user.clone()).unwrap_or_else(|| uid.to_string());
                grants.gain(id, format!("{path} runs as user {user}, whoever executes it"));
            }
            None => {
                set_group.iter().for_each(|gid| join(id, path, *gid, inode, grants));
            }
        }
    }
}

/// The user joins the group of a set-group-ID program; where that would open more than the program does, the program may
/// gain it.
fn join(id: &str, path: &RawText, gid: u32, inode: Option<&Inode>, grants: &mut Grants) {
    let group = inode.filter(|inode| inode.gid == gid).and_then(|inode| usable(inode, 0));
    match group.filter(|group| group.caution.is_none()) {
        Some(group) => {
            grants.join(&group, Why::new(id, format!("{path} runs with this group, whoever executes it")));
        }
        None => {
            let group = inode.and_then(|inode| inode.group.clone()).unwrap_or_else(|| gid.to_string());
            let reason = format!(
                "{path} runs with group {group}, whoever executes it; a member of that group could do more than the \
                 program lets it"
            );
            grants.gain(id, reason);
        }
    }
}

/// Whether the program of `path` was seen to use a capability.
fn uses(profile: &Profile, path: &RawText, capability: Capability) -> bool {
    profile.requirements.iter().any(|requirement| {
        requirement.evidence.checks.contains(&capability) && requirement.evidence.executables().contains(path)
    })
}

/// Whether all capabilities that were consulted for a need are given by the files of those who needed it. It is then
/// noted as served by that.
pub(super) fn is_given(requirement: &Requirement, grants: &mut Grants) -> bool {
    let evidence = &requirement.evidence;
    let executables = evidence.executables();
    let given = |path: &&RawText| {
        let given = grants.executes.given.get(*path);
        given.is_some_and(|given| !evidence.checks.is_empty() && evidence.checks.is_subset(given))
    };
    let is_given = !matches!(requirement.need, Need::Exec { .. })
        && !executables.is_empty()
        && executables.iter().all(given);
    if is_given {
        let served = grants.executes.kept.iter_mut().filter(|(kept, _)| evidence.checks.contains(kept));
        served.for_each(|(_, why)| why.needs.extend([requirement.id.clone()]));
    }
    is_given
}

fn amounts_to_root(capability: Capability) -> bool {
    is_never_granted(capability).is_some()
        || danger(capability).is_some_and(|danger| danger.starts_with("amounts to root"))
}

impl Grants {
    fn gain(&mut self, need: &str, reason: String) {
        self.executes.gains.push(Why::new(need, reason));
    }

    /// Whether processes of the service may gain what the files of programs give: no `NoNewPrivileges=`, nor anything that
    /// brings it along.
    pub fn may_gain(&self) -> bool {
        !self.executes.gains.is_empty() || (self.on_file && !self.capabilities.is_empty())
    }

    /// Capabilities that are in the bounding set and the service has not got itself.
    pub fn kept(&self) -> impl Iterator<Item = (Capability, &Why)> {
        let kept = self.executes.kept.iter().map(|(capability, why)| (*capability, why));
        kept.filter(|(capability, _)| !self.capabilities.contains_key(capability))
    }
}
