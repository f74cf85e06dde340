//! `nrtrace replay`, and the recordings it reads.

use std::process::ExitCode;

use anyhow::{Context, Result};
use nrtrace_profiles::RawText;
use nrtrace_profiles::classify;
use nrtrace_profiles::emit::{self, Format};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::trace::{self, SavedTrace};
use nrtrace_profiles::ways::plan;
use nrtrace_tracer::launch::identity;
use nrtrace_tracer::recording::Recorded;

use crate::args::{ReplayArgs, ReportFormat};
use crate::output::{Losses, OutputDir};
use crate::{input, knowledge, run, terminal};

/// Classifies a recording again, and writes what follows from it. Nothing is run.
pub fn replay(args: &ReplayArgs) -> Result<ExitCode> {
    let output = args.output.as_deref().map(OutputDir::open).transpose()?;
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
    if let Some(output) = &output {
        run::write(output, &profile, &args.shape.choices(), args.whole.unit, &mut losses);
    }
    losses.unless(print(args, &profile));
    Ok(losses.status(run::complete(0, &profile)))
}

fn print(args: &ReplayArgs, profile: &Profile) -> Result<()> {
    let grants = &plan(profile, &args.shape.choices());
    match args.format {
        ReportFormat::Table => {
            let style = terminal::style(args.color, &std::io::stdout());
            terminal::print(&emit::table(profile, grants, style, terminal::width()))
        }
        ReportFormat::Json => terminal::print(&profile.to_json()),
        ReportFormat::Markdown => terminal::print(&Format::Markdown.emit(profile, grants).text),
        ReportFormat::Html => terminal::print(&Format::Html.emit(profile, grants).text),
    }
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
