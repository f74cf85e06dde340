//! The needs of a run while they are found: what is known so far, as the answer at the end will name it.

use nrtrace_profiles::RawText;
use nrtrace_profiles::classify;
use nrtrace_profiles::emit::found;
use nrtrace_profiles::event::{Event, RunFacts, Trace, TraceEnd};
use nrtrace_profiles::text::printable;
use nrtrace_profiles::ways::grants;
use nrtrace_tracer::recording::RecordingFacts;

use crate::screen::Foot;

/// What is shown of a run.
pub struct Live {
    foot: Foot,
    name: String,
    trace: Trace,
    /// The needs, the newest last, and how often each was met.
    needs: Vec<(String, u64)>,
    is_new: bool,
}

impl Live {
    /// For a run of the program of that name; `None` where no terminal can show it.
    pub fn new(name: &str, facts: &RecordingFacts, command: &[RawText]) -> Option<Self> {
        let run = RunFacts {
            id: String::new(),
            command: command.to_vec(),
            identity: facts.identity.clone(),
            mode: facts.mode,
            backend: facts.backend,
            record: facts.record,
            kernel: String::new(),
            cwd: RawText::from("/"),
            environment: Vec::new(),
            given: Vec::new(),
            missing_capabilities: Vec::new(),
            unprivileged_port_start: 1024,
            paths: Vec::new(),
            attached: None,
            container: None,
        };
        let trace = Trace { run, events: Vec::new(), end: TraceEnd::default() };
        let foot = Foot::make()?;
        Some(Self { foot, name: name.to_owned(), trace, needs: Vec::new(), is_new: false })
    }

    /// Something was refused, or would have been.
    pub fn take(&mut self, event: Event) {
        self.trace.events.push(event);
        self.is_new = true;
    }

    /// Shows the newest needs that there is room for, below them how the run comes along.
    pub fn show(&mut self, status: &str) {
        if std::mem::take(&mut self.is_new) {
            let profile = classify::profile(&self.trace, &self.name);
            self.needs = found(&profile, &grants(&profile));
        }
        let room = self.foot.lines().saturating_sub(2);
        let hidden = self.needs.len().saturating_sub(room);
        let mut lines = vec![match self.needs.len() {
            0 => format!("{}: no need so far", self.name),
            _ if hidden > 0 => format!("{}: {} needs so far, the newest:", self.name, self.needs.len()),
            _ => format!("{} needs so far:", self.name),
        }];
        let newest = self.needs.iter().skip(hidden);
        lines.extend(newest.map(|(name, count)| match count {
            0 | 1 => format!("  {}", printable(name)),
            _ => format!("  {} (met {count} times)", printable(name)),
        }));
        lines.push(status.to_owned());
        self.foot.show(&lines);
    }
}
