//! A program that ended by itself: what it said, and what to try.

use super::paper::{Paper, RED};
use super::rows::is_missing;
use crate::RawText;
use crate::describe::{self, owner};
use crate::event::{Attached, Mode, Record};
use crate::knowledge::Fact;
use crate::profile::{GaveUp, Profile};
use crate::requirement::{IdentityOperation, Need, Requirement, Severity};

/// Lines of standard error that are shown.
const LAST_WORDS: usize = 8;

/// Its last words.
pub(super) fn last_words(paper: &mut Paper, said: &[RawText]) {
    let mut said = said.to_vec();
    said.dedup();
    if !said.is_empty() {
        paper.line("  It said last:");
    }
    for line in said.iter().skip(said.len().saturating_sub(LAST_WORDS)) {
        paper.item("    ", &line.to_text());
    }
}

/// What it looked at.
pub(super) fn looked_at(paper: &mut Paper, gave_up: &GaveUp) {
    if !gave_up.looked_at.is_empty() {
        paper.blank();
        paper.title(super::paper::BOLD, "What it looked at before it gave up");
    }
    for looked in &gave_up.looked_at {
        let owner = looked.inode.as_ref().map(|inode| format!(" ({})", owner(inode))).unwrap_or_default();
        paper.item("  ", &format!("{} {}: {}{owner}", looked.call, looked.path.to_text(), looked.outcome));
    }
}

/// Why it gave up, as far as that is known, and what to try.
pub(super) fn to_try(paper: &mut Paper, gave_up: &GaveUp, profile: &Profile) {
    let how = describe::exit(gave_up.exit);
    let missing = |r: &&Requirement| r.severity == Severity::Required && is_missing(r);
    let explained = if profile.requirements.iter().any(|r| missing(&r)) {
        ", perhaps for what was not there"
    } else {
        ", and no refusal of the kernel explains it"
    };
    paper.title(RED, &format!("The program gave up by itself ({how}){explained}. To try:"));
    for fact in profile.knowledge.iter().filter(|fact| fact.checks.is_some()) {
        paper.item("  ", &insists(fact));
    }
    for hint in hints(gave_up, profile) {
        paper.item("  ", &hint);
    }
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
