//! The service manager of this machine, asked by systemctl(1).

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nrtrace_tracer::launch::signals::Signals;

/// Where units live until the next boot.
pub const UNITS: &str = "/run/systemd/system";
/// Between two questions to the manager.
pub const PAUSE: Duration = Duration::from_millis(100);

/// Whether there is one, as sd_booted(3) has it.
pub fn is_there() -> bool {
    Path::new(UNITS).is_dir()
}

/// What systemctl answers.
///
/// # Errors
/// When it fails.
pub fn systemctl(arguments: &[&str]) -> Result<String> {
    let output = command(arguments).output().context("cannot start systemctl")?;
    answer(arguments, &output)
}

/// The same for what may take long: `None` when a signal asks nrtrace to end, whatever becomes of the job then.
///
/// # Errors
/// When it fails.
pub fn systemctl_until(arguments: &[&str], signals: &Signals) -> Result<Option<String>> {
    let mut command = command(arguments);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot start systemctl")?;
    while child.try_wait().context("systemctl")?.is_none() {
        if signals.have_ended() {
            child.kill().and_then(|()| child.wait()).context("systemctl")?;
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
    let output = child.wait_with_output().context("systemctl")?;
    answer(arguments, &output).map(Some)
}

/// A property of a unit.
///
/// # Errors
/// When systemctl fails.
pub fn property(unit: &str, name: &str) -> Result<String> {
    Ok(systemctl(&["show", "--value", "-p", name, "--", unit])?.trim().to_owned())
}

/// What nrtrace said last as a unit, without what the manager says of it.
pub fn last_words(unit: &str) -> String {
    let asked = ["--no-pager", "-q", "-o", "cat", "-n", "2", "-t", "nrtrace", "-u", unit];
    let output = Command::new("journalctl").args(asked).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().collect::<Vec<_>>().join(" ")
}

/// In a group of its own: what a terminal interrupts is nrtrace, which then takes back what it did.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("systemctl");
    command.arg("--no-ask-password").args(arguments).process_group(0).stdin(Stdio::null());
    command
}

fn answer(arguments: &[&str], output: &std::process::Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("systemctl {}: {}", arguments.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
