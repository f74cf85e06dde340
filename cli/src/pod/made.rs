//! What nrtrace makes in a cluster, and how all of it goes away again: a process beside nrtrace waits for its end, however that
//! comes, and what even that leaves is taken away by the next start.

use std::io::{PipeWriter, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::kubectl::{Error, Kubectl};

/// The label of all that nrtrace makes; its value is the run's.
pub const LABEL: &str = "nrtrace/run";
/// Until when what carries it is of use, in seconds since 1970.
const UNTIL: &str = "nrtrace/until";
/// Which process made it: the machine's boot, and its number.
const MAKER: &str = "nrtrace/maker";
/// No run takes longer.
pub const LONGEST: Duration = Duration::from_secs(3600);
/// Kinds of what is made beside namespaces.
const KINDS: &str = "pods,jobs,secrets,configmaps,persistentvolumeclaims";

/// `sh`: each line says what is to be deleted when no more can be read; the arguments are kubectl. A line that is not whole was
/// not promised to.
const SWEEP: &str = r#"
lines=
while IFS= read -r line; do lines="$lines$line
"; done
printf %s "$lines" | while IFS= read -r line; do
    for attempt in 1 2 3; do
        # shellcheck disable=SC2086
        "$@" delete $line --ignore-not-found --wait=true --timeout=120s >/dev/null 2>&1 </dev/null && break
        sleep 1
    done
done
"#;

/// A run of nrtrace in a cluster. Dropped, all that it made there is gone.
pub struct Made {
    /// What tells it from others.
    pub id: String,
    maker: String,
    until: u64,
    child: Child,
    /// Open for as long as nrtrace lives.
    held: Option<PipeWriter>,
}

impl Made {
    /// Begins, before anything is made.
    pub fn start(kubectl: &Kubectl) -> Result<Self> {
        let (read, held) = std::io::pipe().context("no pipe")?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SWEEP, "sh"]).args(kubectl.words()).stdin(read);
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let child = command.spawn().context("starting what takes away what is made in the cluster")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let until = (now + LONGEST).as_secs();
        let number =
            (now.as_nanos() as u64 ^ u64::from(std::process::id())).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Ok(Self {
            id: format!("{:08x}", number >> 32),
            maker: maker(std::process::id()),
            until,
            child,
            held: Some(held),
        })
    }

    /// Promises that what these words name is deleted in the end; to be told before it is made.
    pub fn promise(&mut self, words: &str) -> Result<()> {
        let held = self.held.as_mut().context("nothing is made any more")?;
        writeln!(held, "{words}").context("what takes away what is made in the cluster is gone")
    }

    /// The same of all of a kind that carries the label, in a namespace.
    pub fn promise_labelled(&mut self, kind: &str, namespace: &str) -> Result<()> {
        self.promise(&format!("{kind} --namespace={namespace} --selector={LABEL}={}", self.id))
    }

    /// Has an object carry what tells whose it is.
    pub fn mark(&self, object: &mut Value) {
        let metadata = &mut object["metadata"];
        metadata["labels"]["app.kubernetes.io/managed-by"] = json!("nrtrace");
        metadata["labels"][LABEL] = json!(self.id);
        metadata["annotations"][UNTIL] = json!(self.until.to_string());
        metadata["annotations"][MAKER] = json!(self.maker);
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.held = None;
        let _ = self.child.wait();
    }
}

/// A process of this machine, as long as it runs.
fn maker(pid: u32) -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("{}.{pid}", boot.trim())
}

/// Takes away what was left by an nrtrace that is no more, in its own namespaces and in those that are named. Who may not look
/// for it has none.
pub fn sweep_leftovers(kubectl: &Kubectl, namespaces: &[&str]) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    let mut look = |words: &[&str]| -> Result<(), Error> {
        let mut all = vec!["get"];
        all.extend(words);
        all.extend(["--selector", LABEL]);
        match kubectl.object(&all) {
            Ok(list) => found
                .extend(list["items"].as_array().into_iter().flatten().filter(|item| is_left(item)).cloned()),
            Err(Error::Interrupted(interrupted)) => return Err(interrupted.into()),
            Err(_) => {}
        }
        Ok(())
    };
    look(&["namespaces"])?;
    for namespace in namespaces {
        look(&[KINDS, "--namespace", namespace])?;
    }
    let mut told = Vec::new();
    for object in found {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, name) = (text(&object["kind"]).to_ascii_lowercase(), text(&object["metadata"]["name"]));
        let namespace = text(&object["metadata"]["namespace"]);
        let mut words = vec!["delete", kind.as_str(), name.as_str(), "--ignore-not-found", "--wait=false"];
        if !namespace.is_empty() {
            words.extend(["--namespace", namespace.as_str()]);
        }
        kubectl.ask(&words, None)?;
        told.push(format!("{kind}/{name}"));
    }
    Ok(told)
}

/// Whether whoever made it is no more, or its time is over.
fn is_left(object: &Value) -> bool {
    let annotation = |name: &str| object["metadata"]["annotations"][name].as_str().unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let over = annotation(UNTIL).parse::<u64>().is_ok_and(|until| until < now);
    let pid = annotation(MAKER).rsplit('.').next().and_then(|pid| pid.parse::<u32>().ok());
    let is_dead = pid.is_some_and(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        annotation(MAKER) == maker(pid) && !name.contains("nrtrace")
    });
    let is_going = !object["metadata"]["deletionTimestamp"].is_null();
    (over || is_dead) && !is_going
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_works_with_is_left() {
        let object = |until: u64, maker: String| json!({"metadata": {"annotations": {UNTIL: until.to_string(), MAKER: maker}}});
        let later = u64::MAX;
        assert!(is_left(&object(1, maker(std::process::id()))), "its time is over");
        assert!(is_left(&object(later, maker(u32::MAX))), "its maker is gone");
        assert!(!is_left(&object(later, "other-boot.4294967295".into())), "another machine's may live");
        assert!(!is_left(&json!({"metadata": {}})));
        let mut going = object(1, String::new());
        going["metadata"]["deletionTimestamp"] = json!("now");
        assert!(!is_left(&going));
    }
}
