//! The manifests of `deploy/` and the patches of `nrtrace plan` are what Kubernetes reads: decoded into the types of its
//! published OpenAPI schema and encoded again, nothing of them is lost.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use nrtrace_profiles::RawText;
use nrtrace_profiles::accesses::FileAccess;
use nrtrace_profiles::event::FileType;
use nrtrace_profiles::glob::Pattern;
use nrtrace_profiles::plan::{Component, Grouping, Options, Owners, emit, plan};
use nrtrace_profiles::requirement::Access;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn strict<T: DeserializeOwned + serde::Serialize>(document: &Value) {
    let typed: T = serde_json::from_value(document.clone()).unwrap();
    let mut again = serde_json::to_value(typed).unwrap();
    // The types add these two as constants.
    again["apiVersion"] = document["apiVersion"].clone();
    again["kind"] = document["kind"].clone();
    assert_eq!(&again, document, "a field that the published types do not have");
}

fn documents(text: &str) -> Vec<Value> {
    serde_norway::Deserializer::from_str(text).map(|part| Value::deserialize(part).unwrap()).collect()
}

fn check(document: &Value) {
    match document["kind"].as_str().unwrap() {
        "DaemonSet" => strict::<DaemonSet>(document),
        "Job" => strict::<Job>(document),
        "Namespace" => strict::<Namespace>(document),
        "ConfigMap" => strict::<ConfigMap>(document),
        "ServiceAccount" => strict::<ServiceAccount>(document),
        "Pod" => strict::<Pod>(document),
        kind => panic!("{kind} is not known here"),
    }
}

#[test]
fn the_manifests_of_deploy() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let mut kinds = BTreeSet::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "yaml") {
            for document in documents(&std::fs::read_to_string(&path).unwrap()) {
                check(&document);
                kinds.insert(document["kind"].as_str().unwrap().to_owned());
                same_recorder(&document);
            }
        }
    }
    assert_eq!(
        kinds,
        ["ConfigMap", "DaemonSet", "Job", "Namespace", "ServiceAccount"].map(str::to_owned).into()
    );
}

/// DaemonSet and Job record alike: mounts have volumes, and the pod sees the node's processes.
fn same_recorder(document: &Value) {
    let pod = &document["spec"]["template"]["spec"];
    let Some(containers) = pod["containers"].as_array() else { return };
    assert_eq!(pod["hostPID"], true);
    let volumes: BTreeSet<&str> =
        pod["volumes"].as_array().unwrap().iter().map(|volume| volume["name"].as_str().unwrap()).collect();
    for mount in containers[0]["volumeMounts"].as_array().unwrap() {
        assert!(volumes.contains(mount["name"].as_str().unwrap()), "{mount}");
    }
    let script = containers[0]["command"][2].as_str().unwrap();
    assert!(
        script.contains("nrtrace attach --container \"$CONTAINER\" --wait --for \"$DURATION\" $OPTIONS"),
        "{script}"
    );
}

#[test]
fn the_patches_of_a_plan() {
    let file = |path: &str, file_type, access: &[Access]| FileAccess {
        path: path.into(),
        file_type,
        access: access.iter().copied().collect(),
        inode: None,
    };
    let files = vec![
        file("/etc/kubernetes/pki/ca.crt", FileType::File, &[Access::Read]),
        file("/etc/kubernetes/pki/sa.key", FileType::File, &[Access::Read]),
        file("/var/lib/etcd", FileType::Directory, &[Access::Write, Access::Own]),
        file("/run/it/sock", FileType::Socket, &[Access::Write]),
    ];
    let component = |name: &str, files: &[FileAccess]| Component {
        name: name.into(),
        files: files.to_vec(),
        ..Component::default()
    };
    let components = [component("kas", &files), component("kcm", &files[..2])];
    let options = Options {
        prefix: "kubeadm-".into(),
        uids: 101..=999,
        gids: 101..=999,
        taken_uids: BTreeSet::new(),
        taken_gids: BTreeSet::new(),
        given: BTreeMap::new(),
        owners: Owners::Component,
        grouping: Grouping::Set,
        paths: ["/etc/kubernetes", "/var/lib/etcd", "/run/it"]
            .map(|path| Pattern::new(&RawText::from(path)).unwrap())
            .into(),
    };
    let arrangement = plan(&components, &options).unwrap();
    let patches = documents(&emit::kubernetes(&arrangement));
    assert_eq!(patches.len(), 2);
    patches.iter().for_each(check);
    let kas = &patches[0]["spec"];
    assert_eq!(kas["securityContext"]["runAsUser"], arrangement.users[0].uid);
    assert_eq!(kas["securityContext"]["supplementalGroups"][0], arrangement.groups[0].gid);
    let mounts: BTreeMap<&str, bool> = kas["containers"][0]["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| (mount["mountPath"].as_str().unwrap(), mount["readOnly"].as_bool().unwrap()))
        .collect();
    let known = [("/etc/kubernetes/pki", true), ("/run/it", false), ("/var/lib/etcd", false)];
    assert_eq!(mounts, known.into());
}
