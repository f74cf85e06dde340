//! Containers by the control groups that their runtimes make.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::cgroup::{self, Group};

/// Digits of a container's id.
const DIGITS: usize = 64;

/// What a control group says of the container it was made for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sign {
    /// The container's id.
    pub id: String,
    /// Who runs it.
    pub engine: Option<&'static str>,
    /// Uid of its pod.
    pub pod: Option<String>,
}

/// How an engine calls the control group of a container: what stands before and behind the id.
struct Row(&'static str, &'static str, Option<&'static str>);

/// One row for each engine and cgroup manager. Monitors have groups of their own, `libpod-conmon-ID.scope` and
/// `crio-conmon-ID.scope`, which fit none.
const ROWS: [Row; 8] = [
    Row("libpod-", ".scope", Some("podman")),
    Row("libpod-", "", Some("podman")),
    Row("docker-", ".scope", Some("docker")),
    Row("cri-containerd-", ".scope", Some("containerd")),
    Row("crio-", ".scope", Some("cri-o")),
    Row("crio-", "", Some("cri-o")),
    Row("nerdctl-", ".scope", Some("containerd")),
    // The cgroupfs managers of docker, containerd and Kubernetes.
    Row("", "", None),
];

/// Engines that keep their containers below a group of this name.
const PARENTS: [(&str, &str); 2] = [("docker", "docker"), ("libpod_parent", "podman")];

/// Reads the path of a control group, as `/proc/PID/cgroup` has it: the innermost container in it.
pub fn sign(path: &str) -> Option<Sign> {
    let parts: Vec<&str> = path.split('/').collect();
    let (at, id, engine) = parts.iter().enumerate().rev().find_map(|(at, part)| {
        // A prefix of systemd's CRI: `kubepods-…-cri-containerd:NAME:ID` where a manager was misconfigured.
        let part = part.rsplit(':').next().unwrap_or(part);
        ROWS.iter().find_map(|Row(before, behind, engine)| {
            let id = part.strip_prefix(before)?.strip_suffix(behind)?;
            is_id(id).then_some((at, id, *engine))
        })
    })?;
    let above = &parts[..at];
    let by_parent = || PARENTS.iter().find(|(parent, _)| above.contains(parent)).map(|(_, engine)| *engine);
    Some(Sign {
        id: id.to_owned(),
        engine: engine.or_else(by_parent),
        pod: above.iter().rev().find_map(|part| pod(part)),
    })
}

fn is_id(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The uid in the name of a pod's group: `podUID` below `kubepods`, or `kubepods-burstable-podUID.slice` with the dashes
/// of the uid turned into underscores.
fn pod(part: &str) -> Option<String> {
    let part = part.strip_suffix(".slice").unwrap_or(part);
    let uid = match part.strip_prefix("pod") {
        Some(uid) => uid,
        None => part.strip_prefix("kubepods")?.rsplit_once("-pod")?.1,
    };
    (!uid.is_empty()).then(|| uid.replace('_', "-"))
}

/// The names that the group of a container can have.
pub fn names(id: &str) -> Vec<String> {
    ROWS.iter().map(|Row(before, behind, _)| format!("{before}{id}{behind}")).collect()
}

/// The container that a process is in, as its control groups say.
pub fn of_process(pid: i32) -> Option<Sign> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    cgroup::paths(&text).find_map(sign)
}

/// The control group of the container that a process is in.
pub fn group(pid: i32) -> Option<Group> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = cgroup::paths(&text).find(|path| sign(path).is_some())?;
    Group::at(Path::new(path)).ok()
}

/// All containers that have processes, by id.
pub fn running() -> BTreeMap<String, (Sign, Vec<i32>)> {
    let mut found: BTreeMap<String, (Sign, Vec<i32>)> = BTreeMap::new();
    for pid in super::process::all() {
        if let Some(sign) = of_process(pid) {
            found.entry(sign.id.clone()).or_insert_with(|| (sign, Vec::new())).1.push(pid);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn each_engine_and_manager_is_known() {
        let uid = "6a1f0c9e-7b9d-4f4e-9f1e-0123456789ab";
        let slice = uid.replace('-', "_");
        let cases = [
            (format!("/machine.slice/libpod-{ID}.scope"), Some("podman"), None),
            (format!("/machine.slice/libpod-{ID}.scope/container"), Some("podman"), None),
            (format!("/libpod_parent/libpod-{ID}"), Some("podman"), None),
            (
                format!(
                    "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/init.scope"
                ),
                Some("podman"),
                None,
            ),
            (format!("/system.slice/docker-{ID}.scope"), Some("docker"), None),
            (format!("/docker/{ID}"), Some("docker"), None),
            (format!("/docker/{ID}/system.slice/nginx.service"), Some("docker"), None),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice/cri-containerd-{ID}.scope"
                ),
                Some("containerd"),
                Some(uid),
            ),
            (format!("/kubepods.slice/kubepods-pod{slice}.slice/crio-{ID}.scope"), Some("cri-o"), Some(uid)),
            (format!("/kubepods/besteffort/pod{uid}/{ID}"), None, Some(uid)),
            (format!("/kubepods/pod{uid}/crio-{ID}"), Some("cri-o"), Some(uid)),
            (
                format!(
                    "/system.slice/containerd.service/kubepods-burstable-pod{slice}.slice:cri-containerd:{ID}"
                ),
                None,
                None,
            ),
            (format!("/default/{ID}"), None, None),
            (format!("/user.slice/nerdctl-{ID}.scope"), Some("containerd"), None),
            // A container in a container: the inner one.
            (format!("/docker/{}/docker/{ID}", ID.replace('0', "f")), Some("docker"), None),
        ];
        for (path, engine, pod) in cases {
            let found = sign(&path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!((found.id.as_str(), found.engine), (ID, engine), "{path}");
            assert_eq!(found.pod.as_deref(), pod, "{path}");
        }
    }

    #[test]
    fn what_is_no_container_is_none() {
        let short = &ID[..63];
        for path in [
            "/",
            "/system.slice/nginx.service",
            &format!("/machine.slice/libpod-conmon-{ID}.scope"),
            &format!("/system.slice/crio-conmon-{ID}.scope"),
            &format!("/docker/{short}"),
            &format!("/docker/{}", ID.to_uppercase()),
        ] {
            assert_eq!(sign(path), None, "{path}");
        }
    }

    #[test]
    fn every_name_leads_back_to_the_id() {
        for name in names(ID) {
            assert_eq!(sign(&format!("/{name}")).map(|found| found.id).as_deref(), Some(ID), "{name}");
        }
    }
}
