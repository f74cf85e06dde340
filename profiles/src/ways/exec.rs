//! Programs whose files give rights to whoever executes them (execve(2), capabilities(7)).
//!
//! Where the bounding set lacks a capability that such a file insists on, the kernel refuses to execute it. Under
//! `NoNewPrivileges=yes` it is executed, and gives nothing that the service has not got already.

use std::collections::{BTreeMap, BTreeSet};

use super::capability::{danger, is_never_granted};
use super::groups;
use crate::grants::{Act, Grants, Way};
use crate::profile::Profile;
use crate::requirement::{Need, Requirement};
use crate::{Capability, RawText};

/// The capabilities that each file gives, and its program was seen to use.
pub(super) struct Given<'a>(BTreeMap<&'a RawText, BTreeSet<Capability>>);

impl<'a> Given<'a> {
    /// Finds them. What amounts to root is not to be had that way either.
    pub(super) fn of(required: &[&'a Requirement], profile: &Profile) -> Self {
        let given = required.iter().filter_map(|requirement| {
            let Need::Exec { path, capabilities, .. } = &requirement.need else { return None };
            let used = capabilities.iter().copied();
            let used = used.filter(|used| !amounts_to_root(*used) && uses(profile, path, *used));
            Some((path, used.collect()))
        });
        Self(given.collect())
    }

    /// Whether the files of all those who needed it give all capabilities that were consulted.
    pub(super) fn serves(&self, requirement: &Requirement) -> bool {
        let (executables, checks) = (requirement.evidence.executables(), &requirement.evidence.checks);
        let gives = |path: &&RawText| self.0.get(*path).is_some_and(|given| checks.is_subset(given));
        let by_capability = matches!(requirement.need, Need::Capability { .. } | Need::Port { .. });
        by_capability && !checks.is_empty() && !executables.is_empty() && executables.iter().all(gives)
    }
}

/// Meets a need that the files of programs serve.
pub(super) fn serve(requirement: &Requirement, grants: &mut Grants) {
    for capability in &requirement.evidence.checks {
        grants.take(&requirement.id, Way::new(Act::Bound(*capability), "the file of its program gives it"));
    }
}

/// Meets a need to execute such a program.
pub(super) fn meet(requirement: &Requirement, given: &Given<'_>, grants: &mut Grants) {
    let Need::Exec { path, capabilities, set_user, set_group } = &requirement.need else { return };
    let id = requirement.id.as_str();
    for capability in capabilities {
        let because = format!("{path} carries it, and is not executed where that is out of bounds");
        grants.take(id, Way::new(Act::Bound(*capability), because));
    }
    if let Some(used) = given.0.get(path).filter(|used| !used.is_empty()) {
        let names: Vec<String> = used.iter().map(Capability::to_string).collect();
        grants.take(id, gain(format!("{path} uses what its file gives it: {}", names.join(", "))));
    }
    let inode = requirement.evidence.refused_inode.as_ref();
    match (set_user, set_group) {
        (Some(0), _) => grants.take(
            id,
            Way::refuse(
                format!("{path} runs as root, whoever executes it, which amounts to root; it is executed as the user"),
                "have systemd do that step as root before the start (ExecStartPre=+), or a service of its own; \
                 NoNewPrivileges=no would let it, and every other such program",
            ),
        ),
        (Some(uid), _) => {
            let user = inode.and_then(|inode| inode.user.clone()).unwrap_or_else(|| uid.to_string());
            grants.take(id, gain(format!("{path} runs as user {user}, whoever executes it")));
        }
        (None, Some(gid)) => {
            let inode = inode.filter(|inode| inode.gid == *gid);
            let because = format!("{path} runs with this group, whoever executes it");
            let join = inode.and_then(|inode| groups::join(inode, 0, grants)).map(|way| Way { because, ..way });
            let group = inode.and_then(|inode| inode.group.clone()).unwrap_or_else(|| gid.to_string());
            let gain = gain(format!(
                "{path} runs with group {group}, whoever executes it; a member of that group could do more than the \
                 program lets it"
            ));
            // What a broad group opens is more than what the program does with it.
            let broad = |way: &Way| matches!(&way.act, Act::Join(_, group) if group.caution.is_some());
            let ways = match join {
                Some(join) if !broad(&join) => vec![join, gain],
                join => std::iter::once(gain).chain(join).collect(),
            };
            grants.choose([id], requirement.way, ways);
        }
        (None, None) => {}
    }
}

fn gain(because: String) -> Way {
    Way::new(Act::Gain, because)
}

/// Whether the program of `path` was seen to use a capability.
fn uses(profile: &Profile, path: &RawText, capability: Capability) -> bool {
    profile.requirements.iter().any(|requirement| {
        requirement.evidence.checks.contains(&capability) && requirement.evidence.executables().contains(path)
    })
}

fn amounts_to_root(capability: Capability) -> bool {
    is_never_granted(capability).is_some()
        || danger(capability).is_some_and(|danger| danger.starts_with("amounts to root"))
}
