//! What a reader came for: whether it runs and as whom, what speaks against that, and what is to be done.

use maud::{Markup, html};

use super::words::{path, spans, text, verdict_words};
use crate::RawText;
use crate::describe;
use crate::emit::answer::{headline, of, sections};
use crate::emit::doubts::{self, Doubt};
use crate::emit::table::groups::{Group, groups};
use crate::emit::treatment::Treatment;
use crate::grants::Grants;
use crate::profile::Profile;

/// The result, and what makes it less than sure.
pub(super) fn result(profile: &Profile, grants: &Grants) -> Markup {
    let doubts = doubts::doubts(profile);
    let proved = profile.proof.as_ref().is_some_and(|proof| proof.lives);
    html! {
        @for Doubt { text: words, is_grave, is_failure } in &doubts {
            p.doubt.grave[*is_grave] { (text(words)) }
            @if *is_failure { (said_last(profile)) }
        }
        h1.sure[proved && doubts.is_empty()] { (text(&headline(profile, grants))) }
    }
}

fn said_last(profile: &Profile) -> Markup {
    let gave_up = profile.gave_up.as_ref().map(|gave_up| &gave_up.stderr);
    let said = gave_up.filter(|said| !said.is_empty()).unwrap_or(&profile.run.said);
    let said: Vec<String> = said.iter().map(last_words).collect();
    html! { @if !said.is_empty() { pre.said { code { (said.join("\n")) } } } }
}

/// A line that a program wrote, its tabs as spaces.
fn last_words(line: &RawText) -> String {
    match line.as_str() {
        Some(plain) => text(&plain.replace('\t', "    ")),
        None => path(line),
    }
}

/// What is done about each need, a row for those that are dealt with alike.
pub(super) fn section(profile: &Profile, grants: &Grants) -> Markup {
    let groups = groups(profile, grants);
    let going_on = of(&groups, Treatment::Optional);
    let harmless: usize = going_on.iter().map(|group| group.needs.len()).sum();
    html! {
        section #answer {
            @if profile.requirements.is_empty() {
                @match describe::no_needs(profile) {
                    Ok(words) => p.none { (words) },
                    Err(words) => p.none.bad { (words) },
                }
            }
            @for section in sections(&groups) {
                @if let Some(title) = section.title { h3 { (title) " " span.quiet { (section.needs()) } } }
                (rows(profile, &section.groups))
            }
            @if !going_on.is_empty() {
                details.harmless {
                    summary { "Refused, and it goes on " span.quiet { (harmless) } }
                    (rows(profile, &going_on))
                }
            }
        }
    }
}

fn rows(profile: &Profile, groups: &[&Group<'_>]) -> Markup {
    html! {
        ul.rows {
            @for group in groups {
                @let (class, _) = verdict_words(group.verdict);
                li class={ "row " (class) } {
                    a.what href=(address(profile, group)) { code { (text(&group.subject)) } }
                    span.how { (spans(&group.remedy)) }
                    @if !group.place.is_empty() { span.tag { (group.place) } }
                    @if let Some(why) = group.reasons().first() { span.why { (text(why)) } }
                    @for other in &group.others { span.why { "or: " (spans(other)) } }
                }
            }
        }
    }
}

/// Where the page tells all about the first of the needs.
fn address(profile: &Profile, group: &Group<'_>) -> String {
    let first = group.needs.first();
    let at =
        profile.requirements.iter().position(|need| first.is_some_and(|first| std::ptr::eq(*first, need)));
    at.map_or_else(|| "#needs".to_owned(), |at| format!("#need-{at}"))
}
