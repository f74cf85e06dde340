//! `SystemCallFilter=`, and the filters of directives that concern calls.

use std::collections::BTreeMap;

use libc::sock_filter;
use nix::errno::Errno;
use nrtrace_profiles::calls::{File, Flags, Operation, ROWS};

use super::groups;
use crate::seccomp::{Rule, When, compat, native, table};

/// The lists of calls of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    /// Whether they tell what is allowed; `None` before the first of them, which decides.
    allows: Option<bool>,
    /// What becomes of what is refused without a word; the process ends where nothing is said.
    errno: Option<i32>,
    /// The calls that are allowed, or refused, with an errno of their own.
    listed: BTreeMap<String, Option<i32>>,
}

impl Calls {
    /// Takes a value like `~chown:ENOSYS fchownat` or `@system-service`. Groups are those of the machine's systemd.
    pub(super) fn add(&mut self, value: &str) -> Option<()> {
        if value.is_empty() {
            (self.allows, self.listed) = (None, BTreeMap::new());
            return Some(());
        }
        let (refuses, entries) = match value.strip_prefix('~') {
            Some(entries) => (true, entries),
            None => (false, value),
        };
        let mut listed = Vec::new();
        for entry in entries.split_whitespace() {
            let (name, errno) = match entry.split_once(':') {
                Some((name, errno)) => (name, Some(number(errno)?)),
                None => (entry, None),
            };
            if name.starts_with('@') {
                listed.extend(groups::calls(name)?.into_iter().map(|call| (call, errno)));
            } else {
                native(name).or_else(|| compat(name))?;
                listed.push((name.to_owned(), errno));
            }
        }
        if self.allows.is_none() {
            if !refuses {
                self.listed.extend(groups::calls("@default")?.into_iter().map(|call| (call, None)));
            }
            self.allows = Some(!refuses);
        }
        for (call, errno) in listed {
            // What is said later of a call holds.
            if self.allows == Some(refuses) {
                self.listed.remove(&call);
            } else {
                self.listed.insert(call, errno);
            }
        }
        Some(())
    }

    /// Takes the value of `SystemCallErrorNumber=`.
    pub(super) fn set_errno(&mut self, value: &str) -> Option<()> {
        self.errno = if value.is_empty() || value == "kill" {
            None
        } else {
            Some(number(value).filter(|errno| *errno != 0)?)
        };
        Some(())
    }

    /// The filter of the lists.
    pub(super) fn filter(&self) -> Option<Vec<sock_filter>> {
        let refused = |errno: Option<i32>| match errno {
            Some(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
            None => libc::SECCOMP_RET_KILL_PROCESS,
        };
        let allows = self.allows?;
        let answer = |(call, errno): (&'_ String, &Option<i32>)| match (allows, errno) {
            (true, None) => (call.clone(), libc::SECCOMP_RET_ALLOW),
            (true, own) => (call.clone(), refused(*own)),
            (false, own) => (call.clone(), refused(own.or(self.errno))),
        };
        let answers: Vec<(String, u32)> = self.listed.iter().map(answer).collect();
        let answers: Vec<(&str, u32)> =
            answers.iter().map(|(call, action)| (call.as_str(), *action)).collect();
        let otherwise = if allows { refused(self.errno) } else { libc::SECCOMP_RET_ALLOW };
        Some(table(&answers, otherwise))
    }
}

/// The number of an error, by its name or as it is.
fn number(name: &str) -> Option<i32> {
    /// `MAX_ERRNO` is 4095, but the last that has a name is EHWPOISON.
    const LAST: i32 = libc::EHWPOISON;
    let named = |number: &i32| format!("{:?}", Errno::from_raw(*number)) == name;
    // Zero is allowed: the call is not made and succeeds.
    name.parse().ok().filter(|number| (0..4096).contains(number)).or_else(|| (1..=LAST).find(named))
}

/// No policy but SCHED_OTHER, SCHED_BATCH and SCHED_IDLE.
pub(super) fn realtime() -> Rule {
    let plain = [libc::SCHED_OTHER, libc::SCHED_BATCH, libc::SCHED_IDLE].map(|policy| policy as u32);
    Rule { when: When::Other(1, plain.to_vec()), ..Rule::refuse("sched_setscheduler", libc::EPERM) }
}

/// The execution domain stays as it is.
pub(super) fn personality() -> Rule {
    // SAFETY: a plain system call; this value asks without changing anything.
    let now = unsafe { libc::personality(0xffff_ffff) };
    Rule { when: When::Other(0, vec![now as u32]), ..Rule::refuse("personality", libc::EPERM) }
}

/// No sockets but of these families.
pub(super) fn families(names: &[i32]) -> Rule {
    let known = names.iter().map(|family| *family as u32).collect();
    Rule { when: When::Other(0, known), ..Rule::refuse("socket", libc::EAFNOSUPPORT) }
}

/// No namespace is made or entered.
pub(super) fn namespaces() -> Vec<Rule> {
    const KINDS: [i32; 8] = [
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWUTS,
        0x80, // CLONE_NEWTIME
    ];
    // The flags of clone3(2) are in memory: programs fall back to clone(2).
    let mut rules = vec![Rule::refuse("clone3", libc::ENOSYS), Rule::refuse("setns", libc::EPERM)];
    for (call, signal) in [("unshare", 0), ("clone", 0xff)] {
        // Of clone(2) the lowest byte is a signal.
        let kinds = KINDS.iter().filter(|kind| **kind > signal);
        rules.extend(kinds.map(|kind| Rule::refuse_bits(call, &[(0, *kind as u32)])));
    }
    rules
}

/// No memory becomes executable, but what is mapped so and not writable.
pub(super) fn executable_memory() -> Vec<Rule> {
    const WRITES_AND_EXECUTES: u32 = (libc::PROT_WRITE | libc::PROT_EXEC) as u32;
    const EXECUTES: u32 = libc::PROT_EXEC as u32;
    vec![
        Rule::refuse_bits("mmap", &[(2, WRITES_AND_EXECUTES)]),
        Rule::refuse_bits("mmap2", &[(2, WRITES_AND_EXECUTES)]),
        Rule::refuse_bits("mprotect", &[(2, EXECUTES)]),
        Rule::refuse_bits("pkey_mprotect", &[(2, EXECUTES)]),
        Rule::refuse_bits("shmat", &[(2, libc::SHM_EXEC as u32)]),
    ]
}

/// No file gets a set-user-ID or set-group-ID bit.
pub(super) fn set_id() -> Vec<Rule> {
    const BITS: [u32; 2] = [libc::S_ISUID, libc::S_ISGID];
    let mut rules = Vec::new();
    for row in ROWS {
        match row.operation {
            // The mode is in memory: programs fall back to openat(2).
            Operation::File(File::Open(Flags::Structure)) => rules.push(Rule::refuse(row.name, libc::ENOSYS)),
            Operation::File(File::Open(Flags::Argument(flags))) => rules.extend(BITS.map(|bit| {
                let flags = u32::from(flags);
                Rule::refuse_bits(row.name, &[(flags, libc::O_CREAT as u32), (flags + 1, bit)])
            })),
            operation => rules.extend(
                operation
                    .mode()
                    .into_iter()
                    .flat_map(|mode| BITS.map(|bit| Rule::refuse_bits(row.name, &[(mode.into(), bit)]))),
            ),
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{answer, arch};

    /// What becomes of calls, of the native table.
    fn answers<const N: usize>(calls: &Calls, names: [&str; N]) -> [u32; N] {
        let filter = calls.filter().unwrap();
        names.map(|name| answer(&filter, arch::NATIVE, native(name).unwrap(), [0; 4]))
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    const EACCES: u32 = libc::SECCOMP_RET_ERRNO | libc::EACCES as u32;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

    #[test]
    fn each_call_has_its_errno_or_that_of_all() {
        let mut calls = Calls::default();
        calls.add("~fchownat:ENOSYS fchown").unwrap();
        calls.add("~mount:13").unwrap();
        let names = ["fchownat", "fchown", "mount", "read"];
        assert_eq!(answers(&calls, names), [ENOSYS, KILL, EACCES, ALLOW]);
        calls.set_errno("EPERM").unwrap();
        assert_eq!(answers(&calls, names), [ENOSYS, EPERM, EACCES, ALLOW]);
        calls.add("").unwrap();
        assert_eq!(calls.filter(), None);
    }

    /// systemd.exec(5): the first list decides whether they tell what is allowed.
    #[test]
    fn what_is_allowed_is_told_by_the_first_list() {
        let mut calls = Calls::default();
        calls.set_errno("EPERM").unwrap();
        calls.add("@system-service").unwrap();
        let names = ["read", "execve", "fchown", "mount", "setuid"];
        assert_eq!(answers(&calls, names), [ALLOW, ALLOW, ALLOW, EPERM, ALLOW]);
        calls.add("~@privileged").unwrap();
        calls.add("mount:ENOSYS").unwrap();
        assert_eq!(answers(&calls, names), [ALLOW, ALLOW, EPERM, ENOSYS, EPERM]);
        let mut calls = Calls::default();
        calls.add("~@mount fchown").unwrap();
        calls.add("fchown").unwrap();
        assert_eq!(answers(&calls, names), [ALLOW, ALLOW, ALLOW, KILL, ALLOW]);
    }
}
