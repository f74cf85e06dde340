//! The timeline: when each need came up, and which part of the service's life that was.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{seconds, text, verdict_of, verdict_words};
use crate::emit::table::group_of;
use crate::emit::table::phases;
use crate::emit::table::rows::named;
use crate::grants::Grants;
use crate::profile::Profile;
use crate::requirement::{Requirement, Seconds};

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 200.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 28.0;
const LANE: f64 = 30.0;
/// Below this the scale is linear, above it logarithmic.
const KNEE: f64 = 0.01;

/// The scale: time to a place from left to right.
struct Scale {
    end: f64,
}

impl Scale {
    fn at(&self, time: Seconds) -> f64 {
        let value = |seconds: f64| (1.0 + seconds / KNEE).ln();
        let time = time.written().min(self.end);
        LEFT + (WIDTH - LEFT - RIGHT) * value(time) / value(self.end)
    }

    fn ticks(&self) -> Vec<(Seconds, &'static str)> {
        const TICKS: [(u64, &str); 8] = [
            (0, "0"),
            (10_000_000, "10 ms"),
            (100_000_000, "100 ms"),
            (1_000_000_000, "1 s"),
            (10_000_000_000, "10 s"),
            (60_000_000_000, "1 min"),
            (600_000_000_000, "10 min"),
            (3_600_000_000_000, "1 h"),
        ];
        TICKS
            .into_iter()
            .map(|(time, label)| (Seconds(time), label))
            .filter(|(t, _)| t.0 as f64 / 1e9 <= self.end)
            .collect()
    }
}

/// The section.
pub(super) fn section(profile: &Profile, grants: &Grants) -> Markup {
    if profile.requirements.is_empty() {
        return html! {};
    }
    let last = profile.requirements.iter().map(|r| r.evidence.last).max().unwrap_or_default();
    let end = profile.run.duration.max(last).written();
    let scale = Scale { end: end.max(KNEE) };
    let mut lanes: BTreeMap<(u8, &str), Vec<(usize, &Requirement)>> = BTreeMap::new();
    for (n, requirement) in profile.requirements.iter().enumerate() {
        lanes.entry(group_of(&requirement.need)).or_default().push((n, requirement));
    }
    let height = TOP + LANE * lanes.len() as f64 + 8.0;
    let summary = profile.run.timeline.and_then(|timeline| phases(&timeline, profile.run.duration));
    html! {
        section #timeline {
            h2 { "Timeline" }
            @if let Some(summary) = &summary { p.quiet { (text(summary)) } }
            @else { p.quiet { "From the start to the end of the run, on a logarithmic scale. When it was ready was not asked (--ready)." } }
            div.scroll {
                svg viewBox={ "0 0 " (WIDTH) " " (round(height)) } role="img" aria-label="When each need came up" {
                    (life(profile, &scale, height))
                    @for (time, label) in scale.ticks() {
                        line.tick x1=(round(scale.at(time))) x2=(round(scale.at(time))) y1=(TOP - 6.0) y2=(round(height)) {}
                        text.label x=(round(scale.at(time))) y="14" text-anchor="middle" { (label) }
                    }
                    @for (n, ((_, title), needs)) in lanes.iter().enumerate() {
                        @let y = TOP + LANE * (n as f64 + 0.5);
                        text.lane x="0" y=(round(y + 4.0)) { (title) }
                        line.rail x1=(LEFT) x2=(WIDTH - RIGHT) y1=(round(y)) y2=(round(y)) {}
                        @for (id, requirement) in needs { (mark(*id, requirement, y, &scale, grants)) }
                    }
                }
            }
        }
    }
}

/// The parts of the service's life, where they are known.
fn life(profile: &Profile, scale: &Scale, height: f64) -> Markup {
    let Some(timeline) = profile.run.timeline else { return html! {} };
    let end = timeline.stopping.unwrap_or(profile.run.duration);
    html! {
        @if let Some(ready) = timeline.ready {
            rect.steady x=(round(scale.at(ready))) y=(TOP - 6.0) width=(round((scale.at(end) - scale.at(ready)).max(0.0))) height=(round(height - TOP + 6.0)) {
                title { "steady: from readiness to the stop" }
            }
            text.label.ready x=(round(scale.at(ready) + 4.0)) y=(round(height - 2.0)) { "ready" }
        }
    }
}

fn mark(id: usize, requirement: &Requirement, y: f64, scale: &Scale, grants: &Grants) -> Markup {
    let (class, words) = verdict_words(verdict_of(requirement, grants));
    let evidence = &requirement.evidence;
    let (first, last) = (scale.at(evidence.first), scale.at(evidence.last));
    html! {
        a href={ "#need-" (id) } class={ "mark " (class) } {
            title { (text(&named(requirement).concat())) " (" (words) "), " (seconds(evidence.first)) }
            @if last - first > 2.0 { line x1=(round(first)) x2=(round(last)) y1=(round(y)) y2=(round(y)) {} }
            circle cx=(round(first)) cy=(round(y)) r="5" {}
        }
    }
}

fn round(value: f64) -> String {
    format!("{value:.1}")
}
