//! A container of a manifest as podman starts it: command, variables, volumes and probes are carried over.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nrtrace_profiles::emit::LISTS;
use nrtrace_profiles::emit::escape::shell;
use serde_json::{Value, json};

use super::manifest::Workload;
use crate::failure::BadInput;

/// What is carried over.
#[derive(Debug, Default)]
pub struct Carried {
    /// Words behind `podman run`.
    pub words: Vec<String>,
    /// A command in the container that tells when it is ready.
    pub ready: Option<String>,
    /// The ports that tell it.
    pub ports: Vec<u16>,
    /// What is not as it would be in a cluster.
    pub notes: Vec<String>,
}

/// Reads a container; what files of Secrets and ConfigMaps hold is written below `files`.
pub fn carried(workload: &Workload, name: &str, files: &Path) -> Result<Carried> {
    let pod = workload.pod();
    let of = |list: &&'static str| pod[*list].as_array().into_iter().flatten();
    let found = LISTS.iter().flat_map(of).find(|container| container["name"] == name);
    let container = found.ok_or_else(|| BadInput(format!("{} has no container {name}", workload.title())))?;
    let image =
        container["image"].as_str().ok_or_else(|| BadInput(format!("container {name} names no image")))?;
    let mut carried = Carried::default();
    let environment = carried.environment(workload, container);
    for (name, value) in &environment {
        carried.words.push(format!("--env={name}={value}"));
    }
    if let Some(directory) = container["workingDir"].as_str() {
        carried.words.push(format!("--workdir={directory}"));
    }
    carried.user(pod, container);
    carried.volumes(workload, container, files)?;
    carried.probe(container);
    let command = words(&container["command"], &environment);
    if !command.is_empty() {
        carried.words.push(format!("--entrypoint={}", json!(command)));
    }
    carried.words.push(image.to_owned());
    carried.words.extend(words(&container["args"], &environment));
    Ok(carried)
}

/// Words, with `$(NAME)` replaced by what variables hold, as the kubelet does it.
fn words(list: &Value, environment: &BTreeMap<String, String>) -> Vec<String> {
    let words = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    words.map(|word| expanded(word, environment)).collect()
}

fn expanded(word: &str, environment: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let named = after.strip_prefix("$(").and_then(|after| after.split_once(')'));
        let known = named.and_then(|(name, behind)| Some((environment.get(name)?, behind)));
        rest = match (known, after.strip_prefix("$$")) {
            (Some((value, behind)), _) => {
                out.push_str(value);
                behind
            }
            (None, Some(behind)) => {
                out.push('$');
                behind
            }
            (None, None) => {
                out.push('$');
                &after[1..]
            }
        };
    }
    out + rest
}

impl Carried {
    fn environment(&mut self, workload: &Workload, container: &Value) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for from in container["envFrom"].as_array().into_iter().flatten() {
            let prefix = from["prefix"].as_str().unwrap_or_default();
            for (key, kind) in [("secretRef", "Secret"), ("configMapRef", "ConfigMap")] {
                let Some(name) = from[key]["name"].as_str() else { continue };
                match data(workload, kind, name) {
                    Some(data) => found.extend(data.into_iter().map(|(key, value)| {
                        (format!("{prefix}{key}"), String::from_utf8_lossy(&value).into_owned())
                    })),
                    None => self
                        .notes
                        .push(format!("{kind} {name} is not in the manifest: its variables are not set")),
                }
            }
        }
        for variable in container["env"].as_array().into_iter().flatten() {
            let Some(name) = variable["name"].as_str() else { continue };
            let value = match variable["value"].as_str() {
                Some(value) => Some(expanded(value, &found)),
                None => of_key(workload, &variable["valueFrom"]),
            };
            match value {
                Some(value) => drop(found.insert(name.to_owned(), value)),
                None if variable["valueFrom"].is_null() => drop(found.insert(name.to_owned(), String::new())),
                None => self
                    .notes
                    .push(format!("the variable {name} is not set: where it comes from is not here")),
            }
        }
        found
    }

    fn user(&mut self, pod: &Value, container: &Value) {
        let id = |key: &str| {
            let own = container["securityContext"][key].as_u64();
            own.or_else(|| pod["securityContext"][key].as_u64())
        };
        if let Some(uid) = id("runAsUser").filter(|uid| *uid != 0) {
            self.words.push(match id("runAsGroup") {
                Some(gid) => format!("--user={uid}:{gid}"),
                None => format!("--user={uid}"),
            });
        }
    }

    fn volumes(&mut self, workload: &Workload, container: &Value, files: &Path) -> Result<()> {
        let volumes = workload.pod()["volumes"].as_array();
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let (Some(name), Some(at)) = (mount["name"].as_str(), mount["mountPath"].as_str()) else {
                continue;
            };
            let volume = volumes.into_iter().flatten().find(|volume| volume["name"] == name);
            let volume = volume.unwrap_or(&Value::Null);
            let sub = mount["subPath"].as_str();
            let mut read_only = mount["readOnly"] == true;
            let kept = |kind: &str| {
                let source = &volume[kind];
                source["secretName"].as_str().or_else(|| source["name"].as_str()).map(str::to_owned)
            };
            let held = match (kept("secret"), kept("configMap")) {
                (Some(name), _) => Some(("Secret", name)),
                (None, Some(name)) => Some(("ConfigMap", name)),
                (None, None) => None,
            };
            let source = if let Some((kind, of)) = held {
                read_only = true;
                let place = files.join(name);
                match data(workload, kind, &of) {
                    Some(data) => written(&place, &data)?,
                    None => {
                        self.notes.push(format!("{kind} {of} is not in the manifest: nothing is in {at}"));
                        written(&place, &BTreeMap::new())?;
                    }
                }
                sub.map_or_else(|| place.clone(), |sub| place.join(sub)).display().to_string()
            } else if let Some(path) = volume["hostPath"]["path"].as_str() {
                sub.map_or_else(|| path.to_owned(), |sub| format!("{path}/{sub}"))
            } else {
                if volume["emptyDir"].is_null() {
                    self.notes.push(format!(
                        "the volume {name} is not here: an empty directory is in its place, at {at}"
                    ));
                }
                // A volume of podman's that is not there is an empty one.
                format!("nrtrace-{}-{name}", std::process::id())
            };
            self.words.push(format!("--volume={source}:{at}{}", if read_only { ":ro" } else { "" }));
        }
        Ok(())
    }

    /// What tells that it is ready.
    fn probe(&mut self, container: &Value) {
        let probe = ["readinessProbe", "startupProbe"]
            .into_iter()
            .map(|key| &container[key])
            .find(|probe| !probe.is_null());
        let Some(probe) = probe else { return };
        let command = words(&probe["exec"]["command"], &BTreeMap::new());
        if !command.is_empty() {
            self.ready = Some(command.iter().map(|word| shell::quoted(word)).collect::<Vec<_>>().join(" "));
        }
        for key in ["httpGet", "tcpSocket", "grpc"] {
            let port = &probe[key]["port"];
            let mut ports = container["ports"].as_array().into_iter().flatten();
            let named =
                || ports.find(|known| known["name"] == *port && port.is_string())?["containerPort"].as_u64();
            self.ports.extend(port.as_u64().or_else(named).and_then(|port| u16::try_from(port).ok()));
        }
    }
}

/// Writes what a Secret or a ConfigMap holds, for everybody to read, as the kubelet does by default.
fn written(directory: &Path, data: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    for (key, value) in data {
        let path = directory.join(key);
        fs::write(&path, value).with_context(|| path.display().to_string())?;
    }
    // Directories of temporary files are their owner's alone.
    for path in [directory.parent().unwrap_or(directory), directory] {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// What a Secret or a ConfigMap of the manifest holds.
fn data(workload: &Workload, kind: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    let object = workload.companions.iter().find(is_it)?;
    let of = |key: &str| object[key].as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().as_bytes().to_vec();
    let encoded = |value: &Value| STANDARD.decode(text(value)).unwrap_or_default();
    let plain = kind == "ConfigMap";
    let data = of("data").map(|(key, value)| (key.clone(), if plain { text(value) } else { encoded(value) }));
    let strings = of("stringData").map(|(key, value)| (key.clone(), text(value)));
    let binary = of("binaryData").map(|(key, value)| (key.clone(), encoded(value)));
    // A key is the name of a file, and no more than that.
    Some(
        data.chain(strings)
            .chain(binary)
            .filter(|(key, _)| !key.contains('/') && !key.starts_with(".."))
            .collect(),
    )
}

/// What a variable takes from a key.
fn of_key(workload: &Workload, from: &Value) -> Option<String> {
    for (key, kind) in [("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")] {
        let source = &from[key];
        if let (Some(name), Some(key)) = (source["name"].as_str(), source["key"].as_str()) {
            let value = data(workload, kind, name)?.remove(key)?;
            return Some(String::from_utf8_lossy(&value).into_owned());
        }
    }
    match from["fieldRef"]["fieldPath"].as_str()? {
        "metadata.name" => Some(workload.name().to_owned()),
        "metadata.namespace" => Some(workload.namespace().unwrap_or("default").to_owned()),
        "status.podIP" | "status.hostIP" => Some("127.0.0.1".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        let object = json!({"kind": "Pod", "metadata": {"name": "web"}, "spec": {
            "securityContext": {"runAsUser": 1000, "runAsGroup": 7},
            "containers": [{"name": "web", "image": "web:1", "workingDir": "/srv", "command": ["/web", "--as=$(USER)", "$$(USER)"],
                "args": ["$(NONE)"], "env": [{"name": "USER", "valueFrom": {"secretKeyRef": {"name": "s", "key": "user"}}},
                    {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}],
                "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"port": "http", "path": "/"}},
                "volumeMounts": [{"name": "s", "mountPath": "/secret"}, {"name": "e", "mountPath": "/empty"},
                    {"name": "h", "mountPath": "/host", "subPath": "part"}, {"name": "d", "mountPath": "/data"}]}],
            "volumes": [{"name": "s", "secret": {"secretName": "s"}}, {"name": "e", "emptyDir": {}},
                {"name": "h", "hostPath": {"path": "/srv/h"}}, {"name": "d", "persistentVolumeClaim": {"claimName": "d"}}]}});
        let secret = json!({"kind": "Secret", "metadata": {"name": "s"}, "data": {"user": "d2Vi"}, "stringData": {"plain": "p"}});
        Workload { object, companions: vec![secret] }
    }

    #[test]
    fn what_the_manifest_says_of_a_container_is_carried_over() {
        let files = tempfile::tempdir().unwrap();
        let carried = carried(&workload(), "web", files.path()).unwrap();
        let (files, own) = (files.path().display(), std::process::id());
        let expected = [
            "--env=USER=web".to_owned(),
            "--workdir=/srv".into(),
            "--user=1000:7".into(),
            format!("--volume={files}/s:/secret:ro"),
            format!("--volume=nrtrace-{own}-e:/empty"),
            "--volume=/srv/h/part:/host".into(),
            format!("--volume=nrtrace-{own}-d:/data"),
            r#"--entrypoint=["/web","--as=web","$(USER)"]"#.into(),
            "web:1".into(),
            "$(NONE)".into(),
        ];
        assert_eq!(carried.words, expected);
        assert_eq!((carried.ports, carried.ready), (vec![8080], None));
        assert_eq!(carried.notes.len(), 2, "{:?}", carried.notes);
        assert_eq!(fs::read_to_string(format!("{files}/s/user")).unwrap(), "web");
        assert_eq!(fs::read_to_string(format!("{files}/s/plain")).unwrap(), "p");
    }

    #[test]
    fn a_probe_by_a_command_is_one_of_the_container() {
        let mut carried = Carried::default();
        carried.probe(&json!({"startupProbe": {"exec": {"command": ["cat", "/it's"]}}}));
        assert_eq!(carried.ready.unwrap(), shell::quoted("cat") + " " + &shell::quoted("/it's"));
    }
}
