//! Everything that is known about one need.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::describe;
use crate::emit::table::groups::{Group, groups};
use crate::emit::table::listen;
use crate::emit::table::rows::{named, subject};
use crate::emit::{Remedy, remedies};
use crate::event::Phase;
use crate::merge::covers;
use crate::profile::{Listen, Profile};
use crate::requirement::{Basis, Need, Requirement, Seconds, Severity, word};
use crate::text::printable;
use crate::ways::grants;

/// What is known about one need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Explanation {
    /// [`Explanation::SCHEMA`].
    pub schema: String,
    /// The need, with all evidence.
    pub requirement: Requirement,
    /// The ways to meet it, best first.
    pub remedies: Vec<Remedy>,
    /// What each run shows of it, where the profile is of several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<InRun>,
}

/// A need as one run shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct InRun {
    /// The run.
    pub run: String,
    /// The ids that it has there: of the need itself, or of names that its pattern stands for.
    pub needs: Vec<String>,
    /// How many calls.
    pub count: u64,
    /// Seconds from the program's start to the first of them.
    pub first: Option<Seconds>,
}

/// A text that names no need.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no need is called {0:?} or has that in its id; nrtrace report --all PROFILE lists them all")]
pub struct NotFound(String);

/// Finds needs by what the table calls them, one or a whole row: an id, a path, a directory with `/` at its end for all that
/// is below it, a port by its number or as `tcp 80`; else by a part of their ids.
///
/// # Errors
/// When there is none.
pub fn find<'a>(profile: &'a Profile, text: &str) -> Result<Vec<&'a Requirement>, NotFound> {
    let text = text.trim();
    let all = || profile.requirements.iter();
    let by = |is_it: &dyn Fn(&Requirement) -> bool| all().filter(|need| is_it(need)).collect::<Vec<_>>();
    let shown = |text: &str| printable(text).into_owned();
    let exact = |need: &Requirement| need.id == text || shown(&need.id) == text;
    let named = |need: &Requirement| {
        let names = [named(need).concat(), subject(&need.need).concat()];
        names.iter().any(|name| name == text || shown(name) == text)
    };
    // A row with `(27 files)` behind its directory.
    let directory = text.split(" (").next().unwrap_or(text);
    let below = |need: &Requirement| match &need.need {
        Need::Path { path, .. } | Need::Device { path, .. } => {
            directory.len() > 1 && directory.ends_with('/') && shown(&path.to_text()).starts_with(directory)
        }
        _ => false,
    };
    let port = |need: &Requirement| match &need.need {
        Need::Port { protocol, port, .. } => {
            [port.to_string(), format!("{} {port}", word(protocol))].iter().any(|name| name == text)
        }
        _ => false,
    };
    let part = |need: &Requirement| need.id.contains(text) || shown(&need.id).contains(text);
    let row = || {
        let groups = groups(profile, &grants(profile));
        let is_it = |group: &Group<'_>| group.subject == text || shown(&group.subject) == text;
        let met_by = |group: &Group<'_>| shown(&group.remedy) == text;
        let of = |wanted: &dyn Fn(&Group<'_>) -> bool| {
            groups
                .iter()
                .filter(|group| wanted(group))
                .flat_map(|group| group.needs.clone())
                .collect::<Vec<_>>()
        };
        Some(of(&is_it)).filter(|found| !found.is_empty()).unwrap_or_else(|| of(&met_by))
    };
    let mut found = by(&exact);
    for look in [&|| by(&named), &row, &|| by(&below), &|| by(&port), &|| by(&part)]
        as [&dyn Fn() -> Vec<&'a Requirement>; 5]
    {
        if !found.is_empty() || text.is_empty() {
            break;
        }
        found = look();
    }
    if found.is_empty() { Err(NotFound(text.to_owned())) } else { Ok(found) }
}

/// What the program listens on that a text names (a port by its number or as `tcp 6379`, a socket by its path) and that any
/// user may: in words, a line each.
pub fn takes_no_right(profile: &Profile, text: &str) -> Vec<String> {
    let text = text.trim();
    let is_it = |listen: &&Listen| match listen.port {
        Some(port) => {
            [port.to_string(), format!("{} {port}", word(&listen.protocol))].iter().any(|name| name == text)
        }
        None => listen.address.to_text() == text,
    };
    let needed = |listen: &&Listen| {
        let id = |need: &Need| matches!(need, Need::Port { protocol, port, .. } if *protocol == listen.protocol && Some(*port) == listen.port);
        profile.requirements.iter().any(|requirement| id(&requirement.need))
    };
    let found = profile.listens.iter().filter(is_it).filter(|listen| !needed(listen));
    found
        .map(|found| {
            format!("{}: it listens there, which takes no right that an ordinary user lacks", listen(found))
        })
        .collect()
}

/// Puts together what is known about a need of the profile.
pub fn explain(profile: &Profile, requirement: &Requirement) -> Explanation {
    let in_run = |run: &Profile| {
        let parts: Vec<&Requirement> =
            run.requirements.iter().filter(|part| covers(requirement, part)).collect();
        InRun {
            run: run.run.id.clone(),
            needs: parts.iter().map(|part| part.id.clone()).collect(),
            count: parts.iter().fold(0, |sum, part| part.evidence.count.saturating_add(sum)),
            first: parts.iter().map(|part| part.evidence.first).min(),
        }
    };
    Explanation {
        schema: Explanation::SCHEMA.to_owned(),
        requirement: requirement.clone(),
        remedies: remedies(&grants(profile), requirement),
        runs: profile.runs.iter().map(in_run).collect(),
    }
}

impl Explanation {
    /// [`Explanation::schema`] of what this version writes.
    pub const SCHEMA: &str = "nrtrace/explain/v1";

    /// The explanation in lines of a name and a text, for people. It may hold text from the tracee.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let need = &self.requirement;
        let evidence = &need.evidence;
        let mut out = vec![
            ("need", describe::need(&need.need)),
            ("severity", severity(need.severity).to_owned()),
            ("known by", basis(need.basis).to_owned()),
            (
                "when",
                format!("{}; {}", phase(need.phase), times(evidence.first, evidence.last, evidence.count)),
            ),
            ("calls", format!("{} ({})", join(evidence.calls.iter().cloned()), outcomes(&evidence.outcomes))),
        ];
        for caller in &evidence.callers {
            let executable = caller.executable.as_ref().map(|path| format!(", {}", path.to_text()));
            out.push(("process", format!("{}{}", caller.name.to_text(), executable.unwrap_or_default())));
            for (depth, ancestor) in caller.ancestors.iter().rev().enumerate() {
                out.push((
                    "",
                    format!("{:depth$}\u{2514} started by {}", "", ancestor.to_text(), depth = 2 * depth),
                ));
            }
        }
        if evidence.callers.is_empty() {
            out.push(("process", join(evidence.processes.iter().map(crate::RawText::to_text))));
        }
        if let Some((at, inode)) = need.refused() {
            let owner =
                inode.map(|inode| format!(", a {} of {}", word(&inode.file_type), describe::owner(inode)));
            out.push(("refused at", format!("{}{}", at.to_text(), owner.unwrap_or_default())));
        }
        if !evidence.checks.is_empty() {
            out.push(("consulted", join(evidence.checks.iter().map(ToString::to_string))));
        }
        out.extend(evidence.objects.iter().map(|object| ("wanted", object.to_text())));
        out.extend(evidence.origins.iter().map(|origin| ("comes from", origin.to_text())));
        if let Some(proof) = &need.proof {
            let without =
                proof.without.as_ref().map(|how| format!("; without it: {how}")).unwrap_or_default();
            let trials = format!("{} trials failed without it, {} lived", proof.failed, proof.lived);
            out.push(("proof", format!("{} ({trials}){without}", proof.words())));
        }
        out.extend(self.runs.iter().map(|run| ("in run", in_run(run))));
        for remedy in &self.remedies {
            let mark = if remedy.chosen { "* " } else { "  " };
            out.push(("remedy", format!("{mark}{}", remedy.text)));
            let opens = match remedy.opens.as_slice() {
                [] => "opens nothing more".to_owned(),
                opens => format!("risk {}; it opens {}", word(&remedy.risk), opens.join("; ")),
            };
            let because =
                if remedy.because.is_empty() { String::new() } else { format!("{}; ", remedy.because) };
            out.push(("", format!("    {because}{opens}")));
        }
        out
    }
}

fn in_run(run: &InRun) -> String {
    let id = if run.run.is_empty() { "one without an id" } else { &run.run };
    match run.first {
        Some(first) => {
            let times =
                if run.count == 1 { "once".to_owned() } else { format!("{} times, first", run.count) };
            format!("{id}: {times} at {}: {}", seconds(first), run.needs.join(", "))
        }
        None => format!("{id}: not seen"),
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Required => "required: it went on only thanks to it, or failed without",
        Severity::Probe => "probe: the call would have failed anyway, or the program looks elsewhere",
        Severity::Tolerated => "tolerated: proved to live without",
    }
}

fn basis(basis: Basis) -> &'static str {
    match basis {
        Basis::Kernel => "the kernel, which consulted a capability since the user's rights did not do",
        Basis::Denied => "the kernel, which refused",
        Basis::Predicted => "the access oracle, which asked the kernel whether the user could",
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Before => "before it was watched: it was held when that began",
        Phase::Startup => "at startup",
        Phase::Steady => "while it served",
        Phase::Shutdown => "while it stopped",
    }
}

fn times(first: Seconds, last: Seconds, count: u64) -> String {
    match count {
        0 | 1 => format!("once, after {}", seconds(first)),
        _ => format!("{count} times, from {} to {}", seconds(first), seconds(last)),
    }
}

fn seconds(time: Seconds) -> String {
    format!("{:.3} s", time.0 as f64 / 1e9)
}

fn outcomes(outcomes: &BTreeMap<String, u64>) -> String {
    join(outcomes.iter().map(|(outcome, count)| format!("{outcome} {count}")))
}

fn join(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}
