//! `SystemCallFilter=`, and the filters of directives that concern calls.

use std::collections::BTreeMap;

use nix::errno::Errno;

use crate::seccomp::{Rule, When, compat, native};

/// The list of calls that are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    /// What becomes of those listed without a word; the process ends where nothing is said.
    errno: Option<i32>,
    /// The calls, with their own errno.
    refused: BTreeMap<String, Option<i32>>,
}

impl Calls {
    /// Takes a value like `~chown:ENOSYS fchownat`. Lists of what is allowed, and groups, are not known here.
    pub(super) fn add(&mut self, value: &str) -> Option<()> {
        if value.is_empty() {
            self.refused.clear();
            return Some(());
        }
        for entry in value.strip_prefix('~')?.split_whitespace() {
            let (call, errno) = match entry.split_once(':') {
                Some((call, errno)) => (call, Some(number(errno)?)),
                None => (entry, None),
            };
            native(call).or_else(|| compat(call))?;
            self.refused.insert(call.to_owned(), errno);
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

    /// The rules of the list.
    pub(super) fn rules(&self) -> Vec<Rule> {
        let rule = |(call, errno): (&String, &Option<i32>)| match errno.or(self.errno) {
            Some(errno) => Rule::refuse(call, errno),
            None => Rule { action: libc::SECCOMP_RET_KILL_PROCESS, ..Rule::refuse(call, 0) },
        };
        self.refused.iter().map(rule).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_has_its_errno_or_that_of_all() {
        let mut calls = Calls::default();
        calls.add("~chown:ENOSYS fchown").unwrap();
        calls.add("~mount:13 setgroups:0").unwrap();
        let actions = |calls: &Calls| {
            calls.rules().into_iter().map(|rule| (rule.call, rule.action)).collect::<Vec<_>>()
        };
        let refuse = |call: &str, errno: i32| {
            let rule = Rule::refuse(call, errno);
            (rule.call, rule.action)
        };
        let killed = ("fchown".to_owned(), libc::SECCOMP_RET_KILL_PROCESS);
        let answered = ("setgroups".to_owned(), libc::SECCOMP_RET_ERRNO);
        assert_eq!(actions(&calls), [refuse("chown", libc::ENOSYS), killed, refuse("mount", 13), answered]);
        calls.set_errno("EPERM").unwrap();
        assert_eq!(actions(&calls)[1], refuse("fchown", libc::EPERM));
        calls.add("").unwrap();
        assert!(calls.rules().is_empty());
    }
}
