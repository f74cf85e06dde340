//! What a call takes by what it is asked is foretold as the kernel decides it, and what cannot be told is not passed over.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::time::Duration;

use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::Severity;
use nrtrace_tests::compare::line_of;
use nrtrace_tests::sandbox::{BIN, OUT, Sandbox};
use nrtrace_tests::scenario::PREPARE;

/// What the fixture does, and what it takes.
const POWERS: &[(&str, &[&str])] = &[
    ("socket-priority", &["capability:CAP_NET_RAW"]),
    ("socket-mark", &["capability:CAP_NET_RAW"]),
    ("socket-debug", &["capability:CAP_NET_ADMIN"]),
    ("socket-device-again", &["capability:CAP_NET_RAW"]),
    ("lease", &["capability:CAP_LEASE"]),
    ("large-pipe", &["capability:CAP_SYS_RESOURCE"]),
    ("alarm-clock", &["capability:CAP_WAKE_ALARM"]),
    ("page-faults", &["capability:CAP_SYS_PTRACE"]),
    ("terminal-input", &["capability:CAP_SYS_ADMIN"]),
    ("attribute-of-the-system", &["capability:CAP_SYS_ADMIN"]),
    ("attribute-of-root", &["capability:CAP_SYS_ADMIN"]),
    ("memory-map", &["capability:CAP_SYS_RESOURCE"]),
    ("processors", &["capability:CAP_SYS_NICE"]),
    ("pages", &["capability:CAP_SYS_PTRACE"]),
    ("memory", &["capability:CAP_SYS_PTRACE"]),
    ("comparison", &["capability:CAP_SYS_PTRACE"]),
    ("descriptor", &["capability:CAP_SYS_PTRACE"]),
    ("parameter-that-is-closed", &["capability:CAP_NET_ADMIN"]),
    ("input-and-output", &["capability:CAP_SYS_NICE"]),
    ("clock-that-is-read", &[]),
    ("watching-itself", &[]),
    ("link-of-its-own", &[]),
    ("own-namespace", &[]),
];

/// The profiles of some powers, each of a run of its own.
fn profiles(backend: &str, names: &[&str], prepare: &str, options: &str) -> Vec<Profile> {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(300));
    let script = format!(
        "{PREPARE}\n{prepare}\ncd /\nfor name in {}; do {BIN}/nrtrace run -q {options} -o {OUT}/$name --backend {backend} --for 60s -- \
         {BIN}/fixture power $name || [ $? = 1 ] || exit; done",
        names.join(" ")
    );
    sandbox.script(&script).unwrap().ok().unwrap_or_else(|error| panic!("{backend}: {error}"));
    let read = |name: &&str| {
        let text = std::fs::read_to_string(sandbox.out().join(name).join("profile.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    names.iter().map(read).collect()
}

/// What is needed, however sure that is: some of these calls fail for everybody.
fn needs(profile: &Profile) -> BTreeSet<String> {
    let counts = profile.requirements.iter().filter(|need| need.severity != Severity::Tolerated);
    counts.map(line_of).collect()
}

#[test]
fn each_takes_the_same_on_both_backends() {
    let names: Vec<&str> = POWERS.iter().map(|(name, _)| *name).collect();
    let mut wrong = Vec::new();
    for backend in ["ebpf", "ptrace"] {
        for ((name, known), profile) in POWERS.iter().zip(profiles(backend, &names, "", "")) {
            let (found, known) = (needs(&profile), known.iter().map(|line| (*line).to_owned()).collect());
            if found != known || !profile.unexplained.is_empty() {
                wrong.push(format!("{backend} {name}: {found:?} {:?}", profile.unexplained));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a ring does makes no call: the capability is seen at best, and neither backend may say that nothing is needed.
#[test]
fn what_a_ring_does_is_not_passed_over() {
    for backend in ["ebpf", "ptrace"] {
        let run = profiles(backend, &["ring"], "", "").remove(0).run;
        assert!(!run.complete && run.unjudged > 0, "{backend}: {run:?}");
        assert!(run.shortfall().unwrap().contains("not judged"), "{backend}: {run:?}");
    }
}

/// The directory may be gone with the process; then no path is told rather than a wrong one.
#[test]
fn a_path_below_another_root_is_not_one_of_the_root() {
    for backend in ["ebpf", "ptrace"] {
        let found = needs(&profiles(backend, &["below-another-root"], "", "").remove(0));
        assert!(!found.iter().any(|need| need.contains("path:/new")), "{backend}: {found:?}");
    }
}

/// With eBPF; ptrace does not stop for each send.
#[test]
fn a_datagram_names_the_socket_it_is_sent_to() {
    let server = "python3 -c 'import socket, time; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); \
                  s.bind(\"/srv/guarded/datagrams\"); time.sleep(60)' & \
                  until [ -S /srv/guarded/datagrams ]; do sleep 0.1; done; chmod 600 /srv/guarded/datagrams";
    let profile = profiles("ebpf", &["datagram"], server, "--in-place").remove(0);
    assert_eq!(needs(&profile), ["path:/srv/guarded/datagrams [write] socket".to_owned()].into());
}
