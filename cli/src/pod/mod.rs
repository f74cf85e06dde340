//! `nrtrace pod`: from a manifest, or an object of a cluster, to a patch with which its pod runs without root.
//!
//! ```text
//! Workload ─copy─▶ pod, recorded by a Job on its node ─▶ Profile of each container ─▶ patch ─▶ copy with it: Ready?
//! ```

mod carried;
mod cluster;
mod copies;
mod follow;
mod interrupt;
mod kubectl;
mod local;
mod made;
mod manifest;
mod recorder;
mod storage;
mod users;
mod work;
mod written;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::args::PodArgs;
use crate::failure::BadInput;
use kubectl::Kubectl;
use work::{is_file, tell};

/// The name under which nrtrace is a plugin of kubectl: `kubectl nrtrace`.
const PLUGIN: &str = "kubectl-nrtrace";

/// The command line; called as kubectl's plugin, it is that of `nrtrace pod`.
pub fn command_line() -> Vec<OsString> {
    as_called(std::env::args_os().collect())
}

fn as_called(mut words: Vec<OsString>) -> Vec<OsString> {
    let is_plugin = words.first().is_some_and(|own| Path::new(own).file_name() == Some(OsStr::new(PLUGIN)));
    if is_plugin {
        words.insert(1, "pod".into());
    }
    words
}

/// `nrtrace pod`
pub fn pod(args: PodArgs) -> Result<ExitCode> {
    interrupt::take()?;
    let kubectl = Kubectl::new(&args.kubectl);
    let is_file = is_file(&args.object)?;
    if is_file && (args.local || has_no_cluster(&kubectl, &args)?) {
        return local::prove(args);
    }
    if args.local {
        let message = format!(
            "--local proves a manifest, and {} is an object of a cluster: save it first",
            args.object
        );
        return Err(BadInput(message).into());
    }
    cluster::run(&args, &kubectl)
}

/// Whether kubectl has nothing to talk to, and the user did not ask for a cluster.
fn has_no_cluster(kubectl: &Kubectl, args: &PodArgs) -> Result<bool> {
    if args.prove || args.apply_dry_run || args.recorder_image.is_some() || args.node.is_some() {
        return Ok(false);
    }
    match kubectl.ask(&["get", "--raw=/version"], None) {
        Err(kubectl::Error::Missing { .. }) => Ok(true),
        Err(error)
            if ["localhost:8080", "current-context", "no configuration"]
                .iter()
                .any(|text| error.says(text)) =>
        {
            tell(args, "kubectl has no cluster to talk to: by podman, as with --local");
            Ok(true)
        }
        Err(kubectl::Error::Interrupted(interrupted)) => Err(interrupted.into()),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_of_kubectl_takes_what_pod_takes() {
        let called = |words: &[&str]| as_called(words.iter().map(OsString::from).collect());
        assert_eq!(called(&["/usr/bin/kubectl-nrtrace", "deployment/web"])[1..], ["pod", "deployment/web"]);
        assert_eq!(called(&["nrtrace", "run"])[1..], ["run"]);
    }
}
