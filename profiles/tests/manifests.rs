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
use nrtrace_profiles::plan::{Arrangement, Component, Grouping, Options, Owners, Public, emit, plan};
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

/// Two components of a control plane that share two files.
fn arrangement() -> Arrangement {
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
        public: Public::Close,
        paths: ["/etc/kubernetes", "/var/lib/etcd", "/run/it"]
            .map(|path| Pattern::new(&RawText::from(path)).unwrap())
            .into(),
    };
    plan(&components, &options).unwrap()
}

#[test]
fn the_patches_of_a_plan() {
    let arrangement = arrangement();
    let patches = documents(&emit::kubernetes(&arrangement, &emit::Pods::new()));
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

/// A static pod as kubeadm writes it, with a container that is root by its own word.
const STATIC: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: kube-apiserver, namespace: kube-system, labels: {tier: control-plane}}
spec:
  hostNetwork: true
  containers:
  - name: kube-apiserver
    image: registry.k8s.io/kube-apiserver:v1.36.0
    command: [kube-apiserver, --secure-port=6443]
    securityContext: {runAsUser: 0, privileged: true, readOnlyRootFilesystem: true}
    volumeMounts:
    - {name: k8s-certs, mountPath: /etc/kubernetes/pki, readOnly: true}
    - {name: data, mountPath: /var/lib/etcd, readOnly: true}
  securityContext: {supplementalGroups: [42]}
  volumes:
  - {name: k8s-certs, hostPath: {path: /etc/kubernetes/pki, type: DirectoryOrCreate}}
  - {name: data, hostPath: {path: /var/lib/etcd, type: DirectoryOrCreate}}
"#;

#[test]
fn a_static_pod_is_written_as_the_kep_has_it() {
    let arrangement = arrangement();
    let pod = emit::Pod::read("kube-apiserver.yaml", STATIC, "kas").unwrap();
    let files = emit::files(&arrangement, "plan", &BTreeMap::from([(0, pod)]));
    let text = |name: &str| &files.iter().find(|file| file.file_name == name).unwrap().text;
    let whole = documents(text("manifests/kube-apiserver.yaml")).remove(0);
    check(&whole);
    let (user, group) = (&arrangement.users[0], &arrangement.groups[0]);
    assert_eq!(
        whole["spec"]["securityContext"],
        serde_json::json!({ "supplementalGroups": [42, group.gid] })
    );
    let container = &whole["spec"]["containers"][0];
    let context = serde_json::json!({
        "runAsNonRoot": true,
        "runAsUser": user.uid,
        "runAsGroup": user.gid,
        "readOnlyRootFilesystem": true,
        "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    assert_eq!(container["securityContext"], context);
    // What is mounted already is mounted once, and can be written where that is done; what is not is mounted besides.
    let mounts: Vec<(&str, bool)> = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| (mount["mountPath"].as_str().unwrap(), mount["readOnly"].as_bool().unwrap()))
        .collect();
    assert_eq!(mounts, [("/etc/kubernetes/pki", true), ("/var/lib/etcd", false), ("/run/it", false)]);
    assert_eq!(whole["metadata"]["labels"]["tier"], "control-plane");
    assert_eq!(container["command"][1], "--secure-port=6443");

    // kubeadm finds a patch by the name of its target, and the container by its own.
    let patch = documents(text("kubernetes/kube-apiserver.yaml")).remove(0);
    check(&patch);
    assert_eq!(patch["spec"]["containers"][0]["name"], "kube-apiserver");
    assert_eq!(patch["spec"]["containers"][0]["securityContext"]["runAsUser"], user.uid);
    assert_eq!(patch["metadata"]["namespace"], "kube-system");
    let mounts = patch["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().all(|mount| mount["mountPath"] != "/etc/kubernetes/pki"), "{mounts:?}");
}

#[test]
fn a_manifest_that_cannot_be_a_components() {
    let none = emit::Pod::read("x.yaml", "kind: ConfigMap\n", "kas").unwrap_err();
    assert!(none.to_string().contains("holds no Pod"), "{none}");
    let two = "kind: Pod\nspec: {containers: [{name: a}, {name: b}]}\n";
    assert!(emit::Pod::read("x.yaml", two, "b").is_ok());
    let which = emit::Pod::read("x.yaml", two, "kas").unwrap_err();
    assert!(which.to_string().contains("it has: a, b"), "{which}");
}
