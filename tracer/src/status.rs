//! `/proc/TID/status`, see proc_pid_status(5).

use std::fmt::Display;
use std::fs;
use std::str::FromStr;

/// What the kernel tells about a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status(String);

impl Status {
    /// That of a process or thread, by its id or `self`; none once it is gone.
    pub fn of(task: impl Display) -> Option<Self> {
        // The first line holds the thread's name, which may be any bytes.
        let bytes = fs::read(format!("/proc/{task}/status")).ok()?;
        Some(Self(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// What stands behind a name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// A field that is a number, or starts with one.
    pub fn number<T: FromStr>(&self, name: &str) -> Option<T> {
        self.field(name)?.split_ascii_whitespace().next()?.parse().ok()
    }

    /// A field that is a list of numbers; empty where it is missing.
    pub fn numbers(&self, name: &str) -> Vec<u32> {
        self.field(name)
            .unwrap_or_default()
            .split_ascii_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect()
    }

    /// Real, effective, saved and filesystem ids: of `Uid` or `Gid`.
    pub fn ids(&self, name: &str) -> Option<[u32; 4]> {
        self.numbers(name).try_into().ok()
    }

    /// A set of capabilities, one bit for each number; none where it is missing.
    pub fn capabilities(&self, name: &str) -> u64 {
        self.field(name).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0)
    }

    /// Whether it is under a seccomp filter, or in strict mode.
    pub fn is_filtered(&self) -> bool {
        self.field("Seccomp").is_some_and(|state| state != "0")
    }
}

/// Whether two processes are in one session, in which everybody may have everybody go on (kill(2)).
pub fn share_session(one: i32, other: i32) -> bool {
    let session = |pid: i32| Status::of(pid)?.number::<i32>("NSsid");
    session(one).is_some_and(|found| Some(found) == session(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "Name:\ta\\nTgid:\t7\nTgid:\t12\nUid:\t1\t2\t3\t4\nGroups:\t9 10 \nVmLck:\t  64 kB\n\
                    CapEff:\t00000000000000c0\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        let status = Status(text.into());
        assert_eq!(status.number("Tgid"), Some(12));
        assert_eq!(status.number("VmLck"), Some(64_u64));
        assert_eq!(status.ids("Uid"), Some([1, 2, 3, 4]));
        assert_eq!(status.ids("Groups"), None);
        assert_eq!(status.numbers("Groups"), [9, 10]);
        assert_eq!(status.capabilities("CapEff"), 0xc0);
        assert!(status.is_filtered());
        assert_eq!((status.number::<u32>("PPid"), status.capabilities("CapPrm")), (None, 0));
    }

    #[test]
    fn the_own_one_is_read() {
        assert_eq!(Status::of("self").and_then(|own| own.number("Tgid")), Some(std::process::id()));
        assert_eq!(Status::of(-1), None);
    }
}
