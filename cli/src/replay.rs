//! `nrtrace replay`, and the recordings it reads.

use std::process::ExitCode;

use anyhow::{Context, Result};
use nrtrace_profiles::RawText;
use nrtrace_profiles::classify;
use nrtrace_profiles::emit::{self, Format};
use nrtrace_profiles::grants::plan;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::trace::{self, SavedTrace};
use nrtrace_tracer::launch::identity;
use nrtrace_tracer::recording::Recorded;

use crate::args::{ReplayArgs, ReportFormat, RunArgs};
use crate::output::{self, OutputDir};
use crate::{input, knowledge, run, terminal};

/// Classifies a recording again, and writes what follows from it. Nothing is run.
pub fn replay(args: &ReplayArgs) -> Result<ExitCode> {
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
    if let Some(directory) = &args.output {
        run::write(&OutputDir::open(directory)?, &profile, &args.shape.choices(), args.whole.unit)?;
    }
    print(args, &profile)?;
    Ok(ExitCode::SUCCESS)
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

/// Writes the recording of a run, where that was asked for.
pub fn save(args: &RunArgs, recorded: &Recorded, name: &str, executable: Option<&RawText>) -> Result<()> {
    let Some(path) = &args.save_trace else { return Ok(()) };
    let saved = SavedTrace {
        schema: trace::SCHEMA.to_owned(),
        name: name.to_owned(),
        executable: executable.cloned(),
        trace: recorded.trace.clone(),
    };
    output::write_or_print(Some(path), &saved.to_json())
}
