//! Settings of the host, and of what nrtrace runs in, that stand in the way.

use std::fs;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nrtrace_profiles::Capability;

use super::{Finding, Fitness};
use crate::launch::privileges::Privileges;
use crate::status::Status;

/// `kernel.yama.ptrace_scope`, where there is such a thing.
pub(super) fn yama() -> Finding {
    let text = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok();
    scope(text.and_then(|text| text.trim().parse().ok()))
}

fn scope(scope: Option<u8>) -> Finding {
    let (verdict, detail) = match scope {
        None => (Fitness::Works, "the kernel has no such restriction on tracing"),
        Some(0) => (Fitness::Works, "0: processes of one user may trace each other"),
        Some(1) => (
            Fitness::Works,
            "1: only descendants may be traced; what nrtrace starts allows it, to attach takes CAP_SYS_PTRACE",
        ),
        Some(2) => (
            Fitness::Note,
            "2: tracing takes CAP_SYS_PTRACE; run nrtrace as root, or `sysctl kernel.yama.ptrace_scope=1`",
        ),
        Some(_) => (
            Fitness::Note,
            "3: nobody may trace until the next boot; set it lower in /etc/sysctl.d and boot again, or use eBPF",
        ),
    };
    Finding::new("yama.ptrace_scope", verdict, detail)
}

/// Whether the kernel is locked down.
pub(super) fn lockdown() -> Finding {
    locked(fs::read_to_string("/sys/kernel/security/lockdown").ok().as_deref())
}

/// `text` is that of `/sys/kernel/security/lockdown`, with the present state in brackets.
fn locked(text: Option<&str>) -> Finding {
    const SUBJECT: &str = "lockdown";
    let state = text.and_then(|text| text.split_once('[')?.1.split_once(']')).map(|(state, _)| state);
    match state {
        Some("confidentiality") => Finding::new(
            SUBJECT,
            Fitness::Note,
            "confidentiality: eBPF may not read kernel memory; boot with lockdown=integrity or without lockdown (secure \
             boot may set it), or use --backend ptrace",
        ),
        Some(state) => Finding::new(SUBJECT, Fitness::Works, format!("{state}: eBPF may read kernel memory")),
        None => Finding::new(SUBJECT, Fitness::Works, "the kernel is not locked down, as far as can be seen"),
    }
}

/// What nrtrace itself runs in: a seccomp filter, `no_new_privs`, a user namespace.
pub(super) fn surroundings() -> Vec<Finding> {
    let status = Status::of("self");
    let mut findings =
        confined(|name| status.as_ref().and_then(|status| status.field(name)).unwrap_or_default());
    findings.extend(fs::read_to_string("/proc/self/uid_map").ok().and_then(|map| namespace(&map)));
    findings
}

/// By the fields of its status.
fn confined<'s>(field: impl Fn(&str) -> &'s str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if matches!(field("Seccomp"), "1" | "2") {
        findings.push(Finding::new(
            "seccomp of nrtrace",
            Fitness::Note,
            "nrtrace runs under a seccomp filter, a container's perhaps: what it forbids, it forbids the program too, and \
             such a refusal is told as one; run it with --security-opt seccomp=unconfined, or outside, to do without",
        ));
    }
    if field("NoNewPrivs") == "1" {
        findings.push(Finding::new(
            "no_new_privs",
            Fitness::Note,
            "set on nrtrace, so on the program too: set-user-ID bits and file capabilities have no effect; start nrtrace \
             without it (NoNewPrivileges=no, allowPrivilegeEscalation: true) if the program relies on them",
        ));
    }
    findings
}

fn namespace(map: &str) -> Option<Finding> {
    let fields: Vec<&str> = map.split_ascii_whitespace().collect();
    (fields != ["0", "0", "4294967295"]).then(|| {
        Finding::new(
            "user namespace",
            Fitness::Note,
            "nrtrace is in a user namespace (a rootless container, `unshare --user`): eBPF is not to be had here, and \
             capabilities count inside alone; run it as root of the host for the rest",
        )
    })
}

/// Whether ACLs can be set where services keep their files: what no owner or group gives is granted by them.
pub(super) fn acls() -> Finding {
    let without: Vec<&str> = ["/etc", "/run", "/srv", "/var/lib"]
        .into_iter()
        .filter(|place| !crate::acl::are_kept(*place))
        .collect();
    let (verdict, detail) = match without.as_slice() {
        [] => (Fitness::Works, "kept below /etc, /run, /srv and /var/lib; setfacl is not needed".to_owned()),
        without => (
            Fitness::Note,
            format!(
                "not kept below {}: nrtrace apply refuses entries there; --prefer group,own does with fewer",
                without.join(", ")
            ),
        ),
    };
    Finding::new("ACLs", verdict, detail)
}

/// The limits that the program inherits.
pub(super) fn limits(held: Option<&Privileges>) -> Finding {
    let show = |name: &str, resource| {
        let number =
            |value: u64| if value == RLIM_INFINITY { "unlimited".to_owned() } else { value.to_string() };
        getrlimit(resource).map_or_else(
            |_| format!("{name} unknown"),
            |(soft, hard)| format!("{name} {}/{}", number(soft), number(hard)),
        )
    };
    let limits = [
        show("open files", Resource::RLIMIT_NOFILE),
        show("processes", Resource::RLIMIT_NPROC),
        show("locked memory", Resource::RLIMIT_MEMLOCK),
    ];
    raising(&limits.join(", "), held.is_some_and(|held| held.holds(Capability::SYS_RESOURCE)))
}

fn raising(limits: &str, can: bool) -> Finding {
    let (verdict, what) = match can {
        true => (Fitness::Works, "a program that raises the hard ones is seen to do so and goes on"),
        false => (
            Fitness::Note,
            "CAP_SYS_RESOURCE is missing, so a program that raises a hard one is really refused; start nrtrace with \
             higher ones (prlimit, LimitNOFILE=, --ulimit) if it ends for that",
        ),
    };
    Finding::new("resource limits", verdict, format!("the program inherits {limits} (soft/hard); {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scope_of_yama_has_its_words() {
        assert!(scope(None).verdict == Fitness::Works && scope(Some(1)).verdict == Fitness::Works);
        assert!(scope(Some(2)).detail.contains("CAP_SYS_PTRACE"));
        let never = scope(Some(3));
        assert!(never.verdict == Fitness::Note && never.detail.contains("boot again"), "{never:?}");
    }

    #[test]
    fn the_state_in_brackets_is_the_lockdown() {
        assert_eq!(locked(None).verdict, Fitness::Works);
        assert_eq!(locked(Some("[none] integrity confidentiality\n")).verdict, Fitness::Works);
        let integrity = locked(Some("none [integrity] confidentiality\n"));
        assert!(integrity.verdict == Fitness::Works && integrity.detail.starts_with("integrity"));
        let strict = locked(Some("none integrity [confidentiality]\n"));
        assert!(
            strict.verdict == Fitness::Note && strict.detail.contains("lockdown=integrity"),
            "{strict:?}"
        );
    }

    #[test]
    fn what_nrtrace_runs_in_is_told() {
        let subjects = |privileges: &str, seccomp: &str| -> Vec<String> {
            let found = confined(|name| if name == "Seccomp" { seccomp } else { privileges });
            found.into_iter().map(|finding| finding.subject).collect()
        };
        assert!(subjects("0", "0").is_empty());
        assert_eq!(subjects("1", "2"), ["seccomp of nrtrace", "no_new_privs"]);
        assert_eq!(namespace("         0          0 4294967295\n"), None);
        assert!(namespace("0 1000 1\n").is_some_and(|finding| finding.detail.contains("root of the host")));
    }

    #[test]
    fn limits_that_cannot_be_raised_are_told() {
        assert_eq!(raising("open files 1/2", true).verdict, Fitness::Works);
        let cannot = raising("open files 1/2", false);
        assert!(cannot.verdict == Fitness::Note && cannot.detail.contains("LimitNOFILE="), "{cannot:?}");
    }
}
