//! Each need, expandable to its evidence and its remedies.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::words::{path, seconds, text, verdict_of, verdict_words};
use crate::describe::owner;
use crate::emit::remedy::{Remedy, remedies};
use crate::emit::table::proved;
use crate::emit::table::rows::group_of;
use crate::emit::table::rows::{access_of, named};
use crate::event::Phase;
use crate::grants::Grants;
use crate::profile::Profile;
use crate::requirement::{Evidence, Requirement, word};

/// The section.
pub(super) fn section(profile: &Profile, grants: &Grants) -> Markup {
    let mut groups: BTreeMap<(u8, &str), Vec<(usize, &Requirement)>> = BTreeMap::new();
    for (n, requirement) in profile.requirements.iter().enumerate() {
        groups.entry(group_of(&requirement.need)).or_default().push((n, requirement));
    }
    if groups.is_empty() {
        return html! {};
    }
    html! {
        section #needs {
            h2 { "Needs" }
            div.filter role="search" {
                input #filter type="search" placeholder="Filter: a path, a call, a process, “granted”, “high” …" aria-label="Filter needs" autocomplete="off";
                button #open type="button" { "open all" }
                span #count role="status" {}
            }
            @for ((_, title), needs) in &groups {
                div.group {
                    h3 { (title) " " span.quiet { (needs.len()) } }
                    @for (n, requirement) in needs { (need(*n, requirement, grants)) }
                }
            }
        }
    }
}

fn need(n: usize, requirement: &Requirement, grants: &Grants) -> Markup {
    let (class, words) = verdict_words(verdict_of(requirement, grants));
    let remedies = remedies(grants, requirement);
    let chosen: Vec<&Remedy> = remedies.iter().filter(|remedy| remedy.chosen).collect();
    html! {
        details class={ "need " (class) } id={ "need-" (n) } {
            summary {
                span.subject { code { (text(&named(requirement).concat())) } }
                span.tags {
                    @for access in access_of(requirement) { span.tag { (text(&access)) } }
                    @if requirement.phase != Phase::Startup { span.tag.phase { (word(&requirement.phase)) } }
                    span class={ "tag verdict " (class) } { (words) }
                }
                @if let Some(first) = chosen.first() {
                    span.answer { (text(&first.text)) }
                }
            }
            div.body {
                (evidence(requirement))
                (remedy_table(&remedies))
            }
        }
    }
}

fn evidence(requirement: &Requirement) -> Markup {
    let evidence: &Evidence = &requirement.evidence;
    let calls: Vec<&str> = evidence.calls.iter().map(String::as_str).collect();
    let processes: Vec<String> = evidence.processes.iter().map(path).collect();
    let outcomes: Vec<String> =
        evidence.outcomes.iter().map(|(name, count)| format!("{name} × {count}")).collect();
    let checks: Vec<String> = evidence.checks.iter().map(ToString::to_string).collect();
    let objects: Vec<String> = evidence.objects.iter().map(path).collect();
    html! {
        dl.evidence {
            dt { "seen" }
            dd { (text(&calls.join(", "))) " by " (text(&processes.join(", "))) ", " (evidence.count) "×, "
                (seconds(evidence.first)) @if evidence.last != evidence.first { " to " (seconds(evidence.last)) } " after the start" }
            @if let Some((at, inode)) = requirement.refused() {
                dt { "refused at" }
                dd { code { (path(at)) } @if let Some(inode) = inode { " " span.quiet { (text(&owner(inode))) } } }
            }
            @if !checks.is_empty() { dt { "the kernel asked for" } dd { (checks.join(", ")) } }
            @if !objects.is_empty() {
                dt { "wanted" }
                dd { @for object in &objects { code { (object) } " " } }
            }
            @for caller in &evidence.callers {
                @if caller.executable.is_some() || !caller.ancestors.is_empty() {
                    dt { "caller" }
                    dd {
                        @for ancestor in &caller.ancestors { code { (path(ancestor)) } " → " }
                        code { (path(caller.executable.as_ref().unwrap_or(&caller.name))) }
                    }
                }
            }
            @if !outcomes.is_empty() { dt { "ended" } dd { (text(&outcomes.join(", "))) } }
            dt { "known by" }
            dd { (word(&requirement.basis)) ", " (word(&requirement.severity)) }
            @let proved = proved::of_need(requirement);
            @if !proved.is_empty() { dt { "proof" } dd { (text(&proved.join(", "))) } }
            dt { "id" }
            dd { code.id { (text(&requirement.id)) } }
        }
    }
}

fn remedy_table(remedies: &[Remedy]) -> Markup {
    html! {
        div.scroll {
            table.remedies {
                thead { tr { th { "Remedy" } th { "Opens beyond the need" } th { "Because" } } }
                tbody {
                    @for remedy in remedies {
                        tr.chosen[remedy.chosen] {
                            td {
                                @if remedy.chosen { span.check title="what the files do" { "✓ " } }
                                (text(&remedy.text))
                                @if let Some(source) = &remedy.source { " " span.source { (text(source)) } }
                            }
                            td { (opens(remedy)) }
                            td { (text(&remedy.because)) }
                        }
                    }
                }
            }
        }
    }
}

fn opens(remedy: &Remedy) -> Markup {
    let name = word(&remedy.risk);
    html! { span class={ "grade " (name) } { (name) } @for what in &remedy.opens { " " (text(what)) } }
}
