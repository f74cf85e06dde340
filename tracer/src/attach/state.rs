//! Containers by what is known of them: names, images, and the process of each.
//!
//! Engines that serve docker's API are asked first (`api.rs`); then what runtimes keep is read, from the places that they use
//! by default and those that their monitors have been told of (`monitor.rs`).

use std::fs;
use std::path::{Path, PathBuf};

use nrtrace_profiles::container::{Mounted, Pod};
use serde_json::Value;

use super::bundle::Program;
use super::process::Facts;
use super::{api, monitor, mounts};
use crate::files::read_regular;

/// Most bytes of a file of state that is read.
const STATE_MAX: u64 = 16 << 20;

/// What a runtime says of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// Who runs it.
    pub engine: &'static str,
    /// Its first process, where that is told.
    pub pid: Option<i32>,
    /// Which of its ends is known of, where it has ended: another text for another end.
    pub ended: Option<String>,
    /// The image it was made from.
    pub image: Option<String>,
    /// Its pod.
    pub pod: Option<Pod>,
    /// What it was made to mount, as its bundle says.
    pub mounts: Vec<Mounted>,
    /// What it was made to run, as its bundle says.
    pub program: Option<Program>,
}

impl Known {
    /// Whether that is its id, one of its names, or of one in a pod `NAMESPACE/POD/CONTAINER`.
    pub fn is_called(&self, text: &str) -> bool {
        let in_pod = || {
            let pod = self.pod.as_ref()?;
            Some(format!("{}/{}/{}", pod.namespace.as_ref()?, pod.name.as_ref()?, pod.container.as_ref()?))
        };
        self.id == text
            || self.names.iter().any(|name| name == text)
            || in_pod().is_some_and(|path| path == text)
    }
}

/// Where docker keeps its containers.
pub(super) const DOCKER: &str = "/var/lib/docker/containers";
/// Where containerd keeps its bundles.
const CONTAINERD: [&str; 3] = [
    "/run/containerd/io.containerd.runtime.v2.task",
    "/run/k0s/containerd/io.containerd.runtime.v2.task",
    "/run/k3s/containerd/io.containerd.runtime.v2.task",
];

/// Where containerd keeps its bundles: a directory for each namespace, with one for each container.
pub(super) fn bundle_roots() -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = CONTAINERD.iter().map(PathBuf::from).chain(monitor::shims()).collect();
    roots.sort();
    roots.dedup();
    roots
}

/// Everything that is known of any container; several runtimes may know of one, and what stands first counts.
pub fn all() -> Vec<Known> {
    let (trusted, others): (Vec<_>, Vec<_>) = api::all().into_iter().partition(|api| api.trusted);
    let mut found: Vec<Known> = trusted.iter().flat_map(api::Api::containers).collect();
    for storage in storages() {
        found.extend(storage_containers(&storage));
    }
    found.extend(docker(Path::new(DOCKER)));
    for root in bundle_roots() {
        found.extend(containerd(&root, &|_| true));
    }
    for (root, engine) in runtime_roots() {
        found.extend(runtime(&root, engine));
    }
    found.extend(others.iter().flat_map(api::Api::containers));
    found.extend(monitor::watched());
    found
}

/// Whether what a process of that user tells is as good as what root tells to who asks.
pub(super) fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
}

/// Where a container is put together, of those that [`all`] tells: one entry for each id, with what each runtime adds.
pub fn joined(all: Vec<Known>) -> Vec<Known> {
    let mut joined: Vec<Known> = Vec::new();
    for known in all {
        match joined.iter_mut().find(|earlier| earlier.id == known.id) {
            Some(earlier) => {
                earlier.names.extend(known.names);
                earlier.names.dedup();
                earlier.pid = earlier.pid.or(known.pid);
                earlier.ended = earlier.ended.take().or(known.ended);
                earlier.image = earlier.image.take().or(known.image);
                earlier.pod = earlier.pod.take().or(known.pod);
                earlier.program = earlier.program.take().or(known.program);
                if earlier.mounts.is_empty() {
                    earlier.mounts = known.mounts;
                }
            }
            None => joined.push(known),
        }
    }
    joined
}

pub(super) fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&read_regular(path, STATE_MAX).ok()?).ok()
}

pub(super) fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

fn number(path: &Path) -> Option<i32> {
    let text = String::from_utf8(read_regular(path, 1 << 10).ok()?).ok()?;
    text.trim().parse().ok().filter(|pid| *pid > 0)
}

/// A graph root and a run root of containers/storage, as podman and CRI-O use it.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) graph: PathBuf,
    run: PathBuf,
}

/// root's, and those of users with a home directory.
pub(super) fn storages() -> Vec<Storage> {
    let mut found =
        vec![Storage { graph: "/var/lib/containers/storage".into(), run: "/run/containers/storage".into() }];
    for home in directories(Path::new("/home")) {
        let graph = home.join(".local/share/containers/storage");
        if let Ok(facts) = fs::metadata(&graph) {
            use std::os::unix::fs::MetadataExt;
            found.push(Storage { graph, run: format!("/run/user/{}/containers", facts.uid()).into() });
        }
    }
    found
}

fn storage_containers(storage: &Storage) -> Vec<Known> {
    let mut found = Vec::new();
    // One directory for each storage driver: `overlay-containers`, `vfs-containers`.
    for directory in directories(&storage.graph) {
        let Some(name) =
            directory.file_name().and_then(|name| name.to_str()).filter(|name| name.ends_with("-containers"))
        else {
            continue;
        };
        let Some(Value::Array(entries)) = json(&directory.join("containers.json")) else { continue };
        for entry in &entries {
            let Some(id) = text(entry, "/id") else { continue };
            let data = storage.run.join(name).join(id).join("userdata");
            let bundle = json(&directory.join(id).join("userdata/config.json")).unwrap_or_default();
            let known = stored(entry, id, number(&data.join("pidfile")));
            let program = Program::of_config(&bundle);
            let ended = ended_at(&directory.join(id).join("userdata/exit"));
            found.push(Known { mounts: mounts::of_config(&bundle), program, ended, ..known });
        }
    }
    found
}

fn stored(entry: &Value, id: &str, pid: Option<i32>) -> Known {
    let names = entry.pointer("/names").and_then(Value::as_array);
    let names: Vec<String> =
        names.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let metadata: Value =
        text(entry, "/metadata").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let is_pod = text(&metadata, "/pod-id").is_some();
    let mut known = Known {
        id: id.to_owned(),
        names,
        engine: if is_pod { "cri-o" } else { "podman" },
        pid,
        image: text(&metadata, "/image-name").map(str::to_owned),
        ..Known::default()
    };
    known.names.extend(text(&metadata, "/metadata-name").filter(|_| is_pod).map(str::to_owned));
    known
}

/// The image of a container in such a storage, by the directory of its driver.
pub(super) fn image_in(directory: &Path, id: &str) -> Option<String> {
    let Some(Value::Array(entries)) = json(&directory.join("containers.json")) else { return None };
    let entry = entries.iter().find(|entry| text(entry, "/id") == Some(id))?;
    stored(entry, id, None).image
}

/// The end of a container whose first process is not there any more.
fn gone(pid: Option<i32>) -> Option<String> {
    let is_alive = |pid: &i32| Facts::read(*pid).is_some_and(|facts| !facts.is_kernel());
    pid.filter(|pid| !is_alive(pid)).map(|pid| pid.to_string())
}

/// The end of which a conmon has written the status.
fn ended_at(file: &Path) -> Option<String> {
    let written = fs::metadata(file).and_then(|facts| facts.modified()).ok()?;
    Some(format!("{:?}", written.duration_since(std::time::UNIX_EPOCH).ok()?))
}

/// Whether docker says that a container runs.
fn running(config: &Value) -> bool {
    config.pointer("/State/Running").and_then(Value::as_bool).unwrap_or_default()
}

/// One directory for each container, with a file that tells all.
fn docker(containers: &Path) -> Vec<Known> {
    let known = |directory: PathBuf| -> Option<Known> {
        let value = json(&directory.join("config.v2.json"))?;
        Some(Known {
            id: text(&value, "/ID")?.to_owned(),
            names: text(&value, "/Name")
                .map(|name| name.trim_start_matches('/').to_owned())
                .into_iter()
                .collect(),
            engine: "docker",
            pid: value
                .pointer("/State/Pid")
                .and_then(Value::as_i64)
                .and_then(|pid| i32::try_from(pid).ok())
                .filter(|pid| *pid > 0),
            ended: text(&value, "/State/FinishedAt")
                .filter(|time| !time.starts_with("0001-") && !running(&value))
                .map(str::to_owned),
            image: text(&value, "/Config/Image").map(str::to_owned),
            pod: value.pointer("/Config/Labels").and_then(docker_pod),
            ..Known::default()
        })
    };
    directories(containers).into_iter().filter_map(known).collect()
}

/// `NAMESPACE/ID/`, with the bundle in it, of those that are wanted.
pub(super) fn containerd(root: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<Known> {
    let known = |bundle: PathBuf| -> Option<Known> {
        let id = bundle.file_name()?.to_str()?.to_owned();
        let config = json(&bundle.join("config.json")).unwrap_or_default();
        let pid = number(&bundle.join("init.pid"));
        Some(Known { pid, ended: gone(pid), ..annotated(id, &config, "containerd") })
    };
    let bundles = directories(root).into_iter().flat_map(|namespace| directories(&namespace));
    bundles.filter(|bundle| wanted(bundle)).filter_map(known).collect()
}

/// What the annotations of an OCI bundle's `config.json` tell.
pub(super) fn annotated(id: String, config: &Value, engine: &'static str) -> Known {
    let nothing = Value::Null;
    let annotations = config.pointer("/annotations").unwrap_or(&nothing);
    let of = |name: &str| annotations.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let names = ["nerdctl/name", "io.kubernetes.cri.container-name", "io.kubernetes.container.name"];
    let cri = [
        "io.kubernetes.cri.sandbox-uid",
        "io.kubernetes.cri.sandbox-name",
        "io.kubernetes.cri.sandbox-namespace",
        "io.kubernetes.cri.container-name",
    ];
    Known {
        id,
        names: names.into_iter().filter_map(of).map(str::to_owned).collect(),
        engine,
        pid: None,
        ended: None,
        image: of("io.kubernetes.cri.image-name")
            .or_else(|| of("io.kubernetes.cri-o.ImageName"))
            .map(str::to_owned),
        pod: pod(annotations, cri).or_else(|| pod(annotations, KUBELET)),
        mounts: mounts::of_config(config),
        program: Program::of_config(config),
    }
}

/// The labels that the kubelet gives, which docker and CRI-O keep.
const KUBELET: [&str; 4] = [
    "io.kubernetes.pod.uid",
    "io.kubernetes.pod.name",
    "io.kubernetes.pod.namespace",
    "io.kubernetes.container.name",
];

/// The pod of a container of docker's, by its labels.
pub(super) fn docker_pod(labels: &Value) -> Option<Pod> {
    pod(labels, KUBELET)
}

fn pod(labels: &Value, [uid, name, namespace, container]: [&str; 4]) -> Option<Pod> {
    let of = |name: &str| labels.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(Pod { uid: of(uid)?, name: of(name), namespace: of(namespace), container: of(container) })
}

/// Where the OCI runtimes keep their own state: of podman and CRI-O, docker, containerd.
pub(super) fn runtime_roots() -> Vec<(PathBuf, &'static str)> {
    let mut roots: Vec<(PathBuf, &'static str)> = vec![
        ("/run/runc".into(), "runc"),
        ("/run/crun".into(), "crun"),
        ("/run/docker/runtime-runc/moby".into(), "docker"),
        ("/var/run/docker/runtime-runc/moby".into(), "docker"),
    ];
    for containerd in ["/run/containerd/runc", "/run/k0s/containerd/runc", "/run/k3s/containerd/runc"] {
        roots.extend(
            directories(Path::new(containerd)).into_iter().map(|namespace| (namespace, "containerd")),
        );
    }
    roots
}

/// `ID/state.json` of runc, `ID/status` of crun.
fn runtime(root: &Path, engine: &'static str) -> Vec<Known> {
    let known = |directory: PathBuf| -> Option<Known> {
        let id = directory.file_name()?.to_str()?.to_owned();
        let state = json(&directory.join("state.json")).or_else(|| json(&directory.join("status")))?;
        let pid = ["/init_process_pid", "/pid"].into_iter().find_map(|field| state.pointer(field)?.as_i64());
        let bundle = text(&state, "/bundle").map(PathBuf::from).or_else(|| labelled_bundle(&state));
        let config = bundle.and_then(|bundle| json(&bundle.join("config.json"))).unwrap_or_default();
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
        Some(Known { pid, ended: gone(pid), ..annotated(id, &config, engine) })
    };
    directories(root).into_iter().filter_map(known).collect()
}

/// runc keeps its bundle's path among the labels.
fn labelled_bundle(state: &Value) -> Option<PathBuf> {
    let labels = state.pointer("/config/labels")?.as_array()?;
    labels.iter().filter_map(Value::as_str).find_map(|label| label.strip_prefix("bundle=")).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn podman_and_crio_keep_names_in_their_storage() {
        let root = tempfile::tempdir().unwrap();
        let storage = Storage { graph: root.path().join("graph"), run: root.path().join("run") };
        let metadata = r#"{\"image-name\":\"registry.example/library/nginx\",\"name\":\"web\"}"#;
        let in_pod = r#"{\"pod-id\":\"p1\",\"metadata-name\":\"api\"}"#;
        write(
            &storage.graph.join("overlay-containers/containers.json"),
            &format!(
                r#"[{{"id":"aa","names":["web"],"metadata":"{metadata}"}},{{"id":"bb","names":["k8s_api"],"metadata":"{in_pod}"}}]"#
            ),
        );
        write(&storage.run.join("overlay-containers/aa/userdata/pidfile"), "4711\n");
        let found = storage_containers(&storage);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].names.as_slice(), found[0].pid), (&["web".to_owned()][..], Some(4711)));
        assert_eq!(found[0].image.as_deref(), Some("registry.example/library/nginx"));
        assert_eq!((found[1].engine, found[1].pid), ("cri-o", None));
        assert_eq!(found[1].names, ["k8s_api", "api"]);
    }

    #[test]
    fn docker_keeps_a_file_for_each() {
        let root = tempfile::tempdir().unwrap();
        write(
            &root.path().join("cc/config.v2.json"),
            r#"{"ID":"cc","Name":"/db","State":{"Pid":12},"Config":{"Image":"postgres","Labels":{}}}"#,
        );
        write(&root.path().join("dd/config.v2.json"), r#"{"ID":"dd","Name":"/off","State":{"Pid":0}}"#);
        write(&root.path().join("ee/config.v2.json"), "not JSON");
        let mut found = docker(root.path());
        found.sort_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].names[0].as_str(), found[0].pid), ("db", Some(12)));
        assert_eq!((found[1].names[0].as_str(), found[1].pid), ("off", None));
    }

    #[test]
    fn containerd_annotates_its_bundles() {
        let root = tempfile::tempdir().unwrap();
        write(
            &root.path().join("k8s.io/ff/config.json"),
            r#"{"annotations":{"io.kubernetes.cri.container-name":"web","io.kubernetes.cri.sandbox-name":"web-1",
                "io.kubernetes.cri.sandbox-namespace":"prod","io.kubernetes.cri.sandbox-uid":"u1"}}"#,
        );
        write(&root.path().join("k8s.io/ff/init.pid"), "99");
        let found = containerd(root.path(), &|_| true);
        assert!(containerd(root.path(), &|_| false).is_empty());
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].names[0].as_str(), found[0].pid), ("web", Some(99)));
        let pod = found[0].pod.as_ref().unwrap();
        assert_eq!(
            (pod.uid.as_str(), pod.name.as_deref(), pod.namespace.as_deref()),
            ("u1", Some("web-1"), Some("prod"))
        );
        assert!(found[0].is_called("prod/web-1/web") && found[0].is_called("web"));
        assert!(!found[0].is_called("prod/web-2/web") && !found[0].is_called("web-1/web"));
    }

    #[test]
    fn the_runtimes_own_state() {
        let root = tempfile::tempdir().unwrap();
        let bundle = root.path().join("bundle");
        write(&bundle.join("config.json"), r#"{"annotations":{"nerdctl/name":"job"}}"#);
        let state = format!(
            r#"{{"id":"gg","init_process_pid":77,"config":{{"labels":["bundle={}"]}}}}"#,
            bundle.display()
        );
        write(&root.path().join("runc/gg/state.json"), &state);
        write(&root.path().join("runc/hh/status"), r#"{"pid":78,"bundle":"/nowhere"}"#);
        let mut found = runtime(&root.path().join("runc"), "runc");
        found.sort_by(|a, b| a.id.cmp(&b.id));
        assert_eq!((found[0].pid, found[0].names.as_slice()), (Some(77), &["job".to_owned()][..]));
        assert_eq!((found[1].pid, found[1].names.len()), (Some(78), 0));
        let more = Known { id: "gg".into(), names: vec!["other".into()], ..Known::default() };
        let joined = joined(found.into_iter().chain([more]).collect());
        assert_eq!(joined.len(), 2);
        assert_eq!(joined[0].names, ["job", "other"]);
    }
}
