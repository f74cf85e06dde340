//! `nrtrace service record`, `finish`, `status` and `undo`: what the living unit needs, seen while it does its work.
//!
//! The unit's own start is left alone, whatever its type, its user and what comes before it: a unit beside it watches its
//! control group. So nothing becomes of the service when the recorder dies.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use nix::unistd::geteuid;
use nrtrace_profiles::RawText;
use nrtrace_profiles::emit::escape::shell;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::text::printable;
use nrtrace_profiles::unit::boolean;
use nrtrace_tracer::launch::identity;
use nrtrace_tracer::launch::signals::Signals;

use super::find;
use super::recording::{How, Recording};
use super::started::{self, Started};
use crate::args::{FinishArgs, RecordArgs, ReportFormat, UndoRecordArgs, UnitArgs};
use crate::failure::BadInput;
use crate::output::Losses;
use crate::results::{self, complete, conclude};
use crate::systemd::{self, systemctl, systemctl_until};
use crate::terminal::{self, note};
use crate::{programs, rotated};

/// `nrtrace service record UNIT`
pub fn record(args: &RecordArgs) -> Result<ExitCode> {
    let (started, recording) = (started::read(&args.unit.unit)?, of(&args.unit)?);
    let Recording { unit, recorder, .. } = &recording;
    if recording.exists() {
        let message = format!("{unit} is being recorded: {}", next(unit));
        return Err(BadInput(message).into());
    }
    let how = how(args, &started)?;
    let signals = Signals::take()?;
    let was_active = recording.is_active()?;
    recording.claim(&how)?;
    let mut taking = Taking { recording: Some(&recording), restart: was_active && !args.no_restart };
    recording.add_drop_in(&how)?;
    let cancelled = || anyhow!("interrupted: {unit} is as it was");
    match systemctl_until(&["start", recorder], &signals) {
        Ok(answer) => answer.ok_or_else(cancelled)?,
        Err(_) => {
            let said = systemd::last_words(recorder);
            return Err(anyhow!(
                "it cannot be recorded: {said} (nrtrace service {unit} proves it in a sandbox)"
            ));
        }
    };
    if was_active && !args.no_restart {
        let restarted = systemctl_until(&["restart", unit], &signals);
        let restarted = restarted.with_context(|| format!("{unit} is as it was, since it did not start"))?;
        restarted.ok_or_else(cancelled)?;
    }
    taking.recording = None;
    let whom = how.user.as_ref().map_or("a user made up", |(user, _)| user);
    let how = if how.permissive { "refused nothing, and judged for" } else { "as it is, judged for" };
    note(&format!("{unit} is recorded, {how} {whom}"));
    if !was_active || args.no_restart {
        note(&format!("its next start is what is seen: sudo systemctl restart {}", shell::readable(unit)));
    }
    note(&next(unit));
    Ok(ExitCode::SUCCESS)
}

/// Takes back what was begun.
struct Taking<'a> {
    /// What was begun, unless it stays.
    recording: Option<&'a Recording>,
    /// Whether the unit may have been restarted.
    restart: bool,
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        let Some(recording) = self.recording else { return };
        let was_permissive = recording.is_permissive();
        let taken = recording.take_away().and_then(|()| {
            let is_due = self.restart && (was_permissive || !recording.is_active()?);
            if is_due { systemctl(&["restart", &recording.unit]).map(drop) } else { Ok(()) }
        });
        if let Err(error) = taken {
            note(&format!("taking it back: {}", crate::failure::words(&error)));
        }
    }
}

/// The recording of a unit that is named.
fn of(args: &UnitArgs) -> Result<Recording> {
    if args.unit.contains('/') {
        let message = format!("{}: a unit that lives has a name", args.unit);
        return Err(BadInput(message).into());
    }
    ensure!(
        systemd::is_there(),
        "the living unit is systemd's, and process 1 is not: nrtrace service {} proves it in a sandbox",
        shell::readable(&args.unit)
    );
    Ok(Recording::of(&find::find(&args.unit)?.name))
}

fn must_be_root() -> Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    Err(BadInput("it takes root: sudo nrtrace service …".into()).into())
}

/// How the unit is recorded.
fn how(args: &RecordArgs, started: &Started) -> Result<How> {
    must_be_root()?;
    let service = &started.service;
    let own = service.user.as_ref().filter(|_| !service.dynamic_user).map(|user| match &service.group {
        Some(group) => format!("{user}:{group}"),
        None => user.clone(),
    });
    let user = args.user.clone().or(own);
    if let Some(user) = &user {
        // Told now, and not by the recorder.
        identity::resolve(Some(user), &service.groups, &service.name.stem())?;
    }
    let said = |key: &str| service.directives.iter().rev().find(|(name, _)| name == key);
    let alone = said("PrivateUsers").is_some_and(|(_, value)| boolean(value) == Some(true));
    if alone {
        note(
            "PrivateUsers=: capabilities are worth nothing outside of it, so it is watched with what it has",
        );
    }
    let is_user = service.user.is_some() || service.dynamic_user;
    Ok(How {
        nrtrace: std::env::current_exe().context("where nrtrace is")?,
        user: user.map(|user| (user, service.groups.clone())),
        permissive: is_user && args.user.is_none() && !alone,
    })
}

fn next(unit: &str) -> String {
    let unit = shell::readable(unit);
    format!("finish  sudo nrtrace service finish {unit} -o out/      undo  sudo nrtrace service undo {unit}")
}

/// `nrtrace service finish UNIT`
pub fn finish(args: &FinishArgs) -> Result<ExitCode> {
    let recording = of(&args.unit)?;
    let unit = &recording.unit;
    if !recording.exists() {
        return Err(not_recorded(unit));
    }
    must_be_root()?;
    let results = &args.results;
    if results.output.is_none() && results.showing.format == ReportFormat::Table {
        let message = "what was recorded is written once, and then gone: say where, -o DIR";
        return Err(BadInput(message.into()).into());
    }
    let permissive = recording.is_permissive();
    if permissive && args.no_restart {
        let message = format!("{unit} has all capabilities until it is restarted: leave --no-restart out");
        return Err(BadInput(message).into());
    }
    let output = results::open(results.output.as_deref(), &results.files)?;
    // From here on it is not left half done.
    let _signals = Signals::take()?;
    let is_watched = recording.drop_in().exists();
    let restarts = is_watched && recording.is_active()? && !args.no_restart;
    recording.take_drop_in()?;
    if permissive {
        recording.end()?;
    }
    // How it ends belongs to what it needs.
    let restarted = if restarts { systemctl(&["restart", unit]).map(drop) } else { Ok(()) };
    recording.end()?;
    let profile = profile(&recording, &args.unit);
    let said = systemd::last_words(&recording.recorder);
    recording.take_away()?;
    let mut losses = Losses::default();
    losses.unless(restarted);
    let Some(mut profile) = profile? else {
        losses.unless(Err(anyhow!("nothing of {unit} was recorded: {said}")));
        return Ok(losses.status(ExitCode::SUCCESS));
    };
    programs::note(&mut profile);
    rotated::note(&mut profile, &results.shape.choices());
    conclude(results, false, &profile, output.as_ref(), &mut losses);
    if !results.talk.quiet {
        note(&format!("{unit} is as it was; what it was not seen to do is not in this"));
    }
    Ok(losses.status(complete(0, &profile)))
}

/// What was recorded, as that of the unit.
fn profile(recording: &Recording, args: &UnitArgs) -> Result<Option<Profile>> {
    let path = recording.profile();
    let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
    let mut profile = Profile::from_json(&text).with_context(|| path.display().to_string())?;
    let started = started::read(&args.unit)?;
    // What was seen first may be what the unit has run before its program.
    profile.command = started.command.iter().map(|word| RawText::new(word.as_bytes())).collect();
    let program = started.command.first().map(OsStr::new).unwrap_or_default();
    profile.executable = fs::canonicalize(program).ok().map(|path| RawText::new(path.as_os_str().as_bytes()));
    profile.unit = Some(started.kept);
    Ok(Some(profile))
}

fn not_recorded(unit: &str) -> anyhow::Error {
    BadInput(format!("{unit} is not being recorded: sudo nrtrace service record {}", shell::readable(unit)))
        .into()
}

/// `nrtrace service status UNIT`
pub fn status(args: &UnitArgs) -> Result<ExitCode> {
    let recording = of(args)?;
    let Recording { unit, recorder, .. } = &recording;
    if !recording.exists() {
        terminal::print(&format!("{unit} is not being recorded\n"))?;
        return Ok(ExitCode::FAILURE);
    }
    let of_recorder = |name: &str| systemd::property(recorder, name);
    let state = of_recorder("ActiveState")?;
    if state != "active" {
        let since = of_recorder("StateChangeTimestamp")?;
        let said = systemd::last_words(recorder);
        terminal::print(&format!(
            "{unit} is no longer recorded, since {since}: its recorder ended ({}), and the unit is as it was. {}\n{}\n",
            of_recorder("Result")?,
            printable(&said),
            next(unit)
        ))?;
        return Ok(ExitCode::FAILURE);
    }
    let seen = match of_recorder("StatusText")? {
        text if text.is_empty() => "nothing so far: its next start is waited for".to_owned(),
        text => text,
    };
    let how = if recording.is_permissive() { ", refused nothing" } else { "" };
    terminal::print(&format!(
        "{unit} is recorded since {}{how}\nseen    {seen}\nunit    {}, with {}\n{}\n",
        of_recorder("ActiveEnterTimestamp")?,
        systemd::property(unit, "ActiveState")?,
        recording.drop_in().display(),
        next(unit)
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// `nrtrace service undo UNIT`
pub fn undo(args: &UndoRecordArgs) -> Result<ExitCode> {
    let recording = of(&args.unit)?;
    let unit = &recording.unit;
    if !recording.exists() {
        return Err(not_recorded(unit));
    }
    must_be_root()?;
    let _signals = Signals::take()?;
    let permissive = recording.is_permissive();
    if args.left {
        recording.take_drop_in()?;
    } else {
        recording.take_away()?;
    }
    if permissive {
        // The recorder must not wait for what may wait for it.
        let how: &[&str] = if args.left { &["--no-block", "try-restart"] } else { &["try-restart"] };
        systemctl(&[how, &[unit]].concat())?;
    }
    if !args.left {
        note(&format!("{unit} is as it was, and what was recorded is gone"));
    }
    Ok(ExitCode::SUCCESS)
}
