//! What comes of it: the patch for each container, the manifest with all of them, and what is said of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nrtrace_profiles::emit::{Emitted, Target, patch};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::proof::{ProfileProof, TriedImage};
use nrtrace_profiles::text::Seconds;
use nrtrace_profiles::ways::plan;

use super::follow::Outcome;
use super::kubectl::Kubectl;
use super::manifest::Workload;
use super::storage::Storage;
use super::work::{Work, tell};
use crate::args::PodArgs;
use crate::artefacts::Guard;
use crate::failure::BadInput;
use crate::output::{Losses, OutputDir};
use crate::results::{self, Artefacts};
use crate::terminal;

/// The manifest with the patches.
const PATCHED: &str = "patched.yaml";

/// The object with all patches, and these.
pub struct Patched {
    /// The object.
    pub workload: Workload,
    /// The patch for each container.
    pub patches: BTreeMap<String, Emitted>,
}

/// How it went.
pub struct Finished<'a> {
    /// What became of the pod as it is.
    pub recorded: &'a Outcome,
    /// What became of it with the patch, where that was asked for.
    pub tried: Option<&'a Outcome>,
    /// Where.
    pub namespace: &'a str,
    /// What an empty directory was in the place of.
    pub spared: &'a [String],
}

/// What came of copies with the patch.
pub struct Tried {
    /// Of the last one.
    pub outcome: Outcome,
    /// So many were started.
    pub copies: u32,
    /// Where.
    pub namespace: String,
}

/// Has the profiles tell of it.
pub fn proved(profiles: &mut BTreeMap<String, Profile>, work: &Work<'_>, tried: &Tried) {
    let (workload, args) = (&work.workload, work.args);
    for (name, profile) in profiles {
        let image = workload.image(name).map(|name| TriedImage {
            name: name.to_owned(),
            built: false,
            namespace: Some(tried.namespace.clone()),
        });
        profile.proof = Some(ProfileProof {
            lives: !matches!(tried.outcome, Outcome::Failed(_)),
            minimal: false,
            readiness: Some("its pod is Ready".into()),
            exercise: None,
            greetings: Vec::new(),
            settled: Seconds(u64::try_from(args.settle.as_nanos()).unwrap_or(u64::MAX)),
            trials: tried.copies,
            took: None,
            flaked: 0,
            hardening: BTreeSet::new(),
            image,
            not_applied: work.without.iter().map(Storage::to_string).collect(),
        });
    }
}

/// Patches the object for one container after the other, as each patch keeps what is there.
pub fn patched(
    kubectl: &Kubectl,
    workload: &Workload,
    containers: &[String],
    profiles: &BTreeMap<String, Profile>,
    args: &PodArgs,
) -> Result<Patched> {
    let mut patched = Patched { workload: workload.clone(), patches: BTreeMap::new() };
    let looked_at: Vec<String> = profiles.keys().cloned().collect();
    for (container, profile) in containers.iter().filter_map(|name| Some((name, profiles.get(name)?))) {
        let text = patched.workload.text()?;
        let target =
            Target { manifest: &text, container: Some(container), kustomize: None, looked_at: &looked_at };
        let emitted = patch(profile, &plan(profile, &args.results.shape.choices()), &target)
            .map_err(|error| BadInput(error.to_string()))?;
        let mut file = tempfile::NamedTempFile::new().context("no temporary file")?;
        file.write_all(emitted.text.as_bytes()).context("no temporary file")?;
        let file = file.path().display().to_string();
        let words =
            ["patch", "--local", "--type=strategic", "--output=json", "--filename=-", "--patch-file", &file];
        let answer = kubectl.ask(&words, Some(&patched.workload.object.to_string()))?;
        let object = serde_json::from_str(&answer.text).context("what kubectl patch has answered")?;
        patched.workload = Workload::of_object(object)?;
        patched.patches.insert(container.clone(), emitted);
    }
    Ok(patched)
}

/// Writes and shows it all.
pub fn conclude(
    args: &PodArgs,
    output: Option<&OutputDir>,
    patched: &Patched,
    profiles: &BTreeMap<String, Profile>,
    finished: &Finished<'_>,
) -> Result<ExitCode> {
    let mut losses = Losses::default();
    let whole = Emitted {
        file_name: PATCHED.into(),
        text: patched.workload.text()?,
        executable: false,
        unmet: Vec::new(),
    };
    for (container, profile) in profiles {
        let several = profiles.len() > 1;
        if several {
            tell(args, &format!("container {container}:"));
        }
        let own = match output {
            // Each container has files of the same names.
            Some(output) if several => Some(OutputDir::open(&output.path().join(container))?),
            _ => None,
        };
        let output = own.as_ref().or(output);
        let choices = args.results.shape.choices();
        if let Some(output) = output {
            let files = &args.results.files;
            results::write(
                &Guard::of(output, files.force),
                Artefacts { files, unit: false },
                profile,
                &choices,
                &mut losses,
            );
            let patch = patched.patches.get(container).map(std::slice::from_ref).unwrap_or_default();
            Guard::of(output, files.force).add(patch, &mut losses);
        }
        let written = output.filter(|_| losses.is_empty()).map(OutputDir::path);
        losses.unless(results::show(&args.results, profile, &choices, written));
    }
    match output {
        Some(output) if !profiles.is_empty() => {
            Guard::of(output, args.results.files.force).add(&[whole], &mut losses);
            tell(
                args,
                &format!("{} has the patch: kubectl apply -f it", output.path().join(PATCHED).display()),
            );
        }
        _ if !profiles.is_empty() => terminal::print(&whole.text)?,
        _ => {}
    }
    Ok(losses.status(ExitCode::from(verdict(patched, profiles, finished))))
}

/// Says how it went, and with which status nrtrace ends.
fn verdict(patched: &Patched, profiles: &BTreeMap<String, Profile>, finished: &Finished<'_>) -> u8 {
    let (title, namespace) = (patched.workload.title(), finished.namespace);
    let users: Vec<String> = patched
        .patches
        .keys()
        .filter_map(|name| Some(format!("{name} as {}", profiles.get(name)?.identity.uid)))
        .collect();
    let mut users = users.join(", ");
    if !finished.spared.is_empty() {
        users.push_str(&format!(", with an empty directory for {}", finished.spared.join(", ")));
    }
    let say = |text: String| {
        terminal::tell(format_args!("nrtrace: {}", nrtrace_profiles::text::printable(&text)));
    };
    match (finished.tried, finished.recorded) {
        (Some(Outcome::Ready(after)), _) => {
            say(format!(
                "proved: {title} is Ready with the patch after {:.0} s, {users}, in {namespace}",
                after.as_secs_f64().ceil()
            ));
            0
        }
        (Some(Outcome::Done), _) => {
            say(format!("proved: {title} does its work with the patch, {users}, in {namespace}"));
            0
        }
        (Some(Outcome::Failed(why)), _) => {
            say(format!("not proved: with the patch, {why}, in {namespace}"));
            1
        }
        (None, Outcome::Failed(why)) => {
            say(format!("{title} does not run as it is, so there may be more needs: {why}"));
            1
        }
        (None, _) => {
            say("not proved: --prove starts it with the patch".into());
            0
        }
    }
}
