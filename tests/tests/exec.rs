//! Programs whose files give rights to whoever executes them, called by a program that has none: what is recorded of them,
//! and that the program lives with what is written for it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::time::Duration;

use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::{Basis, Severity};
use nrtrace_tests::compare::lines;
use nrtrace_tests::sandbox::{BIN, OUT, Sandbox};

/// A program for all, called by a script.
const TOOL: &str = "install -m 755 $BIN/fixture /opt/tool; echo data >/opt/file";

struct Found {
    profile: Profile,
    drop_in: String,
}

impl Found {
    fn needs(&self) -> BTreeSet<String> {
        lines(&self.profile, Severity::Required)
    }

    fn says(&self, line: &str) -> bool {
        self.drop_in.lines().any(|one| one == line)
    }
}

/// What is found of a script that calls the tool with these words, and whether it then lives with what is written.
fn run(backend: &str, prepare: &str, words: &str, lives: bool) -> Found {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(120));
    let status = if lives { "" } else { " || test $? = 1" };
    let script = format!(
        "{TOOL}\n{prepare}\nprintf '#!/bin/sh\\n/opt/tool {words}\\n' >/opt/script; chmod 755 /opt/script; cd /\n\
         {BIN}/nrtrace run -o {OUT}/result --backend {backend} -- /opt/script\n\
         cat {OUT}/result/*.service.d/* >{OUT}/drop-in\n\
         {BIN}/nrtrace verify {OUT}/result/profile.json{status}"
    );
    let finished = sandbox.script(&script).unwrap();
    assert_eq!(finished.status, 0, "{backend}: {finished}");
    let read = |name: &str| std::fs::read_to_string(sandbox.out().join(name)).unwrap();
    let profile = Profile::from_json(&read("result/profile.json")).unwrap();
    assert!(profile.unexplained.is_empty(), "{backend}: {:#?}", profile.unexplained);
    Found { profile, drop_in: read("drop-in") }
}

fn set<const N: usize>(ids: [&str; N]) -> BTreeSet<String> {
    ids.map(str::to_owned).into()
}

fn on_both(check: impl Fn(&str)) {
    ["ebpf", "ptrace"].into_iter().for_each(check);
}

#[test]
fn capabilities_that_a_file_insists_on_stay_within_bounds() {
    on_both(|backend| {
        let found = run(backend, "setcap cap_net_raw=ep /opt/tool", "read /etc/passwd", true);
        assert_eq!(found.needs(), set(["exec:/opt/tool"]), "{backend}");
        assert!(found.says("CapabilityBoundingSet=CAP_NET_RAW") && found.says("NoNewPrivileges=yes"));
        assert!(!found.says("AmbientCapabilities=CAP_NET_RAW"), "{}", found.drop_in);
    });
}

#[test]
fn capabilities_that_a_file_gives_are_nobody_elses() {
    on_both(|backend| {
        let found = run(backend, "setcap cap_net_raw=ep /opt/tool", "raw-socket", true);
        assert_eq!(found.needs(), set(["capability:CAP_NET_RAW", "exec:/opt/tool"]), "{backend}");
        assert!(found.says("CapabilityBoundingSet=CAP_NET_RAW") && found.says("NoNewPrivileges=no"));
        assert!(!found.says("AmbientCapabilities=CAP_NET_RAW"), "{}", found.drop_in);
    });
}

#[test]
fn without_the_effective_bit_a_file_is_executed_anyway() {
    on_both(|backend| {
        let found = run(backend, "setcap cap_net_raw=p /opt/tool", "read /etc/passwd", true);
        assert_eq!(found.needs(), set([]), "{backend}");
        assert!(found.says("NoNewPrivileges=yes") && !found.says("CapabilityBoundingSet=CAP_NET_RAW"));
    });
}

#[test]
fn the_group_of_a_set_group_id_program_is_joined() {
    on_both(|backend| {
        let prepare = "chgrp games /opt/tool /opt/file; chmod 2755 /opt/tool; chmod 660 /opt/file";
        let found = run(backend, prepare, "read-write /opt/file", true);
        assert_eq!(found.needs(), set(["exec:/opt/tool"]), "{backend}");
        assert!(found.says("SupplementaryGroups=games") && found.says("NoNewPrivileges=yes"));
    });
}

#[test]
fn a_program_of_another_user_keeps_its_right() {
    on_both(|backend| {
        let prepare = "chown games /opt/tool /opt/file; chmod 4755 /opt/tool; chmod 600 /opt/file";
        let found = run(backend, prepare, "read-write /opt/file", true);
        assert_eq!(found.needs(), set(["exec:/opt/tool"]), "{backend}");
        assert!(found.says("NoNewPrivileges=no"), "{}", found.drop_in);
        assert!(found.drop_in.contains("/opt/tool runs as user games, whoever executes it"));
    });
}

#[test]
fn a_program_of_roots_amounts_to_root_and_is_said_so() {
    on_both(|backend| {
        let prepare = "chmod 4755 /opt/tool; chmod 600 /opt/file";
        let found = run(backend, prepare, "read-write /opt/file", false);
        assert_eq!(found.needs(), set(["exec:/opt/tool"]), "{backend}");
        assert!(found.says("NoNewPrivileges=yes"), "{}", found.drop_in);
        assert!(found.drop_in.contains("amounts to root"), "{}", found.drop_in);
    });
}

#[test]
fn a_mount_without_set_id_gives_nothing() {
    on_both(|backend| {
        let prepare = "mount -t tmpfs -o nosuid,mode=755 tmpfs /mnt; cp /opt/tool /mnt/tool; rm /opt/tool; \
                       setcap cap_net_raw=ep /mnt/tool; ln -s /mnt/tool /opt/tool";
        let found = run(backend, prepare, "read /etc/passwd", true);
        assert_eq!(found.needs(), set([]), "{backend}");
    });
}

/// Where the capability is out of bounds already, the kernel is seen to refuse.
#[test]
fn a_refused_execution_is_explained() {
    on_both(|backend| {
        let sandbox = Sandbox::new().unwrap();
        let script = format!(
            "{TOOL}\nsetcap cap_net_raw=ep /opt/tool; cd /\n\
             setpriv --bounding-set=-net_raw {BIN}/nrtrace run --enforce -o {OUT}/result --backend {backend} -- \
             /bin/sh -c '/opt/tool read /etc/passwd; exit $?' || test $? = 126"
        );
        let finished = sandbox.script(&script).unwrap().ok().unwrap_or_else(|error| panic!("{error}"));
        let text = std::fs::read_to_string(sandbox.out().join("result/profile.json")).unwrap();
        let profile = Profile::from_json(&text).unwrap();
        let needs: Vec<_> = profile.requirements.iter().map(|need| (need.id.as_str(), need.basis)).collect();
        assert_eq!(needs, [("exec:/opt/tool", Basis::Denied)], "{backend}: {finished}");
    });
}
