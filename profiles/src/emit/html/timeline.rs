//! The timeline: when each need came up, and which part of the service's life that was.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::words::{seconds, text, verdict_of, verdict_words};
use crate::emit::table::rows::group_of;
use crate::emit::table::rows::named;
use crate::emit::table::rows::phases;
use crate::grants::Grants;
use crate::profile::Profile;
use crate::requirement::{Requirement, Seconds};

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 216.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 28.0;
/// Height of a row of marks, and what a lane has besides its rows.
const ROW: f64 = 13.0;
const LANE: f64 = 17.0;
/// Least distance of two marks of one row.
const APART: f64 = 13.0;
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
    let lanes = lanes(profile, &scale);
    let height = lanes.last().map_or(TOP, |lane| lane.top + lane.height) + 8.0;
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
                    @for lane in &lanes {
                        @let y = lane.top + lane.height / 2.0;
                        text.lane x="0" y=(round(y + 4.0)) { (lane.title) }
                        line.rail x1=(LEFT) x2=(WIDTH - RIGHT) y1=(round(y)) y2=(round(y)) {}
                        @for mark in &lane.marks { (draw(mark, lane.at(mark.row), &scale, grants)) }
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

/// The needs of one kind.
struct Lane<'a> {
    title: &'a str,
    top: f64,
    height: f64,
    rows: usize,
    marks: Vec<Mark<'a>>,
}

impl Lane<'_> {
    /// The height of a row; all of them together lie around the middle.
    fn at(&self, row: usize) -> f64 {
        self.top + self.height / 2.0 + ROW * (row as f64 - (self.rows as f64 - 1.0) / 2.0)
    }
}

/// A need, by its place in the profile, and the row of its lane it is drawn in.
struct Mark<'a> {
    id: usize,
    requirement: &'a Requirement,
    row: usize,
}

fn lanes<'a>(profile: &'a Profile, scale: &Scale) -> Vec<Lane<'a>> {
    let mut kinds: BTreeMap<(u8, &str), Vec<(usize, &Requirement)>> = BTreeMap::new();
    for (n, requirement) in profile.requirements.iter().enumerate() {
        kinds.entry(group_of(&requirement.need)).or_default().push((n, requirement));
    }
    let mut top = TOP;
    let mut lanes = Vec::new();
    for ((_, title), mut needs) in kinds {
        needs.sort_by_key(|(_, requirement)| requirement.evidence.first);
        // Where each row ends so far: what came up at the same moment is drawn one below the other.
        let mut ends: Vec<f64> = Vec::new();
        let mut marks = Vec::new();
        for (id, requirement) in needs {
            let (first, last) = (scale.at(requirement.evidence.first), scale.at(requirement.evidence.last));
            let free = ends.iter().position(|end| first - end >= APART);
            let row = free.unwrap_or_else(|| {
                ends.push(first);
                ends.len() - 1
            });
            ends[row] = last;
            marks.push(Mark { id, requirement, row });
        }
        let height = LANE + ROW * ends.len() as f64;
        lanes.push(Lane { title, top, height, rows: ends.len(), marks });
        top += height;
    }
    lanes
}

fn draw(mark: &Mark, y: f64, scale: &Scale, grants: &Grants) -> Markup {
    let Mark { id, requirement, .. } = mark;
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
