//! The object that pods are made from: of a file, or of the cluster.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use nrtrace_profiles::emit::{LISTS, PatchError, documents, pod_path};
use serde_json::{Value, json};

use super::storage::Storage;
use crate::failure::BadInput;
use crate::input;

/// What a manifest can hold: far more than an API server takes as one object.
const LARGEST: u64 = 16 << 20;
/// Seconds that a copy has to end.
const GRACE: u32 = 2;
/// What pods name and a manifest may hold beside them.
const COMPANIONS: [&str; 3] = ["Secret", "ConfigMap", "PersistentVolumeClaim"];

/// What runs pods.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The whole object.
    pub object: Value,
    /// What the file holds beside it that pods name.
    pub companions: Vec<Value>,
}

impl Workload {
    /// That of a file, or of standard input for `-`.
    pub fn of_file(path: &Path, container: Option<&str>) -> Result<Self> {
        let text = input::text(path, LARGEST)?;
        let named = |error: PatchError| BadInput(format!("{}: {error}", path.display()));
        let all = documents(&text).map_err(named)?;
        let mut found: Vec<&Value> = all.iter().filter(|document| pod_path(document).is_some()).collect();
        if let (Some(name), 2..) = (container, found.len()) {
            found.retain(|document| names(document).iter().any(|known| known == name));
        }
        match found[..] {
            [only] => {
                let is_companion = |document: &&Value| COMPANIONS.contains(&text_of(document, "kind"));
                let companions = all.iter().filter(is_companion).cloned().collect();
                Ok(Self { object: only.clone(), companions })
            }
            [] => Err(named(PatchError::NoWorkload).into()),
            _ => {
                let several: Vec<String> = found.iter().map(|document| title(document)).collect();
                let message = format!(
                    "{}: which of {} is meant? Name a container that only one has with --container",
                    path.display(),
                    several.join(", ")
                );
                Err(BadInput(message).into())
            }
        }
    }

    /// That of an object of the cluster, without what the API server adds.
    pub fn of_object(mut object: Value) -> Result<Self> {
        if pod_path(&object).is_none() {
            return Err(BadInput(format!("{}: {}", title(&object), PatchError::NoWorkload)).into());
        }
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
        }
        let kept = ["name", "namespace", "labels", "annotations"];
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|key, _| kept.contains(&key.as_str()));
            if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.retain(|key, _| {
                    !key.starts_with("kubectl.kubernetes.io/")
                        && !key.starts_with("deployment.kubernetes.io/")
                });
            }
        }
        let mut workload = Self { object, companions: Vec::new() };
        if text_of(&workload.object, "kind") == "Pod" {
            without_admitted(workload.pod_mut());
        }
        Ok(workload)
    }

    /// The object, for people: `Deployment web`.
    pub fn title(&self) -> String {
        title(&self.object)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or("pod")
    }

    /// The namespace that it names.
    pub fn namespace(&self) -> Option<&str> {
        self.object["metadata"]["namespace"].as_str()
    }

    /// The specification of its pods.
    pub fn pod(&self) -> &Value {
        pod_path(&self.object).into_iter().flatten().fold(&self.object, |value, key| &value[*key])
    }

    fn pod_mut(&mut self) -> &mut Value {
        let path = pod_path(&self.object).unwrap_or_default();
        path.iter().fold(&mut self.object, |value, key| &mut value[*key])
    }

    /// As YAML.
    pub fn text(&self) -> Result<String> {
        serde_norway::to_string(&self.object).context("an object that YAML cannot hold")
    }

    /// The containers of its pods in the order in which they start, or the one that is named.
    pub fn containers(&self, wanted: Option<&str>) -> Result<Vec<String>> {
        let all = names(&self.object);
        let listed = all.join(", ");
        match wanted {
            None if all.is_empty() => Err(BadInput(format!("{} has no containers", self.title())).into()),
            None => Ok(all),
            Some(name) => {
                let found: Vec<String> = all.into_iter().filter(|known| known == name).collect();
                match found.is_empty() {
                    true => Err(BadInput(PatchError::NoContainer(name.into(), listed).to_string()).into()),
                    false => Ok(found),
                }
            }
        }
    }

    /// The image of a container.
    pub fn image(&self, container: &str) -> Option<&str> {
        let of = |list: &&'static str| self.pod()[*list].as_array().into_iter().flatten();
        LISTS.iter().flat_map(of).find(|found| found["name"] == container)?["image"].as_str()
    }

    /// The names of the Secrets and ConfigMaps that its pods use, with their kinds.
    pub fn uses(&self) -> BTreeSet<(&'static str, String)> {
        let mut found = BTreeSet::new();
        used(self.pod(), &mut found);
        found
    }
}

/// What is in a list of an object, which may have none.
fn each<'a>(object: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

fn title(object: &Value) -> String {
    format!("{} {}", text_of(object, "kind"), object["metadata"]["name"].as_str().unwrap_or_default())
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The names of its pods' containers, in the order in which they start.
fn names(object: &Value) -> Vec<String> {
    let Some(path) = pod_path(object) else { return Vec::new() };
    let pod = path.iter().fold(object, |value, key| &value[*key]);
    let of = |list: &'static str| pod[list].as_array().into_iter().flatten();
    LISTS.into_iter().flat_map(of).map(|container| text_of(container, "name").to_owned()).collect()
}

/// Wherever a pod names a Secret or a ConfigMap.
fn used(value: &Value, found: &mut BTreeSet<(&'static str, String)>) {
    const FIELDS: [(&str, &str, &str); 8] = [
        ("secret", "secretName", "secret"),
        ("secret", "name", "secret"),
        ("configMap", "name", "configmap"),
        ("secretRef", "name", "secret"),
        ("configMapRef", "name", "configmap"),
        ("secretKeyRef", "name", "secret"),
        ("configMapKeyRef", "name", "configmap"),
        ("imagePullSecrets", "name", "secret"),
    ];
    match value {
        Value::Array(all) => all.iter().for_each(|value| used(value, found)),
        Value::Object(fields) => {
            for (key, value) in fields {
                for (_, name, kind) in FIELDS.iter().filter(|(field, ..)| field == key) {
                    let of = |value: &Value| value[*name].as_str().map(|name| (*kind, name.to_owned()));
                    found.extend(of(value));
                    found.extend(value.as_array().into_iter().flatten().filter_map(of));
                }
                used(value, found);
            }
        }
        _ => {}
    }
}

/// Takes away what admission has added to a pod of the cluster.
fn without_admitted(pod: &mut Value) {
    let is_token = |name: &Value| name.as_str().is_some_and(|name| name.starts_with("kube-api-access-"));
    if let Some(fields) = pod.as_object_mut() {
        for key in ["nodeName", "priority", "preemptionPolicy", "serviceAccount", "ephemeralContainers"] {
            fields.remove(key);
        }
    }
    if let Some(volumes) = pod.get_mut("volumes").and_then(Value::as_array_mut) {
        volumes.retain(|volume| !is_token(&volume["name"]));
    }
    for list in LISTS {
        for container in each(pod, list) {
            if let Some(mounts) = container.get_mut("volumeMounts").and_then(Value::as_array_mut) {
                mounts.retain(|mount| !is_token(&mount["name"]));
            }
        }
    }
}

/// What the containers of a copy may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// What those of the pod may.
    Own,
    /// Also write to the image's files as far as these let them: a refusal there tells more than one of the whole.
    Writable,
    /// What root may.
    Root,
}

/// How a copy of a pod differs from the pod.
#[derive(Clone, Debug)]
pub struct Copy<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Where it is.
    pub namespace: &'a str,
    /// The node that it has to be on.
    pub node: Option<&'a str>,
    /// What it has an empty directory in the place of.
    pub without: &'a BTreeSet<Storage>,
    /// Whether it is out of the pod's own namespace, and away from its service account.
    pub away: bool,
    /// What its containers may do.
    pub rights: Rights,
    /// Seconds after which it ends by itself.
    pub longest: u64,
}

impl Workload {
    /// A pod like its pods, that no controller and no Service takes for one of theirs. It is started once.
    pub fn copy(&self, copy: &Copy<'_>) -> Value {
        let mut pod = self.pod().clone();
        if let Some(fields) = pod.as_object_mut() {
            for key in [
                "nodeName",
                "schedulingGates",
                "readinessGates",
                "topologySpreadConstraints",
                "schedulerName",
            ] {
                fields.remove(key);
            }
            if copy.away {
                for key in ["serviceAccountName", "serviceAccount", "priorityClassName"] {
                    fields.remove(key);
                }
            }
        }
        pod["restartPolicy"] = json!("Never");
        pod["activeDeadlineSeconds"] = json!(copy.longest);
        // Nothing is watched of its end.
        pod["terminationGracePeriodSeconds"] = json!(GRACE);
        if let Some(node) = copy.node {
            pod["affinity"] = pinned(&pod["affinity"], node);
        }
        self.with_volumes(&mut pod, copy);
        for list in LISTS {
            for container in each(&mut pod, list) {
                as_a_copy(container, copy.rights);
            }
        }
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": copy.name, "namespace": copy.namespace},
            "spec": pod,
        })
    }

    /// Empty directories in place of what the copy does not have.
    fn with_volumes(&self, pod: &mut Value, copy: &Copy<'_>) {
        let templates = self.object["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten();
        let made: Vec<Value> =
            templates.map(|claim| json!({"name": claim["metadata"]["name"], "emptyDir": {}})).collect();
        if !made.is_empty() {
            match pod.get_mut("volumes").and_then(Value::as_array_mut) {
                Some(volumes) => volumes.extend(made),
                None => pod["volumes"] = Value::Array(made),
            }
        }
        for volume in each(pod, "volumes") {
            let is_without = Storage::of(volume).is_some_and(|storage| {
                copy.without.contains(&storage) || (copy.away && matches!(storage, Storage::Claim(_)))
            });
            if is_without || !volume["ephemeral"].is_null() {
                *volume = json!({"name": volume["name"], "emptyDir": {}});
            }
        }
    }
}

/// A port of the node is the pod's own.
fn as_a_copy(container: &mut Value, rights: Rights) {
    for port in each(container, "ports") {
        port.as_object_mut().map(|port| port.remove("hostPort"));
    }
    match rights {
        Rights::Own => {}
        Rights::Writable => container["securityContext"]["readOnlyRootFilesystem"] = json!(false),
        Rights::Root => {
            container["securityContext"]["runAsUser"] = json!(0);
            container["securityContext"]["runAsNonRoot"] = json!(false);
        }
    }
}

/// The affinity that leaves one node, of those that there were.
fn pinned(affinity: &Value, node: &str) -> Value {
    let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = affinity["nodeAffinity"][required]["nodeSelectorTerms"].as_array();
    let mut terms = terms.cloned().unwrap_or_else(|| vec![json!({})]);
    for term in &mut terms {
        match term.get_mut("matchFields").and_then(Value::as_array_mut) {
            Some(fields) => fields.push(field.clone()),
            None => term["matchFields"] = json!([field]),
        }
    }
    json!({"nodeAffinity": {required: {"nodeSelectorTerms": terms}}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        let object = json!({"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": {"spec": {
            "serviceAccountName": "web", "restartPolicy": "Always",
            "initContainers": [{"name": "first"}, {"name": "side", "restartPolicy": "Always"}],
            "containers": [{"name": "web", "ports": [{"containerPort": 80, "hostPort": 80}],
                "envFrom": [{"secretRef": {"name": "env"}}],
                "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "a"}}}]}],
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [{"name": "s", "secret": {"secretName": "tls"}},
                {"name": "p", "projected": {"sources": [{"secret": {"name": "part"}}]}},
                {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}],
        }}}});
        Workload { object, companions: Vec::new() }
    }

    #[test]
    fn containers_come_in_the_order_of_their_start() {
        let all = workload().containers(None).unwrap();
        assert_eq!(all, ["first", "side", "web"]);
        assert_eq!(workload().containers(Some("side")).unwrap().len(), 1);
        let refused = workload().containers(Some("db")).unwrap_err().to_string();
        assert!(refused.contains("no container db") && refused.contains("first, side, web"), "{refused}");
    }

    #[test]
    fn all_that_a_pod_names_is_found() {
        let named = |kind, name: &str| (kind, name.to_owned());
        let expected = [
            named("configmap", "map"),
            named("secret", "env"),
            named("secret", "part"),
            named("secret", "pull"),
            named("secret", "tls"),
        ];
        assert_eq!(workload().uses(), expected.into());
    }

    #[test]
    fn a_copy_is_nobody_elses_and_started_once() {
        let without = BTreeSet::new();
        let copy = Copy {
            name: "c",
            namespace: "n",
            node: Some("node-1"),
            without: &without,
            away: false,
            rights: Rights::Own,
            longest: 9,
        };
        let made = workload().copy(&copy);
        assert_eq!(made["spec"]["restartPolicy"], "Never");
        assert_eq!(made["spec"]["serviceAccountName"], "web");
        assert!(made["metadata"]["labels"].is_null());
        assert!(made["spec"]["containers"][0]["ports"][0]["hostPort"].is_null());
        assert_eq!(made["spec"]["volumes"][2]["persistentVolumeClaim"]["claimName"], "data");
        let spared = [Storage::Claim("data".into())].into();
        let spares = workload().copy(&Copy { without: &spared, ..copy.clone() });
        assert_eq!(spares["spec"]["volumes"][2], json!({"name": "d", "emptyDir": {}}));
        let terms = made.pointer(
            "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms",
        );
        assert_eq!(terms.unwrap()[0]["matchFields"][0]["values"][0], "node-1");
        let away = workload().copy(&Copy { away: true, rights: Rights::Root, ..copy });
        assert_eq!(away["spec"]["volumes"][2], json!({"name": "d", "emptyDir": {}}));
        assert!(away["spec"]["serviceAccountName"].is_null());
        assert_eq!(away["spec"]["initContainers"][0]["securityContext"]["runAsUser"], 0);
    }

    #[test]
    fn of_a_living_object_what_its_user_wrote_is_left() {
        let living = json!({"kind": "Pod", "metadata": {"name": "web", "uid": "u", "resourceVersion": "7", "managedFields": []},
            "spec": {"nodeName": "n", "priority": 0, "containers": [{"name": "web", "volumeMounts": [
                {"name": "kube-api-access-x"}, {"name": "d"}]}], "volumes": [{"name": "kube-api-access-x"}, {"name": "d"}]},
            "status": {"phase": "Running"}});
        let read = Workload::of_object(living).unwrap().object;
        let expected = json!({"kind": "Pod", "metadata": {"name": "web"},
            "spec": {"containers": [{"name": "web", "volumeMounts": [{"name": "d"}]}], "volumes": [{"name": "d"}]}});
        assert_eq!(read, expected);
        assert!(Workload::of_object(json!({"kind": "Service", "metadata": {"name": "x"}})).is_err());
    }
}
