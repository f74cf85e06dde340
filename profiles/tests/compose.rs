//! The Compose fragment is what the published schema of the Compose Specification accepts, whatever the profile.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod samples;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;
use nrtrace_profiles::container::{Container, Mounted, Place};
use nrtrace_profiles::emit::Format;
use nrtrace_profiles::event::FileType;
use nrtrace_profiles::grants::{Choices, Method};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::proof::{ProfileProof, TriedImage};
use nrtrace_profiles::requirement::{Access, Need, Seconds};
use nrtrace_profiles::ways::plan;
use proptest::prelude::*;
use serde_json::Value;

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/standards/compose-spec.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    jsonschema::validator_for(&schema).unwrap()
});

fn complaints(text: &str) -> Vec<String> {
    let document: Value = serde_norway::from_str(text).unwrap();
    SCHEMA.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn check(profile: &Profile) {
    let preferences = [vec![], vec![Method::Sysctl], vec![Method::FileCapability, Method::Configure]];
    for (prefer, arbitrary_uid) in
        preferences.into_iter().flat_map(|list| [(list.clone(), false), (list, true)])
    {
        let grants = plan(profile, &Choices { prefer, arbitrary_uid, ..Choices::default() });
        let text = Format::Compose.emit(profile, &grants).text;
        assert_eq!(complaints(&text), [""; 0], "{text}");
    }
}

#[test]
fn of_every_sample() {
    samples::all().iter().for_each(check);
    check(&samples::everything());
}

#[test]
fn the_schema_does_refuse() {
    assert!(!complaints("services: {a: {image: b, cap_drop: ALL}}").is_empty());
    assert!(!complaints("services: {a: {image: b, nonsense: 1}}").is_empty());
}

/// What was traced in a container tells its image, and which of its mounts are needed.
#[test]
fn of_a_container() {
    let mut profile = samples::all().swap_remove(0);
    let hostile = "a\"b: {$c";
    profile.container = Some(Container {
        image: Some(hostile.into()),
        mounts: vec![Mounted {
            at: "/".into(),
            place: Place::Volume,
            volume: Some("data".into()),
            host: None,
            read_only: false,
        }],
        ..Container::default()
    });
    for need in &mut profile.requirements {
        if let Need::Path { path, .. } = &need.need {
            need.evidence.placement = profile.container.as_ref().unwrap().placement(path);
        }
    }
    check(&profile);
    let text = Format::Compose.emit(&profile, &plan(&profile, &Choices::default())).text;
    let document: Value = serde_norway::from_str(&text).unwrap();
    let service = document["services"].as_object().unwrap().values().next().unwrap();
    // Compose replaces `$$` by `$`.
    assert_eq!(service["image"], hostile.replace('$', "$$"));
    assert!(text.contains("is on the volume data at /: chown"), "{text}");
    let pod = Format::Kubernetes.emit(&profile, &plan(&profile, &Choices::default())).text;
    let pod: Value = serde_norway::from_str(&pod).unwrap();
    assert_eq!(pod["spec"]["containers"][0]["image"], hostile);
}

fn proof() -> ProfileProof {
    ProfileProof {
        lives: true,
        minimal: false,
        readiness: None,
        exercise: None,
        greetings: Vec::new(),
        settled: Seconds(1_000_000_000),
        trials: 3,
        took: None,
        flaked: 0,
        hardening: BTreeSet::new(),
        image: Some(TriedImage { name: "web".into(), built: false, namespace: None }),
        not_applied: vec!["path:/cfg/passwd is on what the host mounts".into()],
    }
}

/// Whose a file of the host is, is told by where it is on the host: its advice gives nothing of the system away.
#[test]
fn of_what_the_host_mounts() {
    let texts = |host: &str, uid: u32| {
        let at = "/cfg/passwd";
        let inode = samples::inode(FileType::File, ("owner", uid), ("root", 0), 0o644);
        let need = samples::path(at, FileType::File, &[Access::Write], (at, inode));
        let mut profile = samples::profile("nginx", &["/usr/sbin/nginx"], vec![need]);
        let mount = Mounted {
            at: "/cfg".into(),
            place: Place::Bind,
            volume: None,
            host: Some(host.into()),
            read_only: false,
        };
        profile.container = Some(Container { mounts: vec![mount], ..Container::default() });
        profile.proof = Some(proof());
        let plan = plan(&profile, &Choices::default());
        [Format::Compose, Format::Kubernetes].map(|format| format.emit(&profile, &plan).text)
    };
    // The program's name inside says nothing of the host's.
    for host in ["/etc", "/etc/nginx", "/srv", "/home/alice", "/usr/local/bin", "/srv/../etc"] {
        for text in texts(host, 0) {
            assert!(text.contains("cannot be granted there") && !text.contains("chown"), "{host}: {text}");
        }
    }
    for text in texts("/srv/app", 4321) {
        assert!(!text.contains("chown"), "{text}");
    }
    let [compose, pod] = texts("/srv/app", 0);
    assert!(compose.contains("of the host, mounted for /cfg: chown"), "{compose}");
    assert!(pod.contains("on the node: chown"), "{pod}");
    assert!(
        pod.contains("level reached: privileged") && pod.contains("needs the hostPath /srv/app/passwd"),
        "{pod}"
    );
    let line = pod.lines().find(|line| line.contains("Proved in")).unwrap();
    assert!(
        line.contains("but for what was not tried (path:/cfg/passwd is on what the host mounts)"),
        "{line}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn of_any_name(name in prop::collection::vec(1_u8..=255, 1..40)) {
        check(&samples::hostile(&name));
    }
}
