//! A whole recording: a backend, the collector and the session, joined into a [`Trace`].

use std::fs;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::utsname::uname;
use nrtrace_ebpf::layout::Aim;
use nrtrace_ebpf::record::Former;
use nrtrace_profiles::RawText;
use nrtrace_profiles::event::{
    Backend, Event, Exit, Identity, Mode, Phase, Record, RunFacts, Trace, TraceEnd,
};
use nrtrace_profiles::glob::Pattern;
use uuid::Uuid;

use crate::collect::{Collected, Collector, Config, Within};
use crate::course::Verdict;
use crate::ebpf::{Lost, Probe};
use crate::launch::{Error, IdentityCall};
use crate::session::{self, Begins, Counters, Plan, Progress, Sink, Source};

/// What a recording is of, beyond how the program is run.
#[derive(Clone, Debug)]
pub struct RecordingFacts {
    /// Whom the program runs as.
    pub identity: Identity,
    /// How it runs.
    pub mode: Mode,
    /// What watches it.
    pub backend: Backend,
    /// How much is recorded.
    pub record: Record,
    /// Files whose accesses are all kept, refused or not.
    pub paths: Vec<Pattern>,
}

/// A finished recording.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// What happened.
    pub trace: Trace,
    /// The program's status as the shell tells it: its exit status, or 128 and the signal's number.
    pub status: i32,
    /// The file that was executed: absolute, symbolic links kept.
    pub program: PathBuf,
    /// What it came to, where something was waited for.
    pub verdict: Option<Verdict>,
    /// The end of its output, where that was kept.
    pub output: Vec<u8>,
    /// Remarks, of the trace's, on what the program made and left behind.
    pub left: Vec<String>,
}

/// Runs the program under `source` until its tree is gone.
///
/// See [`session::run`] for what it takes over meanwhile.
///
/// # Errors
/// When the program cannot be started or watched. Nothing of it is left behind then.
pub async fn record(
    plan: &Plan,
    facts: RecordingFacts,
    source: &mut dyn Source,
    progress: &mut dyn FnMut(Progress),
) -> Result<Recorded, Error> {
    let cwd = std::env::current_dir().map_or_else(|_| Vec::new(), |path| path.into_os_string().into_vec());
    let unprivileged_port_start = unprivileged_port_start();
    let config = Config {
        identity: facts.identity.clone(),
        mode: facts.mode,
        backend: facts.backend,
        record: facts.record,
        max_events: Config::MAX_EVENTS,
        paths: facts.paths.clone(),
        within: Within::default(),
    };
    let mut collector = Collector::new(config);
    let ended = session::run(plan, source, &mut collector, progress).await?;
    let mut collected = collector.finish();
    let mut notes = ended.notes;
    notes.append(&mut collected.notes);
    notes.extend(collected.left.clone());
    let run = RunFacts {
        command: plan.command.iter().map(|word| RawText::new(word.as_bytes())).collect(),
        cwd: RawText::new(cwd),
        environment: ended.environment,
        given: plan
            .env
            .iter()
            .map(|(name, value)| (RawText::new(name.as_bytes()), RawText::new(value.as_bytes())))
            .collect(),
        missing_capabilities: ended.missing_capabilities,
        unprivileged_port_start,
        ..facts.run()
    };
    let end = TraceEnd {
        milestones: ended.course.as_ref().map(|came| came.milestones),
        daemon: ended.daemon,
        cut_off: ended.cut_off,
        greetings: ended.course.as_ref().map(|came| came.greetings.clone()).unwrap_or_default(),
        notes,
        ..end(&mut collected, source, ended.exit, ended.duration)
    };
    let trace = Trace { run, events: collected.events, end };
    let verdict = ended.course.map(|came| came.verdict);
    let (output, left) = (ended.output, collected.left);
    Ok(Recorded { trace, status: ended.status, program: ended.program, verdict, output, left })
}

impl RecordingFacts {
    /// What a recording of that says of the run; what is only known of what is run is the caller's to add.
    pub(crate) fn run(&self) -> RunFacts {
        RunFacts {
            id: Uuid::now_v7().to_string(),
            command: Vec::new(),
            identity: self.identity.clone(),
            mode: self.mode,
            backend: self.backend,
            record: self.record,
            kernel: uname()
                .map_or_else(|_| String::new(), |name| name.release().to_string_lossy().into_owned()),
            cwd: RawText::default(),
            environment: Vec::new(),
            given: Vec::new(),
            missing_capabilities: Vec::new(),
            unprivileged_port_start: 0,
            paths: self.paths.iter().map(|pattern| pattern.text().clone()).collect(),
            attached: None,
            container: None,
        }
    }
}

/// What was recorded says so of its end.
pub(crate) fn end(
    collected: &mut Collected,
    source: &dyn Source,
    exit: Exit,
    duration: Duration,
) -> TraceEnd {
    TraceEnd {
        lost: source.lost() + collected.malformed,
        unjudged: collected.unjudged,
        unresolved: collected.unresolved,
        dropped_calls: collected.dropped_calls,
        exit,
        milestones: None,
        greetings: Vec::new(),
        daemon: false,
        cut_off: false,
        duration: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
        stderr: std::mem::take(&mut collected.stderr),
        notes: Vec::new(),
        accounts: std::mem::take(&mut collected.accounts),
    }
}

/// `net.ipv4.ip_unprivileged_port_start` of this network namespace; 1024 where the kernel does not have it (before
/// Linux 4.11).
pub(crate) fn unprivileged_port_start() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    text.trim().parse().unwrap_or(1024)
}

impl Source for Probe {
    fn watch(&mut self, child: BorrowedFd<'_>) -> Result<(), Error> {
        Probe::watch(self, child).map_err(Error::source)
    }

    fn adopt(&mut self, pid: i32, begins: Begins) -> Result<(), Error> {
        Probe::adopt(self, pid, begins).map_err(Error::source)
    }

    fn aim(&mut self, aim: &Aim) -> Result<bool, Error> {
        Probe::aim(self, aim).map(|()| true).map_err(Error::source)
    }

    fn watches(&self, _pid: i32, pidfd: BorrowedFd<'_>) -> bool {
        Probe::watches(self, pidfd)
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        Probe::as_fd(self)
    }

    fn drain(&mut self, sink: &mut dyn FnMut(&[u8])) {
        Probe::drain(self, sink);
    }

    fn fold(&mut self, turn: Option<u32>) {
        Probe::fold(self, turn);
    }

    fn repeats(&self, sink: &mut dyn FnMut(Former)) {
        Probe::repeats(self, sink);
    }

    fn lost(&self) -> u64 {
        // A counter that cannot be read must not pass for nothing lost.
        Probe::lost(self).map_or(u64::MAX, Lost::total)
    }
}

impl Sink for Collector {
    fn started(&mut self, _pid: u32, time: u64) {
        Collector::started(self, time);
    }

    fn record(&mut self, bytes: &[u8]) {
        Collector::record(self, bytes);
    }

    fn identity_call(&mut self, call: IdentityCall) {
        Collector::identity_call(self, call);
    }

    fn set_phase(&mut self, phase: Phase) {
        Collector::set_phase(self, phase);
    }

    fn tick(&mut self) {
        Collector::tick(self);
    }

    fn turn(&self) -> Option<u32> {
        Collector::turn(self)
    }

    fn repeated(&mut self, told: Former) {
        Collector::repeated(self, told);
    }

    fn counters(&self) -> Counters {
        Collector::counters(self)
    }

    fn events(&self) -> &[Event] {
        Collector::events(self)
    }
}
