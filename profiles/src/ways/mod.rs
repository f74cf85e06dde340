//! From needs to the ways that meet them, and to the choice of one for each.
//!
//! [`plan`] goes through a profile's needs by kind; for each, the module of its kind lists what can be done about it,
//! least first, and the plan takes one. The rules are those of least privilege: shared directories are never
//! made writable, ownership or a group or an ACL entry meets a need for a path, and no capability stands in for one.

mod capability;
mod close;
mod device;
mod directory;
mod exec;
mod give;
mod groups;
mod identity;
mod kernel;
mod known;
mod limit;
mod make;
mod names;
mod open;
mod owners;
mod paths;
mod port;
mod sysctl;
mod tally;

use std::collections::BTreeSet;

use crate::event::Protocol;
use crate::grants::{Account, Act, Choices, Grade, Grants, Membership, Way, Why, carriers};
use crate::place::{Setting, World, parent};
use crate::profile::Profile;
use crate::requirement::{Need, Requirement, Severity};

pub use capability::{danger, is_never_granted};

/// The plan for a profile. Total: each required need is the subject of a grant, of advice or of a refusal.
pub fn grants(profile: &Profile) -> Grants {
    plan(profile, &Choices::default())
}

/// The plan for a profile with something else preferred than usual.
pub fn plan(profile: &Profile, choices: &Choices) -> Grants {
    let (account, doubt) = Account::of(&profile.identity, &profile.name);
    let world = World::of(profile, &account.user);
    let mut grants = Grants::empty(profile, account, world, choices.clone());
    let mut requirements: Vec<&Requirement> = profile.requirements.iter().collect();
    requirements.sort_by(|a, b| a.id.cmp(&b.id));
    let (required, optional): (Vec<_>, Vec<_>) = requirements
        .into_iter()
        .partition(|r| r.severity == Severity::Required || known::insists(r, profile));
    known::offer(profile, &mut grants);
    let required: Vec<&Requirement> =
        required.into_iter().filter(|r| !known::is_left_to_configuration(r, profile, choices)).collect();
    paths::plan(&required, &mut grants);
    let given = exec::Given::of(&required, profile);
    let (served, required): (Vec<_>, Vec<_>) = required.into_iter().partition(|one| given.serves(one));
    served.into_iter().for_each(|requirement| exec::serve(requirement, &mut grants));
    port::plan(&required, &mut grants);
    for requirement in &required {
        meet(requirement, &given, &mut grants);
    }
    if let Some(doubt) = doubt {
        grants.take("identity", doubt);
    }
    keep_groups(profile, &mut grants);
    open_socket_directories(profile, &mut grants);
    for requirement in optional {
        grants.take(&requirement.id, Way::new(Act::Nothing, optional_reason(requirement)));
    }
    if grants.account.uid == Some(0) {
        let hint = format!("run it with {} USER for a user that is not root", grants.user_option);
        grants.take("identity", Way::refuse("the profile was made for root itself", hint));
    }
    known::apply(profile, &mut grants);
    known::give(profile, &mut grants);
    close::homes(profile, &mut grants);
    // What an interpreter carries, every script has.
    grants.on_file &= carriers(profile, &grants, |_| true).interpreters.is_empty();
    grants.settle();
    grants
}

/// Meets a need that is met by itself.
fn meet(requirement: &Requirement, given: &exec::Given<'_>, grants: &mut Grants) {
    match &requirement.need {
        Need::Exec { .. } => exec::meet(requirement, given, grants),
        // Several of these are met together.
        Need::Path { .. } | Need::Port { .. } => {}
        Need::Capability { capability } => capability::meet(requirement, *capability, grants),
        Need::Device { path, file_type, access } => {
            device::meet(requirement, path, *file_type, access, grants);
        }
        Need::Identity { operation, ids, path } => {
            identity::meet(requirement, *operation, ids, path.as_ref(), grants);
        }
        Need::Sysctl { name, value } => sysctl::meet(requirement, name, value.as_ref(), grants),
        Need::Limit { limit, value } => limit::meet(requirement, *limit, *value, grants),
        Need::Kernel { operation, subject, capability } => {
            kernel::meet(requirement, *operation, subject, *capability, grants);
        }
    }
}

/// What the user could do in the run it could do with its groups, so it keeps them.
fn keep_groups(profile: &Profile, grants: &mut Grants) {
    let mut present: BTreeSet<u32> = grants.groups.values().map(|present| present.gid).collect();
    for &gid in &profile.identity.groups {
        if gid == 0 {
            let hint = match grants.world.setting {
                Setting::Host if profile.run.attached.is_none() => "trace it again without --groups 0",
                Setting::Host => "have it started without group 0",
                Setting::Container | Setting::Pod => {
                    "start the container with a user and a group that are not root's"
                }
            };
            grants.take("identity", Way::refuse("the run had group root", hint));
        } else if gid != grants.account.run_gid && present.insert(gid) {
            let why = Why { needs: BTreeSet::new(), reason: "the run had this group".into() };
            grants.groups.insert(gid.to_string(), Membership { gid, caution: None, grade: Grade::Low, why });
        }
    }
}

/// Others connect to the sockets in a directory, so they must be able to pass through it.
fn open_socket_directories(profile: &Profile, grants: &mut Grants) {
    let sockets = profile.listens.iter().filter(|listen| listen.protocol == Protocol::Unix);
    for socket in sockets {
        let directory = parent(&socket.address);
        if let Some(grant) = grants.directories.get_mut(&directory).filter(|grant| !grant.existed) {
            grant.mode |= 0o055;
        }
    }
}

fn optional_reason(requirement: &Requirement) -> &'static str {
    if requirement.only_asked() {
        return "was only asked about with access(2), and nothing followed";
    }
    match requirement.severity {
        Severity::Tolerated => "is refused, and the program was seen to live without it",
        _ => match &requirement.need {
            Need::Path { .. } if requirement.evidence.outcomes.keys().eq(["ENOENT"]) => {
                "goes on, although the directory is not there"
            }
            Need::Path { .. } => {
                "was only tried: the call would have failed anyway, or the program looks elsewhere"
            }
            _ => "was only tried: the program goes on without it",
        },
    }
}
