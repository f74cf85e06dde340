//! `nrtrace replay`, and the recordings it reads.

use std::process::ExitCode;

use anyhow::{Context, Result};
use nrtrace_profiles::RawText;
use nrtrace_profiles::classify;
use nrtrace_profiles::trace::{self, SavedTrace};
use nrtrace_profiles::ways::plan;
use nrtrace_tracer::launch::identity;
use nrtrace_tracer::recording::Recorded;

use crate::args::ReplayArgs;
use crate::artefacts::Guard;
use crate::output::Losses;
use crate::results::Artefacts;
use crate::{input, knowledge, results};

/// Classifies a recording again, and writes what follows from it. Nothing is run.
pub fn replay(args: &ReplayArgs) -> Result<ExitCode> {
    let output = results::open(args.output.as_deref(), &args.files)?;
    let path = &args.trace;
    let text = input::text(path, trace::FORMAT.max_bytes)?;
    let saved = SavedTrace::from_json(&text).with_context(|| path.display().to_string())?;
    drop(text);
    let SavedTrace { name, executable, mut trace, .. } = saved;
    if args.subject.user.is_some() || !args.subject.groups.is_empty() {
        let same = format!("{}:{}", trace.run.identity.uid, trace.run.identity.gid);
        let user = args.subject.user.as_deref().unwrap_or(&same);
        let identity = identity::resolve(Some(user), &args.subject.groups, &name)?;
        trace = classify::rejudge(&trace, &identity);
    }
    let mut profile = classify::profile(&trace, &name);
    profile.executable = executable.or(profile.executable);
    knowledge::library(&args.more)?.annotate(&mut profile);
    let mut losses = Losses::default();
    let choices = args.shape.choices();
    if let Some(output) = &output {
        let artefacts = Artefacts { files: &args.files, unit: args.whole.unit };
        results::write(&Guard::of(output, args.files.force), artefacts, &profile, &choices, &mut losses);
    }
    losses.unless(results::print(&args.showing, args.color, &profile, &plan(&profile, &choices)));
    Ok(losses.status(results::complete(0, &profile)))
}

/// The recording of a run as a file.
pub fn saved(recorded: &Recorded, name: &str, executable: Option<&RawText>) -> String {
    let saved = SavedTrace {
        schema: trace::SCHEMA.to_owned(),
        name: name.to_owned(),
        executable: executable.cloned(),
        trace: recorded.trace.clone(),
    };
    saved.to_json()
}
