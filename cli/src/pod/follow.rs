//! What becomes of a pod.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use super::interrupt;
use super::kubectl::Kubectl;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(300);
/// How long what keeps a container from being made may last: what it names may just be on its way.
const PATIENCE: Duration = Duration::from_secs(15);
/// What it may wait for: an image is fetched, a container made.
const ON_ITS_WAY: [&str; 3] = ["ContainerCreating", "PodInitializing", "Pulling"];

/// How it ended, or what it came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is ready and stays so; after how long.
    Ready(Duration),
    /// It has done its work.
    Done,
    /// It does not run.
    Failed(String),
}

/// Follows a pod until it has been ready for `settle`, or has ended, or `timeout` is over.
pub fn follow(
    kubectl: &Kubectl,
    (namespace, name): (&str, &str),
    settle: Duration,
    timeout: Duration,
) -> Result<Outcome> {
    let begun = Instant::now();
    let (mut ready, mut kept): (Option<Instant>, Option<Instant>) = (None, None);
    loop {
        let pod = kubectl.object(&["get", "pod", name, "--namespace", namespace])?;
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        if phase == "Succeeded" {
            return Ok(Outcome::Done);
        }
        if let Some(why) = ended(&pod) {
            return Ok(Outcome::Failed(why));
        }
        let trouble = trouble(&pod);
        kept = kept.filter(|_| trouble.is_some()).or(trouble.is_some().then(Instant::now));
        if let Some((why, is_final)) = trouble
            && (is_final || kept.is_some_and(|since| since.elapsed() > PATIENCE))
        {
            return Ok(Outcome::Failed(why));
        }
        if is_ready(&pod) {
            let since = *ready.get_or_insert_with(Instant::now);
            if since.elapsed() >= settle {
                return Ok(Outcome::Ready(since - begun));
            }
        } else if ready.take().is_some() {
            return Ok(Outcome::Failed("it was ready, and is no more".into()));
        }
        if begun.elapsed() > timeout && ready.is_none() {
            return Ok(Outcome::Failed(format!(
                "it was not ready after {} s{}",
                timeout.as_secs(),
                unready(&pod)
            )));
        }
        interrupt::sleep(LOOK)?;
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    let of = |list: &str| pod["status"][list].as_array().into_iter().flatten();
    of("initContainerStatuses").chain(of("containerStatuses"))
}

/// A container that has failed, and what is known of its end.
fn ended(pod: &Value) -> Option<String> {
    for status in statuses(pod) {
        let end = &status["state"]["terminated"];
        let name = status["name"].as_str().unwrap_or_default();
        match end["exitCode"].as_i64() {
            Some(code) if code != 0 => {
                let message =
                    end["message"].as_str().map(|text| format!(": {}", text.trim())).unwrap_or_default();
                return Some(format!("its container {name} ended with status {code}{message}"));
            }
            _ => {}
        }
    }
    (pod["status"]["phase"] == "Failed").then(|| {
        let text = |key: &str| pod["status"][key].as_str().unwrap_or_default();
        format!("it failed: {} {}", text("reason"), text("message")).trim_end().to_owned()
    })
}

/// The name of the container that has failed.
pub fn failed_container(pod: &Value) -> Option<String> {
    let failed =
        |status: &&Value| status["state"]["terminated"]["exitCode"].as_i64().is_some_and(|code| code != 0);
    statuses(pod).find(failed).and_then(|status| status["name"].as_str()).map(str::to_owned)
}

/// Whether a container of the pod never ran, as one that is started before it failed.
pub fn never_ran(pod: &Value, container: &str) -> bool {
    let mut own = statuses(pod).filter(|status| status["name"] == container);
    own.any(|status| {
        let [now, before] = [&status["state"], &status["lastState"]];
        [now, before].iter().all(|state| state["running"].is_null() && state["terminated"].is_null())
    })
}

/// What keeps a pod from running, and whether that is for good.
pub fn trouble(pod: &Value) -> Option<(String, bool)> {
    for status in statuses(pod) {
        let waits = &status["state"]["waiting"];
        let Some(reason) = waits["reason"].as_str().filter(|reason| !ON_ITS_WAY.contains(reason)) else {
            continue;
        };
        let name = status["name"].as_str().unwrap_or_default();
        let message = waits["message"].as_str().map(|text| format!(" ({text})")).unwrap_or_default();
        let is_final = ["ErrImageNeverPull", "InvalidImageName"].contains(&reason);
        return Some((format!("container {name} waits: {reason}{message}"), is_final));
    }
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let mut unscheduled = conditions
        .into_iter()
        .filter(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False");
    let message = unscheduled.next()?["message"].as_str().unwrap_or("no node takes it");
    Some((format!("no node takes it: {message}"), false))
}

/// Which of its containers are not ready.
fn unready(pod: &Value) -> String {
    let names: Vec<&str> = statuses(pod)
        .filter(|status| status["ready"] == false && status["state"]["terminated"].is_null())
        .filter_map(|status| status["name"].as_str())
        .collect();
    if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_pod_lacks_is_told_by_its_status() {
        let waits = |reason: &str| json!({"status": {"containerStatuses": [{"name": "web", "state": {"waiting": {"reason": reason, "message": "m"}}}]}});
        assert_eq!(trouble(&waits("ContainerCreating")), None);
        assert_eq!(
            trouble(&waits("ErrImageNeverPull")),
            Some(("container web waits: ErrImageNeverPull (m)".into(), true))
        );
        assert!(!trouble(&waits("CreateContainerConfigError")).unwrap().1);
        let unscheduled = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]}});
        assert!(trouble(&unscheduled).unwrap().0.contains("0/1 nodes"));
        let over = json!({"status": {"phase": "Failed", "containerStatuses": [
            {"name": "side", "state": {"terminated": {"exitCode": 0}}}, {"name": "web", "state": {"terminated": {"exitCode": 3}}}]}});
        assert_eq!(ended(&over).unwrap(), "its container web ended with status 3");
        assert_eq!(failed_container(&over).as_deref(), Some("web"));
        let evicted = json!({"status": {"phase": "Failed", "reason": "DeadlineExceeded"}});
        assert_eq!(ended(&evicted).unwrap(), "it failed: DeadlineExceeded");
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert!(is_ready(&ready) && ended(&ready).is_none());
    }
}
