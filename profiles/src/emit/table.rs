//! The table for people.

pub(super) mod proved;
pub(super) mod rows;

use std::collections::BTreeMap;
use std::fmt::Write;

use tabled::builder::Builder;
use tabled::grid::util::string::get_line_width;
use tabled::settings::Padding;

use super::escape::shell;
use super::remedy::{Verdict, verdict};
use crate::RawText;
use crate::describe::{self, owner};
use crate::event::{Attached, Mode, Obstacle, Record};
use crate::grants::{BEYOND, Grants, Reach, reach};
use crate::knowledge::Fact;
use crate::profile::{GaveUp, Listen, Profile, Timeline, Unexplained};
use crate::requirement::{IdentityOperation, Need, Requirement, Seconds, Severity, word};
use crate::text::printable;
use rows::{alike, is_missing, row, summary};

/// Whether the table may use terminal colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text alone.
    Plain,
    /// Titles and warnings in bold and colour (ECMA-48).
    Colour,
}

/// The report of a run for a terminal of `width` columns, at least 60.
pub fn table(profile: &Profile, grants: &Grants, style: Style, width: usize) -> String {
    let mut report = Report { out: String::new(), style, width: width.max(60) };
    report.header(profile);
    let mut groups: BTreeMap<(u8, &str), Vec<&Requirement>> = BTreeMap::new();
    for requirement in profile.requirements.iter().filter(|requirement| !requirement.only_asked()) {
        groups.entry(group_of(&requirement.need)).or_default().push(requirement);
    }
    for ((_, title), requirements) in groups {
        report.needs(title, &requirements, grants);
    }
    report.totals(profile, grants);
    report.footer(profile, grants);
    report.out
}

/// When the program was ready, and from when on nothing privileged happened.
pub(super) fn phases(timeline: &Timeline, end: Seconds) -> Option<String> {
    let Some(ready) = timeline.ready else { return Some("it was never ready".into()) };
    let seconds = |time: Seconds| format!("{:.1} s", time.0 as f64 / 1e9);
    let (late, quiet) = (timeline.privileged_after_ready()?, timeline.quiet(end)?);
    let exercised = if timeline.exercised.is_some() { ", then exercised" } else { "" };
    let ready = format!("ready after {}{exercised}", seconds(ready));
    Some(if late.0 == 0 {
        format!("{ready}; nothing privileged happened in the {} after that", seconds(quiet))
    } else {
        format!(
            "{ready}; the last privileged call came {} after it was ready, and nothing in the {} after that",
            seconds(late),
            seconds(quiet)
        )
    })
}

pub(super) fn group_of(need: &Need) -> (u8, &'static str) {
    match need {
        Need::Path { .. } => (0, "Files and directories"),
        Need::Port { .. } => (1, "Ports"),
        Need::Device { .. } => (2, "Devices"),
        Need::Capability { .. } => (3, "Capabilities"),
        Need::Limit { .. } => (4, "Limits and priorities"),
        Need::Identity { .. } => (5, "Changes of identity and owner"),
        Need::Sysctl { .. } => (6, "Kernel parameters"),
        Need::Kernel { .. } => (7, "The kernel's own state"),
        Need::Exec { .. } => (8, "Programs that give rights"),
    }
}

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[1;31m";
const GREEN: &str = "\x1b[1;32m";
const RESET: &str = "\x1b[0m";

/// Lines of standard error that are shown.
const LAST_WORDS: usize = 8;

struct Report {
    out: String,
    style: Style,
    width: usize,
}

impl Report {
    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    fn title(&mut self, colour: &str, text: &str) {
        let text = printable(text).into_owned();
        for line in fold(&text, self.width) {
            match self.style {
                Style::Plain => self.line(&line),
                Style::Colour => self.line(&format!("{colour}{line}{RESET}")),
            }
        }
    }

    /// Text in lines of the width, the first behind `mark` and the others indented as far.
    fn item(&mut self, mark: &str, text: &str) {
        let indent = mark.len();
        for (n, line) in fold(&printable(text), self.width.saturating_sub(indent)).iter().enumerate() {
            let start = if n == 0 { mark } else { "" };
            self.line(&format!("{start:indent$}{line}"));
        }
    }

    fn header(&mut self, profile: &Profile) {
        let identity = &profile.identity;
        let exists = if identity.exists { "" } else { ", made up for the run" };
        self.title(
            BOLD,
            &format!(
                "What {} needs to run as {} (uid {}{exists})",
                profile.name, identity.user, identity.uid
            ),
        );
        let command: Vec<String> =
            profile.command.iter().map(|word| shell::readable(&word.to_text())).collect();
        self.item("  command  ", &command.join(" "));
        let run = &profile.run;
        let seconds = run.duration.0 as f64 / 1e9;
        self.item(
            "  run      ",
            &format!(
                "{}, {}, kernel {}, {seconds:.1} s, {}",
                word(&run.mode),
                word(&run.backend),
                run.kernel,
                describe::exit(run.exit)
            ),
        );
        match run.shortfall() {
            None => self.item("  record   ", &format!("complete ({})", word(&run.record))),
            Some(shortfall) => {
                let text =
                    format!("{shortfall}, {} paths unresolved: there may be more needs", run.unresolved);
                self.title(RED, &format!("  INCOMPLETE: {text}"));
            }
        }
        if let Some(phases) = run.timeline.and_then(|timeline| phases(&timeline, run.duration)) {
            self.item("  phases   ", &phases);
        }
        if let Some(proof) = proved::of_profile(profile) {
            self.item("  proof    ", &proof);
        }
        if !run.missing_capabilities.is_empty() {
            let names: Vec<String> = run.missing_capabilities.iter().map(ToString::to_string).collect();
            self.item(
                "  without  ",
                &format!("{} (nrtrace itself lacks it, so it could not be given)", names.join(", ")),
            );
        }
    }

    fn needs(&mut self, title: &str, requirements: &[&Requirement], grants: &Grants) {
        self.line("");
        self.title(BOLD, &format!("{title} ({})", requirements.len()));
        // Four columns with two blanks between them.
        let room = self.width - 6;
        let access = 8;
        let rest = room - access;
        let (need, why) = (rest * 34 / 100, rest * 32 / 100);
        let widths = [need, access, why, rest - need - why];
        let mut builder = Builder::default();
        builder.push_record(["NEED", "ACCESS", "WHY", "REMEDY"]);
        for alike in alike(requirements, grants) {
            let cells = match alike.as_slice() {
                [first, _, ..] => summary(first, &alike, grants),
                _ => alike.iter().map(|r| row(r, grants)).next().unwrap_or_default(),
            };
            let cells = cells.iter().zip(widths).map(|(cell, width)| {
                let paragraphs = cell.iter().flat_map(|part| fold(&printable(part), width));
                paragraphs.collect::<Vec<_>>().join("\n")
            });
            builder.push_record(cells);
        }
        let mut table = builder.build();
        table.with(tabled::settings::Style::empty()).with(Padding::new(0, 2, 0, 0));
        for line in table.to_string().lines() {
            self.line(line);
        }
    }

    fn totals(&mut self, profile: &Profile, grants: &Grants) {
        self.line("");
        if profile.requirements.is_empty() {
            return match describe::no_needs(profile) {
                Ok(text) => self.title(GREEN, &text),
                Err(text) => self.title(RED, &text),
            };
        }
        let mut counts: BTreeMap<Verdict, usize> = BTreeMap::new();
        for requirement in profile.requirements.iter().filter(|requirement| !requirement.only_asked()) {
            *counts.entry(verdict(grants, requirement)).or_default() += 1;
        }
        let words = [
            (Verdict::Granted, "granted by the files written"),
            (
                Verdict::Partly,
                "that the files for systemd cannot hold (before systemd 254, or at all: see their comments, and apply.sh)",
            ),
            (Verdict::Advice, "to settle in the program's configuration"),
            (Verdict::Optional, "not needed to live"),
            (Verdict::Withheld, "withheld, to be proved with --minimize"),
            (Verdict::Unmet, "cannot be granted safely"),
        ];
        let parts: Vec<String> = words
            .iter()
            .filter_map(|(verdict, text)| Some(format!("{} {text}", counts.get(verdict)?)))
            .collect();
        let asked = profile.requirements.iter().filter(|requirement| requirement.only_asked()).count();
        if asked > 0 {
            self.item("  ", &format!("{asked} more were only asked about with access(2), and nothing followed: they are in the profile."));
        }
        let is_short = [Verdict::Partly, Verdict::Unmet].iter().any(|verdict| counts.contains_key(verdict));
        let colour = if is_short { RED } else { GREEN };
        let total: usize = counts.values().sum();
        if total == 0 {
            return self.title(GREEN, "It needs nothing else that an ordinary user lacks.");
        }
        let needs = if total == 1 { "need" } else { "needs" };
        self.title(colour, &format!("{total} {needs}: {}.", parts.join(", ")));
    }

    fn footer(&mut self, profile: &Profile, grants: &Grants) {
        self.list(BOLD, "Listens on", profile.listens.iter().map(listen));
        let general = grants.unmet.iter().filter(|unmet| unmet.need == "identity");
        self.list(RED, "To look at", general.map(|unmet| format!("{}; {}", unmet.reason, unmet.hint)));
        let (hindered, rest): (Vec<&Unexplained>, Vec<&Unexplained>) =
            profile.unexplained.iter().partition(|entry| entry.obstacle.is_some());
        self.list(
            RED,
            "Refused for other reasons than the user's rights",
            hindered.into_iter().map(unexplained),
        );
        self.list(RED, "Not explained", rest.into_iter().map(unexplained));
        if let Some(gave_up) = &profile.gave_up {
            self.gave_up(gave_up, profile);
        }
        self.list(BOLD, "What is known of it", profile.knowledge.iter().filter_map(known));
        let more = reach(profile, grants);
        self.list(BOLD, BEYOND, more.iter().map(Reach::text));
        let tips =
            grants.present_owners.iter().map(|(owner, present)| present.tip(owner, grants.user_option));
        self.list(BOLD, "Worth knowing", tips);
        self.list(BOLD, "Notes", profile.notes.iter().cloned());
    }

    fn list(&mut self, colour: &str, title: &str, items: impl Iterator<Item = String>) {
        let mut items = items.peekable();
        if items.peek().is_some() {
            self.line("");
            self.title(colour, title);
        }
        for item in items {
            self.item("  ", &item);
        }
    }

    fn gave_up(&mut self, gave_up: &GaveUp, profile: &Profile) {
        self.line("");
        let how = describe::exit(gave_up.exit);
        let missing = |r: &&Requirement| r.severity == Severity::Required && is_missing(r);
        let explained = if profile.requirements.iter().any(|r| missing(&r)) {
            ", perhaps for what was not there"
        } else {
            ", and no refusal of the kernel explains it"
        };
        self.title(RED, &format!("The program gave up by itself ({how}){explained}."));
        if !gave_up.stderr.is_empty() {
            self.line("  It said last:");
        }
        let mut said = gave_up.stderr.clone();
        said.dedup();
        for line in said.iter().skip(said.len().saturating_sub(LAST_WORDS)) {
            self.item("    ", &line.to_text());
        }
        if !gave_up.looked_at.is_empty() {
            self.line("  Before that it looked at:");
        }
        for looked in &gave_up.looked_at {
            let owner = looked.inode.as_ref().map(|inode| format!(" ({})", owner(inode))).unwrap_or_default();
            self.item(
                "    ",
                &format!("{} {}: {}{owner}", looked.call, looked.path.to_text(), looked.outcome),
            );
        }
        self.line("  To try:");
        for fact in profile.knowledge.iter().filter(|fact| fact.checks.is_some()) {
            self.item("    ", &insists(fact));
        }
        for hint in hints(gave_up, profile) {
            self.item("    ", &hint);
        }
    }
}

/// What is known of needs, where there is more to say than what to do.
fn known(fact: &Fact) -> Option<String> {
    let note = fact.note.as_ref().filter(|_| fact.checks.is_none())?;
    let source = fact.sources.first().map(|source| format!(" ({source})")).unwrap_or_default();
    Some(format!("{}: {}: {note}{source}", fact.program, fact.is))
}

/// What the program insists on, and what to do.
fn insists(fact: &Fact) -> String {
    let remedies: Vec<&str> = fact.remedies.iter().map(|remedy| remedy.text.as_str()).collect();
    let note = fact.note.as_ref().map(|note| format!(" {note}.")).unwrap_or_default();
    let source = fact.sources.first().map(|source| format!(" ({source})")).unwrap_or_default();
    let remedies = if remedies.is_empty() { String::new() } else { format!(": {}", remedies.join(", or ")) };
    format!("{} insists on {}{remedies}.{note}{source}", fact.program, fact.is)
}

/// What to try with a program that ended early.
fn hints(gave_up: &GaveUp, profile: &Profile) -> Vec<String> {
    let answered = |r: &Requirement| {
        let switches =
            matches!(&r.need, Need::Identity { operation, .. } if *operation != IdentityOperation::Chown);
        switches && r.evidence.outcomes.contains_key("answered")
    };
    let looked_up = gave_up.looked_at.iter().any(|looked| {
        let path = looked.path.to_text();
        path == "/etc/passwd" || path.contains("/userdb")
    });
    let mut hints = Vec::new();
    if profile.run.record == Record::Needs {
        hints.push("Trace it with --record calls: that shows what it looked for and did not find.".into());
    }
    if profile.requirements.iter().any(answered) {
        hints.push(
            "Its change of identity was answered with success and not done, which a program that looks afterwards does \
             not forgive: trace it without the option that names its user, or with --identity switch.".into(),
        );
    }
    if looked_up && !profile.identity.exists {
        hints.push(
            format!(
                "Its user was made up for the run, and it looked for users: make the user first, for example with the \
                 sysusers.d file, and name it with {}.",
                Attached::user_option(profile.run.attached.as_ref())
            ),
        );
    }
    if profile.run.mode != Mode::Observation && insists_on_root(gave_up) {
        hints.push(
            "It seems to insist on being root: look for an option that lets it start without, or trace it with \
             --as-root, which leaves it root's rights and judges each access for the user.".into(),
        );
    }
    let told = profile.knowledge.iter().any(|fact| fact.checks.is_some());
    if let Some(hint) = insists_on_owning(gave_up, profile).filter(|_| !told) {
        hints.push(hint);
    }
    hints.push("It may need more than it lived to ask for: once it starts, trace it again.".into());
    hints
}

/// Somebody else's file among the last ones it looked at, where it is that one's alone or the last words are about owning.
fn insists_on_owning(gave_up: &GaveUp, profile: &Profile) -> Option<String> {
    const LAST: usize = 3;
    const WORDS: [&str; 4] = [" own ", "owned", "owner", "permission"];
    let speaks = gave_up.stderr.iter().any(|line| {
        let line = line.to_text().to_lowercase();
        WORDS.iter().any(|word| line.contains(word))
    });
    let (looked, inode) = gave_up.looked_at.iter().rev().take(LAST).find_map(|looked| {
        let inode = looked.inode.as_ref().filter(|inode| inode.uid != profile.identity.uid)?;
        let own = looked.outcome == "ok" && !looked.path.as_bytes().starts_with(b"/proc/");
        (own && (speaks || inode.mode & 0o077 == 0)).then_some((looked, inode))
    })?;
    let other = match &inode.user {
        Some(user) if inode.uid != 0 => {
            format!(", or run it as {user} ({} {user})", Attached::user_option(profile.run.attached.as_ref()))
        }
        _ => String::new(),
    };
    Some(format!(
        "It looked at {} ({}) shortly before, and may insist on owning it: trace it again with a copy that belongs to its \
         user{other}.",
        looked.path.to_text(),
        owner(inode)
    ))
}

/// Whether the program's last words are about not being root.
fn insists_on_root(gave_up: &GaveUp) -> bool {
    const WORDS: [&str; 4] = ["root", "superuser", "super-user", "privilege"];
    gave_up.stderr.iter().any(|line| {
        let line = line.to_text().to_lowercase();
        WORDS.iter().any(|word| line.contains(word))
    })
}

pub(super) fn listen(listen: &Listen) -> String {
    let address = listen.address.to_text();
    let by: Vec<String> = listen.processes.iter().map(RawText::to_text).collect();
    let place = match listen.port {
        Some(port) if address.contains(':') => format!("[{address}]:{port}"),
        Some(port) => format!("{address}:{port}"),
        None => address,
    };
    format!("{} {place} ({})", word(&listen.protocol), by.join(", "))
}

pub(super) fn unexplained(entry: &Unexplained) -> String {
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

/// Breaks printable text into lines of at most `width` columns, at blanks, and long words after a slash where
/// there is one.
fn fold(text: &str, width: usize) -> Vec<String> {
    let width = width.max(4);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word = word;
        while let Some(line) = lines.last_mut() {
            let gap = usize::from(!line.is_empty());
            if fits(word, width.saturating_sub(get_line_width(line) + gap)) {
                if gap == 1 {
                    line.push(' ');
                }
                // Writing to a string cannot fail.
                let _ = write!(line, "{word}");
                break;
            }
            if !line.is_empty() {
                lines.push(String::new());
                continue;
            }
            let at = cut(word, width);
            line.push_str(&word[..at]);
            word = &word[at..];
            lines.push(String::new());
        }
    }
    if lines.len() > 1 && lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// Whether text takes no more than `room` columns. Of a long one no more is looked at than fits.
fn fits(text: &str, room: usize) -> bool {
    let width = |c: char| get_line_width(c.encode_utf8(&mut [0; 4]));
    text.chars().try_fold(0, |used, c| Some(used + width(c)).filter(|used| *used <= room)).is_some()
}

/// Where to cut a word that is wider than `width`: after the last slash that fits, or where it is full.
fn cut(word: &str, width: usize) -> usize {
    let mut used = 0;
    let mut full = 0;
    let mut slash = 0;
    for (at, c) in word.char_indices() {
        used += get_line_width(c.encode_utf8(&mut [0; 4]));
        if used > width && at > 0 {
            break;
        }
        full = at + c.len_utf8();
        if c == '/' && at > 0 {
            slash = full;
        }
    }
    if slash > 1 { slash } else { full }
}
