//! Merging is the union of sets of runs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod samples;

use std::collections::BTreeSet;

use nrtrace_profiles::emit;
use nrtrace_profiles::event::{Exit, FileType, Phase, Protocol};
use nrtrace_profiles::merge::{MergeError, merge, runs};
use nrtrace_profiles::profile::{Listen, Profile, Unexplained};
use nrtrace_profiles::proof::{Finding, ProfileProof, Proof};
use nrtrace_profiles::requirement::{Access, Basis, Need, Requirement, Seconds, Severity};
use nrtrace_profiles::{Capability, RawText};
use proptest::prelude::*;
use proptest::sample::select;

use samples::root_directory;

/// Names as programs make them: stable ones, random ones, numbers, pattern characters, none that are text.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        select(vec![
            "x.pid",
            "x.sock",
            "state",
            "a*b",
            "worker-1",
            "worker-2",
            "worker-3",
            "tmp.aXbYcZ",
            "q-*"
        ])
        .prop_map(|name| name.as_bytes().to_vec()),
        "k0s-[0-9]{9}-kubelet".prop_map(String::into_bytes),
        "temp-[0-9]{2,5}\\.rdb".prop_map(String::into_bytes),
        "[a-z]{6}\\.key".prop_map(String::into_bytes),
        "session[a-z0-9]{6}".prop_map(String::into_bytes),
        proptest::collection::vec(1u8.., 1..6)
            .prop_map(|name| name.into_iter().filter(|byte| *byte != b'/').collect::<Vec<_>>())
            .prop_filter("a name", |name| !name.is_empty()),
    ]
}

fn need() -> impl Strategy<Value = Need> {
    let access = proptest::collection::btree_set(
        select(vec![Access::Create, Access::Delete, Access::Write, Access::Read]),
        1..3,
    );
    let path = (select(vec!["/run", "/var/lib/x", "/"]), name()).prop_map(|(directory, name)| {
        let directory = directory.strip_suffix('/').unwrap_or(directory);
        RawText::new([directory.as_bytes(), b"/", &name].concat())
    });
    prop_oneof![
        6 => (path, access, any::<bool>()).prop_map(|(path, access, directory)| Need::Path {
            path,
            file_type: if directory { FileType::Directory } else { FileType::File },
            access,
            pattern: false,
        }),
        1 => Just(samples::path_need("/run", FileType::Directory, &[Access::Write])),
        1 => select(vec![Capability::SYS_TIME, Capability::NET_RAW])
            .prop_map(|capability| Need::Capability { capability }),
        1 => (0u16..3).prop_map(|port| samples::port(Protocol::Tcp, "::", 80 + port).need),
    ]
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let severity = select(vec![Severity::Tolerated, Severity::Probe, Severity::Required]);
    let basis = select(vec![Basis::Predicted, Basis::Kernel, Basis::Denied]);
    let phase = select(vec![Phase::Startup, Phase::Steady, Phase::Shutdown]);
    let finding = proptest::option::weighted(0.3, select(vec![Finding::Tolerated, Finding::Removal]));
    (
        need(),
        (severity, finding),
        basis,
        phase,
        prop_oneof![9 => 1..1000u64, 1 => Just(u64::MAX)],
        0..1000u64,
        any::<bool>(),
    )
        .prop_map(|(need, (severity, finding), basis, phase, count, time, refused)| {
            let refused = refused.then(|| ("/run", root_directory(0o755)));
            let mut requirement = samples::requirement(need, "openat", refused);
            requirement.severity = severity;
            requirement.proof = finding.map(|finding| Proof {
                finding,
                failed: 1,
                lived: count as u32,
                without: None,
                tolerated: BTreeSet::new(),
                together: BTreeSet::new(),
            });
            requirement.basis = basis;
            requirement.phase = phase;
            requirement.evidence.count = count;
            requirement.evidence.outcomes = [("ok".to_owned(), count)].into();
            requirement.evidence.first = Seconds(time * 1_000_000);
            requirement.evidence.last = requirement.evidence.first;
            requirement
        })
}

fn run() -> impl Strategy<Value = Profile> {
    let listens = proptest::collection::vec((any::<u16>(), "[ab]"), 0..2);
    (
        select(vec!["", "1", "2", "3", "4"]),
        proptest::collection::vec(requirement(), 0..6),
        listens,
        any::<bool>(),
        select(vec![Exit::Running, Exit::Exited { status: 3 }, Exit::Stopped { status: None }]),
        proptest::collection::vec("[ab]", 0..2),
    )
        .prop_map(|(id, requirements, listens, complete, exit, notes)| {
            let mut profile = samples::profile("x", &["/usr/bin/x"], requirements);
            // One need for each id, as in every profile.
            profile.requirements.sort_by(|a, b| a.id.cmp(&b.id));
            profile.requirements.dedup_by(|a, b| a.id == b.id);
            profile.run.id = id.to_owned();
            profile.run.complete = complete;
            profile.run.exit = exit;
            profile.notes = notes;
            profile.listens = listens.into_iter().map(listen).collect();
            profile.unexplained = vec![unexplained(profile.listens.len() as u64)];
            profile
        })
}

fn listen((port, process): (u16, String)) -> Listen {
    Listen {
        protocol: Protocol::Tcp,
        address: "0.0.0.0".into(),
        port: Some(port),
        processes: vec![process.as_str().into()],
    }
}

fn unexplained(count: u64) -> Unexplained {
    Unexplained {
        call: "ioctl".into(),
        process: "x".into(),
        object: "/dev/x".into(),
        capability: None,
        outcome: "EPERM".into(),
        frames: Vec::new(),
        obstacle: None,
        count,
        phase: Phase::Startup,
    }
}

fn proof() -> ProfileProof {
    ProfileProof {
        lives: true,
        minimal: true,
        readiness: None,
        exercise: None,
        greetings: Vec::new(),
        settled: Seconds(1_000_000_000),
        trials: 3,
        took: None,
        flaked: 0,
        hardening: BTreeSet::from(["PrivateTmp=yes".to_owned()]),
        image: None,
        not_applied: Vec::new(),
    }
}

fn of(profiles: &[&Profile]) -> Profile {
    merge(profiles.iter().copied()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn merging_is_idempotent(a in run(), b in run()) {
        prop_assert_eq!(&of(&[&a]), &a);
        prop_assert_eq!(&of(&[&a, &a]), &a);
        let once = of(&[&a, &b]);
        prop_assert_eq!(&of(&[&once, &once]), &once);
        prop_assert_eq!(&of(&[&once, &a]), &once);
        prop_assert_eq!(&of(&[&b, &once]), &once);
    }

    #[test]
    fn merging_is_commutative_and_associative(all in proptest::collection::vec(run(), 3..5), turn in 0usize..4) {
        let flat: Vec<&Profile> = all.iter().collect();
        let together = of(&flat);
        let mut turned = flat.clone();
        turned.rotate_left(turn % flat.len());
        turned.swap(0, 1);
        prop_assert_eq!(&of(&turned), &together);
        let (left, right) = flat.split_at(1 + turn % (flat.len() - 1));
        prop_assert_eq!(&of(&[&of(left), &of(right)]), &together);
        prop_assert_eq!(together.to_json(), of(&turned).to_json());
    }

    #[test]
    fn nothing_is_lost_or_counted_twice(all in proptest::collection::vec(run(), 2..5)) {
        let merged = of(&all.iter().collect::<Vec<_>>());
        let runs = runs(&merged);
        let sum = |profile: &Profile| {
            profile.requirements.iter().fold(0u64, |sum, r| sum.saturating_add(r.evidence.count))
        };
        let expected = runs.iter().fold(0u64, |total, run| total.saturating_add(sum(run)));
        prop_assert_eq!(sum(&merged), expected);
        let mut ids = BTreeSet::new();
        for requirement in &merged.requirements {
            prop_assert_eq!(&requirement.id, &requirement.need.id());
            prop_assert!(ids.insert(&requirement.id), "{} occurs twice", requirement.id);
        }
        prop_assert_eq!(merged.run.complete, runs.iter().all(|run| run.run.complete));
    }

    #[test]
    fn a_merged_profile_is_an_ordinary_one(all in proptest::collection::vec(run(), 2..4)) {
        let merged = of(&all.iter().collect::<Vec<_>>());
        let read = Profile::from_json(&merged.to_json()).unwrap();
        prop_assert_eq!(&read, &merged);
        for artefact in emit::artefacts(&merged) {
            prop_assert!(!artefact.text.is_empty());
        }
    }

    #[test]
    fn what_is_proved_of_the_whole_stays_proved(a in run(), b in run()) {
        let mut merged = of(&[&a, &b]);
        for requirement in &mut merged.requirements {
            requirement.severity = Severity::Tolerated;
        }
        merged.proof = Some(proof());
        let again = of(&[&merged, &a, &b]);
        prop_assert_eq!(&again, &of(&[&merged, &merged]));
        prop_assert_eq!(&again.proof, &merged.proof);
        prop_assert!(again.requirements.iter().all(|r| r.severity == Severity::Tolerated));
    }
}

/// Runs of one program, each of which made these files in `/run`.
fn made(runs: &[&[&str]]) -> Vec<String> {
    let profile = |(number, names): (usize, &&[&str])| {
        let needs = names.iter().map(|name| {
            samples::path(
                &format!("/run/{name}"),
                FileType::File,
                &[Access::Create],
                ("/run", root_directory(0o755)),
            )
        });
        let mut profile = samples::profile("x", &["/usr/bin/x"], needs.collect());
        profile.run.id = number.to_string();
        profile
    };
    let profiles: Vec<Profile> = runs.iter().enumerate().map(profile).collect();
    let merged = of(&profiles.iter().collect::<Vec<_>>());
    merged.requirements.into_iter().map(|requirement| requirement.id.replace("path:/run/", "")).collect()
}

#[test]
fn names_that_differ_from_run_to_run_become_patterns() {
    assert_eq!(made(&[&["x.pid", "x-kqwzrt.sock"], &["x.pid", "x-plmnbd.sock"]]), ["x-*.sock", "x.pid"]);
    assert_eq!(made(&[&["lock.1234"], &["lock.77"]]), ["lock.*"], "numbers of any length");
    assert_eq!(made(&[&["abelar"], &["oregon"], &["imadot"]]), ["*"], "three runs tell what two do not");
}

#[test]
fn names_that_people_give_stay_as_they_are() {
    assert_eq!(made(&[&["server.key"], &["client.key"]]), ["client.key", "server.key"]);
    assert_eq!(made(&[&["worker-1", "worker-2"], &["worker-1"]]), ["worker-1", "worker-2"]);
    assert_eq!(made(&[&["x.pid"], &["y.pid"]]), ["x.pid", "y.pid"]);
}

#[test]
fn different_programs_and_users_are_not_merged() {
    let (a, mut b) = (samples::profile("a", &["a"], vec![]), samples::profile("b", &["b"], vec![]));
    assert_eq!(merge([&a, &b]), Err(MergeError::Programs("a".into(), "b".into())));
    b.name = "a".into();
    b.identity.user = "other".into();
    assert!(matches!(merge([&a, &b]), Err(MergeError::Users(..))));
    assert_eq!(merge([]), Err(MergeError::Nothing));
}
