//! Records a service with nrtrace, exercised as its truth says, and reads what a run wrote.

use anyhow::{Context, Result, ensure};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::Requirement;

use crate::sandbox::{BIN, OUT, Sandbox};
use crate::service::quote;
use crate::truth::Truth;

/// The permissive run, with the service exercised while it lasts: its profile, and all that was said. What it wrote is
/// in the directory `result` of [`Sandbox::out`].
///
/// # Errors
/// When the run fails, or the service serves (or does not) otherwise than its truth says.
pub fn record(truth: &Truth, sandbox: &Sandbox, backend: &str) -> Result<(Profile, String)> {
    let words: Vec<String> =
        truth.options.iter().chain([&"--".to_owned()]).chain(&truth.command).map(|w| quote(w)).collect();
    let script = format!(
        r#"{prepare}
        set +e
        cd /
        {BIN}/nrtrace run --backend {backend} --for {seconds}s --target all -o {OUT}/result {words} </dev/null &
        run=$!
        served=no
        while kill -0 $run 2>/dev/null; do
            if timeout 5 bash -euo pipefail -c {exercise} >{OUT}/exercise.log 2>&1; then served=yes; break; fi
            sleep 0.1
        done
        wait $run
        echo "status $? served $served"
        cat {OUT}/exercise.log >&2
        "#,
        prepare = truth.prepare,
        seconds = truth.seconds,
        words = words.join(" "),
        exercise = quote(&truth.exercise),
    );
    let log = sandbox.script(&script)?.ok()?.to_string();
    let served = if truth.gives_up.is_some() { "served no" } else { "served yes" };
    ensure!(log.contains(served), "{}: wanted `{served}`: {log}", truth.name);
    let profile = written(sandbox, "result").with_context(|| log.clone())?;
    Ok((profile, log))
}

/// The profile that nrtrace wrote to the directory `name` of [`Sandbox::out`].
///
/// # Errors
/// When there is none, or none that can be read.
pub fn written(sandbox: &Sandbox, name: &str) -> Result<Profile> {
    let path = sandbox.out().join(name).join("profile.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Profile::from_json(&text).with_context(|| format!("read {text}"))
}

/// The need of that id.
///
/// # Errors
/// When the profile has none.
pub fn need<'a>(profile: &'a Profile, id: &str) -> Result<&'a Requirement> {
    let found = profile.requirements.iter().find(|need| need.id == id);
    found.with_context(|| format!("no {id} in {:#?}", profile.requirements))
}
