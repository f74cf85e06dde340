//! A component's own manifest, patched: the static pod as the kubelet is to start it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::model::Arrangement;
use super::mounts::{Mount, capabilities_of, gains, mountable, mounts_of};
use super::parts::{comment, emitted, file_name};
use crate::RawText;
use crate::emit::{Emitted, PatchError, documents, pod_path};
use crate::paths::is_at_or_below;

/// The manifest of a component.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Name of its file.
    file: String,
    /// The whole object.
    object: Value,
    /// Keys from the object to the pod's specification.
    path: &'static [&'static str],
    /// Which of the containers is the component's.
    container: usize,
}

impl Pod {
    /// Reads a manifest of one object; among several containers the component's is called as it is.
    ///
    /// # Errors
    /// When it is not YAML, runs no pod, or it is not clear which container is meant.
    pub fn read(file: &str, text: &str, component: &str) -> Result<Self, PatchError> {
        let all = documents(text)?;
        let found = all.into_iter().find_map(|object| Some((pod_path(&object)?, object)));
        let (path, object) = found.ok_or(PatchError::NoWorkload)?;
        let pod = path.iter().fold(&object, |value, key| &value[*key]);
        let names: Vec<&str> = containers(pod).map(name_of).collect();
        let called = names.iter().position(|name| *name == component);
        let container = match (names.len(), called) {
            (0, _) => return Err(PatchError::NoWorkload),
            (1, _) => 0,
            (_, Some(called)) => called,
            _ => return Err(PatchError::NoContainer(component.to_owned(), names.join(", "))),
        };
        Ok(Self { file: file.to_owned(), object, path, container })
    }

    /// What its object is called.
    pub(super) fn name(&self) -> &str {
        name_of(&self.object["metadata"])
    }

    /// Its namespace, if it names one.
    pub(super) fn namespace(&self) -> Option<&str> {
        self.object["metadata"]["namespace"].as_str()
    }

    /// Kind of the object, with its API.
    pub(super) fn kind(&self) -> (&str, &str) {
        (self.object["apiVersion"].as_str().unwrap_or("v1"), self.object["kind"].as_str().unwrap_or("Pod"))
    }

    /// Keys from the object to the pod's specification.
    pub(super) fn path(&self) -> &'static [&'static str] {
        self.path
    }

    /// The name of the component's container.
    pub(super) fn container_name(&self) -> &str {
        containers(self.spec()).nth(self.container).map_or("", name_of)
    }

    /// Whether a path is mounted by the manifest itself, so that it can be written where it has to be.
    pub(super) fn mounts(&self, path: &RawText, mount: &Mount) -> bool {
        let container = containers(self.spec()).nth(self.container).unwrap_or(&Value::Null);
        list(container, "volumeMounts").any(|own| {
            let writable = own["readOnly"] != true;
            covers(own, path) && (mount.read_only || writable)
        })
    }

    fn spec(&self) -> &Value {
        self.path.iter().fold(&self.object, |value, key| &value[*key])
    }

    /// The manifest with the component's user, groups and mounts, and without what it has no need of.
    pub(super) fn patched(&self, arrangement: &Arrangement, component: usize) -> Emitted {
        let mut object = self.object.clone();
        let spec = self.path.iter().fold(&mut object, |value, key| &mut value[*key]);
        let groups: BTreeSet<u64> = list(&spec["securityContext"], "supplementalGroups")
            .filter_map(Value::as_u64)
            .chain(arrangement.groups_of(component).map(|group| u64::from(group.gid)))
            .collect();
        if !groups.is_empty() {
            field(spec, "securityContext")["supplementalGroups"] = groups.into_iter().collect();
        }
        let mounts = mounts_of(arrangement, component);
        let wanted: Vec<(&RawText, &Mount)> =
            mounts.iter().filter(|(path, mount)| !self.mounts(path, mount)).collect();
        // The container's own, as KEP-2568 has it: other containers of the pod are not looked at, and stay who they are.
        let context = field(&mut spec["containers"][self.container], "securityContext");
        if let Some(fields) = context.as_object_mut() {
            fields.remove("privileged");
        }
        context["runAsNonRoot"] = true.into();
        if let Some(user) = arrangement.users.get(component) {
            context["runAsUser"] = user.uid.into();
            context["runAsGroup"] = user.gid.into();
        }
        context["seccompProfile"] = json!({ "type": "RuntimeDefault" });
        context["allowPrivilegeEscalation"] = (!gains(arrangement, component).is_empty()).into();
        let mut capabilities = json!({ "drop": ["ALL"] });
        let kept = capabilities_of(arrangement, component);
        if !kept.is_empty() {
            capabilities["add"] = kept.into();
        }
        context["capabilities"] = capabilities;
        mount(spec, self.container, &wanted);
        let mut out = String::new();
        comment(
            &mut out,
            0,
            "sysusers.d and tmpfiles.d go to the node first; then this takes the place of its file.",
        );
        // What was read from YAML can be written as YAML.
        out.push_str(&serde_norway::to_string(&object).unwrap_or_default());
        emitted(format!("manifests/{}", file_name(&self.file)), out)
    }
}

/// What the manifest mounts already is made writable; the rest is mounted besides.
fn mount(spec: &mut Value, container: usize, wanted: &[(&RawText, &Mount)]) {
    for (path, mount) in wanted {
        let Some(text) = mountable(path) else { continue };
        let own = spec["containers"][container]["volumeMounts"].as_array_mut();
        let covering = own.and_then(|mounts| mounts.iter_mut().find(|own| covers(own, path)));
        if let Some(covering) = covering {
            covering["readOnly"] = mount.read_only.into();
            continue;
        }
        let taken: BTreeSet<&str> = list(spec, "volumes").map(name_of).collect();
        let name = (1..).map(|n| format!("host-{n}")).find(|name| !taken.contains(name.as_str()));
        let name = name.unwrap_or_default();
        let volume = json!({ "name": name, "hostPath": { "path": text, "type": mount.kind } });
        push(spec, "volumes", volume);
        let mount = json!({ "name": name, "mountPath": text, "readOnly": mount.read_only });
        push(&mut spec["containers"][container], "volumeMounts", mount);
    }
}

fn covers(mount: &Value, path: &RawText) -> bool {
    let at = mount["mountPath"].as_str().unwrap_or_default();
    !at.is_empty() && is_at_or_below(path.as_bytes(), at.as_bytes())
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    list(spec, "containers")
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn name_of(value: &Value) -> &str {
    value["name"].as_str().unwrap_or_default()
}

/// The object in a field, which is made where it is missing.
fn field<'a>(value: &'a mut Value, key: &str) -> &'a mut Value {
    if !value[key].is_object() {
        value[key] = json!({});
    }
    &mut value[key]
}

fn push(value: &mut Value, key: &str, item: Value) {
    match value[key].as_array_mut() {
        Some(items) => items.push(item),
        None => value[key] = json!([item]),
    }
}
