//! Without a cluster: the manifest's container is proved by podman, with its image as it is on this machine.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use nrtrace_profiles::emit::{LISTS, Target, patch};
use nrtrace_profiles::ways::plan;

use super::carried::{Carried, carried};
use super::manifest::Workload;
use super::work::tell;
use crate::args::{Cli, Command, PodArgs, RunArgs};
use crate::artefacts::Guard;
use crate::failure::BadInput;
use crate::output::{Losses, OutputDir};
use crate::{input, prove, terminal};

/// `nrtrace pod --local`
pub fn prove(args: PodArgs) -> Result<ExitCode> {
    let workload = Workload::of_file(Path::new(&args.object), args.container.as_deref())?;
    let container = chosen(&workload, args.container.as_deref())?;
    let files = tempfile::tempdir().context("no temporary directory")?;
    let carried = carried(&workload, &container, files.path())?;
    let others: Vec<String> =
        workload.containers(None)?.into_iter().filter(|name| *name != container).collect();
    if !others.is_empty() {
        tell(
            &args,
            &format!(
                "of {} alone; the pod's other containers are not started: {}",
                container,
                others.join(", ")
            ),
        );
    }
    carried.notes.iter().for_each(|note| tell(&args, note));
    let written = tempfile::tempdir().context("no temporary directory")?;
    let run = run_args(args, &carried, &container, written.path())?;
    let output = run.results.output.clone().unwrap_or_default();
    let is_kept = output != written.path();
    let status = prove::run_image(&run)?;
    let profile = input::in_directory(&output);
    if !profile.is_file() {
        return Ok(status);
    }
    let profile = input::profile(&profile)?;
    let text = workload.text()?;
    let target = Target { manifest: &text, container: Some(&container), kustomize: None, looked_at: &[] };
    let emitted = patch(&profile, &plan(&profile, &run.results.shape.choices()), &target)
        .map_err(|error| BadInput(error.to_string()))?;
    let mut losses = Losses::default();
    if is_kept {
        let output = OutputDir::open(&output)?;
        Guard::of(&output, run.results.files.force).add(&[emitted], &mut losses);
    } else if profile.proof.as_ref().is_some_and(|proof| proof.lives) {
        terminal::print(&emitted.text)?;
    }
    Ok(losses.status(status))
}

/// The container that is meant: named, or the only one that is not there to prepare.
fn chosen(workload: &Workload, wanted: Option<&str>) -> Result<String> {
    let all = workload.containers(wanted)?;
    let is_main = |name: &&String| {
        let mut mains = workload.pod()[LISTS[1]].as_array().into_iter().flatten();
        wanted.is_some() || mains.any(|container| container["name"] == **name)
    };
    let mains: Vec<&String> = all.iter().filter(is_main).collect();
    match mains[..] {
        [only] => Ok(only.clone()),
        _ => {
            let message =
                format!("podman proves one container, name it with --container: {}", all.join(", "));
            Err(BadInput(message).into())
        }
    }
}

/// The same as `nrtrace run --minimize -- podman run …` would be told by hand.
fn run_args(args: PodArgs, carried: &Carried, name: &str, written: &Path) -> Result<RunArgs> {
    let mut words: Vec<OsString> =
        ["nrtrace", "run", "--minimize", "--name", name].map(OsString::from).into();
    let mut add = |option: &str, value: &str| words.extend([OsString::from(option), OsString::from(value)]);
    add("--settle", &format!("{}ms", args.settle.as_millis()));
    add("--ready-timeout", &format!("{}ms", args.ready_timeout.as_millis()));
    carried.ready.iter().for_each(|command| add("--ready", command));
    carried.ports.iter().for_each(|port| add("--ready-port", &port.to_string()));
    args.target_user.iter().for_each(|user| add("--as", user));
    words.push("--".into());
    let podman: Vec<&str> = args.podman.split_whitespace().collect();
    words.extend(podman.iter().map(OsString::from));
    if !podman.contains(&"run") {
        words.push("run".into());
    }
    words.extend(carried.words.iter().map(OsString::from));
    let parsed = Cli::try_parse_from(words).map_err(|error| BadInput(error.to_string()))?;
    let Command::Run(mut run) = parsed.command else {
        return Err(BadInput("the manifest's container is no command of podman".into()).into());
    };
    run.results = args.results;
    run.results.output.get_or_insert_with(|| written.to_owned());
    Ok(*run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_container_is_meant_or_named() {
        let of = |pod| Workload { object: json!({"kind": "Pod", "spec": pod}), companions: Vec::new() };
        let one = of(json!({"initContainers": [{"name": "first"}], "containers": [{"name": "web"}]}));
        assert_eq!(chosen(&one, None).unwrap(), "web");
        assert_eq!(chosen(&one, Some("first")).unwrap(), "first");
        let two = of(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
        assert!(chosen(&two, None).unwrap_err().to_string().contains("--container: a, b"));
    }
}
