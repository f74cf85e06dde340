//! The recording of what already runs.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::utsname::uname;
use nrtrace_profiles::event::{Attached, Backend, Exit, Phase, Record, RunFacts, Trace, TraceEnd};
use nrtrace_profiles::glob::Pattern;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::process::{self, Facts};
use super::waiting::aim_at_unit;
use super::{Arrival, Judged, Subject};
use crate::collect::{Collector, Config, Within};
use crate::course::{Attendant, Tree, Turn, Verdict};
use crate::launch::Error;
use crate::launch::environment;
use crate::launch::signals::Signals;
use crate::launch::tree::{self, End};
use crate::members::Members;
use crate::recording::Recorded;
use crate::session::{Progress, Source, TICK, has_ended, monotonic, pollable};

/// One in so many ticks is told as progress, and looks whether the processes still live.
const TOLD: u32 = 10;

/// How it is recorded.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Stop after this time.
    pub run_for: Option<Duration>,
    /// What watches it.
    pub backend: Backend,
    /// How much is recorded.
    pub record: Record,
    /// Files whose accesses are all kept, refused or not.
    pub paths: Vec<Pattern>,
    /// The unit whose every start belongs to it, so that it is not over when the last process has ended.
    pub restarts: Option<String>,
}

/// What a program in a container of nrtrace's own is to come to, and how it is ended then.
#[derive(Debug)]
pub struct Attended<'a> {
    /// Who watches its course.
    pub attendant: &'a mut Attendant,
    /// The signal that asks it to end.
    pub stop: i32,
    /// How long it may take to end.
    pub grace: Duration,
}

/// Records what `subject` does until the time is over, a signal asks to stop, or its last process ends. Nothing of it is
/// stopped or killed, unless it is `attended`: then it is asked to end with its course.
///
/// Takes over the process's signals while it lasts. To be called on a current-thread runtime with IO and time enabled.
///
/// # Errors
/// When it cannot be watched.
pub async fn record(
    plan: &Plan,
    subject: &Subject,
    judged: &Judged,
    arrival: Option<Arrival>,
    source: &mut dyn Source,
    attended: Option<Attended<'_>>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Recorded, Error> {
    let signals = Signals::take()?;
    let port_start = process::unprivileged_port_start(subject.main.pid);
    let is_there = port_start.is_some() || Facts::read(subject.main.pid).is_some();
    let mut session = Session::new(plan, subject, judged, source, progress);
    session.attended = attended;
    match arrival {
        Some(arrival) => session.continues(arrival)?,
        None => session.begins()?,
    }
    session.until_over(&signals).await?;
    let exit = session.exit();
    let duration = u64::try_from(session.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let from_start = session.from_start;
    let ended = session.end();
    let finished = session.attended.take().map(|attended| attended.attendant.finish(ended));
    let (course, output) = finished.unwrap_or_default();
    // Also when all had been reached before: whoever wants to end wants no further run.
    let asked = session.asked.then_some(Verdict::Interrupted);
    let collected = session.collector.finish();
    let mut notes = notes(plan, subject, port_start.is_none() && is_there);
    notes.extend(collected.notes);
    let main = &subject.main;
    let run = RunFacts {
        id: Uuid::now_v7().to_string(),
        command: main.command.clone(),
        identity: judged.identity.clone(),
        mode: judged.mode,
        backend: plan.backend,
        record: plan.record,
        kernel: uname().map_or_else(|_| String::new(), |name| name.release().to_string_lossy().into_owned()),
        cwd: main.cwd.clone(),
        environment: environment::redirects(&main.environment),
        missing_capabilities: Vec::new(),
        given: Vec::new(),
        unprivileged_port_start: port_start.unwrap_or_else(crate::recording::unprivileged_port_start),
        attached: Some(Attached {
            target: subject.description.clone(),
            from_start,
            own_refusals: judged.own_refusals,
        }),
        container: subject.container.clone(),
        paths: plan.paths.iter().map(|pattern| pattern.text().clone()).collect(),
    };
    let end = TraceEnd {
        lost: source.lost() + collected.malformed,
        unjudged: collected.unjudged,
        unresolved: collected.unresolved,
        dropped_calls: collected.dropped_calls,
        exit,
        milestones: course.as_ref().map(|came| came.milestones),
        duration,
        greetings: Vec::new(),
        stderr: collected.stderr,
        accounts: collected.accounts,
        daemon: false,
        cut_off: false,
        notes,
    };
    let program = main.exe.as_ref().map(|exe| PathBuf::from(process::os(exe))).unwrap_or_default();
    Ok(Recorded {
        trace: Trace { run, events: collected.events, end },
        status: 0,
        program,
        verdict: course.map(|came| asked.unwrap_or(came.verdict)),
        output,
        left: Vec::new(),
    })
}

fn notes(plan: &Plan, subject: &Subject, other_network: bool) -> Vec<String> {
    let mut notes = Vec::new();
    let own = process::namespace(std::process::id() as i32, "mnt");
    if subject.container.is_none() && subject.main.mnt_ns != own {
        notes.push(
            "it has mounts of its own (as by PrivateTmp=, TemporaryFileSystem= or BindPaths=): what lies on them is not what \
             this machine has under the same path; compare before the files are applied"
                .to_owned(),
        );
    }
    if other_network {
        notes.push(
            "its network namespace could not be entered, so the first unprivileged port is taken to be the same as here"
                .to_owned(),
        );
    }
    if plan.backend == Backend::Ptrace {
        notes.push(
            "by ptrace, all its system calls stop twice: it runs slower meanwhile, and a wait that was in progress when \
             this began may have ended early (EINTR)"
                .to_owned(),
        );
    }
    notes
}

struct Session<'a> {
    plan: &'a Plan,
    subject: &'a Subject,
    source: &'a mut dyn Source,
    progress: &'a mut dyn FnMut(Progress),
    collector: Collector,
    members: Members,
    start: Instant,
    from_start: bool,
    attended: Option<Attended<'a>>,
    /// What all of it hangs below.
    root: i32,
    /// When it was asked to end, with its course.
    stopping: Option<Instant>,
    over: bool,
    /// Whether a signal asked to stop.
    asked: bool,
    ticks: u32,
    /// Whether none of its processes is left, and its next start is looked out for.
    rests: bool,
}

impl<'a> Session<'a> {
    fn new(
        plan: &'a Plan,
        subject: &'a Subject,
        judged: &Judged,
        source: &'a mut dyn Source,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Self {
        let main = &subject.main;
        let within = Within {
            on_host: Some(judged.on_host.clone()),
            user_ns: main.user_ns,
            uid_map: main.uid_map.clone(),
            gid_map: main.gid_map.clone(),
            users: judged.users.clone(),
            groups: judged.groups.clone(),
            own_refusals: judged.own_refusals,
            attached: true,
        };
        let config = Config {
            identity: judged.identity.clone(),
            mode: judged.mode,
            backend: plan.backend,
            record: plan.record,
            max_events: Config::MAX_EVENTS,
            paths: plan.paths.clone(),
            within,
        };
        Self {
            plan,
            subject,
            source,
            progress,
            collector: Collector::new(config),
            members: Members::new(main.pid as u32),
            start: Instant::now(),
            from_start: false,
            attended: None,
            root: tree::above(main.pid),
            stopping: None,
            over: false,
            asked: false,
            ticks: 0,
            rests: false,
        }
    }

    /// Attaches to what runs already.
    fn begins(&mut self) -> Result<(), Error> {
        self.collector.started(monotonic());
        self.collector.set_phase(Phase::Steady);
        let adopted = self.subject.scope.adopt(self.source)?;
        self.meet(&adopted);
        (self.progress)(Progress::Started { pid: self.subject.main.pid as u32 });
        Ok(())
    }

    /// Goes on with what was waited for, which is watched already.
    fn continues(&mut self, arrival: Arrival) -> Result<(), Error> {
        self.from_start = arrival.from_start;
        if !arrival.from_start {
            let adopted = self.subject.scope.adopt(self.source)?;
            self.meet(&adopted);
        }
        self.collector.started(arrival.time);
        arrival.records.iter().for_each(|record| self.members.take(record));
        arrival.records.iter().for_each(|record| self.collector.record(record));
        self.members.meet(self.subject.main.pid as u32);
        (self.progress)(Progress::Started { pid: self.subject.main.pid as u32 });
        Ok(())
    }

    fn meet(&mut self, pids: &[i32]) {
        for facts in pids.iter().filter_map(|pid| Facts::read(*pid)) {
            self.members.meet(facts.pid as u32);
            self.collector.met(&facts);
        }
    }

    async fn until_over(&mut self, signals: &Signals) -> Result<(), Error> {
        let failed = |subject| move |error: std::io::Error| Error::system("polling", subject, error);
        let asked = pollable(signals.as_fd()).map_err(failed("signals"))?;
        let records = pollable(self.source.as_fd()).map_err(failed("records"))?;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !self.over {
            tokio::select! {
                ready = asked.readable() => {
                    ready.map_err(failed("signals"))?.clear_ready();
                    self.asked |= asks_to_end(signals);
                    self.over |= self.asked;
                }
                ready = records.readable() => {
                    ready.map_err(failed("records"))?.clear_ready();
                    self.drain();
                }
                _ = ticks.tick() => self.tick()?,
            }
        }
        self.drain();
        Ok(())
    }

    fn drain(&mut self) {
        let (collector, members) = (&mut self.collector, &mut self.members);
        self.source.drain(&mut |bytes| {
            members.take(bytes);
            collector.record(bytes);
        });
    }

    fn tick(&mut self) -> Result<(), Error> {
        self.drain();
        self.collector.tick();
        self.attend()?;
        if self.source.helper().is_some_and(has_ended) {
            return Err(Error::Tracer);
        }
        let elapsed = self.start.elapsed();
        self.over |= self.plan.run_for.is_some_and(|limit| elapsed >= limit);
        self.await_restart()?;
        if self.ticks.is_multiple_of(TOLD) {
            self.over |= self.plan.restarts.is_none() && self.is_gone();
            let (counters, lost) = (self.collector.counters(), self.source.lost());
            (self.progress)(Progress::Running { elapsed, counters, lost });
        }
        self.ticks = self.ticks.wrapping_add(1);
        Ok(())
    }

    /// Looks out for the next start once the last process has ended: its control group will be another one.
    fn await_restart(&mut self) -> Result<(), Error> {
        let Some(unit) = &self.plan.restarts else { return Ok(()) };
        let rests = !self.members.any_known();
        if rests && !self.rests {
            self.source.aim(&aim_at_unit(unit))?;
        }
        self.rests = rests;
        Ok(())
    }

    /// Sees how its course comes along.
    fn attend(&mut self) -> Result<(), Error> {
        let end = self.end();
        let Some(attended) = &mut self.attended else { return Ok(()) };
        let main = self.subject.main.pid;
        let root = self.root;
        match attended.attendant.tick(Tree::Below { root, members: &self.members }, end)? {
            Some(Turn::Ready) => {
                self.collector.set_phase(Phase::Steady);
                (self.progress)(Progress::Ready { elapsed: self.start.elapsed() });
            }
            // It ended by itself, and its container with it.
            Some(Turn::Over) if end.is_some() => self.over = true,
            Some(Turn::Over) => {
                self.collector.set_phase(Phase::Shutdown);
                attended.attendant.stopping();
                self.stopping = Some(Instant::now());
                // It may have ended just now.
                let _ = tree::member(main).map(|member| member.signal(attended.stop));
            }
            None => {}
        }
        let late = self.stopping.is_some_and(|since| since.elapsed() >= attended.grace);
        self.over |= late || (self.stopping.is_some() && self.is_gone());
        Ok(())
    }

    /// Whether its last process has ended.
    fn is_gone(&mut self) -> bool {
        if self.members.any_lives() {
            return false;
        }
        let alive = |pid: &i32| tree::member(*pid).is_some_and(|member| !member.zombie);
        let left: Vec<i32> = self.subject.scope.processes().into_iter().filter(alive).collect();
        left.iter().for_each(|pid| self.members.meet(*pid as u32));
        left.is_empty()
    }

    /// How its first process has ended.
    fn end(&self) -> Option<End> {
        self.members.main_ended().map(|status| match libc::WIFSIGNALED(status) {
            true => End::Signaled(libc::WTERMSIG(status)),
            false => End::Exited(libc::WEXITSTATUS(status)),
        })
    }

    fn exit(&self) -> Exit {
        // The first process was that of one start.
        if self.plan.restarts.is_some() {
            return Exit::Running;
        }
        match (self.stopping, self.end()) {
            (Some(_), Some(End::Exited(status))) => Exit::Stopped { status: Some(status) },
            (Some(_), _) => Exit::Stopped { status: None },
            (None, Some(end)) => end.into(),
            (None, None) => Exit::Running,
        }
    }
}

/// Whether one of the signals that came asks to stop.
pub(super) fn asks_to_end(signals: &Signals) -> bool {
    let mut asked = false;
    while let Some(received) = signals.next() {
        asked |= matches!(received.number, libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT);
    }
    asked
}
