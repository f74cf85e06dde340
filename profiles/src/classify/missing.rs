//! Directories that are not there when the program wants to make something in them: a unit file, an image or an init
//! script makes them for it elsewhere.

use std::collections::BTreeSet;

use crate::RawText;
use crate::calls::File;
use crate::event::{Event, FileType, Outcome};
use crate::requirement::{Access, Basis, Need, Requirement, Severity};

use super::context::Context;
use super::errno;
use super::files;
use super::finding::{Finding, Judged, best};

/// Trees in which nobody makes directories.
const OF_THE_KERNEL: &[&str] = &["/proc", "/sys", "/dev"];

/// Finds the directory that a failed call missed. It matters when the program then fails.
pub fn place(event: &Event, context: &Context<'_>, out: &mut Judged) {
    let Some((directory, wanted)) = missed(event) else { return };
    if context.has_made(&directory) || context.is_inside_made(&directory) {
        return;
    }
    out.findings.push(Finding {
        need: Need::Path {
            path: directory,
            file_type: FileType::Directory,
            access: BTreeSet::from([Access::Create]),
            pattern: false,
        },
        basis: Basis::Denied,
        severity: if context.end.exit.is_failure() { Severity::Required } else { Severity::Probe },
        check: None,
        refused: None,
        objects: BTreeSet::from([wanted]),
    });
}

/// The directory that was not there, and what was to be made in it.
fn missed(event: &Event) -> Option<(RawText, RawText)> {
    // The target of a symbolic link, and the old name of another one, may be what is missing.
    let makes = event.call.operation().makes_new() && !event.call.operation().is(File::MakeLink);
    if event.outcome != (Outcome::Failure { errno: errno::ENOENT }) || !(makes || files::may_create(event)) {
        return None;
    }
    // What was found of the way shows that the directory was there, and something else missing.
    let object = files::made(event).filter(|object| object.resolved && object.parent.is_none())?;
    let directory = files::parent(&object.path);
    let of_the_kernel =
        OF_THE_KERNEL.iter().any(|tree| files::is_at_or_below(directory.as_bytes(), tree.as_bytes()));
    let is_known = files::is_known(&object.path) && directory.as_bytes().len() > 1;
    (is_known && !of_the_kernel).then(|| (directory, best(object)))
}

/// Whether a need is for nothing but a directory that was not there.
pub fn is_missing(requirement: &Requirement) -> bool {
    requirement.evidence.outcomes.keys().eq(["ENOENT"])
}
