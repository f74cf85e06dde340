//! What is told of a run.

use std::ffi::OsString;

use nrtrace_profiles::RawText;
use nrtrace_profiles::container::{Container, Mounted, Place};
use nrtrace_profiles::event::{Attached, Backend, Exit, Identity, Mode, Record, RunFacts, Trace, TraceEnd};

use super::trial::{Outcome, Rights, Trial};
use crate::attach::inside;
use crate::trial::Report;

/// What is said of a need on what the host mounts.
fn untried(id: &String) -> String {
    format!("{id} is on what the host mounts")
}

impl Trial<'_> {
    /// What is said of the run: nothing of it is named after the container, which is no more.
    pub(super) fn describe(&self, run: &mut RunFacts) {
        let spec = &self.image.spec;
        let raw = |text: &str| RawText::from(text);
        run.command = self.command.iter().map(|word| raw(word)).collect();
        run.given = spec.environment.iter().map(|(name, value)| (raw(name), raw(value))).collect();
        run.attached = run.attached.take().map(|attached| Attached {
            target: format!("a container of {}", spec.image),
            from_start: true,
            ..attached
        });
        let container = run.container.get_or_insert_with(Container::default);
        (container.id, container.name, container.image) = (None, None, Some(spec.image.clone()));
        (container.apart, container.holds) =
            (inside::apart(&self.image.root), inside::holds(&self.image.root));
        for volume in &spec.volumes {
            let at = raw(&volume.target);
            container.mounts.retain(|mounted| mounted.at != at);
            let (place, name) = match volume.is_bind() {
                true => (Place::Bind, None),
                false => (Place::Volume, Some(volume.source.clone())),
            };
            // Where it really is: a link does not tell whose it is.
            let real = || std::fs::canonicalize(&volume.source).unwrap_or_else(|_| (&volume.source).into());
            let host = volume.is_bind().then(|| RawText::new(real().as_os_str().as_encoded_bytes()));
            container.mounts.push(Mounted { at, place, volume: name, host, read_only: volume.read_only });
        }
        container.mounts.sort_by(|a, b| a.at.cmp(&b.at));
    }

    /// The report of a run that nobody watched.
    pub(super) fn report_of(&self, outcome: Outcome) -> Report {
        let end = TraceEnd {
            exit: outcome.end.map_or(Exit::Running, Into::into),
            duration: u64::try_from(outcome.after.as_nanos()).unwrap_or(u64::MAX),
            ..TraceEnd::default()
        };
        let run = self.facts();
        let trace = Trace { run, events: Vec::new(), end };
        Report { verdict: Some(outcome.verdict), output: outcome.output, ..self.report(trace) }
    }

    pub(super) fn report(&self, trace: Trace) -> Report {
        let confined = self.confined.as_ref();
        Report {
            verdict: None,
            trace,
            program: OsString::new(),
            status: 0,
            output: Vec::new(),
            not_applied: confined.into_iter().flat_map(|confined| &confined.on_host).map(untried).collect(),
            on_shares: confined.map(|confined| confined.on_host.clone()).unwrap_or_default(),
            withheld: confined.map(|confined| confined.withheld.clone()).unwrap_or_default(),
            by_volume: confined.map(|confined| confined.by_volume.clone()).unwrap_or_default(),
            remarks: Vec::new(),
        }
    }

    /// What is known of a run that nobody watched.
    fn facts(&self) -> RunFacts {
        let profile = match self.request.rights {
            Rights::Granted(profile, _) => Some(profile),
            Rights::Recorded(_) => None,
        };
        let nobody = || Identity {
            user: String::new(),
            group: String::new(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            exists: false,
        };
        RunFacts {
            id: String::new(),
            command: self.command.iter().map(|word| RawText::from(word.as_str())).collect(),
            identity: profile.map_or_else(nobody, |profile| profile.identity.clone()),
            mode: Mode::Enforced,
            backend: Backend::Ebpf,
            record: Record::Needs,
            kernel: String::new(),
            cwd: RawText::from("/"),
            environment: Vec::new(),
            given: Vec::new(),
            missing_capabilities: Vec::new(),
            unprivileged_port_start: 0,
            paths: Vec::new(),
            attached: None,
            container: profile.and_then(|profile| profile.container.clone()),
        }
    }
}
