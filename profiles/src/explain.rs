//! Everything that is known about one need.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::describe;
use crate::emit::{Remedy, remedies};
use crate::event::Phase;
use crate::merge::covers;
use crate::profile::Profile;
use crate::requirement::{Basis, Requirement, Seconds, Severity, word};
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

/// A text that names no need, or several.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// No need's id has it.
    #[error(
        "no need has {0:?} in its id; nrtrace report --format json PROFILE | jq '.requirements[].id' lists them all"
    )]
    None(String),
    /// Several ids have it.
    #[error("{0:?} is in several ids; give one of them: {ids}", ids = some(.1))]
    Several(String, Vec<String>),
}

/// The first of them, and how many more there are.
fn some(ids: &[String]) -> String {
    const MOST: usize = 20;
    let first = ids.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    match ids.len().checked_sub(MOST) {
        None | Some(0) => first,
        Some(more) => format!("{first}, and {more} more"),
    }
}

/// Finds a need by its id, or by a part of it that no other id has.
///
/// # Errors
/// When there is none, or more than one.
pub fn find<'a>(profile: &'a Profile, text: &str) -> Result<&'a Requirement, NotFound> {
    if let Some(exact) = profile.requirements.iter().find(|need| need.id == text) {
        return Ok(exact);
    }
    let found: Vec<&Requirement> =
        profile.requirements.iter().filter(|need| need.id.contains(text)).collect();
    match found.as_slice() {
        [] => Err(NotFound::None(text.to_owned())),
        [one] => Ok(one),
        many => Err(NotFound::Several(text.to_owned(), many.iter().map(|need| need.id.clone()).collect())),
    }
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
