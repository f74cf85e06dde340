//! `nrtrace emit` and `nrtrace report`: saved profiles.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use nrtrace_profiles::emit::{self, Format};
use nrtrace_profiles::grants::grants;
use nrtrace_profiles::profile::Profile;

use crate::args::{EmitArgs, EmitFormat, KnowledgeDirs, ReportArgs, ReportFormat};
use crate::output::OutputDir;
use crate::{input, knowledge, run, terminal};

/// Writes artefacts.
pub fn emit(args: &EmitArgs) -> Result<ExitCode> {
    let profile = load(&args.profile, &args.more)?;
    if let Some(path) = &args.output {
        run::write(&OutputDir::open(path)?, &profile)?;
    }
    if let Some(format) = args.format {
        let format = match format {
            EmitFormat::Tmpfiles => Format::Tmpfiles,
            EmitFormat::Sysusers => Format::Sysusers,
            EmitFormat::Systemd => Format::SystemdDropIn,
            EmitFormat::Setcap => Format::Setcap,
            EmitFormat::Kubernetes => Format::Kubernetes,
            EmitFormat::Sysctl => Format::Sysctl,
            EmitFormat::ModulesLoad => Format::ModulesLoad,
        };
        terminal::print(&format.emit(&profile, &grants(&profile)).text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows a profile.
pub fn report(args: &ReportArgs) -> Result<ExitCode> {
    let profile = load(&args.profile, &args.more)?;
    match args.format {
        ReportFormat::Table => {
            let style = terminal::style(args.color, &std::io::stdout());
            terminal::print(&emit::table(&profile, &grants(&profile), style, terminal::width()))?;
        }
        ReportFormat::Json => terminal::print(&profile.to_json())?,
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
