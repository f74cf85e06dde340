//! `nrtrace merge`

use std::process::ExitCode;

use anyhow::Result;
use nrtrace_profiles::merge::{merge as merged, runs};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::text::printable;

use crate::args::MergeArgs;
use crate::failure::BadInput;
use crate::output::Target;
use crate::{input, terminal};

/// Writes the profile of several runs.
pub fn merge(args: &MergeArgs) -> Result<ExitCode> {
    let target = Target::open(args.output.as_deref())?;
    let profiles: Vec<Profile> =
        args.profiles.iter().map(|path| input::profile(path)).collect::<Result<_>>()?;
    let profiles = if args.allow_failed { profiles } else { without_failed(args, profiles)? };
    target.write(&merged(&profiles)?.to_json())?;
    Ok(ExitCode::SUCCESS)
}

/// The runs that did not fail: what a failed one did not come to would be no need of the merged profile, and its end would
/// be the one that `check` takes for usual.
fn without_failed(args: &MergeArgs, profiles: Vec<Profile>) -> Result<Vec<Profile>> {
    let mut left = Vec::new();
    for (profile, path) in profiles.into_iter().zip(&args.profiles) {
        let all = runs(&profile);
        if all.iter().all(|run| run.run.failure().is_none()) {
            left.push(profile);
            continue;
        }
        for (place, run) in all.into_iter().enumerate() {
            let Some(how) = run.run.failure() else {
                left.push(run);
                continue;
            };
            let said =
                run.run.said.last().map(|line| format!(": \"{}\"", line.to_text())).unwrap_or_default();
            let which = format!("run {} of {} {how}{said}", place + 1, path.display());
            terminal::tell(format_args!("nrtrace: left out: {}", printable(&which)));
        }
    }
    if left.is_empty() {
        let message = "every run failed, so there is nothing to merge; --allow-failed takes them as they are";
        return Err(BadInput(message.into()).into());
    }
    Ok(left)
}
