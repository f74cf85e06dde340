//! The recorder on a node: the Job of `deploy/`, with a container of it for each container that is watched.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nrtrace_profiles::profile::Profile;
use serde_json::{Value, json};

use super::interrupt;
use super::kubectl::{Error, Kubectl};
use super::made::{LONGEST, Made};
use crate::failure::BadInput;

/// What the recorder is like: how it is confined, what it sees of the node.
const JOB: &str = include_str!("../../../deploy/job.yaml");

/// `sh`: watches the container of `$CONTAINER`, and stays until the profile is fetched. In the background SIGINT is ignored.
const RECORD: &str = r#"
out=/var/lib/nrtrace/$NAME
nrtrace attach --container "$CONTAINER" --wait --name "$NAME" $OPTIONS -o "$out" & pid=$!
echo $pid >"$out.pid"
status=0; wait $pid || status=$?
echo $status >"$out.status"
exec sleep 3600
"#;

/// `sh`: waits for the end of the recording of `$1`, which is asked to end after `$2` tenths of a second, and gives its profile.
const FETCH: &str = r#"
out=/var/lib/nrtrace/$1
n=0
while [ ! -e "$out.status" ] && [ $n -lt 200 ]; do
    [ $n -ne "$2" ] || kill -TERM "$(cat "$out.pid")" 2>/dev/null
    sleep 0.1; n=$((n + 1))
done
[ ! -e "$out/profile.json" ] || cat "$out/profile.json"
"#;
/// Tenths of a second that a recording has to end by itself with its container; one that never began has none to end with.
const ENDS: &str = "30";

/// Between two looks at the recorder.
const LOOK: Duration = Duration::from_millis(300);
/// What the recorder says when nothing can escape it any more.
const WAITS: &str = "nrtrace: waiting for ";

/// What is to be recorded.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The recorder's image.
    pub image: &'a str,
    /// Where it runs.
    pub namespace: &'a str,
    /// The pod of which each container is watched.
    pub pod: (&'a str, &'a str),
    /// The containers.
    pub containers: &'a [String],
    /// The specification of a pod that has to fit on its node.
    pub like: &'a Value,
    /// The node, where it is known.
    pub node: Option<&'a str>,
    /// For whom containers are judged; those that are not named, as `nrtrace attach` does it.
    pub users: &'a BTreeMap<String, String>,
    /// How long its image may take to be there.
    pub timeout: Duration,
}

/// A recorder that waits.
pub struct Recorder<'a> {
    kubectl: &'a Kubectl,
    namespace: String,
    job: String,
    pod: String,
    /// The node that it is on.
    pub node: String,
}

/// The Job.
fn job(wanted: &Wanted<'_>, name: &str) -> Result<Value> {
    let mut job: Value = serde_norway::from_str(JOB).context("the recorder's Job")?;
    job["metadata"] = json!({"name": name, "namespace": wanted.namespace});
    job["spec"]["backoffLimit"] = json!(0);
    job["spec"]["activeDeadlineSeconds"] = json!(LONGEST.as_secs());
    let template = &mut job["spec"]["template"];
    template["metadata"]["labels"]["nrtrace/recorder"] = json!(name);
    let pod = &mut template["spec"];
    if let Some(fields) = pod.as_object_mut() {
        // It is nobody in the API, and where the pod has to be decides on its node.
        fields.remove("serviceAccountName");
        fields.remove("affinity");
    }
    match wanted.node {
        Some(node) => pod["nodeName"] = json!(node),
        None => {
            let like = &wanted.like;
            if !like["affinity"]["nodeAffinity"].is_null() {
                pod["affinity"] = json!({"nodeAffinity": like["affinity"]["nodeAffinity"]});
            }
            for (key, value) in like["nodeSelector"].as_object().into_iter().flatten() {
                pod["nodeSelector"][key] = value.clone();
            }
        }
    }
    let model = pod["containers"][0].clone();
    let (namespace, name) = wanted.pod;
    let each = wanted.containers.iter().map(|container| {
        let mut one = model.clone();
        let user = wanted.users.get(container);
        let options = user.map_or_else(String::new, |user| format!("--target-user {user}"));
        one["name"] = json!(container);
        one["image"] = json!(wanted.image);
        one["command"] = json!(["/bin/sh", "-c", RECORD]);
        one["env"] = json!([
            {"name": "CONTAINER", "value": format!("{namespace}/{name}/{container}")},
            {"name": "NAME", "value": container},
            {"name": "OPTIONS", "value": options},
        ]);
        one.as_object_mut().map(|one| one.remove("envFrom"));
        one
    });
    pod["containers"] = each.collect();
    // The profile is fetched, and stays nowhere.
    for volume in pod["volumes"].as_array_mut().into_iter().flatten() {
        if volume["name"] == "profiles" {
            *volume = json!({"name": "profiles", "emptyDir": {}});
        }
    }
    Ok(job)
}

impl<'a> Recorder<'a> {
    /// Starts it, and waits until it waits.
    pub fn start(kubectl: &'a Kubectl, made: &mut Made, wanted: &Wanted<'_>, number: u32) -> Result<Self> {
        let name = format!("nrtrace-{}-{number}", made.id);
        let mut job = job(wanted, &name)?;
        made.mark(&mut job);
        made.promise_labelled("jobs", wanted.namespace)?;
        kubectl.create(&job, &[])?;
        let begun = Instant::now();
        let mut recorder = Self {
            kubectl,
            namespace: wanted.namespace.to_owned(),
            job: name.clone(),
            pod: String::new(),
            node: String::new(),
        };
        loop {
            let trouble = recorder.look(&name, wanted.containers)?;
            match trouble {
                None => return Ok(recorder),
                Some((why, is_final)) if is_final || begun.elapsed() > wanted.timeout => {
                    bail!("the recorder does not run: {why}")
                }
                Some(_) => interrupt::sleep(LOOK)?,
            }
        }
    }

    /// What it lacks, and whether that is for good.
    fn look(&mut self, name: &str, containers: &[String]) -> Result<Option<(String, bool)>> {
        let selector = format!("nrtrace/recorder={name}");
        let pods =
            self.kubectl.object(&["get", "pods", "--namespace", &self.namespace, "--selector", &selector])?;
        let pod = &pods["items"][0];
        let Some(own) = pod["metadata"]["name"].as_str() else {
            return Ok(Some((self.refused(name)?, false)));
        };
        own.clone_into(&mut self.pod);
        pod["spec"]["nodeName"].as_str().unwrap_or_default().clone_into(&mut self.node);
        if let Some(trouble) = super::follow::trouble(pod) {
            return Ok(Some(trouble));
        }
        for container in containers {
            let arguments = ["logs", &self.pod, "--namespace", &self.namespace, "--container", container];
            let said = match self.kubectl.ask(&arguments, None) {
                Ok(answer) => answer.text,
                Err(Error::Interrupted(interrupted)) => return Err(interrupted.into()),
                // It has not begun.
                Err(_) => return Ok(Some(("it has not begun".into(), false))),
            };
            if !said.contains(WAITS) {
                let last = said.lines().last().unwrap_or("it says nothing").to_owned();
                let over = pod["status"]["phase"] == "Failed" || pod["status"]["phase"] == "Succeeded";
                return Ok(Some((last, over)));
            }
        }
        Ok(None)
    }

    /// Why there is no pod: the Job's own account of it.
    fn refused(&self, name: &str) -> Result<String, Error> {
        let field = format!("involvedObject.name={name}");
        let events = self.kubectl.object(&[
            "get",
            "events",
            "--namespace",
            &self.namespace,
            "--field-selector",
            &field,
        ]);
        let events = match events {
            Err(Error::Interrupted(interrupted)) => return Err(interrupted.into()),
            events => events.unwrap_or_default(),
        };
        let warned =
            events["items"].as_array().into_iter().flatten().filter(|event| event["type"] == "Warning");
        let said = warned.filter_map(|event| event["message"].as_str()).next_back();
        Ok(said.unwrap_or("its Job has no pod").to_owned())
    }

    /// The profile of a container, which goes on running where it `lives`; none where it never began.
    pub fn fetch(&self, container: &str, lives: bool) -> Result<Option<Profile>> {
        let patience = if lives { "0" } else { ENDS };
        let arguments = [
            "exec",
            &self.pod,
            "--namespace",
            &self.namespace,
            "--container",
            container,
            "--",
            "/bin/sh",
            "-c",
            FETCH,
            "sh",
            container,
            patience,
        ];
        let text = self.kubectl.ask_for_long(&arguments)?.text;
        if text.trim().is_empty() {
            return Ok(None);
        }
        let profile = Profile::from_json(&text).with_context(|| format!("the profile of {container}"))?;
        Ok(Some(profile))
    }

    /// Lets it go: its node has other work.
    pub fn end(self) -> Result<()> {
        let words = [
            "delete",
            "job",
            &self.job,
            "--namespace",
            &self.namespace,
            "--ignore-not-found",
            "--wait=false",
        ];
        self.kubectl.ask(&words, None)?;
        Ok(())
    }

    /// What the recorder of a container said last.
    pub fn said(&self, container: &str) -> Option<String> {
        let arguments =
            ["logs", &self.pod, "--namespace", &self.namespace, "--container", container, "--tail=1"];
        let said = self.kubectl.ask(&arguments, None).ok()?.text;
        said.lines().last().map(str::to_owned)
    }
}

/// The recorder's image, or why there is none.
pub fn image(given: Option<&str>) -> Result<&str, BadInput> {
    let missing = || {
        BadInput(
            "a recorder runs on the node: name its image with --recorder-image (deploy/Containerfile builds one), or prove the \
             manifest by podman with --local"
                .into(),
        )
    };
    given.ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorder_is_the_job_of_deploy_with_a_container_for_each() {
        let like = json!({"nodeSelector": {"disk": "ssd"}});
        let wanted = Wanted {
            image: "i:1",
            namespace: "own",
            pod: ("shop", "web-1"),
            containers: &["first".to_owned(), "web".to_owned()],
            like: &like,
            node: None,
            users: &[("web".to_owned(), "7:8".to_owned())].into(),
            timeout: Duration::ZERO,
        };
        let made = job(&wanted, "nrtrace-1-1").unwrap();
        let deployed: Value = serde_norway::from_str(JOB).unwrap();
        let (pod, model) = (&made["spec"]["template"]["spec"], &deployed["spec"]["template"]["spec"]);
        assert_eq!(pod["hostPID"], true);
        assert_eq!(pod["nodeSelector"], json!({"kubernetes.io/os": "linux", "disk": "ssd"}));
        for container in pod["containers"].as_array().unwrap() {
            assert_eq!(container["securityContext"], model["containers"][0]["securityContext"]);
            assert_eq!(container["volumeMounts"], model["containers"][0]["volumeMounts"]);
        }
        assert_eq!(pod["containers"][1]["env"][0]["value"], "shop/web-1/web");
        assert_eq!(pod["containers"][1]["env"][2]["value"], "--target-user 7:8");
        assert!(pod["volumes"].as_array().unwrap().contains(&json!({"name": "profiles", "emptyDir": {}})));
        let there = job(&Wanted { node: Some("n1"), ..wanted }, "x").unwrap();
        assert_eq!(there["spec"]["template"]["spec"]["nodeName"], "n1");
    }
}
