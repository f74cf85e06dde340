//! `/proc/TID/status`, see proc_pid_status(5).

use std::fs;

/// Who a thread is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// Thread group.
    pub tgid: u32,
    /// Real, effective, saved and filesystem user ids.
    pub uids: [u32; 4],
    /// Real, effective, saved and filesystem group ids.
    pub gids: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl Status {
    /// That of a process or thread, or `None` once it is gone.
    pub(super) fn read(tid: i32) -> Option<Self> {
        // The first line holds the thread's name, which may be any bytes.
        let bytes = fs::read(format!("/proc/{tid}/status")).ok()?;
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(
                line.split_ascii_whitespace().filter_map(|word| word.parse::<u32>().ok()).collect::<Vec<_>>(),
            )
        };
        Some(Self {
            tgid: *field("Tgid")?.first()?,
            uids: field("Uid")?.try_into().ok()?,
            gids: field("Gid")?.try_into().ok()?,
            groups: field("Groups")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_ids() {
        let text = "Name:\ta\\nTgid:\t7\nTgid:\t12\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \n";
        let expected = Status { tgid: 12, uids: [1, 2, 3, 4], gids: [5, 6, 7, 8], groups: vec![9, 10] };
        assert_eq!(Status::parse(text), Some(expected));
        assert_eq!(Status::parse("Name:\tx\n"), None);
    }
}
