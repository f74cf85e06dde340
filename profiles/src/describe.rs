//! Needs, and what caused them, in words.

use std::collections::BTreeSet;

use crate::event::{Exit, Inode, Mode};
use crate::profile::Profile;
use crate::requirement::{Evidence, IdentityOperation, Need, Requirement, word};
use crate::{Capability, RawText};

/// Callers that are named.
const CALLERS: usize = 3;

/// How a program ended: `exited with status 1`.
pub fn exit(exit: Exit) -> String {
    match exit {
        Exit::Running => "still running".into(),
        Exit::Exited { status } => format!("exited with status {status}"),
        Exit::Signaled { signal } => format!("ended by signal {signal}"),
        Exit::Stopped { .. } => "stopped by nrtrace".into(),
    }
}

/// What is said of a profile without needs; an error where that is no good news.
///
/// # Errors
/// When something was refused that no need stands for, or not all was seen.
pub fn no_needs(profile: &Profile) -> Result<String, String> {
    let unexplained = &profile.unexplained;
    if unexplained.iter().any(|entry| entry.obstacle.is_some()) {
        return Err("No right of the user mends what it was refused; see below.".into());
    }
    if let Some(shortfall) = profile.run.shortfall() {
        return Err(format!("Incomplete: {shortfall}. No need was seen in the rest."));
    }
    if !unexplained.is_empty() {
        return Err("No need was found, but not all that it was refused is explained; see below.".into());
    }
    Ok(match profile.run.mode {
        Mode::Enforced => "The user's rights refused it nothing, as far as the run got.".into(),
        _ => "It needs nothing that an ordinary user lacks.".into(),
    })
}

/// How often something was seen: `once`, `3 times`.
pub fn times(count: u64) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}

/// What is needed, in a few words: `create, delete file /run/x.pid`. It may hold text from the tracee.
pub fn need(need: &Need) -> String {
    let words = |set: &std::collections::BTreeSet<_>| set.iter().map(word).collect::<Vec<_>>().join(", ");
    match need {
        Need::Path { path, file_type, access, pattern } => {
            let varies = if *pattern { " (the name varies)" } else { "" };
            format!("{} {} {}{varies}", words(access), word(file_type), path.to_text())
        }
        Need::Device { path, access, .. } => format!("{} device {}", words(access), path.to_text()),
        Need::Port { protocol, address, port } => {
            let address = if address.contains(':') { format!("[{address}]") } else { address.clone() };
            format!("bind {} {address}:{port}", word(protocol))
        }
        Need::Exec { path, capabilities, set_user, set_group } => {
            format!("execute {}, which gives {}", path.to_text(), gift(capabilities, *set_user, *set_group))
        }
        Need::Capability { capability } => format!("use {capability}"),
        Need::Identity { operation, ids, path } => identity(*operation, ids, path.as_ref()),
        Need::Sysctl { name, value } => {
            let value = value.as_ref().map(|value| format!(" to {}", value.to_text())).unwrap_or_default();
            format!("set kernel parameter {}{value}", name.to_text())
        }
        Need::Limit { limit, value } => {
            let value = match value {
                Some(i64::MAX) => " to no limit".to_owned(),
                Some(value) => format!(" to {value}"),
                None => String::new(),
            };
            format!("set limit {}{value}", word(limit))
        }
        Need::Kernel { operation, subject, capability } => {
            format!("{} {} ({capability})", word(operation), subject.to_text())
        }
    }
}

/// What the file of a program gives whoever executes it.
pub fn gift(capabilities: &BTreeSet<Capability>, user: Option<u32>, group: Option<u32>) -> String {
    let user = user.map(|uid| if uid == 0 { "root".into() } else { format!("user {uid}") });
    let group = group.map(|gid| format!("group {gid}"));
    let capabilities = capabilities.iter().map(Capability::to_string);
    capabilities.chain(user).chain(group).collect::<Vec<_>>().join(", ")
}

fn identity(operation: IdentityOperation, ids: &[u32], path: Option<&RawText>) -> String {
    let id = |id: &u32| if *id == u32::MAX { "-".into() } else { id.to_string() };
    let ids: Vec<String> = ids.iter().map(id).collect();
    match (operation, path) {
        (IdentityOperation::Chown, Some(path)) => format!("give {} to {}", path.to_text(), ids.join(":")),
        (IdentityOperation::BeRoot, _) => "be started as root".into(),
        _ => format!("{} {}", word(&operation), ids.join(", ")),
    }
}

/// Which call of which executable caused a need, and what refused. It may hold text from the tracee.
pub fn cause(requirement: &Requirement) -> String {
    let evidence = &requirement.evidence;
    let calls: Vec<&str> = evidence.calls.iter().map(String::as_str).collect();
    let mut out = format!("{} by {}", calls.join(", "), callers(evidence));
    if evidence.count > 1 {
        out.push_str(&format!(", {} times", evidence.count));
    }
    if let Some((at, inode)) = requirement.refused() {
        let owner = inode.map(|inode| format!(" ({})", owner(inode)));
        out.push_str(&format!(", refused at {}{}", at.to_text(), owner.unwrap_or_default()));
    }
    out
}

/// Who called, each with what it descends from.
fn callers(evidence: &Evidence) -> String {
    if evidence.callers.is_empty() {
        return evidence.processes.iter().map(RawText::to_text).collect::<Vec<_>>().join(", ");
    }
    let mut out: Vec<String> = evidence
        .callers
        .iter()
        .take(CALLERS)
        .map(|caller| {
            let name = caller.name.to_text();
            let who = match &caller.executable {
                Some(executable) => format!("{} ({name})", executable.to_text()),
                None => name,
            };
            let mut line: Vec<String> = caller.ancestors.iter().map(RawText::to_text).collect();
            line.dedup();
            match line.is_empty() {
                true => who,
                false => format!("{who} below {}", line.join(" > ")),
            }
        })
        .collect();
    if evidence.callers.len() > CALLERS {
        out.push("others".into());
    }
    out.join(", ")
}

/// Owner, group and mode: `root:adm 0640`.
pub fn owner(inode: &Inode) -> String {
    let name = |name: &Option<String>, id: u32| name.clone().unwrap_or_else(|| id.to_string());
    format!("{}:{} {:04o}", name(&inode.user, inode.uid), name(&inode.group, inode.gid), inode.mode & 0o7777)
}
