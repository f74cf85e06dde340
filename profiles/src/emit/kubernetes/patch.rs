//! A patch for the user's own manifest: a strategic merge patch, or a kustomization that holds it.

use serde::Deserialize;
use serde_json::Value;

use super::level::Level;
use super::level::Obstacle;
use super::parts::{At, Parts, Present};
use crate::RawText;
use crate::emit::escape::yaml::string;
use crate::emit::page::{Emitted, Page, reason};
use crate::emit::volumes::{self, Volumes};
use crate::grants::{Grants, Unmet};
use crate::paths::is_at_or_below;
use crate::profile::Profile;

/// What to patch, and how.
#[derive(Clone, Debug, Default)]
pub struct Target<'a> {
    /// Text of the manifest: YAML, one document or several.
    pub manifest: &'a str,
    /// Name of the container; needed where the manifest leaves a choice.
    pub container: Option<&'a str>,
    /// Whether to write a kustomization, with the name of the manifest's file for its resources.
    pub kustomize: Option<&'a str>,
    /// Names of the containers that are looked at; empty for the patched one alone.
    pub looked_at: &'a [String],
}

/// A manifest that cannot be patched.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// It is not YAML.
    #[error("the manifest cannot be read: {0}")]
    Malformed(String),
    /// It holds nothing that runs containers.
    #[error("the manifest holds no Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob")]
    NoWorkload,
    /// There are several containers it may be.
    #[error("the manifest has several containers, name one with --container: {0}")]
    Ambiguous(String),
    /// There is none of that name.
    #[error("the manifest has no container {0}; it has: {1}")]
    NoContainer(String, String),
}

/// A container of the manifest.
struct Found<'a> {
    api_version: &'a str,
    kind: &'a str,
    name: &'a str,
    namespace: Option<&'a str>,
    /// Keys from the object to the pod's specification.
    path: &'static [&'static str],
    pod: &'a Value,
    /// Which of the pod's lists holds it.
    list: &'static str,
    container: &'a Value,
}

/// Lists of a pod's containers, in the order in which they start.
pub const LISTS: [&str; 2] = [INIT, MAIN];
const INIT: &str = "initContainers";
const MAIN: &str = "containers";

const WORKLOADS: &[(&str, &[&str])] = &[
    ("Pod", &["spec"]),
    ("Deployment", &["spec", "template", "spec"]),
    ("StatefulSet", &["spec", "template", "spec"]),
    ("DaemonSet", &["spec", "template", "spec"]),
    ("ReplicaSet", &["spec", "template", "spec"]),
    ("ReplicationController", &["spec", "template", "spec"]),
    ("Job", &["spec", "template", "spec"]),
    ("CronJob", &["spec", "jobTemplate", "spec", "template", "spec"]),
];

/// The patch for a container of the manifest.
///
/// # Errors
/// When the manifest cannot be read, or it is not clear which container is meant.
pub fn patch(profile: &Profile, grants: &Grants, target: &Target<'_>) -> Result<Emitted, PatchError> {
    let documents = documents(target.manifest)?;
    let found = choose(&documents, profile, target.container)?;
    let mut volumes = volumes::plan(profile, grants);
    let notes = leave_out_mounted(&mut volumes, &found, grants);
    let host_network = found.pod["hostNetwork"] == true;
    let prefix = prefix(&found);
    let parts = Parts { profile, grants, volumes: &volumes, low_ports: !host_network, prefix: &prefix };
    let mut page = Page::new(&format!(
        "Runs the container {} of {} {} without root.",
        text(found.container, "name"),
        found.kind,
        found.name
    ));
    let how = match target.kustomize {
        Some(_) => "Save as kustomization.yaml beside the manifest; then: kubectl apply -k . (1.21 or later)",
        None => "Apply with: kubectl patch -f MANIFEST --type strategic --patch-file THIS",
    };
    page.comment(how);
    parts.level(&mut page, &obstacles(&found, target.looked_at));
    let depth = match target.kustomize {
        Some(file) => kustomization(&mut page, &found, file),
        None => 0,
    };
    head(&mut page, &found, depth);
    body(&mut page, &parts, &found, depth);
    page.section("On the manifest's own mounts:", notes);
    parts.remarks(&mut page);
    page.section("To change in the program's own configuration:", grants.to_configure().map(reason));
    let unmet: Vec<Unmet> =
        grants.unmet.iter().filter(|unmet| !volumes.met.contains(unmet)).cloned().collect();
    let name = if target.kustomize.is_some() { "kustomization.yaml" } else { "kubernetes-patch.yaml" };
    Ok(page.finish_with(name.into(), &unmet))
}

/// The objects of a manifest; of a list what it holds.
///
/// # Errors
/// When it is not YAML.
pub fn documents(manifest: &str) -> Result<Vec<Value>, PatchError> {
    let mut documents = Vec::new();
    for document in serde_norway::Deserializer::from_str(manifest) {
        let mut value =
            Value::deserialize(document).map_err(|error| PatchError::Malformed(error.to_string()))?;
        read_modes(&mut value);
        match value["items"].as_array() {
            Some(items) if text(&value, "kind").ends_with("List") => documents.extend(items.iter().cloned()),
            _ => documents.push(value),
        }
    }
    Ok(documents)
}

/// Modes are written as octal numbers, which YAML 1.2 takes for text and kubectl, by YAML 1.1, for numbers.
fn read_modes(value: &mut Value) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(read_modes),
        Value::Object(fields) => {
            for (key, value) in fields {
                let octal = value.as_str().filter(|text| text.starts_with('0'));
                let mode = octal.and_then(|text| u32::from_str_radix(text, 8).ok());
                match mode.filter(|_| ["defaultMode", "mode"].contains(&key.as_str())) {
                    Some(mode) => *value = mode.into(),
                    None => read_modes(value),
                }
            }
        }
        _ => {}
    }
}

/// Keys from an object to the specification of its pods; nothing for what runs none.
pub fn pod_path(document: &Value) -> Option<&'static [&'static str]> {
    WORKLOADS.iter().find(|(known, _)| *known == text(document, "kind")).map(|(_, path)| *path)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn containers(documents: &[Value]) -> Vec<Found<'_>> {
    let mut found = Vec::new();
    for document in documents {
        let Some(path) = pod_path(document) else { continue };
        let pod = path.iter().fold(document, |value, key| &value[*key]);
        let of =
            |list: &'static str| pod[list].as_array().into_iter().flatten().map(move |found| (list, found));
        for (list, container) in LISTS.into_iter().flat_map(of) {
            found.push(Found {
                api_version: text(document, "apiVersion"),
                kind: text(document, "kind"),
                name: text(&document["metadata"], "name"),
                namespace: document["metadata"]["namespace"].as_str(),
                path,
                pod,
                list,
                container,
            });
        }
    }
    found
}

/// The container that is named, or the only one, or the one that is named after the program.
fn choose<'a>(
    documents: &'a [Value],
    profile: &Profile,
    wanted: Option<&str>,
) -> Result<Found<'a>, PatchError> {
    let mut all = containers(documents);
    let names: Vec<&str> = all.iter().map(|found| text(found.container, "name")).collect();
    let listed = names.join(", ");
    if all.is_empty() {
        return Err(PatchError::NoWorkload);
    }
    let image = |found: &Found<'_>| {
        let image = text(found.container, "image");
        let last = image.rsplit('/').next().unwrap_or_default();
        last.split([':', '@']).next().unwrap_or_default().to_owned()
    };
    let mains: Vec<usize> =
        all.iter().enumerate().filter(|(_, found)| found.list == MAIN).map(|(at, _)| at).collect();
    let named = |name: &str| -> Vec<usize> {
        all.iter().enumerate().filter(|(_, f)| text(f.container, "name") == name).map(|(at, _)| at).collect()
    };
    let candidates = match wanted {
        Some(name) => {
            let found = named(name);
            if found.is_empty() {
                return Err(PatchError::NoContainer(name.to_owned(), listed));
            }
            found
        }
        // One that only prepares is meant where it is named.
        None if mains.len() == 1 => mains,
        None => {
            let mut found = named(&profile.name);
            let images = all.iter().enumerate().filter(|(_, f)| image(f) == profile.name).map(|(at, _)| at);
            found.extend(images);
            found.sort_unstable();
            found.dedup();
            found
        }
    };
    match candidates[..] {
        [only] => Ok(all.swap_remove(only)),
        _ => Err(PatchError::Ambiguous(listed)),
    }
}

/// Leaves out volumes where the manifest mounts something already, and says what that takes.
fn leave_out_mounted(volumes: &mut Volumes, found: &Found<'_>, grants: &Grants) -> Vec<String> {
    let mut notes = Vec::new();
    let empty = Vec::new();
    let mounts = found.container["volumeMounts"].as_array().unwrap_or(&empty);
    volumes.mounts.retain(|path, _| {
        let covering = mounts.iter().find(|mount| {
            let at = RawText::from(text(mount, "mountPath").trim_end_matches('/'));
            is_at_or_below(path.as_bytes(), at.as_bytes())
        });
        let Some(mount) = covering else { return true };
        notes.push(note(path, mount, found, grants));
        false
    });
    notes
}

fn note(path: &RawText, mount: &Value, found: &Found<'_>, grants: &Grants) -> String {
    let name = text(mount, "name");
    let all = found.pod["volumes"].as_array();
    let volume = all.into_iter().flatten().find(|volume| text(volume, "name") == name);
    let has = |kind: &str| volume.is_some_and(|volume| !volume[kind].is_null());
    let (uid, gid) = (grants.account.run_uid, grants.account.run_gid);
    let what = if has("hostPath") {
        let host = volume.map(|volume| text(&volume["hostPath"], "path")).unwrap_or_default();
        let what = match volumes::given_on_host(&RawText::from(host), true) {
            Ok(()) => format!("on the node: chown {uid}:{gid} {host}"),
            Err(why) => format!("nothing is given away there: {why}"),
        };
        format!("hostPath {host}: fsGroup has no effect on it; {what}")
    } else if has("configMap") || has("secret") || has("projected") {
        "read-only by its nature: the program cannot write there".into()
    } else {
        format!("fsGroup {gid} makes it writable")
    };
    let read_only = if mount["readOnly"] == true { "; it is mounted readOnly, which has to go" } else { "" };
    format!("{path} is on the manifest's volume {name}: {what}{read_only}")
}

/// What the names of its volumes begin with: where other containers have such volumes, its own name, too.
fn prefix(found: &Found<'_>) -> String {
    let plain = "nonroot-";
    let own = text(found.container, "name");
    let of = |list: &&'static str| found.pod[*list].as_array().into_iter().flatten();
    let others = LISTS.iter().flat_map(of).filter(|container| text(container, "name") != own);
    let mut mounts = others.flat_map(|other| other["volumeMounts"].as_array().into_iter().flatten());
    if mounts.any(|mount| text(mount, "name").starts_with(plain)) {
        // A name has 63 characters at the most, and what prepares it has a longer one.
        return format!("{plain}{}-", own.chars().take(30).collect::<String>());
    }
    plain.to_owned()
}

fn obstacles(found: &Found<'_>, looked_at: &[String]) -> Vec<Obstacle> {
    let mut out = Vec::new();
    let mut add = |leaves, text: &str| out.push(Obstacle { leaves, text: text.to_owned() });
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        if found.pod[key] == true {
            add(Level::Privileged, &format!("the manifest has {key}"));
        }
    }
    let volumes = found.pod["volumes"].as_array();
    if volumes.into_iter().flatten().any(|volume| !volume["hostPath"].is_null()) {
        add(Level::Privileged, "the manifest mounts a hostPath");
    }
    let own = text(found.container, "name");
    let is_seen = |name: &str| name == own || looked_at.iter().any(|seen| seen == name);
    let of = |list: &&'static str| found.pod[*list].as_array().into_iter().flatten();
    if LISTS.iter().flat_map(of).any(|container| !is_seen(text(container, "name"))) {
        add(Level::Baseline, "the pod's other containers are not looked at here");
    }
    out
}

/// Begins a kustomization; how deep the patch is indented in it.
fn kustomization(page: &mut Page, found: &Found<'_>, file: &str) -> usize {
    page.line("apiVersion: kustomize.config.k8s.io/v1beta1");
    page.line("kind: Kustomization");
    page.line("resources:");
    page.line(&format!("  - {}", string(file)));
    page.line("patches:");
    page.line("  - target:");
    page.line(&format!("      kind: {}", string(found.kind)));
    page.line(&format!("      name: {}", string(found.name)));
    page.line("    patch: |-");
    6
}

fn head(page: &mut Page, found: &Found<'_>, depth: usize) {
    let mut put = |text: &str| page.line(&format!("{:depth$}{text}", ""));
    put(&format!("apiVersion: {}", string(found.api_version)));
    put(&format!("kind: {}", string(found.kind)));
    put("metadata:");
    put(&format!("  name: {}", string(found.name)));
    if let Some(namespace) = found.namespace {
        put(&format!("  namespace: {}", string(namespace)));
    }
}

fn body(page: &mut Page, parts: &Parts<'_>, found: &Found<'_>, depth: usize) {
    for (n, key) in found.path.iter().enumerate() {
        page.line(&format!("{:width$}{key}:", "", width = depth + 2 * n));
    }
    let at = depth + 2 * found.path.len();
    let present = present(found);
    parts.pod_context(page, At(at), &present, false);
    let prepared = parts.init_containers(page, At(at), &string(text(found.container, "image")));
    if found.list == MAIN || prepared.is_empty() {
        page.line(&format!("{:at$}{}:", "", found.list));
    }
    page.line(&format!("{:at$}  - name: {}", "", string(text(found.container, "name"))));
    parts.environment(page, At(at + 4));
    parts.container_context(page, At(at + 4), true, &present);
    parts.mounts(page, At(at + 4));
    if found.list == INIT && !prepared.is_empty() {
        // What a patch adds would come last, and this has to be done before.
        page.line(&format!("{:at$}$setElementOrder/{INIT}:", ""));
        let own = text(found.container, "name");
        let all = found.pod[INIT].as_array().into_iter().flatten().map(|container| text(container, "name"));
        let kept = all.filter(|name| prepared.iter().all(|own| own != name));
        let order = kept.flat_map(|name| {
            let before = prepared.iter().filter(move |_| name == own).map(String::as_str);
            before.chain([name]).collect::<Vec<_>>()
        });
        order.for_each(|name| page.line(&format!("{:at$}  - name: {}", "", string(name))));
    }
    parts.volumes(page, At(at));
}

fn present(found: &Found<'_>) -> Present {
    let pod = &found.pod["securityContext"];
    let container = &found.container["securityContext"];
    let sysctls = pod["sysctls"].as_array();
    Present {
        groups: pod["supplementalGroups"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
            .collect(),
        sysctls: sysctls
            .into_iter()
            .flatten()
            .map(|sysctl| (text(sysctl, "name").to_owned(), text(sysctl, "value").to_owned()))
            .collect(),
        privileged: container["privileged"] == true,
        adds: container["capabilities"]["add"].as_array().is_some_and(|add| !add.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal() {
        let text = "spec: {volumes: [{secret: {defaultMode: 0400, items: [{key: a, mode: 256}]}}, {name: \"0400\"}]}";
        let read = documents(text).unwrap();
        let volumes = &read[0]["spec"]["volumes"];
        assert_eq!(
            (&volumes[0]["secret"]["defaultMode"], &volumes[1]["name"]),
            (&256.into(), &"0400".into())
        );
        assert_eq!(volumes[0]["secret"]["items"][0]["mode"], 256);
    }
}
