//! What trials take away from a program, and only what it does without.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use nrtrace_tests::sandbox::{BIN, Finished, OUT, Sandbox};
use nrtrace_tests::service::quote;
use nrtrace_tests::truth::Truth;

/// The unit that a run with these options writes, and what it said.
fn run(prepare: &str, options: &str, command: &str) -> (String, Finished, Sandbox) {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(240));
    let script =
        format!("{prepare}\ncd /\n{BIN}/nrtrace run {options} --grace 2s -v -o {OUT}/result -- {command}\n");
    let finished = sandbox.script(&script).unwrap();
    assert_eq!(finished.status, 0, "{finished}");
    let result = std::fs::read_dir(sandbox.out().join("result")).unwrap();
    let dropin = result.flatten().find(|entry| entry.file_name().to_string_lossy().ends_with(".service.d"));
    let unit = std::fs::read_to_string(dropin.unwrap().path().join("50-nonroot.conf")).unwrap();
    (unit, finished, sandbox)
}

/// A real service is proved with what hardens: little is left to it, and it serves from the unit alone.
fn hardened(name: &str, left_out: &[&str]) {
    let truth = Truth::load(name).unwrap();
    let words: Vec<String> = truth.advised_command().iter().map(|word| quote(word)).collect();
    let exercise = quote(&format!("bash -euo pipefail -c {}", quote(&truth.exercise)));
    let prepare = format!("{}\n{}", truth.prepare, truth.advice.prepare);
    let options = format!("--verify --ready {exercise} --settle 200ms");
    let (unit, finished, sandbox) = run(&prepare, &options, &words.join(" "));
    for line in [
        "ProtectHome=yes",
        "ProtectProc=invisible",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "ProtectClock=yes",
        "RestrictNamespaces=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        "RestrictSUIDSGID=yes",
        "MemoryDenyWriteExecute=yes",
        "SystemCallArchitectures=native",
        "SystemCallErrorNumber=EPERM",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@resources",
        "SystemCallFilter=~@privileged",
    ] {
        assert_eq!(
            unit.lines().any(|found| found == line),
            !left_out.contains(&line),
            "{name}: {line}: {unit}"
        );
    }
    let said = finished.to_string();
    let exposure = said.split_once("exposure by systemd-analyze security: ").map(|(_, rest)| rest);
    let (after, before) = exposure.unwrap().split_once(", where a unit that says nothing has ").unwrap();
    let before = before.lines().next().unwrap();
    assert!(after.parse::<f64>().unwrap() <= 2.5, "{name}: {said}");
    assert!(before.parse::<f64>().unwrap() >= 9.0, "{name}: {said}");
    let script = format!(
        "{prepare}\nsh {OUT}/result/apply.sh; cd /\n{BIN}/nrtrace start {OUT}/result/*.service.d/50-nonroot.conf -- {} &\n\
         for i in $(seq 100); do sleep 0.1; if eval {exercise}; then kill $!; exit 0; fi; done; exit 1",
        words.join(" ")
    );
    let served = sandbox.script(&script).unwrap();
    assert_eq!(served.status, 0, "{name}: {served}");
}

#[test]
fn lighttpd_keeps_little() {
    hardened("lighttpd", &[]);
}

#[test]
fn nginx_keeps_little() {
    hardened("nginx", &[]);
}

#[test]
fn redis_keeps_little() {
    hardened("redis-server", &[]);
}

const SERVES: &str = "--ready-log '^serving$' --settle 200ms";

/// A program that compiles at run time, and isolates itself by user namespaces.
#[test]
fn what_a_program_uses_is_left_to_it() {
    let command =
        |takes: &str| format!("sh -c '{BIN}/fixture takes {takes} && echo serving && exec sleep 60'");
    let (unit, finished, _) = run("", &format!("--verify {SERVES}"), &command("memory namespace"));
    assert!(!unit.contains("MemoryDenyWriteExecute") && !unit.contains("RestrictNamespaces"), "{unit}");
    let refused = "not with RestrictNamespaces=yes, MemoryDenyWriteExecute=yes";
    assert!(finished.to_string().contains(refused), "{finished}");
    for kept in ["PrivateTmp=yes", "RestrictSUIDSGID=yes", "SystemCallArchitectures=native"] {
        assert!(unit.lines().any(|line| line == kept), "{kept}: {unit}");
    }
    let (unit, finished, _) = run("", &format!("--minimize {SERVES}"), &command("memory"));
    assert!(
        !unit.contains("MemoryDenyWriteExecute") && unit.contains("\nRestrictNamespaces=yes\n"),
        "{finished}"
    );
}

/// Nobody could tell from a run whether others look into its temporary files.
#[test]
fn where_others_meet_it_stays_shared() {
    let command = "redis-server --port 0 --unixsocket /tmp/socket --save ''";
    let (unit, ..) = run("", "--verify --ready-log 'ready to accept' --settle 200ms", command);
    assert!(!unit.contains("PrivateTmp") && unit.contains("\nPrivateDevices=yes\n"), "{unit}");
}

#[test]
fn without_a_trial_nothing_of_it_is_written() {
    let (unit, finished, _) = run("", "--for 300ms", "sleep 60");
    assert!(unit.contains("\nProtectHome=read-only\n") && unit.contains("\nLockPersonality=yes\n"), "{unit}");
    for name in ["PrivateTmp", "PrivateDevices", "SystemCallFilter", "RestrictNamespaces", "ProtectHome=yes"]
    {
        assert!(!unit.contains(name), "{name}: {unit}");
    }
    assert!(!finished.to_string().contains("exposure"), "{finished}");
}
