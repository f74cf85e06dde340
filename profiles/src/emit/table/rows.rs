//! The rows of the table: one for a need, or for many that are dealt with alike.

use std::collections::BTreeMap;

use super::proved;
use crate::RawText;
use crate::describe::{gift, owner};
use crate::emit::remedy::{Verdict, remedies, verdict};
use crate::event::FileType;
use crate::grants::Grants;
use crate::place::{is_below, parent};
use crate::requirement::{IdentityOperation, Need, Requirement, Severity, word};

/// A row's cells, each of some paragraphs.
pub(super) type Row = [Vec<String>; 4];

/// The row of one need.
pub(super) fn row(requirement: &Requirement, grants: &Grants) -> Row {
    [named(requirement), access_of(requirement), why_of(requirement), remedy(requirement, grants)]
}

/// From how many needs of one shape on one row does for all.
const MANY: usize = 5;
/// Components of a path that needs of one shape have in common: `/var/lib/NAME`.
const TREE: usize = 3;

/// What needs have in common that one row does for: what is done with the files of one tree, and what is done about it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    tree: Vec<u8>,
    /// The new owner, where files are given away.
    ids: Option<Vec<u32>>,
    severity: Severity,
    proved: Vec<String>,
    remedy: Vec<String>,
}

impl Shape {
    fn of(requirement: &Requirement, grants: &Grants) -> Option<Self> {
        let (path, ids) = about_a_file(&requirement.need)?;
        let end = path.as_bytes().iter().enumerate().filter(|(_, byte)| **byte == b'/').nth(TREE);
        let end = end.map_or_else(|| parent(path).as_bytes().len(), |(at, _)| at);
        Some(Self {
            tree: path.as_bytes().get(..end)?.to_vec(),
            ids: ids.map(<[u32]>::to_vec),
            severity: requirement.severity,
            proved: proved::of_need(requirement),
            remedy: remedy(requirement, grants),
        })
    }
}

/// The file that a need is about, and whom it is given to.
fn about_a_file(need: &Need) -> Option<(&RawText, Option<&[u32]>)> {
    match need {
        Need::Path { path, file_type: FileType::File, pattern: false, .. } => Some((path, None)),
        Need::Identity { operation: IdentityOperation::Chown, ids, path: Some(path) } => {
            Some((path, Some(ids)))
        }
        _ => None,
    }
}

/// The requirements in their order, those of one shape together where they are many.
pub(super) fn alike<'a>(requirements: &[&'a Requirement], grants: &Grants) -> Vec<Vec<&'a Requirement>> {
    let shapes: Vec<Option<Shape>> =
        requirements.iter().map(|requirement| Shape::of(requirement, grants)).collect();
    let mut counts: BTreeMap<&Shape, usize> = BTreeMap::new();
    for shape in shapes.iter().flatten() {
        *counts.entry(shape).or_default() += 1;
    }
    let mut places: BTreeMap<&Shape, usize> = BTreeMap::new();
    let mut out: Vec<Vec<&Requirement>> = Vec::new();
    for (requirement, shape) in requirements.iter().zip(&shapes) {
        let many = shape.as_ref().filter(|shape| counts.get(shape).is_some_and(|count| *count >= MANY));
        let place = many.map(|shape| *places.entry(shape).or_insert(out.len()));
        match place.and_then(|place| out.get_mut(place)) {
            Some(earlier) => earlier.push(requirement),
            None => out.push(vec![requirement]),
        }
    }
    out
}

/// One row for needs of one shape.
pub(super) fn summary(first: &Requirement, all: &[&Requirement], grants: &Grants) -> Row {
    let mut access: Vec<String> = all.iter().flat_map(|requirement| access_of(requirement)).collect();
    access.sort();
    access.dedup();
    let paths: Vec<&RawText> =
        all.iter().filter_map(|need| about_a_file(&need.need)).map(|(path, _)| path).collect();
    let mut tree = paths.first().map_or_else(|| RawText::from("/"), |path| parent(path));
    while !paths.iter().all(|path| is_below(path.as_bytes(), tree.as_bytes())) {
        tree = parent(&tree);
    }
    let below = format!("({} files below, see profile.json)", all.len());
    let need = match &first.need {
        Need::Identity { operation, ids, .. } => {
            identity(*operation, ids, Some(&tree), &first.evidence.names)
        }
        _ => format!("{}/", tree.to_text().trim_end_matches('/')),
    };
    [vec![need, below], access, why_of(first), remedy(first, grants)]
}

/// The subject, with the names of ids.
pub(in crate::emit) fn named(requirement: &Requirement) -> Vec<String> {
    match &requirement.need {
        Need::Identity { operation, ids, path } => {
            vec![identity(*operation, ids, path.as_ref(), &requirement.evidence.names)]
        }
        need => subject(need),
    }
}

pub(in crate::emit) fn subject(need: &Need) -> Vec<String> {
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
fn identity(operation: IdentityOperation, ids: &[u32], path: Option<&RawText>, names: &[String]) -> String {
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

fn why_of(requirement: &Requirement) -> Vec<String> {
    let evidence = &requirement.evidence;
    let calls: Vec<&str> = evidence.calls.iter().map(String::as_str).collect();
    let processes: Vec<String> = evidence.processes.iter().take(3).map(RawText::to_text).collect();
    let times = if evidence.count > 1 { format!(", {} times", evidence.count) } else { String::new() };
    let mut out = vec![format!("{} by {}{times}", calls.join(", "), processes.join(", "))];
    if let Need::Exec { capabilities, set_user, set_group, .. } = &requirement.need {
        out.push(format!("gives {}", gift(capabilities, *set_user, *set_group)));
    } else if let Some((at, inode)) = requirement.refused() {
        let owner = inode.map(|inode| format!(" ({})", owner(inode))).unwrap_or_default();
        let subject = subject(&requirement.need);
        let at = at.to_text();
        let itself = subject.first() == Some(&at);
        out.push(if itself { format!("refused by it{owner}") } else { format!("refused at {at}{owner}") });
    }
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

fn remedy(requirement: &Requirement, grants: &Grants) -> Vec<String> {
    let granted = verdict(grants, requirement) <= Verdict::Partly;
    let all = remedies(grants, requirement).into_iter();
    all.filter_map(|remedy| match remedy.source {
        // What is known of the program would do as well.
        Some(_) if granted && !remedy.chosen => Some(format!("{}; or, as written:", remedy.text)),
        _ => remedy.chosen.then_some(remedy.text),
    })
    .collect()
}
