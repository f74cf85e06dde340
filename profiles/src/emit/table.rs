//! What a run showed, for people: the answer first. The evidence for each need follows where it is asked for.

mod evidence;
mod gave_up;
pub(crate) mod groups;
mod listens;
mod paper;
pub(super) mod proved;
pub(crate) mod rows;

use super::answer::{ends_by_itself, headline, of, sections};
use super::doubts;
use super::escape::shell;
use super::treatment::Treatment;
use crate::describe;
use crate::grants::{Grade, Grants, reach};
use crate::profile::{Profile, Unexplained};
use crate::requirement::Need;
use crate::text::printable;
use groups::{Group, few, groups};
use paper::{BOLD, GREEN, Paper, RED, YELLOW, columns, padded};
pub use paper::{Style, View};

pub(super) use evidence::unexplained;
pub use groups::found;
pub(crate) use listens::listen;

/// The answer: whether and as whom it runs, with what; after that, with [`View::all`], the evidence.
pub fn table(profile: &Profile, grants: &Grants, view: &View) -> String {
    let mut paper = Paper::new(view);
    let sure = heading(&mut paper, profile, grants);
    if profile.requirements.is_empty() {
        match describe::no_needs(profile) {
            Ok(text) if sure => paper.title(GREEN, &text),
            Ok(text) => paper.title(BOLD, &text),
            Err(text) => paper.title(RED, &text),
        }
    }
    let groups = groups(profile, grants);
    rows(&mut paper, &groups);
    going_on(&mut paper, profile, &groups);
    footer(&mut paper, profile, grants);
    if view.all {
        evidence::evidence(&mut paper, profile, grants);
    }
    paper.out
}

/// What `nrtrace explain` can be asked of a profile, for example: a port, or the name of a file.
pub fn example(profile: &Profile, grants: &Grants) -> Option<String> {
    let groups = groups(profile, grants);
    let needs = || groups.iter().flat_map(|group| group.needs.iter().map(|need| &need.need));
    let port = needs().find_map(|need| match need {
        Need::Port { port, .. } => Some(port.to_string()),
        _ => None,
    });
    let path = || {
        needs().find_map(|need| match need {
            Need::Path { path, .. } => Some(shell::readable(&printable(&path.to_text()))),
            _ => None,
        })
    };
    port.or_else(path).or_else(|| needs().next().map(|need| shell::readable(&printable(&need.id()))))
}

/// Pairs of a name and what is to be typed or read for it: two in a line where there is room.
pub fn pairs(pairs: &[(&str, String)], view: &View) -> String {
    const NAME: usize = 8;
    let mut paper = Paper::new(view);
    let cells: Vec<String> =
        pairs.iter().map(|(name, text)| format!("{name:<NAME$}{}", printable(text))).collect();
    let half = view.width.map_or(0, |width| width / 2);
    for pair in cells.chunks(2) {
        match pair {
            [left, right] if columns(left) + 2 <= half && columns(right) <= half => {
                paper.line(&format!("{}{right}", padded(left, half)));
            }
            _ => pair.iter().for_each(|cell| paper.line(cell)),
        }
    }
    paper.out
}

/// What speaks against the result, and the result in a line; whether nothing speaks against it.
fn heading(paper: &mut Paper, profile: &Profile, grants: &Grants) -> bool {
    let doubts = doubts::doubts(profile);
    for doubt in &doubts {
        paper.title(if doubt.is_grave { RED } else { YELLOW }, &doubt.text);
        if doubt.is_failure {
            let gave_up = profile.gave_up.as_ref().map(|gave_up| &gave_up.stderr);
            gave_up::last_words(paper, gave_up.filter(|said| !said.is_empty()).unwrap_or(&profile.run.said));
        }
    }
    let proved = profile.proof.as_ref().is_some_and(|proof| proof.lives);
    paper.title(if proved && doubts.is_empty() { GREEN } else { BOLD }, &headline(profile, grants));
    doubts.is_empty()
}

/// What is done about needs, a row for those that are dealt with alike.
fn rows(paper: &mut Paper, groups: &[Group<'_>]) {
    for section in sections(groups) {
        if let Some(title) = section.title {
            let colour = if section.verdict == Treatment::Unmet { RED } else { YELLOW };
            paper.title(colour, &format!("{title} ({})", section.needs()));
        }
        block(paper, &section.groups);
    }
}

/// Columns of the place, as of `tmpfiles.d`.
const PLACE: usize = 14;
/// Longest subject and remedy that rows are lined up for.
const MOST: [usize; 2] = [44, 34];

fn block(paper: &mut Paper, groups: &[&Group<'_>]) {
    let is_sentence = |group: &Group<'_>| columns(&group.remedy) > MOST[1];
    let short = || groups.iter().filter(|group| !is_sentence(group));
    let widest = |texts: &mut dyn Iterator<Item = &String>, most: usize| {
        let wide = texts.map(|text| columns(&printable(text))).filter(|wide| *wide <= most);
        wide.max().unwrap_or(0)
    };
    let widths = [
        widest(&mut short().map(|group| &group.subject), MOST[0]),
        widest(&mut short().map(|group| &group.remedy), MOST[1]),
    ];
    for group in groups {
        let subject = printable(&group.subject).into_owned();
        if is_sentence(group) {
            paper.line(&with_reason(paper, &format!("  {subject}"), group));
            let place = if group.place.is_empty() { String::new() } else { format!(" ({})", group.place) };
            paper.item("    ", &format!("{}{place}", group.remedy));
            continue;
        }
        let remedy = printable(&group.remedy).into_owned();
        let rest = format!("{}  {}", padded(&remedy, widths[1]), group.place);
        let line = format!("  {}  {rest}", padded(&subject, widths[0]));
        if columns(line.trim_end()) <= paper.room(0) {
            let line = padded(&line, paper.room(0).min(5 + widths[0] + widths[1] + PLACE));
            paper.line(&with_reason(paper, &line, group));
        } else {
            paper.line(&with_reason(paper, &format!("  {subject}"), group));
            paper.line(&format!("    {}  {}", remedy, group.place));
        }
        for other in &group.others {
            paper.item("    or: ", other);
        }
    }
}

/// The line with as much of the reason beside it as there is room for.
fn with_reason(paper: &Paper, line: &str, group: &Group<'_>) -> String {
    if !paper.is_wide() {
        return line.to_owned();
    }
    let fits = |reason: &String| columns(reason) <= paper.room(columns(line) + 2);
    let reason = group.reasons().into_iter().map(|reason| printable(&reason).into_owned()).find(fits);
    format!("{line}  {}", reason.unwrap_or_default())
}

/// What is refused and does no harm, in a line.
fn going_on(paper: &mut Paper, profile: &Profile, groups: &[Group<'_>]) {
    let refused = of(groups, Treatment::Optional);
    let count: usize = refused.iter().map(|group| group.needs.len()).sum();
    if count > 0 {
        let names: Vec<String> = refused.iter().map(|group| group.subject.clone()).collect();
        paper.item("", &format!("refused, and it goes on: {count} ({})", few(&names)));
    }
    let held = profile.proof.as_ref().map_or(0, |proof| proof.hardening.len());
    if held > 0 {
        paper.item("", &format!("taken away by the unit, and it lives: {held} more directives that harden"));
    }
    let asked = profile.requirements.iter().filter(|requirement| requirement.only_asked()).count();
    if asked > 0 {
        paper.item(
            "",
            &format!("only asked about with access(2), and nothing followed: {asked} (in the profile)"),
        );
    }
}

fn footer(paper: &mut Paper, profile: &Profile, grants: &Grants) {
    let (hindered, rest): (Vec<&Unexplained>, Vec<&Unexplained>) =
        profile.unexplained.iter().partition(|entry| entry.obstacle.is_some());
    counted(paper, "Refused for other reasons than the user's rights", &hindered);
    counted(paper, "Not explained", &rest);
    for unmet in grants.unmet.iter().filter(|unmet| unmet.need == "identity") {
        paper.title(RED, &format!("To look at: {}; {}", unmet.reason, unmet.hint));
    }
    // What trials lived with is not spoken against by the run that was first.
    let lives = profile.proof.as_ref().is_some_and(|proof| proof.lives);
    if let Some(gave_up) = profile.gave_up.as_ref().filter(|_| !lives) {
        gave_up::to_try(paper, gave_up, profile);
    }
    if let Some(text) = tried(profile) {
        paper.item("tried   ", &text);
    }
    if let Some(text) = listens::summary(&profile.listens) {
        paper.item("listens ", &text);
    }
    let mut more: Vec<String> = reach(profile, grants)
        .iter()
        .filter(|reach| reach.grade >= Grade::Medium)
        .map(crate::grants::Reach::text)
        .collect();
    more.dedup();
    if !more.is_empty() {
        paper.item("opens   ", &few(&more));
    }
    for (owner, present) in &grants.present_owners {
        paper.item("note    ", &present.tip(owner, grants.user_option));
    }
    for note in &profile.notes {
        paper.item("note    ", note);
    }
}

/// What the trials came to: nobody is to take a life for a service.
fn tried(profile: &Profile) -> Option<String> {
    let proof = profile.proof.as_ref().filter(|proof| proof.lives)?;
    if proof.exercise.is_some() || ends_by_itself(profile) {
        return None;
    }
    let ready = proof.readiness.as_ref().map(|words| format!("{words}, and ")).unwrap_or_default();
    let settled = proof.settled.0 as f64 / 1e9;
    let ready = format!("{ready}it lived on for {settled:.1} s");
    let answers: Vec<String> = proof
        .greetings
        .iter()
        .map(|greeting| format!("{} on tcp {}", greeting.status, greeting.port))
        .collect();
    Some(if answers.is_empty() {
        format!("{ready}; nobody used it: --exercise COMMAND does")
    } else {
        format!(
            "{ready}, and answered a client as before ({}); --exercise COMMAND tries more",
            answers.join(", ")
        )
    })
}

/// The first of what could not be placed, and how much there is.
fn counted(paper: &mut Paper, title: &str, entries: &[&Unexplained]) {
    const SHOWN: usize = 3;
    if entries.is_empty() {
        return;
    }
    let rest = if entries.len() > SHOWN { "; --all shows them" } else { "" };
    paper.title(RED, &format!("{title} ({}{rest})", entries.len()));
    for entry in entries.iter().take(SHOWN) {
        paper.item("  ", &unexplained(entry));
    }
}
