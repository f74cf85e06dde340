//! Device nodes.

use std::collections::BTreeSet;

use super::groups::{is_dangerous, join};
use super::names::flaw;
use crate::RawText;
use crate::event::{FileType, Inode};
use crate::grants::{Acl, Act, Device, Grants, Way, Why};
use crate::requirement::{Access, Requirement};

/// Meets a need for a device: access to its node, and the unit's leave.
pub(super) fn meet(
    requirement: &Requirement,
    path: &RawText,
    file_type: FileType,
    access: &BTreeSet<Access>,
    grants: &mut Grants,
) {
    let id = requirement.id.as_str();
    if let Some(flaw) = flaw(path) {
        return grants.take(id, Way::refuse(flaw, "trace it again; if this stays, name the device by hand"));
    }
    let bits = Access::bits(access) & 6;
    let evidence = &requirement.evidence;
    let at_itself = evidence.refused_at.as_ref() == Some(path);
    let inode: Option<&Inode> = evidence.refused_inode.as_ref().filter(|_| at_itself);
    let block = file_type == FileType::BlockDevice;
    if block || inode.is_some_and(|inode| inode.gid != 0 && is_dangerous(inode)) {
        let hint = "give the service a file or a volume instead of the device";
        let reason = "the device holds the data or the memory of the whole machine";
        return grants.take(id, Way::refuse(reason, hint));
    }
    let entry = Acl { bits, ..Acl::default() };
    let alone = "the user alone may use the device; a udev rule does the same for nodes that come and go";
    let entry = Way::new(Act::Acl(path.clone(), entry), alone);
    grants.choose(
        [id],
        requirement.way,
        inode.and_then(|inode| join(inode, bits, grants)).into_iter().chain([entry]),
    );
    let device = Device { block, bits, why: Why::default() };
    grants.take(id, Way::new(Act::Device(path.clone(), device), "the service uses the device"));
}
