//! What trials showed, for people and as JSON.

use std::path::Path;

use anyhow::Result;
use nrtrace_profiles::classify;
use nrtrace_profiles::describe;
use nrtrace_profiles::emit::{self, Verdict as Remedy};
use nrtrace_profiles::grants::Method;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::prove::judge;
use nrtrace_profiles::requirement::{Access, IdentityOperation, Need, Requirement, Severity, word};
use nrtrace_profiles::text::{indented_json, printable};
use nrtrace_profiles::ways::plan;

use super::Prover;
use super::bench::last_words;
use super::verify::Verified;
use crate::args::{ReportFormat, Results, RunArgs};
use crate::{results, terminal};

fn say(text: &str) {
    terminal::tell(format_args!("{}", printable(text)));
}

/// Lines of the program's output that are shown.
const LAST_LINES: usize = 6;

/// The outcome of `verify`.
pub fn verified(verified: &Verified, profile: &Profile, prover: &Prover, results: &Results) -> Result<()> {
    if results.showing.format == ReportFormat::Json {
        return terminal::print(&json(verified, profile));
    }
    if results.talk.quiet {
        return Ok(());
    }
    let identity = &verified.report.trace.run.identity;
    let who = format!("{} as {} (uid {})", profile.name, identity.user, identity.uid);
    match &verified.failure {
        None if !verified.is_proved() => say(&format!(
            "Not proved: {who} lives with what the profile grants, but not each time: {} of {} trials failed without a \
             reason to be seen",
            verified.flaked, verified.trials
        )),
        None => lives(verified, profile, prover, &who),
        Some(failure) => {
            say(&format!("Not proved: {who}, with what the profile grants, {failure}"));
            let output = String::from_utf8_lossy(&verified.report.output).into_owned();
            let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
            if !lines.is_empty() {
                say("It said last:");
            }
            lines
                .iter()
                .skip(lines.len().saturating_sub(LAST_LINES))
                .for_each(|line| say(&format!("  {line}")));
            missing(verified, profile, prover);
            let known = emit::for_checks(profile);
            if !known.is_empty() {
                say(&format!("It checks by itself who it is, or what is its own: {}", known.join(", or ")));
            }
        }
    }
    for text in &verified.report.not_applied {
        say(&format!("Not applied in the sandbox: {text}"));
    }
    for text in &verified.report.remarks {
        say(&format!("Note: {text}"));
    }
    Ok(())
}

fn lives(verified: &Verified, profile: &Profile, prover: &Prover, who: &str) {
    let readiness = match prover.course.readiness.words() {
        Some(words) => format!("{words}, and still after {:.1} s", prover.course.settle.as_secs_f64()),
        None => "it did its work or stayed alive; give --ready to prove more".to_owned(),
    };
    let exercise = if prover.course.exercise.is_some() { ", exercised" } else { "" };
    let untried = match verified.refused.untried.len() {
        0 => String::new(),
        1 => ", but for one need on what is shared, of which nothing is proved".to_owned(),
        more => format!(", but for {more} needs on what is shared, of which nothing is proved"),
    };
    say(&format!("Proved: {who} lives with what the profile grants{untried}{exercise}: {readiness}"));
    for id in &verified.added {
        say(&format!("Added: {id}"));
    }
    for requirement in &profile.requirements {
        let proof = requirement.proof.as_ref();
        let partly = proof.map(|proof| &proof.tolerated).filter(|access| !access.is_empty());
        if requirement.severity == Severity::Tolerated {
            say(&format!("Tolerated: {}", named(requirement)));
        } else if let Some(access) = partly {
            let words: Vec<String> = access.iter().map(word).collect();
            say(&format!("Tolerated: {} of {}", words.join(", "), requirement.id));
        }
    }
}

fn missing(verified: &Verified, profile: &Profile, prover: &Prover) {
    // The way each would be granted.
    let mut complete = profile.clone();
    verified.refused.missing.iter().for_each(|missing| judge::add(&mut complete, missing));
    let plan = plan(&complete, &prover.choices);
    for missing in &verified.refused.missing {
        let known = complete.requirements.iter().find(|known| known.id == missing.id).unwrap_or(missing);
        let remedies: Vec<String> = emit::done(&plan, known).into_iter().map(|remedy| remedy.text).collect();
        let calls: Vec<&str> = missing.evidence.calls.iter().map(String::as_str).collect();
        let at = missing.evidence.refused_at.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
        say(&format!(
            "Missing: {}, refused in {}{at}: {}",
            named(missing),
            calls.join(", "),
            remedies.join("; ")
        ));
    }
    for (id, _) in &verified.refused.insufficient {
        let of_id = |known: &&Requirement| known.id == *id;
        let is_port = profile
            .requirements
            .iter()
            .find(of_id)
            .is_some_and(|known| matches!(known.need, Need::Port { .. }));
        if is_port && plan.port_method == Method::Socket {
            say(&format!(
                "Refused: {id}: systemd would have bound it by the socket unit and handed it over, which a trial does \
                 not do: try the rest with --prefer capability"
            ));
            continue;
        }
        if verified.refused.untried.contains(id) {
            say(&format!("Refused: {id}: it lies on what is shared, where a trial grants nothing"));
            continue;
        }
        if verified.refused.withheld.contains(id) {
            say(&format!(
                "Refused: {id}: systemd would hand over a control group (Delegate=), which a trial cannot"
            ));
            continue;
        }
        let is_granted = |requirement: &Requirement| {
            let granted = [Remedy::Granted, Remedy::Partly];
            let done = emit::done(&plan, requirement);
            // What the program's configuration has to say first is granted by no file alone.
            done.iter().any(|remedy| granted.contains(&remedy.verdict))
                && done.iter().all(|remedy| remedy.method != Some(Method::Configure))
        };
        let granted = profile.requirements.iter().filter(of_id).any(is_granted);
        let copied = plan.credentials.values().any(|copy| copy.why.needs.contains(id));
        say(&format!("Refused: {id}: {}", in_vain(id, granted, copied, verified)));
        if let Some(requirement) = profile.requirements.iter().find(of_id).filter(|_| !granted || copied) {
            emit::done(&plan, requirement).iter().for_each(|remedy| say(&format!("  {}", remedy.text)));
        }
    }
    if verified.refused.missing.is_empty() && verified.refused.insufficient.is_empty() {
        becomes(profile);
        match judge::recorded_failure(profile) {
            Some(exit) => say(&format!(
                "Nothing was refused that a grant would give, and the recorded run, with every right, {} as well: \
                 what it lacks is no right",
                describe::exit(exit)
            )),
            None if plan.unmet.is_empty() => {
                say("Nothing was refused that a grant would give: the reason lies elsewhere");
            }
            None => plan.unmet.iter().for_each(|unmet| {
                say(&format!("Not granted: {}: {}. Instead: {}", unmet.need, unmet.reason, unmet.hint));
            }),
        }
    } else if !verified.refused.missing.is_empty() {
        say("With --update, verify adds what is missing and tries again");
    }
}

/// A program that becomes somebody else, and ends although nothing was refused, may look whether it has.
fn becomes(profile: &Profile) {
    let is_change = |known: &&Requirement| {
        let Need::Identity { operation, .. } = &known.need else { return false };
        known.severity == Severity::Required
            && [IdentityOperation::SetUser, IdentityOperation::SetGroup].contains(operation)
    };
    let changes: Vec<&str> =
        profile.requirements.iter().filter(is_change).map(|known| known.id.as_str()).collect();
    if !changes.is_empty() {
        say(&format!(
            "It becomes somebody else ({}), and may look whether it has: have its options and its configuration name nobody, or \
             everywhere the one as whom it runs",
            changes.join(", ")
        ));
    }
}

/// Why a need was refused although it is known.
fn in_vain(id: &str, granted: bool, copied: bool, verified: &Verified) -> &'static str {
    let seen = classify::profile(&verified.report.trace, "");
    let looked_at = seen.gave_up.iter().flat_map(|gave_up| &gave_up.looked_at);
    let mut there = looked_at.filter(|looked| looked.outcome == "EEXIST");
    match granted {
        true if there.any(|looked| id == format!("path:{}", looked.path.to_text())) => {
            "it makes this itself and ends where it is there (O_EXCL), so that nothing made beforehand helps: have it put into \
             a directory of its own"
        }
        true if verified.refused.keeps_from_removing(id) => {
            "it is made beforehand, as its directory is not the service's, and the program removes it, or ends where it is there \
             (O_EXCL, or a pid file that stands for another one that runs): have it put into a directory of its own, by an \
             option or its configuration"
        }
        true if copied => "systemd hands over a copy, and the program reads the file where it was",
        true => "granted, and refused all the same",
        false => "refused, and no file grants it",
    }
}

fn named(requirement: &Requirement) -> String {
    match &requirement.need {
        Need::Path { access, file_type, .. } | Need::Device { access, file_type, .. } => {
            let words: Vec<String> = access.iter().map(|access: &Access| word(access)).collect();
            format!("{} [{}] {}", requirement.id, words.join(" "), word(file_type))
        }
        _ => requirement.id.clone(),
    }
}

fn json(verified: &Verified, profile: &Profile) -> String {
    let value = serde_json::json!({
        "lives": verified.is_proved(),
        "failure": verified.failure.as_ref().map(ToString::to_string),
        "said": last_words(&verified.report),
        "missing": verified.refused.missing,
        "refused": verified.refused.insufficient.iter().map(|(id, _)| id).collect::<Vec<_>>(),
        "added": verified.added,
        "trials": verified.trials,
        "flaked": verified.flaked,
        "notApplied": verified.report.not_applied,
        "profile": profile,
    });
    indented_json(&value)
}

/// The recorded run failed, and no trial was made.
pub fn unproved(
    verified: &Verified,
    profile: &Profile,
    prover: &Prover,
    args: &RunArgs,
    written: Option<&Path>,
) -> Result<()> {
    if args.results.showing.format == ReportFormat::Json && !args.minimize {
        return terminal::print(&json(verified, profile));
    }
    results::show(&args.results, profile, &prover.choices, written)
}
