//! Settings of the kernel that protect what others find in shared directories.

use super::node::Node;

/// The settings of `/proc/sys/fs` that protect sticky directories, and for whom they are applied.
pub(super) struct Protections {
    pub uid: u32,
    pub symlinks: bool,
    pub hardlinks: bool,
    pub regular: u8,
    pub fifos: u8,
}

impl Protections {
    pub fn read(uid: u32) -> Self {
        // A kernel without the setting has no such protection.
        let value = |name| {
            let text = std::fs::read_to_string(format!("/proc/sys/fs/protected_{name}"));
            text.ok().and_then(|text| text.trim().parse::<u8>().ok()).unwrap_or(0)
        };
        Self {
            uid,
            symlinks: value("symlinks") != 0,
            hardlinks: value("hardlinks") != 0,
            regular: value("regular"),
            fifos: value("fifos"),
        }
    }

    /// `may_follow_link` of `fs/namei.c`, for the link at the end of a path.
    pub fn forbids_link(&self, dir: &Node, link: &Node) -> bool {
        let open_to_all = libc::S_ISVTX | libc::S_IWOTH;
        self.symlinks && link.uid != self.uid && dir.mode & open_to_all == open_to_all && dir.uid != link.uid
    }

    /// `may_create_in_sticky` of `fs/namei.c`: opening with `O_CREAT` what somebody else has put there.
    pub fn forbids_create(&self, dir: &Node, file: &Node) -> bool {
        let level = match file.kind() {
            libc::S_IFREG => Some(self.regular),
            libc::S_IFIFO => Some(self.fifos),
            _ => None,
        };
        if dir.mode & libc::S_ISVTX == 0 || level == Some(0) || file.uid == dir.uid || file.uid == self.uid {
            return false;
        }
        dir.mode & libc::S_IWOTH != 0 || (dir.mode & libc::S_IWGRP != 0 && level >= Some(2))
    }
}
