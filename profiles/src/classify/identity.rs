//! Changes of identity and of ownership.

use std::collections::BTreeSet;

use crate::event::{Attached, Component, Event, FileType, Mode, Object, Outcome};
use crate::requirement::{IdentityOperation, Need, Requirement};

use super::context::Context;
use super::finding::{Judged, Source, best};
use super::path;
use super::site::CheckSite;

/// "Unchanged", as the calls spell it.
const UNCHANGED: u32 = u32::MAX;

/// What was answered in the kernel's place.
pub fn answered(event: &Event, context: &Context<'_>, out: &mut Judged) {
    if event.outcome == Outcome::Answered {
        refused(&Source { event, check: None, site: CheckSite::Other, context }, out);
    }
}

/// The need behind a change that the kernel refused, or that was answered in its place.
pub fn refused(source: &Source<'_>, out: &mut Judged) -> bool {
    match &source.event.object {
        Object::Ids { .. } => place(source, out),
        Object::Gift { .. } => chown(source, out),
        _ => false,
    }
}

/// Adds the names of the ids asked for, and a remark on a user that the program would become.
pub fn name(requirements: &mut [Requirement], context: &Context<'_>, notes: &mut BTreeSet<String>) {
    let accounts = &context.end.accounts;
    for requirement in requirements {
        let Need::Identity { operation, ids, .. } = &requirement.need else { continue };
        let name = |(at, id): (usize, &u32)| {
            let is_user = match operation {
                IdentityOperation::SetUser | IdentityOperation::BeRoot => true,
                IdentityOperation::SetGroup | IdentityOperation::SetGroups => false,
                IdentityOperation::Chown => at == 0,
            };
            let names = if is_user { &accounts.users } else { &accounts.groups };
            names.get(id).cloned().unwrap_or_default()
        };
        let names: Vec<String> = ids.iter().enumerate().map(name).collect();
        if *operation == IdentityOperation::SetUser {
            let other = |(id, name): &(&u32, &String)| {
                !name.is_empty() && **id != 0 && **id != context.run.identity.uid
            };
            if let Some((_, name)) = ids.iter().zip(&names).find(other) {
                let option = Attached::user_option(context.run.attached.as_ref());
                notes.insert(format!(
                    "it wants to become {name}, a user of this machine: traced with {option} {name} it is judged for that \
                     user, who may have some of this already"
                ));
            }
        }
        if names.iter().any(|name| !name.is_empty()) {
            requirement.evidence.names = names;
        }
    }
}

/// The change behind a check of CAP_SETUID or CAP_SETGID.
pub fn place(source: &Source<'_>, out: &mut Judged) -> bool {
    let Object::Ids { ids } = &source.event.object else { return false };
    let Some(operation) = source.event.call.operation().identity() else { return false };
    let identity = &source.context.run.identity;
    let own = match operation {
        IdentityOperation::SetUser => Some(identity.uid),
        IdentityOperation::SetGroup => Some(identity.gid),
        // setgroups takes the privilege even to set what is set already.
        IdentityOperation::SetGroups | IdentityOperation::Chown | IdentityOperation::BeRoot => None,
    };
    // Who runs as root sets root's ids where the user would set its own.
    let kept = |id: u32| {
        id == UNCHANGED || Some(id) == own || (id == 0 && source.context.run.mode == Mode::Observation)
    };
    let is_change = own.is_none() || !ids.iter().all(|id| kept(*id));
    if is_change {
        let need = Need::Identity { operation, ids: ids.clone(), path: None };
        out.findings.push(source.finding(need));
    }
    true
}

/// A change of owner: to others it is a change only privilege makes; to the user itself it takes that the file is
/// the user's already.
pub fn chown(source: &Source<'_>, out: &mut Judged) -> bool {
    let (event, identity) = (source.event, &source.context.run.identity);
    let (path, uid, gid) = match (&event.object, &event.call.args) {
        (Object::Gift { path, uid, gid }, _) => (path, *uid, *gid),
        (Object::Path(path), args) => match event.call.operation().gift(args) {
            Some((uid, gid)) => (path, uid, gid),
            None => return path::place(source, out),
        },
        _ => return false,
    };
    let to_itself = matches!(uid, UNCHANGED) || uid == identity.uid;
    let to_own_group = matches!(gid, UNCHANGED) || gid == identity.gid || identity.groups.contains(&gid);
    if to_itself && to_own_group {
        return path::place(&Source { site: CheckSite::Chown, ..*source }, out);
    }
    let inode = path.inode.clone();
    let path = best(path);
    if source.context.has_made(&path) || source.context.is_inside_made(&path) {
        out.notes.insert(
            "it gives files that it made to other owners; some programs ignore a refusal there when they are not \
             root, others end: try it confined"
                .into(),
        );
    }
    let path = path::generalise(source, &path).unwrap_or(path);
    let ids = vec![uid, gid];
    let need = Need::Identity { operation: IdentityOperation::Chown, ids, path: Some(path.clone()) };
    let mut finding = source.finding(need);
    // A directory can be given beforehand.
    if let Some(inode) = inode.filter(|inode| inode.file_type == FileType::Directory) {
        finding.refused = Some(Component { path, inode: *inode });
    }
    out.findings.push(finding);
    true
}
