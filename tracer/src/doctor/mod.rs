//! What works on this host, found by trying, and what is missing for the rest.

mod backends;
mod host;
mod modes;

use crate::launch::privileges::Privileges;

pub use modes::{Mode, Way};

/// All that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Each way to run nrtrace, and whether it works.
    pub modes: Vec<Mode>,
    /// What that rests on.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether `nrtrace run` works, in its default mode.
    pub fn able(&self) -> bool {
        self.modes.first().is_some_and(Mode::works)
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub subject: String,
    /// Whether it works.
    pub verdict: Fitness,
    /// What it is for, why it does not work, and what to do.
    pub detail: String,
}

/// Whether something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// It does.
    Works,
    /// It does, with something to be known about it.
    Note,
    /// It does not, and something else takes its place.
    Optional,
    /// It does not, and a run needs it.
    Missing,
}

impl Finding {
    /// A finding in plain words.
    pub fn new(subject: &str, verdict: Fitness, detail: impl Into<String>) -> Self {
        Self { subject: subject.to_owned(), verdict, detail: detail.into() }
    }
}

/// Looks at everything a run needs. One of the two backends is enough; what the other one lacks is then optional.
pub fn examine() -> Report {
    let (mut ebpf, mut ptrace) = (backends::probe(), backends::tracer());
    let oracle = backends::oracle();
    let (privileges, held) = privileges();
    let facts = modes::Premises {
        permissive: held.is_some_and(|held| held.require_permissive().is_ok()),
        other_user: held.is_some_and(|held| held.can_change_user()),
        ebpf: lacking(&ebpf),
        ptrace: lacking(&ptrace),
        oracle: oracle.verdict != Fitness::Missing,
    };
    let modes = modes::modes(&facts);
    let (ebpf_works, ptrace_works) = (facts.ebpf.is_empty(), facts.ptrace.is_empty() && facts.oracle);
    if ebpf_works {
        forgive(&mut ptrace);
    } else if ptrace_works {
        forgive(&mut ebpf);
    }
    let mut findings = vec![privileges];
    findings.extend(host::surroundings());
    findings.extend(ebpf);
    findings.push(host::lockdown());
    findings.push(backends::symbols());
    findings.extend(ptrace);
    findings.push(host::yama());
    findings.push(oracle);
    findings.push(choice(ebpf_works, ptrace_works));
    findings.push(host::acls());
    findings.push(host::limits(held.as_ref()));
    Report { modes, findings }
}

/// The subjects of what is missing; of hooks only where nothing that they rest on is.
fn lacking(findings: &[Finding]) -> Vec<String> {
    let missing = findings.iter().filter(|finding| finding.verdict == Fitness::Missing);
    let (hooks, rest): (Vec<String>, Vec<String>) =
        missing.map(|finding| finding.subject.clone()).partition(|subject| subject.contains('/'));
    if rest.is_empty() { hooks } else { rest }
}

fn forgive(findings: &mut [Finding]) {
    for finding in findings.iter_mut().filter(|finding| finding.verdict == Fitness::Missing) {
        finding.verdict = Fitness::Optional;
    }
}

/// What `--backend auto` comes to.
fn choice(ebpf: bool, ptrace: bool) -> Finding {
    let (verdict, detail) = match (ebpf, ptrace) {
        (true, true) => (Fitness::Works, "auto takes ebpf; ptrace works as well"),
        (true, false) => (Fitness::Works, "auto takes ebpf; ptrace does not work here"),
        (false, true) => (
            Fitness::Works,
            "auto takes ptrace: needs are predicted by the access oracle, and runs are slower",
        ),
        (false, false) => {
            (Fitness::Missing, "neither eBPF nor ptrace works here; mend what is missing for one of them")
        }
    };
    Finding::new("backend", verdict, detail)
}

/// Whether programs can be started as another user; with what this process holds.
fn privileges() -> (Finding, Option<Privileges>) {
    const SUBJECT: &str = "privileges";
    let held = match Privileges::of_self() {
        Ok(held) => held,
        Err(error) => return (Finding::new(SUBJECT, Fitness::Missing, error.to_string()), None),
    };
    if let Err(error) = held.require_permissive() {
        return (Finding::new(SUBJECT, Fitness::Missing, error.to_string()), Some(held));
    }
    let missing: Vec<String> = held.missing().iter().map(ToString::to_string).collect();
    if missing.is_empty() {
        let detail = "a program can be started as another user with all capabilities";
        return (Finding::new(SUBJECT, Fitness::Works, detail), Some(held));
    }
    let detail = format!(
        "a program can be started as another user, with all capabilities but {}: checks of these will be real refusals; \
         give them to nrtrace as well (of a container: --cap-add, or --privileged) to see what comes after",
        missing.join(", ")
    );
    (Finding::new(SUBJECT, Fitness::Note, detail), Some(held))
}
