//! Capabilities, where nothing lesser serves.

use crate::calls;
use crate::grants::{Act, CapabilityGrant, Grants, Way, Why};
use crate::requirement::{Finding, Requirement};
use crate::{Capability, RawText};

const OWNERS: &str = "owners and modes are set beforehand instead";
const PATHS: &str = "it opens every file of the machine; each path is granted by itself instead";
const IDENTITY: &str = "whoever may change identity may become root";

/// Capabilities that are never granted, with the reason.
const NEVER: &[(Capability, &str)] = &[
    (Capability::CHOWN, OWNERS),
    (Capability::FOWNER, OWNERS),
    (Capability::FSETID, OWNERS),
    (Capability::DAC_OVERRIDE, PATHS),
    (Capability::DAC_READ_SEARCH, PATHS),
    (Capability::SETUID, IDENTITY),
    (Capability::SETGID, IDENTITY),
    (Capability::SETPCAP, IDENTITY),
    (Capability::SETFCAP, "whoever sets file capabilities may give itself any"),
];

/// Capabilities that amount to more than their name says.
const DANGERS: &[(Capability, &str)] = &[
    (Capability::SYS_ADMIN, "amounts to root"),
    (Capability::SYS_MODULE, "amounts to root: it puts code into the kernel"),
    (Capability::SYS_RAWIO, "amounts to root: it reaches memory and disks directly"),
    (Capability::SYS_PTRACE, "amounts to root: it reads and changes every process"),
    (Capability::BPF, "reads kernel memory"),
    (Capability::PERFMON, "observes every process of the machine"),
    (Capability::SYS_BOOT, "restarts the machine and loads another kernel"),
    (Capability::MKNOD, "makes nodes for disks and memory"),
    (Capability::NET_ADMIN, "changes the network of the whole machine"),
    (Capability::NET_RAW, "forges and reads packets"),
    (Capability::SYS_CHROOT, "with a prepared directory it can lead to root"),
    (Capability::KILL, "ends every process of the machine"),
    (Capability::SYS_TIME, "changes the time for the whole machine"),
    (Capability::SYS_NICE, "takes processor time from every other process"),
    (Capability::SYS_RESOURCE, "overrides quotas and limits"),
    (Capability::SYSLOG, "reads kernel messages and addresses"),
];

/// What a capability amounts to, where that is more than its name says.
pub fn danger(capability: Capability) -> Option<&'static str> {
    DANGERS.iter().find(|(c, _)| *c == capability).map(|(_, why)| *why)
}

/// Why a capability is never granted, for those that are not.
pub fn is_never_granted(capability: Capability) -> Option<&'static str> {
    NEVER.iter().find(|(never, _)| *never == capability).map(|(_, why)| *why)
}

/// Capabilities that give the machine or what all of it does: they go into no file until a trial has failed without.
const WITHHELD: [Capability; 8] = [
    Capability::SYS_ADMIN,
    Capability::SYS_MODULE,
    Capability::SYS_RAWIO,
    Capability::SYS_PTRACE,
    Capability::BPF,
    Capability::PERFMON,
    Capability::SYS_BOOT,
    Capability::MKNOD,
];

/// Whether a trial without it has failed.
pub(super) fn is_proved(requirement: &Requirement) -> bool {
    requirement.proof.as_ref().is_some_and(|proof| proof.finding == Finding::Removal)
}

/// A capability with what it amounts to.
pub(super) fn grant(capability: Capability) -> CapabilityGrant {
    CapabilityGrant { danger: danger(capability), why: Why::default() }
}

/// The two ways to have a capability.
pub(super) fn ways(capability: Capability, because: &str) -> [Way; 2] {
    [
        Way::new(Act::Capability(capability, grant(capability)), because),
        Way::new(Act::FileCapability(capability, grant(capability)), because),
    ]
}

/// Nothing yet: what amounts to much, or is known to be done without, waits for a proof.
pub(super) fn withhold(capability: Capability, because: &str) -> Way {
    let amounts = danger(capability).map(|danger| format!(" (it {danger})")).unwrap_or_default();
    let reason =
        format!("{capability}{amounts} is withheld and may be needed: {because}; prove it with --minimize");
    Way::new(Act::Withhold(capability), reason)
}

/// Meets a need for a capability alone.
pub(super) fn meet(requirement: &Requirement, capability: Capability, grants: &mut Grants) {
    let id = requirement.id.as_str();
    if capability == Capability::SETPCAP && requirement.evidence.calls.iter().eq(["prctl"]) {
        let advice = "a user that is not root cannot take capabilities out of its bounding set, nor set secure bits: the \
                      unit's CapabilityBoundingSet= has done so already; most programs go on, and where one does not, \
                      look for an option";
        return grants.take(id, Way::setting(advice));
    }
    if let Some(why) = is_never_granted(capability) {
        let hint = "see which call consulted it; trace it again with the written files in place";
        return grants.take(id, Way::refuse(format!("{capability} is never granted: {why}"), hint));
    }
    if Capability::all().all(|known| known != capability) {
        let reason = format!("{capability} is newer than this nrtrace");
        return grants.take(id, Way::refuse(reason, "use a newer nrtrace"));
    }
    if let Some(path) = closed_anyway(requirement, grants) {
        let reason = format!("it is of use for {path} alone, which stays closed");
        return grants.take(id, Way::refuse(reason, "do without it, or have a helper read it"));
    }
    let ways = ways(capability, "the kernel consulted it, and nothing lesser serves");
    if WITHHELD.contains(&capability) && !is_proved(requirement) && !grants.choices.prove {
        grants.take(id, withhold(capability, "the program may go on without it"));
        return grants.offer(id, ways);
    }
    grants.choose([id], requirement.way, ways);
}

/// The only file that a capability was consulted for, where access to that file is not granted: the two go together.
fn closed_anyway<'a>(requirement: &'a Requirement, grants: &Grants) -> Option<&'a RawText> {
    let evidence = &requirement.evidence;
    let path = evidence.refused_at.as_ref()?;
    let opens = evidence.calls.iter().all(|call| calls::opens(call));
    (opens && grants.is_refused(&format!("path:{}", path.to_text()))).then_some(path)
}
