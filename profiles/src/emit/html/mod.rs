//! A report to look at in a browser: one file, without network, in light and dark, on screen and on paper.
//!
//! The markup is made by [`maud`], which escapes every text; the page's policy (Content-Security-Policy) allows no
//! network and no script but the one whose hash it names.

mod answer;
mod needs;
mod timeline;
mod tree;
mod words;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use words::{seconds, text};

use super::escape::shell::readable;

use super::page::Emitted;
use super::table::{listen, unexplained};
use super::{compose, containerfile, kubernetes, setcap, systemd, sysusers, tmpfiles};
use crate::describe;
use crate::grants::{BEYOND, Grants, Reach, reach};
use crate::profile::Profile;
use crate::requirement::word;

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

/// The files that grant, to read and to copy.
fn files(profile: &Profile, grants: &Grants) -> Markup {
    let all = [
        sysusers::emit(grants),
        tmpfiles::emit(grants),
        systemd::unit(profile, grants),
        systemd::dropin(profile, grants),
        kubernetes::emit(profile, grants),
        containerfile::emit(profile, grants),
        compose::emit(profile, grants),
        setcap::emit(profile, grants),
    ];
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
