//! `nrtrace merge`

use std::process::ExitCode;

use anyhow::Result;
use nrtrace_profiles::merge::merge as merged;
use nrtrace_profiles::profile::Profile;

use crate::args::MergeArgs;
use crate::input;
use crate::output::Target;

/// Writes the profile of several runs.
pub fn merge(args: &MergeArgs) -> Result<ExitCode> {
    let target = Target::open(args.output.as_deref())?;
    let profiles: Vec<Profile> =
        args.profiles.iter().map(|path| input::profile(path)).collect::<Result<_>>()?;
    target.write(&merged(&profiles)?.to_json())?;
    Ok(ExitCode::SUCCESS)
}
