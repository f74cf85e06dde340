//! A report to look at in a browser: one file, without network, in light and dark, on screen and on paper.
//!
//! The markup is made by [`maud`], which escapes every text; the page's policy (Content-Security-Policy) allows no
//! network and no script but the one whose hash it names.

mod answer;
mod needs;
mod timeline;
mod tree;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::escape::shell::readable;
use super::table::{listen, unexplained};
use super::{Emitted, Format, Verdict, verdict};
use crate::RawText;
use crate::describe;
use crate::grants::{BEYOND, Grants, Reach, reach};
use crate::profile::Profile;
use crate::requirement::{Seconds, word};
use crate::text::printable;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// The hash of [`SCRIPT`], as a Content-Security-Policy has it.
const SCRIPT_HASH: &str = "sha256-cCZHMxgyUscUzN0+7OZzgPGjSTByLfPD14Tvyfuz050=";

/// The page.
pub(super) fn emit(profile: &Profile, grants: &Grants) -> Emitted {
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src '{SCRIPT_HASH}'; img-src data:; base-uri 'none'; form-action 'none'"
    );
    let title = format!("{} as {}", profile.name, grants.account.user);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content="nrtrace";
                title { (text(&title)) " without root" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(profile, grants))
                main {
                    (answer::section(profile, grants))
                    (files(profile, grants))
                    (timeline::section(profile, grants))
                    (tree::section(profile, grants))
                    (needs::section(profile, grants))
                    (rest(profile, grants))
                }
                footer {
                    "Written by nrtrace from one run; this file holds everything and asks the network for nothing."
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    let mut out = page.into_string();
    out.push('\n');
    Emitted::plain("report.html", out)
}

/// Text with control characters made visible; maud escapes the rest.
fn text(raw: &str) -> String {
    printable(raw).into_owned()
}

fn path(raw: &RawText) -> String {
    raw.to_string()
}

fn seconds(seconds: Seconds) -> String {
    let value = seconds.written();
    if value < 1.0 { format!("{:.0} ms", value * 1e3) } else { format!("{value:.1} s") }
}

/// The name of a verdict, for classes and for people.
fn verdict_words(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Granted => ("granted", "granted"),
        // They look like what is to be done by hand.
        Verdict::Partly => ("advice", "not held by each file"),
        Verdict::Advice => ("advice", "to configure"),
        Verdict::Optional => ("optional", "not needed"),
        Verdict::Withheld => ("advice", "withheld"),
        Verdict::Unmet => ("unmet", "cannot be granted"),
    }
}

fn verdict_of(requirement: &crate::requirement::Requirement, grants: &Grants) -> Verdict {
    verdict(grants, requirement)
}

fn head(profile: &Profile, grants: &Grants) -> Markup {
    let words: Vec<String> = profile.command.iter().map(|word| readable(&word.to_text())).collect();
    let run = &profile.run;
    let account = &grants.account;
    let made = if profile.identity.exists { "" } else { ", made up for the run" };
    html! {
        header {
            div.top {
                p.brand { "nrtrace" }
                button #theme type="button" title="Light or dark" { "◐" }
            }
            (answer::result(profile, grants))
            pre.command { code { (text(&words.join(" "))) } }
            ul.facts {
                li { b { "user" } " " (account.run_uid) ":" (account.run_gid) (made) }
                li { b { "run" } " " (word(&run.mode)) ", " (word(&run.backend)) ", " (seconds(run.duration)) }
                li { b { "kernel" } " " (text(&run.kernel)) }
                li { b { "end" } " " (describe::exit(run.exit)) }
                @if run.complete { li { b { "record" } " complete" } }
            }
        }
    }
}

fn list(title: &str, items: Vec<String>) -> Markup {
    html! {
        @if !items.is_empty() {
            section.plain { h2 { (title) } ul { @for item in &items { li { (text(item)) } } } }
        }
    }
}

fn rest(profile: &Profile, grants: &Grants) -> Markup {
    let gave_up = profile.gave_up.as_ref();
    let looked = gave_up.map(|gave_up| {
        gave_up
            .looked_at
            .iter()
            .map(|look| format!("{} {}: {}", look.call, look.path.to_text(), look.outcome))
            .collect()
    });
    let unmet = grants.unmet.iter().filter(|unmet| unmet.need == "identity");
    let unmet = unmet.map(|unmet| format!("{}; {}", unmet.reason, unmet.hint));
    let tips = grants.present_owners.iter().map(|(owner, present)| present.tip(owner, grants.user_option));
    html! {
        (list("What it looked at before it gave up", looked.unwrap_or_default()))
        (list("To look at", unmet.collect()))
        (list(BEYOND, reach(profile, grants).iter().map(Reach::text).collect()))
        (list("Not explained", profile.unexplained.iter().map(unexplained).collect()))
        (list("Listens on", profile.listens.iter().map(listen).collect()))
        (list("Worth knowing", tips.chain(profile.notes.iter().cloned()).collect()))
    }
}

/// Text with what stands between backticks as code.
fn spans(raw: &str) -> Markup {
    let parts: Vec<&str> = raw.split('`').collect();
    let paired = parts.len() % 2 == 1;
    html! {
        @if !paired { (text(raw)) }
        @for (n, part) in parts.iter().enumerate().filter(|_| paired) {
            @if n % 2 == 1 { code { (text(part)) } } @else { (text(part)) }
        }
    }
}

/// The files that grant, to read and to copy.
fn files(profile: &Profile, grants: &Grants) -> Markup {
    let formats = [
        Format::Sysusers,
        Format::Tmpfiles,
        Format::SystemdUnit,
        Format::SystemdDropIn,
        Format::Kubernetes,
        Format::Containerfile,
        Format::Compose,
        Format::Setcap,
    ];
    let all: Vec<Emitted> = formats.map(|format| format.emit(profile, grants)).into();
    html! {
        section #files {
            h2 { "Files" }
            @for emitted in &all {
                details.file {
                    summary { code { (emitted.file_name) } button.copy type="button" { "copy" } }
                    pre { code { (text_lines(&emitted.text)) } }
                }
            }
        }
    }
}

/// Text of several lines.
fn text_lines(raw: &str) -> String {
    let lines: Vec<String> = raw.lines().map(text).collect();
    lines.join("\n")
}
