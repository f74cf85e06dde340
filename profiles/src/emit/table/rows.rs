//! What is said of one need.

use std::collections::{BTreeMap, BTreeSet};

use super::proved;
use crate::RawText;
use crate::describe::{gift, owner};
use crate::emit::remedy::{remedies, verdict};
use crate::emit::treatment::Treatment;
use crate::event::Phase;
use crate::grants::{Grants, Why};
use crate::profile::{Profile, Timeline};
use crate::requirement::{IdentityOperation, Need, Requirement, Seconds, Severity, word};

/// The subject, with the names of ids.
pub(crate) fn named(requirement: &Requirement) -> Vec<String> {
    match &requirement.need {
        Need::Identity { operation, ids, path } => {
            vec![identity(*operation, ids, path.as_ref(), &requirement.evidence.names)]
        }
        need => subject(need),
    }
}

pub(crate) fn subject(need: &Need) -> Vec<String> {
    match need {
        Need::Path { path, pattern, .. } => {
            let mark = if *pattern { " (name varies)" } else { "" };
            vec![format!("{}{mark}", path.to_text())]
        }
        Need::Device { path, .. } => vec![path.to_text()],
        Need::Port { protocol, address, port } => {
            let address = if address.contains(':') { format!("[{address}]") } else { address.clone() };
            vec![format!("{} {address}:{port}", word(protocol))]
        }
        Need::Exec { path, .. } => vec![path.to_text()],
        Need::Capability { capability } => vec![capability.to_string()],
        Need::Identity { operation, ids, path } => vec![identity(*operation, ids, path.as_ref(), &[])],
        Need::Sysctl { name, .. } => vec![name.to_text()],
        Need::Limit { limit, .. } => vec![word(limit)],
        Need::Kernel { subject, .. } => vec![subject.to_text()],
    }
}

/// A change of identity in words. Ids that stay are left out, except where their place tells which is which.
pub(super) fn identity(
    operation: IdentityOperation,
    ids: &[u32],
    path: Option<&RawText>,
    names: &[String],
) -> String {
    let told = |(at, id): (usize, &u32)| match names.get(at).filter(|name| !name.is_empty()) {
        Some(name) => format!("{name} ({id})"),
        None => id.to_string(),
    };
    let mut new: Vec<String> = ids.iter().enumerate().filter(|(_, id)| **id != u32::MAX).map(told).collect();
    new.dedup();
    let new = new.join(", ");
    match operation {
        IdentityOperation::SetUser => format!("become user {new}"),
        IdentityOperation::SetGroup => format!("become group {new}"),
        IdentityOperation::SetGroups if new.is_empty() => "leave all groups".into(),
        IdentityOperation::SetGroups => format!("join groups {new}"),
        IdentityOperation::BeRoot => "be started as root".into(),
        IdentityOperation::Chown => {
            let id = |(at, id): (usize, &u32)| match names.get(at).filter(|name| !name.is_empty()) {
                _ if *id == u32::MAX => "-".into(),
                Some(name) => name.clone(),
                None => id.to_string(),
            };
            let owner: Vec<String> = ids.iter().enumerate().map(id).collect();
            let path = path.map(RawText::to_text).unwrap_or_default();
            format!("give {path} to {}", owner.join(":"))
        }
    }
}

pub(in crate::emit) fn access_of(requirement: &Requirement) -> Vec<String> {
    match &requirement.need {
        Need::Path { access, .. } | Need::Device { access, .. } => access.iter().map(word).collect(),
        Need::Port { .. } => vec!["bind".into()],
        Need::Sysctl { value, .. } => {
            vec![value.as_ref().map(RawText::to_text).unwrap_or_else(|| "write".into())]
        }
        Need::Limit { value, .. } => match value {
            Some(i64::MAX) => vec!["no limit".into()],
            Some(value) => vec![value.to_string()],
            None => vec!["raise".into()],
        },
        Need::Kernel { operation, .. } => vec![word(operation)],
        Need::Exec { .. } => vec!["execute".into()],
        Need::Capability { .. } => vec!["use".into()],
        Need::Identity { .. } => vec!["change".into()],
    }
}

/// Which calls, and whose; of what no call told, nothing.
pub(super) fn by(calls: &str, processes: &str) -> Option<String> {
    match (calls.is_empty(), processes.is_empty()) {
        (true, _) => None,
        (false, true) => Some(calls.to_owned()),
        (false, false) => Some(format!("{calls} by {processes}")),
    }
}

pub(super) fn why_of(requirement: &Requirement) -> Vec<String> {
    let evidence = &requirement.evidence;
    let calls: Vec<&str> = evidence.calls.iter().map(String::as_str).collect();
    let processes: Vec<String> = evidence.processes.iter().take(3).map(RawText::to_text).collect();
    let times = if evidence.count > 1 { format!(", {} times", evidence.count) } else { String::new() };
    let what = if requirement.phase == Phase::Before { "held".into() } else { calls.join(", ") };
    let mut out: Vec<String> =
        by(&what, &processes.join(", ")).map(|by| format!("{by}{times}")).into_iter().collect();
    if let Need::Exec { capabilities, set_user, set_group, .. } = &requirement.need {
        out.push(format!("gives {}", gift(capabilities, *set_user, *set_group)));
    } else if let Some((at, inode)) = requirement.refused() {
        let owner = inode.map(|inode| format!(" ({})", owner(inode))).unwrap_or_default();
        let subject = subject(&requirement.need);
        let at = at.to_text();
        let itself = subject.first() == Some(&at);
        out.push(if itself { format!("refused by it{owner}") } else { format!("refused at {at}{owner}") });
    }
    out.extend(evidence.origins.iter().map(|origin| format!("from {}", origin.to_text())));
    if is_missing(requirement)
        && let Some(wanted) = evidence.objects.first()
    {
        out.push(format!("not there for {}", wanted.to_text()));
    }
    if requirement.severity == Severity::Probe {
        out.push("only tried".into());
    } else if requirement.severity == Severity::Tolerated && requirement.proof.is_none() {
        out.push("lives without".into());
    }
    out.extend(proved::of_need(requirement));
    out
}

/// Whether a directory was not there, rather than closed.
pub(super) fn is_missing(requirement: &Requirement) -> bool {
    requirement.evidence.outcomes.keys().eq(["ENOENT"])
}

pub(super) fn remedy(requirement: &Requirement, grants: &Grants) -> Vec<String> {
    let granted = verdict(grants, requirement) <= Treatment::Partly;
    let all = remedies(grants, requirement).into_iter();
    all.filter_map(|remedy| match remedy.source {
        // What is known of the program would do as well.
        Some(_) if granted && !remedy.chosen => Some(format!("{}; or, as written:", remedy.text)),
        _ => remedy.chosen.then_some(remedy.text),
    })
    .collect()
}

/// Reasons, each once, with the needs it is given for, as they are named to people.
pub(in crate::emit) fn by_reason<'a>(
    profile: &Profile,
    whys: &'a [Why],
) -> BTreeMap<&'a str, BTreeSet<String>> {
    let mut needs: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for why in whys {
        let named = profile.requirements.iter().filter(|need| why.needs.contains(&need.id)).map(named);
        needs.entry(&why.reason).or_default().extend(named.map(|name| name.concat()));
    }
    needs
}

pub(in crate::emit) fn group_of(need: &Need) -> (u8, &'static str) {
    match need {
        Need::Path { .. } => (0, "Files and directories"),
        Need::Port { .. } => (1, "Ports"),
        Need::Device { .. } => (2, "Devices"),
        Need::Capability { .. } => (3, "Capabilities"),
        Need::Limit { .. } => (4, "Limits and priorities"),
        Need::Identity { .. } => (5, "Changes of identity and owner"),
        Need::Sysctl { .. } => (6, "Kernel parameters"),
        Need::Kernel { .. } => (7, "The kernel's own state"),
        Need::Exec { .. } => (8, "Programs that give rights"),
    }
}

/// When the program was ready, and from when on nothing privileged happened.
pub(in crate::emit) fn phases(timeline: &Timeline, end: Seconds) -> Option<String> {
    let Some(ready) = timeline.ready else { return Some("it was never ready".into()) };
    let seconds = |time: Seconds| format!("{:.1} s", time.0 as f64 / 1e9);
    let (late, quiet) = (timeline.privileged_after_ready()?, timeline.quiet(end)?);
    let exercised = if timeline.exercised.is_some() { ", then exercised" } else { "" };
    let ready = format!("ready after {}{exercised}", seconds(ready));
    Some(if late.0 == 0 {
        format!("{ready}; nothing privileged happened in the {} after that", seconds(quiet))
    } else {
        format!(
            "{ready}; the last privileged call came {} after it was ready, and nothing in the {} after that",
            seconds(late),
            seconds(quiet)
        )
    })
}
