//! What can be taken away from the program beyond what every unit takes, by trials.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use nrtrace_profiles::emit::{Format, hardening};
use nrtrace_profiles::grants::Choices;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::prove;
use nrtrace_profiles::ways::plan;
use nrtrace_tracer::apply::Unit;
use nrtrace_tracer::course::{Course, Verdict};
use nrtrace_tracer::trial::TrialError;

use super::Prover;
use crate::args::Talk;
use crate::progress::Trials;

/// How long is looked for what hardens: it is more than what was asked, and each trial that fails may wait for readiness.
const SEARCH: Duration = Duration::from_secs(60);

/// What a search came to.
#[derive(Default)]
pub struct Hardened {
    /// What the program lives with, together.
    pub held: BTreeSet<String>,
    /// Trials made.
    pub trials: u32,
    /// What there was to be tried.
    candidates: Vec<Vec<String>>,
}

/// Looks for the most that can be taken away. What there is no time for is said, and left out.
pub fn search(prover: &Prover, profile: &Profile, shown: &Trials) -> Result<Hardened> {
    // A pod is confined as its securityContext says, which is tried as a whole.
    if prover.place.image().is_some() {
        return Ok(Hardened::default());
    }
    let candidates = candidates(prover, profile);
    let (start, mut trials) = (Instant::now(), 0);
    let found = prove::harden(&candidates, &hardening::is_often_too_much, &mut |set| {
        if start.elapsed() > SEARCH {
            return Ok::<_, TrialError>(None);
        }
        trials += 1;
        shown.say(&format!("hardening, trial {trials}: {} directives", set.len()));
        lives(prover, profile, set, &prover.course).map(Some)
    })?;
    if !found.untried.is_empty() {
        let (after, untried) = (start.elapsed().as_secs(), found.untried.join(", "));
        shown.note(&format!("the search for what hardens was cut off after {after} s; not tried: {untried}"));
    }
    Ok(Hardened { held: found.held, trials, candidates })
}

/// Looks for it, and writes into the profile's proof what the program lives with; it has been proved otherwise.
pub fn harden(prover: &Prover, profile: &mut Profile, talk: &Talk) -> Result<()> {
    let shown = Trials::new(&profile.name, talk);
    let found = search(prover, profile, &shown)?;
    if let Some(proof) = &mut profile.proof {
        proof.trials += found.trials;
        proof.hardening.clone_from(&found.held);
    }
    tell(profile, &prover.choices, &found, &shown);
    Ok(())
}

/// What can be tried; of each list, one line.
fn candidates(prover: &Prover, profile: &Profile) -> Vec<Vec<String>> {
    let choices = Choices { prove: prover.proves, ..prover.choices.clone() };
    let mut candidates = hardening::candidates(profile, &plan(profile, &choices));
    // What this machine cannot apply is not tried, and so not written.
    candidates.iter_mut().for_each(|lines| lines.retain(|line| is_applied(line)));
    candidates.retain(|lines| !lines.is_empty());
    candidates
}

/// Whether a trial on this machine applies a directive.
fn is_applied(line: &str) -> bool {
    Unit::parse(&format!("[Service]\n{line}\n")).unknown.is_empty()
}

/// A trial with what the profile grants, and these directives.
pub fn lives(
    prover: &Prover,
    profile: &Profile,
    held: &BTreeSet<String>,
    course: &Course,
) -> Result<bool, TrialError> {
    let choices = Choices { harden: held.clone(), ..prover.choices.clone() };
    let prover = Prover { choices, ..prover.clone() };
    match prover.trial(profile, course, false) {
        Ok(report) => Ok(report.verdict == Some(Verdict::Lived) && applied(&report.not_applied, held)),
        // Such a start cannot be made here.
        Err(TrialError::Program { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn applied(not_applied: &[String], held: &BTreeSet<String>) -> bool {
    held.iter().all(|line| not_applied.iter().all(|text| !text.starts_with(line.as_str())))
}

/// Says what hardens of all that was tried, and what it is worth.
pub fn tell(profile: &Profile, choices: &Choices, found: &Hardened, shown: &Trials) {
    let Some(proof) = profile.proof.as_ref().filter(|_| !found.candidates.is_empty()) else { return };
    let held = |lines: &&Vec<String>| lines.iter().any(|line| proof.hardening.contains(line));
    let refused: Vec<&str> = found
        .candidates
        .iter()
        .filter(|lines| !held(lines))
        .filter_map(|lines| lines.first())
        .map(String::as_str)
        .collect();
    let but = if refused.is_empty() { String::new() } else { format!("; not with {}", refused.join(", ")) };
    shown.note(&format!("it lives with {} more directives that harden{but}", proof.hardening.len()));
    let text = Format::SystemdUnit.emit(profile, &plan(profile, choices)).text;
    let bare = "[Service]\nExecStart=/bin/true\n";
    if let (Some(before), Some(after)) = (exposure(bare), exposure(&text)) {
        shown.note(&format!(
            "exposure by systemd-analyze security: {after}, where a unit that says nothing has {before}"
        ));
    }
}

/// What `systemd-analyze security` says of a unit, where it is there and can read units from files (version 250).
fn exposure(text: &str) -> Option<String> {
    let directory = tempfile::tempdir().ok()?;
    let unit = directory.path().join("unit.service");
    std::fs::write(&unit, text).ok()?;
    let mut command = Command::new("systemd-analyze");
    command.args(["--no-pager", "security", "--offline=yes"]).arg(&unit).env("LC_ALL", "C");
    let output = command.output().ok()?;
    overall(&String::from_utf8_lossy(&output.stdout)).map(str::to_owned)
}

/// The number in `→ Overall exposure level for unit.service: 1.6 OK 🙂`.
fn overall(text: &str) -> Option<&str> {
    let line = text.lines().rfind(|line| line.contains("Overall exposure level"))?;
    let word = line.rsplit_once(": ")?.1.split(' ').next()?;
    word.parse::<f64>().is_ok().then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directive_is_applied_in_a_trial() {
        for line in hardening::all() {
            assert!(is_applied(&line), "{line}");
        }
        assert!(!is_applied("PrivateUsers=yes"));
    }

    #[test]
    fn the_exposure_is_the_last_lines() {
        let text = "✗ UMask=  0.1\n\n→ Overall exposure level for a.service: 1.6 OK 🙂\n";
        assert_eq!(overall(text), Some("1.6"));
        assert_eq!(overall("Failed to load unit\n"), None);
    }
}
