//! Programs whose files change the rights of whoever executes them, by capabilities or set-id bits.

use crate::event::{Check, Component, Event, Inode, Mode, Object, Outcome};
use crate::requirement::{Basis, Need, Severity};

use super::context::Context;
use super::errno;
use super::finding::{Judged, Source};
use super::site::CheckSite;

const SET_USER: u32 = 0o4000;
/// A set-group-ID bit on a file that its group cannot execute means something else.
const SET_GROUP: u32 = 0o2010;

/// Finds the need behind the execution of such a program. Whether that was refused or not: in a unit, which holds back
/// capabilities and new privileges, it would be.
pub fn place(event: &Event, context: &Context<'_>, out: &mut Judged) -> bool {
    let Object::Program { path, capabilities } = &event.object else { return false };
    let refused = matches!(event.outcome, Outcome::Failure { errno } if errno::is_refusal(errno));
    if matches!(event.outcome, Outcome::Failure { .. }) && !refused {
        return true;
    }
    let identity = &context.run.identity;
    let inode = path.inode.as_deref();
    let set_user = inode.filter(|inode| inode.mode & SET_USER != 0).map(|inode| inode.uid);
    let set_group = inode.filter(|inode| inode.mode & SET_GROUP == SET_GROUP).map(|inode| inode.gid);
    let set_user = set_user.filter(|uid| *uid != identity.uid);
    let has = |gid: &u32| *gid == identity.gid || identity.groups.contains(gid);
    let set_group = set_group.filter(|gid| !has(gid));
    if capabilities.is_empty() && set_user.is_none() && set_group.is_none() {
        return true;
    }
    let source = Source { event, check: None, site: CheckSite::Other, context };
    let need =
        Need::Exec { path: path.path.clone(), capabilities: capabilities.clone(), set_user, set_group };
    let mut finding = source.finding(need);
    if !refused {
        (finding.basis, finding.severity) = (Basis::Predicted, Severity::Required);
    }
    let component = |inode: &Inode| Component { path: path.path.clone(), inode: inode.clone() };
    finding.refused = inode.map(component);
    out.findings.push(finding);
    true
}

/// Whether a check was about what a program may do that runs as the owner of its file: these are that program's own rights.
pub fn own_rights(event: &Event, context: &Context<'_>) -> bool {
    let uid = event.credentials.uid;
    uid != context.run.identity.uid && context.run.mode != Mode::Observation && context.is_set_user(uid)
}

/// Whether a foretold refusal was none, since the caller has the group of its file besides the user's.
pub fn is_disproved(event: &Event, check: &Check, context: &Context<'_>) -> bool {
    let gid = event.credentials.gid;
    let foretold = check.predicted.is_some() && !check.granted;
    foretold
        && matches!(event.outcome, Outcome::Success { .. })
        && gid != context.run.identity.gid
        && context.run.mode != Mode::Observation
        && context.is_set_group(gid)
}
