//! The path without systemd's ambient capabilities: `setcap.sh` sets them on the files that need them, and the service
//! serves by that. For a service that needs none there is no such script.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use nrtrace_tests::record::record;
use nrtrace_tests::sandbox::{BIN, OUT, Sandbox};
use nrtrace_tests::service::{Trial, start_and_exercise};
use nrtrace_tests::truth::{Grant, Truth};
use nrtrace_tests::unit::DropIn;

/// All file capabilities of what programs are made of.
const CARRIED: &str = "getcap -r /usr/bin /usr/sbin /usr/lib /usr/libexec 2>/dev/null | sort";

fn check(name: &str) {
    let truth = Truth::load(name).unwrap();
    let sandbox = Sandbox::new().unwrap();
    record(&truth, &sandbox, "ebpf").unwrap();
    let emit =
        format!("{BIN}/nrtrace emit --prefer file-capability -o {OUT}/files {OUT}/result/profile.json");
    sandbox.script(&emit).unwrap().ok().unwrap();
    let carriers: Vec<&Grant> =
        truth.grants().into_iter().filter(|grant| matches!(grant, Grant::Capability(_))).collect();
    let script = sandbox.out().join("files/setcap.sh");
    assert_eq!(script.exists(), !carriers.is_empty(), "{name}: it is written where it does something");
    if carriers.is_empty() {
        return;
    }
    let unit = DropIn::find(&sandbox.out().join("files")).unwrap();
    assert_eq!(unit.rights.capabilities, [""; 0], "ambient capabilities would prove nothing");
    assert!(!unit.rights.no_new_privs, "file capabilities have no effect then");

    let setup = format!(
        "shopt -s nullglob\n\
         systemd-sysusers {OUT}/files/sysusers.d/*.conf\n\
         systemd-tmpfiles --create {OUT}/files/tmpfiles.d/*.conf\n{}\n",
        unit.setup
    );
    let without = start_and_exercise(&sandbox, &truth, true, &setup, &unit.rights).unwrap();
    assert!(matches!(without, Trial::Failed(_)), "{name} serves without its capabilities");

    let set = format!(
        "{setup}
        before=$({CARRIED})
        sh {OUT}/files/setcap.sh
        after=$({CARRIED})
        [ \"$after\" != \"$before\" ]
        sh {OUT}/files/setcap.sh --undo
        [ \"$({CARRIED})\" = \"$before\" ]
        sh {OUT}/files/setcap.sh
        [ \"$({CARRIED})\" = \"$after\" ]
        ! getcap \"$(readlink -f /bin/sh)\" /bin/bash | grep cap_\n"
    );
    if let Trial::Failed(finished) = start_and_exercise(&sandbox, &truth, true, &set, &unit.rights).unwrap() {
        let script = std::fs::read_to_string(script).unwrap();
        panic!("{name} does not serve with file capabilities: {finished}\n{script}");
    }
}

macro_rules! services {
    ($($function:ident = $name:literal),* $(,)?) => { $(#[test] fn $function() { check($name); })* };
}

nrtrace_tests::each_truth!(services);
