//! POSIX ACLs as the kernel takes them: the extended attributes `system.posix_acl_access` and `system.posix_acl_default`,
//! `linux/posix_acl_xattr.h`.

use rustix::fs::getxattr;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// The attribute of the ACL that decides who has access.
pub const ACCESS: &str = "system.posix_acl_access";
/// The attribute of the ACL that what is made in a directory gets.
pub const DEFAULT: &str = "system.posix_acl_default";

const VERSION: u32 = 2;
const NOBODY: u32 = u32::MAX;

/// Whom an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tag {
    /// The owner.
    UserObj,
    /// A user.
    User(u32),
    /// The owning group.
    GroupObj,
    /// A group.
    Group(u32),
    /// The most that users, groups and the owning group have.
    Mask,
    /// All others.
    Other,
}

impl Tag {
    fn number(self) -> (u16, u32) {
        match self {
            Self::UserObj => (0x01, NOBODY),
            Self::User(id) => (0x02, id),
            Self::GroupObj => (0x04, NOBODY),
            Self::Group(id) => (0x08, id),
            Self::Mask => (0x10, NOBODY),
            Self::Other => (0x20, NOBODY),
        }
    }

    fn of(tag: u16, id: u32) -> Option<Self> {
        Some(match tag {
            0x01 => Self::UserObj,
            0x02 => Self::User(id),
            0x04 => Self::GroupObj,
            0x08 => Self::Group(id),
            0x10 => Self::Mask,
            0x20 => Self::Other,
            _ => return None,
        })
    }

    /// Whether the mask limits it.
    const fn is_masked(self) -> bool {
        matches!(self, Self::User(_) | Self::GroupObj | Self::Group(_))
    }
}

/// Whether the file system of a path keeps ACLs.
pub fn are_kept(path: impl rustix::path::Arg) -> bool {
    getxattr(path, ACCESS, &mut [0_u8; 0][..]) != Err(Errno::NOTSUP)
}

/// Entries with their permissions: read, write and execute as 4, 2 and 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acl(Vec<(Tag, u16)>);

impl Acl {
    /// What a mode says: an ACL of three entries.
    pub fn from_mode(mode: u32) -> Self {
        let classes = [(Tag::UserObj, 6), (Tag::GroupObj, 3), (Tag::Other, 0)];
        Self(classes.map(|(tag, shift)| (tag, (mode >> shift & 7) as u16)).into())
    }

    /// Reads the value of the attribute; `None` when it is none.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let entries = value.get(4..)?.chunks_exact(8).map(|bytes| {
            let tag = u16::from_le_bytes([bytes[0], bytes[1]]);
            let id = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            Some((Tag::of(tag, id)?, u16::from_le_bytes([bytes[2], bytes[3]])))
        });
        entries.collect::<Option<_>>().map(Self)
    }

    /// The value of the attribute.
    pub fn encode(&self) -> Vec<u8> {
        let mut value = VERSION.to_le_bytes().to_vec();
        for (tag, perm) in &self.0 {
            let (number, id) = tag.number();
            value.extend(number.to_le_bytes());
            value.extend(perm.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    }

    /// What an entry allows by itself.
    pub fn get(&self, tag: Tag) -> Option<u16> {
        self.0.iter().find(|(of, _)| *of == tag).map(|(_, perm)| *perm)
    }

    /// Sets an entry.
    pub fn set(&mut self, tag: Tag, perm: u16) {
        self.0.retain(|(of, _)| *of != tag);
        self.0.push((tag, perm));
        self.0.sort_by_key(|(tag, _)| tag.number());
    }

    /// Sets an entry, and the mask to what all entries that it limits allow together, as setfacl(1) does.
    pub fn set_and_mask(&mut self, tag: Tag, perm: u16) {
        self.set(tag, perm);
        if tag != Tag::Mask {
            let masked = self.0.iter().filter(|(tag, _)| tag.is_masked());
            let all = masked.fold(0, |all, (_, perm)| all | perm);
            self.set(Tag::Mask, all);
        }
    }

    /// Gives one user these permissions, and nobody else any that the mask kept from him so far.
    pub fn let_in(&mut self, uid: u32, perm: u16) {
        if let Some(mask) = self.get(Tag::Mask) {
            self.0.iter_mut().filter(|(tag, _)| tag.is_masked()).for_each(|(_, perm)| *perm &= mask);
        }
        let before = self.get(Tag::User(uid)).unwrap_or(0);
        self.set_and_mask(Tag::User(uid), before | perm);
    }

    /// What chmod(2) does to it.
    pub fn set_mode(&mut self, mode: u32) {
        let class = |shift: u32| (mode >> shift & 7) as u16;
        self.set(Tag::UserObj, class(6));
        self.set(Tag::Other, class(0));
        let group = if self.get(Tag::Mask).is_some() { Tag::Mask } else { Tag::GroupObj };
        self.set(group, class(3));
    }

    /// The permission bits that stat(2) shows for it.
    pub fn mode(&self) -> u32 {
        let perm = |tag| u32::from(self.get(tag).unwrap_or(0));
        let group = self.get(Tag::Mask).or(self.get(Tag::GroupObj)).unwrap_or(0);
        perm(Tag::UserObj) << 6 | u32::from(group) << 3 | perm(Tag::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back() {
        let mut acl = Acl::from_mode(0o640);
        assert_eq!(acl.mode(), 0o640);
        acl.set_and_mask(Tag::User(1), 5);
        assert_eq!((acl.get(Tag::Mask), acl.mode()), (Some(5), 0o650));
        assert_eq!(Acl::decode(&acl.encode()), Some(acl.clone()));
        assert_eq!(Acl::decode(b"no"), None);
        acl.set_mode(0o600);
        assert_eq!((acl.get(Tag::User(1)), acl.get(Tag::Mask), acl.mode()), (Some(5), Some(0), 0o600));
    }

    #[test]
    fn what_the_mask_kept_from_others_stays_kept() {
        let mut acl = Acl::from_mode(0o640);
        acl.set(Tag::User(1), 7);
        acl.set(Tag::Mask, 4);
        acl.let_in(2, 6);
        assert_eq!((acl.get(Tag::User(1)), acl.get(Tag::User(2))), (Some(4), Some(6)));
        assert_eq!((acl.get(Tag::GroupObj), acl.get(Tag::Mask)), (Some(4), Some(6)));
    }
}
