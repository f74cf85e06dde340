//! What profiles want of one path, and what follows from that and from what was there before.
//!
//! Nothing is worked out from what the last change left: the rights are always those from before with all that is wanted
//! now on top. So what one profile takes back leaves another's, in whatever order they came.

use std::collections::BTreeMap;

use nrtrace_profiles::Capability;
use serde::{Deserialize, Serialize};

use super::node::{Kind, NodeFacts, Rights};
use crate::accounts;
use crate::acl::Acl;

/// What one profile wants of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hold {
    /// What is made where nothing is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub make: Option<Kind>,
    /// The owner's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The group's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Permission bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// What users have by the ACL.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub acl: BTreeMap<String, u32>,
    /// Permitted and effective capabilities of the file, one bit for each number.
    #[serde(skip_serializing_if = "is_zero")]
    pub capabilities: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(bits: &u64) -> bool {
    *bits == 0
}

impl Hold {
    /// Takes in what else the same profile wants of the path.
    pub fn and(&mut self, other: Self) {
        self.make = self.make.or(other.make);
        self.user = self.user.take().or(other.user);
        self.group = self.group.take().or(other.group);
        self.mode = self.mode.map_or(other.mode, |mode| Some(mode | other.mode.unwrap_or(0)));
        for (user, bits) in other.acl {
            *self.acl.entry(user).or_default() |= bits;
        }
        self.capabilities |= other.capabilities;
    }

    /// Whether it lets the user write, by ownership or by the ACL.
    pub fn opens(&self) -> bool {
        self.user.is_some() || self.acl.values().any(|bits| bits & 2 != 0)
    }
}

/// Why two profiles cannot both have what they want of a path; `None` where they can.
pub fn conflict(one: &Hold, other: &Hold) -> Option<String> {
    let differ = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
    if differ(&one.user, &other.user) {
        return Some(format!("belong to {}", one.user.as_deref().unwrap_or_default()));
    }
    if differ(&one.group, &other.group) {
        return Some(format!("belong to the group {}", one.group.as_deref().unwrap_or_default()));
    }
    (one.make.is_some() && other.make.is_some() && one.make != other.make)
        .then(|| "be something else".to_owned())
}

/// The rights that all holds together come to, where `before` was there, or where something was made.
///
/// # Errors
/// A user or group that is not there, or capabilities to which none can be added.
pub fn wanted<'a>(
    before: Option<&NodeFacts>,
    holds: impl Iterator<Item = &'a Hold> + Clone,
) -> Result<Rights, String> {
    let made = Rights { uid: 0, gid: 0, mode: 0, acl: None, capabilities: None };
    let mut rights = before.map_or(made, |facts| facts.rights.clone());
    for hold in holds.clone() {
        if let Some(name) = &hold.user {
            rights.uid = uid(name)?;
        }
        if let Some(name) = &hold.group {
            rights.gid = accounts::group_by_name(name)
                .map(|group| group.gid.as_raw())
                .ok_or_else(|| format!("there is no group {name}"))?;
        }
    }
    let modes: Vec<u32> = holds.clone().filter_map(|hold| hold.mode).collect();
    if !modes.is_empty() {
        let mode = modes.into_iter().fold(0, |all, mode| all | mode);
        rights.mode = rights.mode & 0o7000 | mode;
        if let Some(acl) = &mut rights.acl {
            acl.set_mode(mode);
        }
    }
    for (name, bits) in holds.clone().flat_map(|hold| &hold.acl) {
        let acl = rights.acl.get_or_insert_with(|| Acl::from_mode(rights.mode));
        acl.let_in(uid(name)?, *bits as u16);
        rights.mode = rights.mode & 0o7000 | acl.mode();
    }
    let added = holds.fold(0, |all, hold| all | hold.capabilities);
    if added != 0 {
        rights.capabilities = Some(with_capabilities(rights.capabilities.as_deref(), added)?);
    }
    Ok(rights)
}

pub(super) fn uid(name: &str) -> Result<u32, String> {
    let user = accounts::user_by_name(name).map(|user| user.uid.as_raw());
    user.ok_or_else(|| format!("there is no user {name}"))
}

/// `VFS_CAP_REVISION_2` of `linux/capability.h`: no user namespace's root is named.
const REVISION_2: u32 = 0x0200_0000;
const EFFECTIVE: u32 = 1;

/// The value of `security.capability` with some more, permitted and effective.
///
/// Effective is all that a file has, or nothing of it: capabilities(7).
fn with_capabilities(before: Option<&[u8]>, added: u64) -> Result<Vec<u8>, String> {
    let mut words = [REVISION_2, 0, 0, 0, 0];
    let mut rest: &[u8] = &[];
    if let Some(value) = before {
        let (head, tail) = value.split_at_checked(20).ok_or("has capabilities of an unknown form")?;
        for (word, bytes) in words.iter_mut().zip(head.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        rest = tail;
        if words[0] & EFFECTIVE == 0 && words[1..].iter().any(|word| *word != 0) {
            return Err(
                "has capabilities that are not effective, to which none can be added: see getcap".into()
            );
        }
    }
    words[0] |= EFFECTIVE;
    words[1] |= added as u32;
    words[3] |= (added >> 32) as u32;
    Ok(words.iter().flat_map(|word| word.to_le_bytes()).chain(rest.iter().copied()).collect())
}

/// One bit for each capability's number.
pub fn bits<'a>(capabilities: impl IntoIterator<Item = &'a Capability>) -> u64 {
    capabilities.into_iter().fold(0, |bits, capability| bits | 1 << capability.number())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::Tag;

    fn facts(uid: u32, mode: u32) -> NodeFacts {
        let rights = Rights { uid, gid: 0, mode, acl: None, capabilities: None };
        NodeFacts { inode: (1, 1), kind: Kind::Regular, links: 1, rights }
    }

    #[test]
    fn holds_add_up_and_come_off_in_any_order() {
        let before = facts(0, 0o600);
        let own = Hold { user: Some("daemon".into()), mode: Some(0o640), ..Hold::default() };
        let read = Hold { acl: BTreeMap::from([("bin".into(), 4)]), ..Hold::default() };
        let both = wanted(Some(&before), [&own, &read].into_iter()).unwrap();
        assert_eq!((both.uid, both.mode), (1, 0o640));
        assert_eq!(both.acl.unwrap().get(Tag::User(2)), Some(4));
        let one = wanted(Some(&before), [&read].into_iter()).unwrap();
        assert_eq!((one.uid, one.mode), (0, 0o640), "the mask");
        assert_eq!(wanted(Some(&before), [].iter()).unwrap(), before.rights);
        assert!(conflict(&own, &Hold { user: Some("bin".into()), ..Hold::default() }).is_some());
        assert!(conflict(&own, &read).is_none());
    }

    #[test]
    fn capabilities_are_added_to_what_a_file_has() {
        let net_raw = with_capabilities(None, 1 << 13).unwrap();
        let both = with_capabilities(Some(&net_raw), 1 << 10 | 1 << 39).unwrap();
        assert_eq!(both[4..8], (1_u32 << 13 | 1 << 10).to_le_bytes());
        assert_eq!(both[12..16], (1_u32 << 7).to_le_bytes());
        let mut permitted = net_raw;
        permitted[0] = 0;
        assert!(with_capabilities(Some(&permitted), 1).unwrap_err().contains("not effective"));
        assert!(with_capabilities(Some(b"odd"), 1).is_err());
    }
}
