//! The bits of a mode, as in inode(7): what type a file is, and whom it lets do what.

use super::{FileType, Identity, Inode};

/// The part of a mode that is the type.
const TYPE: u32 = 0o170_000;
/// The types, by their bits.
const TYPES: [(u32, FileType); 7] = [
    (0o100_000, FileType::File),
    (0o040_000, FileType::Directory),
    (0o120_000, FileType::Symlink),
    (0o140_000, FileType::Socket),
    (0o010_000, FileType::Fifo),
    (0o020_000, FileType::CharDevice),
    (0o060_000, FileType::BlockDevice),
];

impl FileType {
    /// The type in a mode.
    pub fn of_mode(mode: u32) -> Self {
        TYPES.iter().find(|(bits, _)| *bits == mode & TYPE).map_or(Self::Unknown, |(_, of)| *of)
    }

    /// Its bits in a mode; none where it is not known.
    pub fn bits(self) -> u32 {
        TYPES.iter().find(|(_, of)| *of == self).map_or(0, |(bits, _)| *bits)
    }
}

/// Whether a mode gives all of `bits` (4 read, 2 write, 1 search or execute) to who owns the file, else to who has its group,
/// else to everybody. ACLs, security modules and capabilities are another matter.
pub fn mode_allows(mode: u32, bits: u32, owns: bool, has_group: bool) -> bool {
    let shift = match (owns, has_group) {
        (true, _) => 6,
        (false, true) => 3,
        (false, false) => 0,
    };
    mode >> shift & bits == bits
}

impl Inode {
    /// From a mode with its type; a device number belongs to devices alone. The names of its owners are not known yet.
    pub fn of_mode(mode: u32, uid: u32, gid: u32, device: (u32, u32)) -> Self {
        let file_type = FileType::of_mode(mode);
        let is_device = matches!(file_type, FileType::CharDevice | FileType::BlockDevice);
        let device = is_device.then_some(device);
        Self { file_type, mode: mode & 0o7777, uid, user: None, gid, group: None, device }
    }

    /// Whether the mode alone gives all of `bits` to a process of these ids with an identity's groups: good enough to tell *which*
    /// of several files was refused.
    pub fn allows(&self, uid: u32, gid: u32, identity: &Identity, bits: u32) -> bool {
        let has_group = self.gid == gid || identity.groups.contains(&self.gid);
        mode_allows(self.mode, bits, self.uid == uid, has_group)
    }
}

impl Identity {
    /// Whether the user has that group, as primary or supplementary one.
    pub fn has_group(&self, gid: u32) -> bool {
        gid == self.gid || self.groups.contains(&gid)
    }

    /// Whether owner, group and mode of a file let the user write to it; ACLs and capabilities are another matter.
    pub fn may_write(&self, uid: u32, gid: u32, mode: u32) -> bool {
        mode_allows(mode, 2, uid == self.uid, self.has_group(gid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_class_that_fits_decides() {
        let inode = Inode::of_mode(0o040_705, 1, 2, (0, 0));
        assert_eq!((inode.file_type, inode.mode), (FileType::Directory, 0o705));
        let identity = Identity {
            user: String::new(),
            group: String::new(),
            uid: 9,
            gid: 9,
            groups: vec![2],
            exists: false,
        };
        assert!(inode.allows(1, 9, &identity, 2));
        assert!(!inode.allows(9, 9, &identity, 1), "by a supplementary group");
        let none = Identity { groups: vec![], ..identity };
        assert!(inode.allows(9, 9, &none, 1) && !none.may_write(1, 9, 0o705));
    }

    #[test]
    fn types_are_those_of_their_bits() {
        for (bits, file_type) in TYPES {
            assert_eq!((FileType::of_mode(bits | 0o644), file_type.bits()), (file_type, bits));
        }
        assert_eq!((FileType::of_mode(0o644), FileType::Unknown.bits()), (FileType::Unknown, 0));
    }
}
