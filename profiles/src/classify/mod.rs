//! From events to requirements.
//!
//! Pure and total: any [`Trace`] gives a [`Profile`], without input or output and without a panic. Each event
//! passes through the same stations:
//!
//! ```text
//! event ─ run_caused? ─ each check: site + noise ─┬─ path, identity, port, limit, kernel ─▶ Finding ─▶ fold
//!                                                 └─ refusal without a check: denial ─────▶ Finding or Unexplained
//! ```

mod accesses;
mod capability;
mod context;
mod denial;
mod ending;
mod errno;
pub(crate) mod files;
mod finding;
mod fold;
mod gave_up;
mod identity;
mod missing;
mod noise;
mod path;
mod pattern;
mod placement;
mod port;
mod program;
mod rejudge;
mod run_caused;
mod site;
mod special;
#[cfg(test)]
mod tests;
mod unite;
mod variables;
mod writes;

use crate::RawText;
use crate::accesses::Accesses;
use crate::calls::{self, Kernel, Operation};
use crate::event::{Event, Outcome, Trace};
use crate::profile::{GaveUp, Listen, Profile, Run, SCHEMA, Timeline, Unexplained, Written};
use crate::requirement::{Requirement, Seconds};

pub use context::Context;
use finding::{Judged, Source};
pub use rejudge::rejudge;
use site::CheckSite;
pub(crate) use unite::{unite, unite_unexplained};

/// What a recording means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classified {
    /// What is needed, one for each id, ordered by kind and id.
    pub requirements: Vec<Requirement>,
    /// Every address bound.
    pub listens: Vec<Listen>,
    /// Where it wrote by the user's own rights.
    pub writes: Vec<Written>,
    /// What was checked or refused and could not be placed.
    pub unexplained: Vec<Unexplained>,
    /// Set when the program ended by itself with an error and no refusal explains it.
    pub gave_up: Option<GaveUp>,
    /// When, before it was told to stop, the program last made a call that takes more rights than its user has.
    pub last_privileged: Option<Seconds>,
    /// What was done with the files under chosen paths.
    pub accesses: Option<Accesses>,
    /// Remarks for the reader.
    pub notes: Vec<String>,
}

/// The last lines of a run that failed or was never ready.
fn said(trace: &Trace) -> Vec<RawText> {
    const LINES: usize = 8;
    let end = &trace.end;
    let never_ready = end.milestones.is_some_and(|reached| reached.ready.is_none());
    let mut said = if end.exit.is_failure() || never_ready { end.stderr.clone() } else { Vec::new() };
    said.dedup();
    said.split_off(said.len().saturating_sub(LINES))
}

/// Makes the profile of a recording. `name` is what everything generated goes under.
pub fn profile(trace: &Trace, name: &str) -> Profile {
    let classified = classify(&trace.events, &Context::new(trace));
    let (run, end) = (&trace.run, &trace.end);
    let unjudged = end.unjudged + in_rings(&classified.unexplained);
    Profile {
        schema: SCHEMA.to_owned(),
        name: name.to_owned(),
        command: run.command.clone(),
        executable: context::executable(trace),
        unit: None,
        identity: run.identity.clone(),
        run: Run {
            id: run.id.clone(),
            mode: run.mode,
            backend: run.backend,
            record: run.record,
            kernel: run.kernel.clone(),
            lost: end.lost,
            unresolved: end.unresolved,
            unjudged,
            complete: end.lost == 0 && unjudged == 0 && !end.cut_off,
            exit: end.exit,
            said: said(trace),
            daemon: end.daemon,
            duration: Seconds(end.duration),
            timeline: end.milestones.map(|reached| Timeline {
                ready: reached.ready.map(Seconds),
                exercised: reached.exercised.map(Seconds),
                stopping: reached.stopping.map(Seconds),
                last_privileged: classified.last_privileged,
                notified: reached.notified,
            }),
            greetings: end.greetings.clone(),
            cwd: run.cwd.clone(),
            environment: run.environment.clone(),
            given: run.given.clone(),
            missing_capabilities: run.missing_capabilities.clone(),
            unprivileged_port_start: run.unprivileged_port_start,
            attached: run.attached.clone(),
        },
        container: run.container.clone(),
        requirements: classified.requirements,
        listens: classified.listens,
        writes: classified.writes,
        programs: Vec::new(),
        unexplained: classified.unexplained,
        gave_up: classified.gave_up,
        proof: None,
        notes: end.notes.iter().cloned().chain(classified.notes).collect(),
        knowledge: Vec::new(),
        runs: Vec::new(),
        accesses: classified.accesses,
    }
}

/// What rings of io_uring(7) were refused that could not be placed: their calls have no arguments to tell the path.
fn in_rings(unexplained: &[Unexplained]) -> u64 {
    let ring = Operation::Kernel(Kernel::EnterRing);
    let of_rings = unexplained.iter().filter(|one| calls::operation(&one.call) == ring);
    of_rings.map(|one| one.count).sum()
}

/// Works out what events mean. Their order is that of their times.
pub fn classify(events: &[Event], context: &Context<'_>) -> Classified {
    let mut ordered: Vec<&Event> = events.iter().collect();
    ordered.sort_by_key(|event| (event.time, event.seq));
    let asked = context.end.milestones.and_then(|reached| reached.asked);
    let mut fold = fold::Fold::until(asked.unwrap_or(u64::MAX));
    let mut writes = writes::Writes::default();
    for event in &ordered {
        let mut judged = Judged::default();
        judge(event, context, &mut judged);
        if judged.findings.is_empty() {
            writes.note(event, context);
        }
        fold.add(event, judged);
    }
    let last_privileged = fold.last_privileged().map(Seconds);
    let (mut requirements, unexplained, mut notes) = fold.finish();
    identity::name(&mut requirements, context, &mut notes);
    ending::weigh(&mut requirements, context);
    if let Some(container) = &context.run.container {
        placement::add(&mut requirements, container);
    }
    ending::remark(&requirements, &unexplained, context, &mut notes);
    let gave_up = gave_up::gave_up(&ordered, context, &requirements, &unexplained);
    path::remark(&requirements, context, &mut notes);
    variables::remark(&ordered, context, &requirements, &mut notes);
    Classified {
        requirements,
        listens: port::listens(&ordered, context),
        writes: writes.finish(context),
        unexplained,
        gave_up,
        accesses: accesses::gather(&ordered, context),
        last_privileged,
        notes: notes.into_iter().collect(),
    }
}

/// What one event means.
fn judge(event: &Event, context: &Context<'_>, out: &mut Judged) {
    if run_caused::whole_event(event, context) {
        run_caused::reopened(event, context, out);
        return;
    }
    if program::place(event, context, out) || program::own_rights(event, context) {
        return;
    }
    out.notes.extend(run_caused::filter_note(event, context));
    let mut refused = false;
    for check in &event.checks {
        if program::is_disproved(event, check, context) {
            continue;
        }
        if run_caused::own_rights(event, check, context) {
            refused |= !check.granted;
            continue;
        }
        let site = site::site(event, check);
        match noise::noise(event, check, site) {
            noise::Verdict::Dropped => continue,
            noise::Verdict::Remarked(note) => {
                out.notes.insert(note);
                refused |= !check.granted && noise::is_time_of_others(event, site);
                continue;
            }
            noise::Verdict::Real => {}
        }
        if run_caused::may_touch(event, site, context) {
            continue;
        }
        if run_caused::working_directory(event, check, site, context) {
            out.notes.insert(run_caused::working_directory_note(context));
            continue;
        }
        let source = Source { event, check: Some(check), site, context };
        refused |= source.is_refused();
        place(&source, out);
    }
    if let Some(obstacle) = &event.obstacle
        && !matches!(event.outcome, Outcome::Failure { .. })
    {
        // The program was not refused; the user would be, by what no right overrides.
        let source = Source { event, check: None, site: CheckSite::Other, context };
        let unplaced = finding::Unplaced::of(&source);
        out.unexplained.push(finding::Unplaced { obstacle: Some(obstacle.clone()), ..unplaced });
    }
    identity::answered(event, context, out);
    missing::place(event, context, out);
    if let Outcome::Failure { errno } = event.outcome
        && errno::is_refusal(errno)
        && !refused
    {
        denial::explain(event, errno, context, out);
    }
}

/// Finds the need behind a check that counts.
fn place(source: &Source<'_>, out: &mut Judged) {
    if special::place(source, out) {
        return;
    }
    let placed = match source.site {
        CheckSite::Search
        | CheckSite::File
        | CheckSite::CreateIn
        | CheckSite::DeleteIn
        | CheckSite::EntryIn
        | CheckSite::Sticky
        | CheckSite::Own
        | CheckSite::Touch => path::place(source, out),
        CheckSite::Chown => identity::chown(source, out),
        CheckSite::Bind => port::place(source, out),
        CheckSite::SetId => identity::place(source, out),
        _ => false,
    };
    if !placed && !capability::place(source, out) {
        out.unexplained.push(finding::Unplaced::of(source));
    }
}
