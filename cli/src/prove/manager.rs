//! `--with systemd`: what is proved is tried once more by the service manager of this machine, with the very unit.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nrtrace_profiles::RawText;
use nrtrace_profiles::changes::{Action, Changes};
use nrtrace_profiles::emit::Format;
use nrtrace_profiles::grants::{Choices, Grants, Method};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::ways::plan;
use nrtrace_tracer::attach::cgroup::Group;
use nrtrace_tracer::changes::{Job, STATE, Selection};
use nrtrace_tracer::course::{self, Course, Failure, Verdict};
use nrtrace_tracer::launch::signals::Signals;
use nrtrace_tracer::launch::tree::End;

use super::prover::{Prover, SLACK};
use crate::args::{ManagerArg, Talk};
use crate::failure::BadInput;
use crate::progress::Trials;
use crate::systemd::{self, PAUSE, UNITS, systemctl};
use crate::terminal;

/// Of its log, so many lines are shown.
const LINES: usize = 4;

/// Fails early where there is no such manager.
pub fn check(with: Option<ManagerArg>) -> Result<()> {
    ensure!(
        with.is_none() || systemd::is_there(),
        "--with systemd takes a machine whose process 1 is systemd, and {UNITS} is not there: leave it out, or try it in \
         such a machine"
    );
    Ok(())
}

/// Where it is asked for, has systemd run what has been proved, and says how that went. What fails there is not proved.
///
/// # Errors
/// When it could not be tried. All is taken back then, too.
pub fn try_with(prover: &Prover, profile: &mut Profile, talk: &Talk) -> Result<Option<Failure>> {
    if prover.with.is_none() {
        return Ok(None);
    }
    let shown = Trials::new(&profile.name, talk);
    shown.say("under systemd, with what is written");
    let choices = Choices { prove: prover.proves, ..prover.choices.clone() };
    let grants = plan(profile, &choices);
    if grants.port_method == Method::Socket && !grants.ports.is_empty() {
        let message = "--with systemd starts no socket units: prove it with --prefer capability";
        return Err(BadInput(message.into()).into());
    }
    let signals = Signals::take()?;
    let changes = Changes::of(profile, &grants);
    let applied = Applied::make(&changes, &grants)?;
    for note in &applied.notes {
        shown.note(&format!("under systemd: {note}"));
    }
    let (verdict, log) = Unit::make(prover, profile, &grants)?.run(&prover.course, &signals)?;
    drop(applied);
    let failure = match verdict {
        Verdict::Lived => {
            shown.note("under systemd it lives, too, with what is written");
            None
        }
        Verdict::Failed(failure) => {
            shown.note(&format!("under systemd, with what is written, it {failure}"));
            let last: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
            last.iter()
                .skip(last.len().saturating_sub(LINES))
                .for_each(|line| shown.note(&format!("  {line}")));
            Some(failure)
        }
        Verdict::Interrupted => bail!("interrupted; what was made for the trial is taken back"),
    };
    if let Some(proof) = &mut profile.proof {
        proof.trials += 1;
        proof.lives &= failure.is_none();
    }
    Ok(failure)
}

/// What the program needs of the machine, for as long as this lives.
struct Applied<'a> {
    changes: &'a Changes,
    /// The first of each path at which there was nothing before, by names that were no links.
    new: BTreeSet<PathBuf>,
    notes: Vec<String>,
}

impl<'a> Applied<'a> {
    fn make(changes: &'a Changes, grants: &Grants) -> Result<Self> {
        let mut step = || Ok(());
        let held = Job::open(changes, Selection::default(), Path::new(STATE), &mut step)?.held();
        ensure!(
            held.is_err(),
            "{} has been granted what it needs on this machine (apply.sh): take that back with undo.sh before",
            changes.name
        );
        let granted = changes.changes.iter().filter_map(|change| match &change.action {
            Action::Directory { path, .. } | Action::File { path, .. } => Some(path),
            _ => None,
        });
        let paths = granted.chain(grants.directories.keys()).map(path_of);
        // From here on it is taken back, also where not all of it could be applied.
        let new = paths.filter_map(|path| missing(&path)).collect();
        let mut applied = Self { changes, new, notes: Vec::new() };
        applied.notes = Job::open(changes, Selection::default(), Path::new(STATE), &mut step)?.apply()?;
        Ok(applied)
    }
}

impl Drop for Applied<'_> {
    fn drop(&mut self) {
        let mut step = || Ok(());
        let job = Job::open(self.changes, Selection::default(), Path::new(STATE), &mut step);
        let undone = job.and_then(Job::undo);
        // What holds what the program wrote since is kept by that, and was not there before.
        self.new.iter().filter(|path| is_where_it_was(path)).for_each(|path| {
            let is_directory = path.symlink_metadata().is_ok_and(|facts| facts.is_dir());
            let _ = if is_directory { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        });
        match undone {
            Err(nrtrace_tracer::changes::Error::NothingToUndo { .. }) | Ok(_) => {}
            Err(error) => terminal::tell(format_args!("nrtrace: taking back what was applied: {error}")),
        }
    }
}

/// The first part of a path that is not there.
fn missing(path: &Path) -> Option<PathBuf> {
    let first = path.ancestors().take_while(|part| part.symlink_metadata().is_err()).last()?;
    Some(first.parent()?.canonicalize().ok()?.join(first.file_name()?))
}

/// Whether no link leads elsewhere by now, which the program may have made.
fn is_where_it_was(path: &Path) -> bool {
    let parent = path.parent();
    parent.is_some_and(|parent| parent.canonicalize().is_ok_and(|now| now == parent))
}

fn path_of(path: &RawText) -> PathBuf {
    std::ffi::OsStr::from_bytes(path.as_bytes()).into()
}

/// A unit of systemd that is there for as long as this lives.
struct Unit {
    name: String,
    file: PathBuf,
}

impl Unit {
    fn make(prover: &Prover, profile: &Profile, grants: &Grants) -> Result<Self> {
        let mut started = profile.clone();
        started.command = prover.command.iter().map(|word| RawText::new(word.as_bytes())).collect();
        let text = Format::SystemdUnit.emit(&started, grants).text;
        let name = format!("nrtrace-trial-{}.service", std::process::id());
        let unit = Self { file: Path::new(UNITS).join(&name), name };
        let limits = &prover.course;
        let whole = limits.ready_timeout + limits.exercise_timeout + limits.settle + SLACK;
        // A trial is not begun anew, and ends also where nobody is left to end it.
        let extra = format!(
            "[Service]\nRestart=no\nTimeoutStartSec={}\nTimeoutStopSec={}\nRuntimeMaxSec={}\n",
            limits.ready_timeout.as_secs().max(1),
            prover.grace.as_secs().max(1),
            whole.as_secs()
        );
        let beside = unit.extra();
        std::fs::create_dir_all(&beside).with_context(|| beside.display().to_string())?;
        std::fs::write(&unit.file, text).with_context(|| unit.file.display().to_string())?;
        std::fs::write(beside.join("trial.conf"), extra).with_context(|| beside.display().to_string())?;
        systemctl(&["daemon-reload"])?;
        Ok(unit)
    }

    /// The directory of its drop-ins.
    fn extra(&self) -> PathBuf {
        Path::new(UNITS).join(format!("{}.d", self.name))
    }

    /// What the trial came to, and what was said in it.
    fn run(&self, course: &Course, signals: &Signals) -> Result<(Verdict, String)> {
        let start = Instant::now();
        systemctl(&["start", "--no-block", &self.name])?;
        let verdict = match self.wait(course, signals, start)? {
            Some(verdict) => verdict,
            None => {
                let group = Group::at(Path::new(&self.property("ControlGroup")?))?;
                course::managed(course, &group, signals, &mut || self.end())?
            }
        };
        // Its last words may be on their way.
        let _ = Command::new("journalctl").arg("--sync").output();
        Ok((verdict, self.log()?))
    }

    /// Waits until systemd takes it for started, and its log says what is waited for; the verdict if it fails before.
    fn wait(&self, course: &Course, signals: &Signals, start: Instant) -> Result<Option<Verdict>> {
        let was_ready = (!course.readiness.is_empty()).then_some(false);
        loop {
            let state = self.property("ActiveState")?;
            let said = course::is_said(&course.readiness, &self.log()?)?;
            match state.as_str() {
                "active" if said => return Ok(None),
                "failed" | "inactive" if self.property("Job")?.is_empty() || state == "failed" => {
                    let after = start.elapsed();
                    let failed =
                        |end: End| Verdict::Failed(Failure::Ended { exit: end.into(), after, was_ready });
                    return Ok(Some(match self.end() {
                        Some(End::Exited(0)) if course.readiness.is_empty() => Verdict::Lived,
                        Some(end) => failed(end),
                        None => bail!("systemd did not start {}: {}", self.name, self.log()?.trim()),
                    }));
                }
                _ => {}
            }
            if signals.have_ended() {
                return Ok(Some(Verdict::Interrupted));
            }
            let waited = start.elapsed();
            if waited > course.ready_timeout {
                let said =
                    if said { "systemd does not take it for started" } else { "no line of its log matched" };
                return Ok(Some(Verdict::Failed(Failure::NotReady { waited, said: said.into() })));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn property(&self, name: &str) -> Result<String> {
        systemd::property(&self.name, name)
    }

    /// How its main process has ended, `CLD_…` of waitid(2).
    fn end(&self) -> Option<End> {
        let number = |name: &str| self.property(name).ok()?.parse::<i32>().ok();
        let status = number("ExecMainStatus")?;
        match number("ExecMainCode")? {
            libc::CLD_EXITED => Some(End::Exited(status)),
            libc::CLD_KILLED | libc::CLD_DUMPED => Some(End::Signaled(status)),
            _ => None,
        }
    }

    fn log(&self) -> Result<String> {
        let output = Command::new("journalctl")
            .args(["--no-pager", "--quiet", "-o", "cat", "-u", &self.name])
            .output()
            .context("cannot start journalctl")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let stopped = systemctl(&["stop", &self.name]);
        let _ = std::fs::remove_file(&self.file);
        let _ = std::fs::remove_dir_all(self.extra());
        // One that did not fail has nothing to be reset.
        let _ = systemctl(&["reset-failed", &self.name]);
        if let Err(error) = stopped.and_then(|_| systemctl(&["daemon-reload"])) {
            terminal::tell(format_args!("nrtrace: taking {} away: {error}", self.name));
        }
    }
}
