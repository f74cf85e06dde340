//! The groups of calls that `SystemCallFilter=` can name: those of the systemd that is installed, by its own word.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;

use crate::apply::find;
use crate::launch::environment::SERVICE_PATH;
use crate::seccomp::{compat, native};

/// The members of each group, in which there may be groups.
type Groups = BTreeMap<String, Vec<String>>;

/// The calls of a group that this machine knows; `None` where there is no such group, or nobody who tells.
pub(super) fn calls(group: &str) -> Option<Vec<String>> {
    static GROUPS: OnceLock<Groups> = OnceLock::new();
    let groups = GROUPS.get_or_init(|| ask().unwrap_or_default());
    let mut calls = Vec::new();
    let mut open = vec![group];
    let mut seen = Vec::new();
    while let Some(group) = open.pop() {
        if seen.contains(&group) {
            continue;
        }
        seen.push(group);
        for member in groups.get(group)? {
            if member.starts_with('@') {
                open.push(member);
            } else if native(member).or_else(|| compat(member)).is_some() {
                calls.push(member.clone());
            }
        }
    }
    Some(calls)
}

fn ask() -> Option<Groups> {
    let mut command = Command::new(find("systemd-analyze")?);
    command.args(["--no-pager", "syscall-filter"]).env("PATH", SERVICE_PATH).env("LC_ALL", "C");
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(parse(&String::from_utf8(output.stdout).ok()?))
}

/// Groups stand at the beginning of a line, their members and comments below them are indented.
fn parse(text: &str) -> Groups {
    let mut groups = Groups::new();
    let mut group = None;
    for line in text.lines() {
        match line.strip_prefix("    ") {
            None if line.starts_with('@') => group = Some(groups.entry(line.trim().to_owned()).or_default()),
            None => group = None,
            Some(member) if member.starts_with('#') => {}
            Some(member) => {
                if let Some(group) = &mut group {
                    group.push(member.trim().to_owned());
                }
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_with_what_is_in_them() {
        let groups = parse(
            "@a\n    # Words\n    @b\n    read\n\n@b\n    # More\n    write\n# Others:\n#   mount\n    open\n",
        );
        assert_eq!(groups["@a"], ["@b", "read"]);
        assert_eq!(groups["@b"], ["write"]);
        assert_eq!(groups.len(), 2);
    }

    #[test]
    fn the_machines_systemd_tells() {
        let clock = calls("@clock").unwrap();
        assert!(
            clock.contains(&"settimeofday".to_owned()) && !clock.contains(&"read".to_owned()),
            "{clock:?}"
        );
        let service = calls("@system-service").unwrap();
        assert!(
            service.contains(&"read".to_owned()) && !service.contains(&"mount".to_owned()),
            "{service:?}"
        );
        assert_eq!(calls("@no-such-group"), None);
    }
}
