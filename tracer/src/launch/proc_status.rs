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
    /// Effective capabilities, one bit for each number.
    pub effective: u64,
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
        let effective = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
        Some(Self {
            tgid: *field("Tgid")?.first()?,
            uids: field("Uid")?.try_into().ok()?,
            gids: field("Gid")?.try_into().ok()?,
            groups: field("Groups")?,
            effective: effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_ids() {
        let text = "Name:\ta\\nTgid:\t7\nTgid:\t12\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \nCapEff:\t00000000000000c0\n";
        let ids = Status { tgid: 12, uids: [1, 2, 3, 4], gids: [5, 6, 7, 8], ..Status::default() };
        let expected = Status { groups: vec![9, 10], effective: 0xc0, ..ids };
        assert_eq!(Status::parse(text), Some(expected));
        assert_eq!(Status::parse("Name:\tx\n"), None);
    }
}
