//! `nrtrace report`: a saved profile, for people.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::ways::plan;

use crate::args::{KnowledgeDirs, ReportArgs};
use crate::{input, knowledge, results};

/// Shows a profile.
pub fn report(args: &ReportArgs) -> Result<ExitCode> {
    let profile = load(&args.profile, &args.more)?;
    let grants = plan(&profile, &args.preference.choices());
    results::print(&args.showing, args.color, &profile, &grants)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a profile, and adds what is known of its program.
pub fn load(path: &Path, more: &KnowledgeDirs) -> Result<Profile> {
    let library = knowledge::library(more)?;
    let mut profile = input::profile(path)?;
    library.annotate(&mut profile);
    Ok(profile)
}
