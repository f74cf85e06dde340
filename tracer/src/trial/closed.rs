//! What the sandbox closes on its own account: there the program is refused what the machine would have judged by owner and
//! mode. The record is to say what holds on the machine.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};
use nrtrace_profiles::event::{
    Asked, Cause, Check, Component, Event, Identity, Object, Obstacle, Outcome, PathObject, Trace,
};
use nrtrace_profiles::{Capability, RawText};

/// Puts in place of each refusal by a mount that is read-only in the sandbox alone what the machine would have asked, and
/// returns these mounts.
pub fn reopen(trace: &mut Trace) -> Vec<RawText> {
    let mut closed = Vec::new();
    for event in &mut trace.events {
        let Some(Obstacle { cause: Cause::ReadOnlyMount, at: Some(at) }) = &event.obstacle else { continue };
        if !is_closed(at) {
            continue;
        }
        closed.push(at.clone());
        event.obstacle = None;
        event.outcome = Outcome::Unknown;
        let asked = asked(event, &trace.run.identity);
        event.checks.extend(asked);
    }
    closed.sort();
    closed.dedup();
    closed
}

/// Whether a mount below `/sys` can be written to outside.
fn is_closed(at: &RawText) -> bool {
    let path = Path::new(std::ffi::OsStr::from_bytes(at.as_bytes()));
    path.starts_with("/sys") && statvfs(path).is_ok_and(|told| !told.flags().contains(FsFlags::ST_RDONLY))
}

/// What would have been asked of the capabilities.
fn asked(event: &Event, identity: &Identity) -> Option<Check> {
    let path = match &event.object {
        Object::Path(path) => path,
        Object::TwoPaths { to, .. } => to,
        _ => return None,
    };
    let (component, asked) = judged(path)?;
    let inode = &component.inode;
    if identity.may_write(inode.uid, inode.gid, inode.mode)
        || event.checks.iter().any(|check| check.capability.is_dac())
    {
        return None;
    }
    Some(Check {
        capability: Capability::DAC_OVERRIDE,
        granted: true,
        frames: [].into(),
        component: Some(component),
        foreign: false,
        not_audited: false,
        child_namespace: false,
        predicted: Some(asked),
    })
}

/// What would have been judged: the file, where it is there, else its directory.
fn judged(path: &PathObject) -> Option<(Component, Asked)> {
    if let Some(inode) = &path.inode {
        return Some((Component { path: path.path.clone(), inode: inode.as_ref().clone() }, Asked::File));
    }
    let bytes = path.path.as_bytes();
    let end = bytes.iter().rposition(|byte| *byte == b'/')?;
    let directory = RawText::new(bytes.get(..end.max(1))?);
    Some((Component { path: directory, inode: *path.parent.clone()? }, Asked::Create))
}
