//! `nrtrace apply` and `nrtrace undo`: what was written, carried out on this machine and taken back.

use std::io::{BufRead, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::geteuid;
use nrtrace_profiles::RawText;
use nrtrace_profiles::changes::{self, Changes};
use nrtrace_profiles::text::printable;
use nrtrace_tracer::changes::{Error, Job, Part, STATE, Selection};
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
    tell_unproved(&args.what.from);
    work(&args.what, binary, |job| job.preview(), |job| job.apply(), done)
}

/// Says that trials with what is to be done have failed, where the profile beside it says so.
fn tell_unproved(from: &Path) {
    let profile = from.is_dir().then(|| input::profile(from).ok()).flatten();
    if profile.is_some_and(|profile| profile.proof.is_some_and(|proof| !proof.lives)) {
        terminal::tell(format_args!("nrtrace: not proved: the program did not live with these grants alone"));
    }
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
    let part = if args.only.is_some() { Part::Capabilities } else { Part::All };
    let selection = Selection { part, binary };
    let signals = Signals::take()?;
    let mut step = || if signals.have_ended() { Err(Error::Interrupted) } else { Ok(()) };
    let job = Job::open(&changes, selection, Path::new(STATE), &mut step)?;
    let lines = match preview(&job) {
        Err(error @ Error::NothingToUndo { .. }) => {
            terminal::note(&error.to_string());
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
    if !lines.is_empty() && !args.yes && !agreed(&signals)? {
        terminal::tell(format_args!("nrtrace: nothing was changed"));
        return Ok(ExitCode::FAILURE);
    }
    let notes = carry(job)?;
    for note in &notes {
        terminal::note(note);
    }
    let but = if notes.is_empty() { "" } else { ", but for what is named above" };
    terminal::tell(format_args!("nrtrace: {}{but}", printable(&done(&changes))));
    Ok(ExitCode::SUCCESS)
}

fn load(from: &Path) -> Result<Changes> {
    let path = if from.is_dir() { from.join(changes::FILE) } else { from.to_owned() };
    if geteuid().is_root() && path.as_os_str() != "-" {
        trust(&path)?;
    }
    let text = input::text(&path, changes::FORMAT.max_bytes)?;
    Changes::from_json(&text).with_context(|| path.display().to_string())
}

/// What root carries out, nobody else may have written: but for whoever became root by sudo.
fn trust(path: &Path) -> Result<()> {
    let unread = || format!("cannot read {}", path.display());
    let file = path.metadata().with_context(unread)?;
    let mut parts = vec![(path.to_owned(), file.clone())];
    // A pipe has no directory.
    if file.is_file() {
        let directory = path.canonicalize().with_context(unread)?;
        let directory = directory.parent().unwrap_or(Path::new("/")).to_owned();
        let facts = directory.metadata().with_context(unread)?;
        parts.push((directory, facts));
    }
    let by_sudo = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse::<u32>().ok());
    for (at, facts) in parts {
        let is_sticky = facts.is_dir() && facts.mode() & 0o1000 != 0;
        let whose = match facts.uid() {
            _ if facts.mode() & 0o002 != 0 && !is_sticky => "everybody".to_owned(),
            uid if uid == 0 || Some(uid) == by_sudo => continue,
            uid => format!("user {uid}"),
        };
        return Err(BadInput(format!(
            "{} can be written by {whose}, so that it may say anything: look it over, and give a copy of root's own",
            at.display()
        ))
        .into());
    }
    Ok(())
}

/// Asks whether that is to be done.
///
/// # Errors
/// Where there is nobody to ask.
fn agreed(signals: &Signals) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        let message = "nothing was changed: there is no terminal to ask on; --yes does it without asking, --dry-run only tells";
        return Err(BadInput(message.into()).into());
    }
    terminal::print("Do that? [y/N] ")?;
    // Ctrl-C is an answer, too.
    let stdin = std::io::stdin();
    let mut ready =
        [PollFd::new(stdin.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("cannot wait for the answer"),
        }
        if signals.have_ended() {
            terminal::print("\n")?;
            return Ok(false);
        }
        // Else it was another signal.
        if ready.first().and_then(PollFd::any) == Some(true) {
            break;
        }
    }
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
