//! `nrtrace apply` and `nrtrace undo`: what was written, carried out on this machine and taken back.

use std::io::{BufRead, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nix::unistd::geteuid;
use nrtrace_profiles::RawText;
use nrtrace_profiles::changes::{self, Changes};
use nrtrace_profiles::text::printable;
use nrtrace_tracer::changes::{Error, Job, STATE, Selection};
use nrtrace_tracer::launch::signals::Signals;

use crate::args::{ApplyArgs, UndoArgs, WhatArgs};
use crate::failure::BadInput;
use crate::{input, terminal};

/// Carries the changes out.
pub fn apply(args: &ApplyArgs) -> Result<ExitCode> {
    let binary = args.binary.as_deref().map(absolute).transpose()?;
    let done = |changes: &Changes| {
        format!("what {} needs of this machine as {} is in place", changes.name, changes.user)
    };
    work(&args.what, binary, |job| job.preview(), |job| job.apply(), done)
}

/// Takes them back.
pub fn undo(args: &UndoArgs) -> Result<ExitCode> {
    let done = |changes: &Changes| format!("what {} was granted is taken back", changes.name);
    work(&args.what, None, |job| job.held(), |job| job.undo(), done)
}

fn absolute(path: &Path) -> Result<RawText> {
    let path = path.canonicalize().with_context(|| path.display().to_string())?;
    Ok(RawText::new(path.as_os_str().as_bytes()))
}

fn work(
    args: &WhatArgs,
    binary: Option<RawText>,
    preview: impl Fn(&Job<'_>) -> Result<Vec<String>, Error>,
    carry: impl FnOnce(Job<'_>) -> Result<Vec<String>, Error>,
    done: impl Fn(&Changes) -> String,
) -> Result<ExitCode> {
    let changes = load(&args.from)?;
    if !geteuid().is_root() {
        anyhow::bail!("this takes root: start it with sudo");
    }
    let selection = Selection { only_capabilities: args.only.is_some(), binary };
    let signals = Signals::take()?;
    let mut step = || if is_interrupted(&signals) { Err(Error::Interrupted) } else { Ok(()) };
    let job = Job::open(&changes, selection, Path::new(STATE), &mut step)?;
    let lines = match preview(&job) {
        Err(error @ Error::NothingToUndo(_)) => {
            terminal::tell(format_args!("nrtrace: {}", printable(&error.to_string())));
            return Ok(ExitCode::FAILURE);
        }
        lines => lines?,
    };
    for line in &lines {
        terminal::tell(format_args!("{}", printable(line)));
    }
    if args.dry_run {
        if lines.is_empty() {
            terminal::tell(format_args!("nrtrace: nothing would change: all is so already"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !lines.is_empty() && !args.yes && !agreed()? {
        terminal::tell(format_args!("nrtrace: nothing was changed"));
        return Ok(ExitCode::FAILURE);
    }
    let notes = carry(job)?;
    for note in &notes {
        terminal::tell(format_args!("nrtrace: {}", printable(note)));
    }
    let but = if notes.is_empty() { "" } else { ", but for what is named above" };
    terminal::tell(format_args!("nrtrace: {}{but}", printable(&done(&changes))));
    Ok(ExitCode::SUCCESS)
}

fn load(from: &Path) -> Result<Changes> {
    let path = if from.is_dir() { from.join("changes.json") } else { from.to_owned() };
    let text = input::text(&path, changes::FORMAT.max_bytes)?;
    Changes::from_json(&text).with_context(|| path.display().to_string())
}

fn is_interrupted(signals: &Signals) -> bool {
    let ends = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
    std::iter::from_fn(|| signals.next()).any(|received| ends.contains(&received.number))
}

/// Asks whether that is to be done.
///
/// # Errors
/// Where there is nobody to ask.
fn agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        let message = "nothing was changed: there is no terminal to ask on; --yes does it without asking, --dry-run only tells";
        return Err(BadInput(message.into()).into());
    }
    terminal::print("Do that? [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
