//! The inside of a sandbox of the tests: nrtrace's own, made to look like a machine that has just started.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::signal::{SigHandler, Signal};
use nrtrace_tracer::sandbox::{self, Outcome};

use crate::sandbox::{Plan, STATUS_BROKEN, STATUS_LATE};

/// Makes the sandbox, runs the command of `plan` (JSON) in it, and returns its exit status, or 128 and the number of
/// the signal that ended it.
///
/// Must be called from a process with a single thread.
///
/// # Errors
/// When the plan cannot be read or the sandbox cannot be made.
pub fn enter(plan: &str) -> Result<u8> {
    let plan: Plan = serde_json::from_str(plan).context("read the plan")?;
    let outcome = sandbox::enter(&plan.layout, &mut |_| {
        run(&plan).unwrap_or_else(|error| {
            eprintln!("sandbox: {error:#}");
            STATUS_BROKEN as u8
        })
    })?;
    Ok(match outcome {
        Outcome::Ended(status) => status,
        Outcome::Late => STATUS_LATE as u8,
    })
}

fn run(plan: &Plan) -> Result<u8> {
    fs::create_dir("/run/lock").context("make /run/lock")?;
    fs::set_permissions("/run/lock", fs::Permissions::from_mode(0o1777))?;
    // Ignored in the background of a script, and with them all that is started here.
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: no handler is installed.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }?;
    }
    let (program, arguments) = plan.command.split_first().context("the plan has no command")?;
    let status = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(plan.environment.iter().cloned())
        .current_dir("/")
        .status()
        .with_context(|| format!("start {program}"))?;
    let status = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(u8::try_from(status.context("the command has neither status nor signal")?)?)
}
