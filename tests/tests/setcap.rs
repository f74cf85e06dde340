//! The path without systemd's ambient capabilities: `setcap.sh` sets them on the file, and the service serves by that.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use nrtrace_tests::record::record;
use nrtrace_tests::sandbox::{BIN, OUT, Sandbox};
use nrtrace_tests::service::{Trial, quote, start_and_exercise};
use nrtrace_tests::truth::Truth;
use nrtrace_tests::unit::DropIn;

fn check(name: &str) {
    let truth = Truth::load(name).unwrap();
    let sandbox = Sandbox::new().unwrap();
    let (profile, _) = record(&truth, &sandbox, "ebpf").unwrap();
    let emit = format!(
        "{BIN}/nrtrace emit --prefer file-capability -o {OUT}/files {OUT}/result/profile.json\n\
         [ -e {OUT}/files/setcap.sh ] || {BIN}/nrtrace emit --prefer file-capability --format setcap -o {OUT}/files {OUT}/result/profile.json"
    );
    sandbox.script(&emit).unwrap().ok().unwrap();
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

    let binary = quote(profile.executable.as_ref().unwrap().as_str().unwrap());
    let set = format!(
        "{setup}
        before=$(getcap {binary})
        sh {OUT}/files/setcap.sh
        [ \"$(getcap {binary})\" != \"$before\" ]
        sh {OUT}/files/setcap.sh --undo
        [ \"$(getcap {binary})\" = \"$before\" ]
        sh {OUT}/files/setcap.sh\n"
    );
    if let Trial::Failed(finished) = start_and_exercise(&sandbox, &truth, true, &set, &unit.rights).unwrap() {
        let script = std::fs::read_to_string(sandbox.out().join("files/setcap.sh")).unwrap();
        panic!("{name} does not serve with file capabilities: {finished}\n{script}");
    }
}

#[test]
fn nginx() {
    check("nginx");
}

#[test]
fn dnsmasq() {
    check("dnsmasq");
}
