//! Each need with its evidence, and all that the answer leaves out.

use std::collections::BTreeMap;

use super::listens::listen;
use super::paper::{BOLD, Paper};
use super::rows::{access_of, group_of, named, phases, remedy, why_of};
use super::{gave_up, proved};
use crate::describe;
use crate::emit::escape::shell;
use crate::event::Obstacle;
use crate::grants::{BEYOND, Grants, Reach, reach};
use crate::knowledge::Fact;
use crate::profile::{Profile, Unexplained};
use crate::requirement::{Requirement, word};

pub(super) fn evidence(paper: &mut Paper, profile: &Profile, grants: &Grants) {
    run(paper, profile);
    let mut groups: BTreeMap<(u8, &str), Vec<&Requirement>> = BTreeMap::new();
    for requirement in profile.requirements.iter().filter(|requirement| !requirement.only_asked()) {
        groups.entry(group_of(&requirement.need)).or_default().push(requirement);
    }
    for ((_, title), requirements) in groups {
        paper.blank();
        paper.title(BOLD, &format!("{title} ({})", requirements.len()));
        for requirement in requirements {
            need(paper, requirement, grants);
        }
    }
    paper.list(BOLD, "Listens on", profile.listens.iter().map(listen));
    paper.list(BOLD, "Refused or consulted, and no need", profile.unexplained.iter().map(unexplained));
    if let Some(gave_up) = &profile.gave_up {
        gave_up::looked_at(paper, gave_up);
    }
    paper.list(BOLD, "What is known of it", profile.knowledge.iter().filter_map(known));
    let more = reach(profile, grants);
    paper.list(BOLD, BEYOND, more.iter().map(Reach::text));
}

fn run(paper: &mut Paper, profile: &Profile) {
    paper.blank();
    let command: Vec<String> = profile.command.iter().map(|word| shell::readable(&word.to_text())).collect();
    paper.item("command   ", &command.join(" "));
    let run = &profile.run;
    let seconds = run.duration.0 as f64 / 1e9;
    let (mode, backend, exit) = (word(&run.mode), word(&run.backend), describe::exit(run.exit));
    paper.item("run       ", &format!("{mode}, {backend}, kernel {}, {seconds:.1} s, {exit}", run.kernel));
    let unresolved = match run.unresolved {
        0 => String::new(),
        more => format!(", {more} paths unresolved"),
    };
    let record = run.shortfall().unwrap_or_else(|| "complete".into());
    paper.item("record    ", &format!("{record} ({}){unresolved}", word(&run.record)));
    if let Some(phases) = run.timeline.and_then(|timeline| phases(&timeline, run.duration)) {
        paper.item("phases    ", &phases);
    }
    if let Some(proof) = proved::of_profile(profile) {
        paper.item("proof     ", &proof);
    }
    if !run.missing_capabilities.is_empty() {
        let names: Vec<String> = run.missing_capabilities.iter().map(ToString::to_string).collect();
        let text = format!("{} (nrtrace itself lacks it, so it could not be given)", names.join(", "));
        paper.item("without   ", &text);
    }
}

fn need(paper: &mut Paper, requirement: &Requirement, grants: &Grants) {
    let access = access_of(requirement).join(", ");
    paper.item("  ", &format!("{}  {access}", named(requirement).concat()));
    paper.item("    why     ", &why_of(requirement).join("; "));
    for remedy in remedy(requirement, grants) {
        paper.item("    remedy  ", &remedy);
    }
}

/// What is known of needs, where there is more to say than what to do.
fn known(fact: &Fact) -> Option<String> {
    let note = fact.note.as_ref().filter(|_| fact.checks.is_none())?;
    let source = fact.sources.first().map(|source| format!(" ({source})")).unwrap_or_default();
    Some(format!("{}: {}: {note}{source}", fact.program, fact.is))
}

pub(in crate::emit) fn unexplained(entry: &Unexplained) -> String {
    let capability = entry.capability.map(|c| format!(" consulted {c}")).unwrap_or_default();
    let object = entry.object.to_text();
    let frames =
        if entry.frames.is_empty() { String::new() } else { format!(" in {}", entry.frames.join(" < ")) };
    let why = entry.obstacle.as_ref().map(obstacle).unwrap_or_default();
    format!(
        "{} {object} by {}{capability}{frames}: {}, {}{why}",
        entry.call,
        entry.process.to_text(),
        entry.outcome,
        describe::times(entry.count),
    )
}

fn obstacle(obstacle: &Obstacle) -> String {
    let at = obstacle.at.as_ref().map(|at| format!(" at {}", at.to_text())).unwrap_or_default();
    format!("; {}{at}: {}", word(&obstacle.cause), obstacle.cause.reason())
}
