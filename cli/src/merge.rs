//! `nrtrace merge`

use std::process::ExitCode;

use anyhow::Result;
use nrtrace_profiles::merge::merge as merged;
use nrtrace_profiles::profile::Profile;

use crate::args::MergeArgs;
use crate::{input, output};

/// Writes the profile of several runs.
pub fn merge(args: &MergeArgs) -> Result<ExitCode> {
    let profiles: Vec<Profile> =
        args.profiles.iter().map(|path| input::profile(path)).collect::<Result<_>>()?;
    output::write_or_print(args.output.as_deref(), &merged(&profiles)?.to_json())?;
    Ok(ExitCode::SUCCESS)
}
