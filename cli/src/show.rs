//! `nrtrace report`: a saved profile, for people.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use nrtrace_profiles::emit::{self, Format};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::ways::plan;

use crate::args::{KnowledgeDirs, ReportArgs, ReportFormat};
use crate::{input, knowledge, terminal};

/// Shows a profile.
pub fn report(args: &ReportArgs) -> Result<ExitCode> {
    let profile = load(&args.profile, &args.more)?;
    let grants = plan(&profile, &args.preference.choices());
    match args.format {
        ReportFormat::Table => {
            let style = terminal::style(args.color, &std::io::stdout());
            terminal::print(&emit::table(&profile, &grants, style, terminal::width()))?;
        }
        ReportFormat::Json => terminal::print(&profile.to_json())?,
        ReportFormat::Markdown => terminal::print(&Format::Markdown.emit(&profile, &grants).text)?,
        ReportFormat::Html => terminal::print(&Format::Html.emit(&profile, &grants).text)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a profile, and adds what is known of its program.
pub fn load(path: &Path, more: &KnowledgeDirs) -> Result<Profile> {
    let library = knowledge::library(more)?;
    let mut profile = input::profile(path)?;
    library.annotate(&mut profile);
    Ok(profile)
}
