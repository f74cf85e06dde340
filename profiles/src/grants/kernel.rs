//! Grants for what is no file: ports, capabilities, limits, devices, kernel parameters, identities.

use super::groups::{is_dangerous, usable};
use super::names::flaw;
use super::paths::is_given;
use super::{Device, Grants, LimitGrant, Method, Sysctl, Why};
use crate::event::{FileType, Inode};
use crate::requirement::{
    Access, Basis, Finding, IdentityOperation, KernelOperation, Limit, Need, Requirement,
};
use crate::{Capability, RawText};

/// Grants one need that is not for a path.
pub(super) fn grant(requirement: &Requirement, grants: &mut Grants) {
    let id = requirement.id.as_str();
    match &requirement.need {
        Need::Path { .. } | Need::Exec { .. } => {}
        Need::Port { port, .. } => {
            let why = Why::new(id, format!("port {port} is below the first unprivileged one"));
            grants.ports.entry(*port).or_insert_with(|| why.clone()).also(why.clone());
            open_port(*port, why, grants);
        }
        Need::Capability { capability } => grant_capability(requirement, *capability, grants),
        Need::Device { path, file_type, access } => device(requirement, path, *file_type, access, grants),
        Need::Identity { operation, ids, path } => identity(id, *operation, ids, path.as_ref(), grants),
        Need::Sysctl { name, value } => sysctl(requirement, name, value.as_ref(), grants),
        Need::Limit { limit, value } => grant_limit(id, *limit, *value, grants),
        Need::Kernel { operation, subject, capability } => {
            kernel(id, *operation, subject, *capability, grants)
        }
    }
}

/// The sysctl that says which ports take a capability.
pub(crate) const PORT_SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";

fn open_port(port: u16, why: Why, grants: &mut Grants) {
    const WAYS: [Method; 5] =
        [Method::Capability, Method::FileCapability, Method::Sysctl, Method::Socket, Method::Configure];
    let id: Vec<String> = why.needs.iter().cloned().collect();
    let method = grants.choices.pick(&WAYS).unwrap_or(Method::Capability);
    grants.port_method = method;
    match method {
        Method::Sysctl => {
            let why =
                Why { reason: "ports from this one on need no privilege, for every program".into(), ..why };
            let sysctl = grants
                .sysctls
                .entry(PORT_SYSCTL.into())
                .or_insert_with(|| Sysctl { value: port.to_string(), why: why.clone() });
            let lowest = sysctl.value.parse().map_or(port, |present: u16| present.min(port));
            sysctl.value = lowest.to_string();
            sysctl.why.also(why);
        }
        Method::Socket => {}
        Method::Configure => {
            let advice =
                format!("have it listen on a port from 1024 on instead of {port}, and forward {port} to it");
            id.iter().for_each(|id| grants.advise(id, advice.clone()));
        }
        _ => {
            let why = Why { reason: "binds a port below the first unprivileged one".into(), ..why };
            grants.capability(Capability::NET_BIND_SERVICE, None, why);
        }
    }
}

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

fn grant_capability(requirement: &Requirement, capability: Capability, grants: &mut Grants) {
    let id = requirement.id.as_str();
    if let Some(why) = is_never_granted(capability) {
        let hint = "see which call consulted it; trace it again with the written files in place";
        return grants.refuse(id, format!("{capability} is never granted: {why}"), hint);
    }
    if Capability::all().all(|known| known != capability) {
        return grants.refuse(id, format!("{capability} is newer than this nrtrace"), "use a newer nrtrace");
    }
    if let Some(path) = closed_anyway(requirement, grants) {
        let reason = format!("it is of use for {path} alone, which stays closed");
        return grants.refuse(id, reason, "do without it, or have a helper read it");
    }
    grants.capability(
        capability,
        danger(capability),
        Why::new(id, "the kernel consulted it, and nothing lesser serves"),
    );
    if WITHHELD.contains(&capability) && !is_proved(requirement) && !grants.choices.prove {
        grants.withhold(id, capability, "the program may go on without it");
    }
}

/// The only file that a capability was consulted for, where access to that file is not granted: the two go together.
fn closed_anyway<'a>(requirement: &'a Requirement, grants: &Grants) -> Option<&'a RawText> {
    let evidence = &requirement.evidence;
    let path = evidence.refused_at.as_ref()?;
    let id = format!("path:{}", path.to_text());
    let opens = evidence.calls.iter().all(|call| call.starts_with("open"));
    (opens && grants.unmet.iter().any(|unmet| unmet.need == id)).then_some(path)
}

fn device(
    requirement: &Requirement,
    path: &RawText,
    file_type: FileType,
    access: &std::collections::BTreeSet<Access>,
    grants: &mut Grants,
) {
    let id = requirement.id.as_str();
    if let Some(flaw) = flaw(path) {
        return grants.refuse(id, flaw, "trace it again; if this stays, name the device by hand");
    }
    let reads = access.contains(&Access::Read);
    let writes = access.contains(&Access::Write) || access.contains(&Access::Append);
    let bits = if reads { 4 } else { 0 } | if writes { 2 } else { 0 };
    let inode: Option<&Inode> = requirement
        .evidence
        .refused_inode
        .as_ref()
        .filter(|_| requirement.evidence.refused_at.as_ref() == Some(path));
    let block = file_type == FileType::BlockDevice;
    let reaches_all = block || inode.is_some_and(|inode| inode.gid != 0 && is_dangerous(inode));
    if reaches_all {
        let hint = "give the service a file or a volume instead of the device";
        return grants.refuse(id, "the device holds the data or the memory of the whole machine", hint);
    }
    match inode.and_then(|inode| usable(inode, bits)) {
        Some(group) => grants.join(&group, Why::new(id, "its members have the access already")),
        None => {
            let reason =
                "the user alone may use the device; a udev rule does the same for nodes that come and go";
            grants.acl(path, bits, Why::new(id, reason));
        }
    }
    let why = Why::new(id, "the service uses the device");
    grants.devices.entry(path.clone()).or_insert_with(|| Device { block, bits: 0, why }).bits |= bits;
}

/// Whether these ids, of which those that stay are left out, are root's alone.
fn to_root(ids: &[u32]) -> bool {
    let mut new = ids.iter().filter(|id| **id != u32::MAX).peekable();
    new.peek().is_some() && new.all(|id| *id == 0)
}

fn identity(
    id: &str,
    operation: IdentityOperation,
    ids: &[u32],
    path: Option<&RawText>,
    grants: &mut Grants,
) {
    let user = grants.account.user.clone();
    let advice = match (operation, path) {
        (IdentityOperation::Chown, Some(path)) if is_given(path, grants) => {
            format!("{path} belongs to {user} beforehand, so it need not be given away: remove the directive that names another owner")
        }
        (IdentityOperation::Chown, Some(path)) => {
            format!("{path} cannot be given away by {user}: set its owner beforehand, or remove the directive that names another owner")
        }
        (IdentityOperation::Chown, None) => {
            "files cannot be given away: set their owner beforehand, or remove the directive that names another".into()
        }
        (IdentityOperation::SetUser | IdentityOperation::SetGroup, None) if to_root(ids) => {
            format!("{user} cannot become root: most programs go on without; where one does not, look for an option")
        }
        _ => format!("it runs as {user} from the start: remove the option or directive that names another user or group"),
    };
    grants.advise(id, advice);
}

/// Parameters that name a program which the kernel runs as root, or that cannot be undone.
const NEVER_SET: &[&str] =
    &["kernel.core_pattern", "kernel.modprobe", "kernel.hotplug", "kernel.modules_disabled"];

fn sysctl(requirement: &Requirement, name: &RawText, value: Option<&RawText>, grants: &mut Grants) {
    let id = &requirement.id;
    let plain = |text: &RawText, allowed: fn(char) -> bool| {
        text.as_str().filter(|t| !t.is_empty() && t.chars().all(allowed)).map(str::to_owned)
    };
    let name_text =
        plain(name, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '@' | ':'))
            .filter(|n| n.starts_with(|c: char| c.is_ascii_alphanumeric()));
    let value_text =
        value.and_then(|v| plain(&trimmed(v), |c| c.is_ascii_graphic() || c == ' ' || c == '\t'));
    match (name_text, value_text) {
        (Some(name), _) if NEVER_SET.contains(&name.replace('/', ".").as_str()) => {
            grants.refuse(
                id,
                "it decides what the kernel runs as root",
                "have an administrator set it by hand",
            );
        }
        (Some(name), Some(value)) => {
            if grants.choices.pick(&[Method::Boot, Method::Manager]) == Some(Method::Manager) {
                let why = Why::new(id, "systemd sets it before each start, so that the service need not");
                let words = ["sysctl", "-q", "-w", &format!("{name}={value}")].map(str::to_owned);
                return grants.before_start.push((words.into(), why));
            }
            let why = Why::new(id, "set beforehand for the whole machine, so that the service need not");
            grants.sysctls.entry(name).or_insert(Sysctl { value, why });
        }
        (None, _) => {
            grants.refuse(id, "this is no name of a kernel parameter", "set it by hand before the start")
        }
        (_, None) if requirement.basis == Basis::Denied => {
            let reason = "root alone may write it, and the value is not known, since it was refused";
            let hint = "set it in /etc/sysctl.d before the start; a run with --as-root shows the value";
            grants.refuse(id, reason, hint);
        }
        (_, None) => {
            grants.refuse(id, "the value it writes is not known", "set it in /etc/sysctl.d before the start")
        }
    }
}

fn trimmed(text: &RawText) -> RawText {
    RawText::new(text.as_bytes().trim_ascii())
}

fn grant_limit(id: &str, limit: Limit, value: Option<i64>, grants: &mut Grants) {
    match (limit, value) {
        (Limit::Nice, Some(value)) => {
            grants.nice = Some((value.clamp(-20, 19), Why::new(id, "started with the priority it asks for")));
        }
        (Limit::OomScore, Some(value)) => {
            let why = Why::new(id, "started with the score it asks for");
            grants.oom_score = Some((value.clamp(-1000, 1000), why));
        }
        (Limit::Scheduling, value) => {
            let value =
                value.and_then(|v| u64::try_from(v).ok()).filter(|v| (1..=99).contains(v)).unwrap_or(99);
            raise(
                Limit::RealtimePriority,
                Some(value),
                Why::new(id, "lets it take a real-time priority"),
                grants,
            );
        }
        (Limit::LockedMemory, None) => {
            raise(limit, None, Why::new(id, "it locks memory; how much is not known"), grants);
        }
        (_, None) => {
            let advice = "it makes do with less where this is refused; else raise it in the unit to what its manual asks for";
            grants.advise(id, advice);
        }
        (_, Some(i64::MAX)) => raise(limit, None, Why::new(id, "started with the limit it asks for"), grants),
        (_, Some(value)) => {
            let value = u64::try_from(value).unwrap_or(0);
            raise(limit, Some(value), Why::new(id, "started with the limit it asks for"), grants);
        }
    }
}

fn raise(limit: Limit, value: Option<u64>, why: Why, grants: &mut Grants) {
    match grants.limits.get_mut(&limit) {
        Some(present) => {
            present.value = present.value.zip(value).map(|(a, b)| a.max(b));
            present.why.also(why);
        }
        None => {
            grants.limits.insert(limit, LimitGrant { value, why });
        }
    }
}

fn kernel(
    id: &str,
    operation: KernelOperation,
    subject: &RawText,
    capability: Capability,
    grants: &mut Grants,
) {
    match operation {
        KernelOperation::Module => match module_name(subject) {
            Some(name) if grants.choices.pick(&[Method::Boot, Method::Manager]) == Some(Method::Manager) => {
                let why = Why::new(id, "systemd loads it before each start, so that the service need not");
                grants.before_start.push((["modprobe".to_owned(), name].into(), why));
            }
            Some(name) => {
                let why = Why::new(id, "loaded at boot, so that the service need not");
                grants.modules.entry(name).or_insert_with(|| why.clone()).also(why);
            }
            None => {
                grants.refuse(id, "which module it loads is not known", "load it at boot with modules-load.d")
            }
        },
        KernelOperation::Cgroup => {
            let why = Why::new(id, "the service manages the control groups below its own");
            grants.delegate.get_or_insert_with(|| why.clone()).also(why);
        }
        KernelOperation::Chroot => {
            let why = Why::new(id, format!("changes its root directory to {subject}"));
            grants.capability(Capability::SYS_CHROOT, danger(Capability::SYS_CHROOT), why);
        }
        KernelOperation::Mount => {
            let hint = "let systemd mount it before the start: a mount unit, or ExecStartPre=+ with mount(8)";
            grants.refuse(id, format!("mounting takes {capability}, which amounts to root"), hint);
        }
        KernelOperation::Namespace => {
            let hint = "allow unprivileged user namespaces, or let systemd make it (PrivateMounts=, PrivateNetwork=)";
            grants.refuse(id, format!("this namespace takes {capability}, which amounts to root"), hint);
        }
        KernelOperation::Sysfs => {
            let hint = "set the value at boot with a `w` line in tmpfiles.d or a udev rule";
            grants.refuse(id, format!("files below /sys are the kernel's ({capability})"), hint);
        }
    }
}

/// The name of a module from its file (`/lib/modules/…/br_netfilter.ko.xz`) or name.
fn module_name(subject: &RawText) -> Option<String> {
    let text = subject.as_str()?;
    let file = text.rsplit('/').next()?;
    let name = file.split_once(".ko").map_or(file, |(name, _)| name);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (!name.is_empty() && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain))
        .then(|| name.to_owned())
}
