//! The recording of what already runs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nrtrace_profiles::event::{Attached, Backend, Exit, Phase, Record, RunFacts, Trace, TraceEnd};
use nrtrace_profiles::glob::Pattern;

use super::process::{self, Facts};
use super::waiting::aim_at_unit;
use super::{Arrival, Judged, Subject};
use crate::collect::{Collector, Config, Within};
use crate::course::{Attendant, Tree, Turn, Verdict};
use crate::launch::Error;
use crate::launch::environment;
use crate::launch::signals::Signals;
use crate::launch::tree::{self, End};
use crate::recording::{self, Recorded};
use crate::session::{Feed, Happened, Progress, Source, has_ended, monotonic};

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
    let mut collector = Collector::new(config(plan, subject, judged));
    let feed = Feed::new(source, &mut collector, progress, subject.main.pid as u32);
    let mut session = Session::new(plan, subject, feed);
    session.attended = attended;
    match arrival {
        Some(arrival) => session.continues(arrival)?,
        None => session.begins()?,
    }
    session.until_over(&signals).await?;
    let exit = session.exit();
    let duration = session.feed.start.elapsed();
    let from_start = session.from_start;
    let ended = session.end();
    let finished = session.attended.take().map(|attended| attended.attendant.finish(ended));
    let (course, output) = finished.unwrap_or_default();
    // Also when all had been reached before: whoever wants to end wants no further run.
    let asked = session.asked.then_some(Verdict::Interrupted);
    let mut collected = collector.finish();
    let mut notes = notes(plan, subject, port_start.is_none() && is_there);
    notes.append(&mut collected.notes);
    let main = &subject.main;
    let facts = recording::RecordingFacts {
        identity: judged.identity.clone(),
        mode: judged.mode,
        backend: plan.backend,
        record: plan.record,
        paths: plan.paths.clone(),
    };
    let run = RunFacts {
        command: main.command.clone(),
        cwd: main.cwd.clone(),
        environment: environment::redirects(&main.environment),
        unprivileged_port_start: port_start.unwrap_or_else(recording::unprivileged_port_start),
        attached: Some(Attached {
            target: subject.description.clone(),
            from_start,
            own_refusals: judged.own_refusals,
        }),
        container: subject.container.clone(),
        ..facts.run()
    };
    let end = TraceEnd {
        milestones: course.as_ref().map(|came| came.milestones),
        notes,
        ..recording::end(&mut collected, source, exit, duration)
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
    feed: Feed<'a, Collector>,
    from_start: bool,
    attended: Option<Attended<'a>>,
    /// What all of it hangs below.
    root: i32,
    /// When it was asked to end, with its course.
    stopping: Option<Instant>,
    over: bool,
    /// Whether a signal asked to stop.
    asked: bool,
    /// Whether none of its processes is left, and its next start is looked out for.
    rests: bool,
}

impl<'a> Session<'a> {
    fn new(plan: &'a Plan, subject: &'a Subject, feed: Feed<'a, Collector>) -> Self {
        Self {
            plan,
            subject,
            feed,
            from_start: false,
            attended: None,
            root: tree::above(subject.main.pid),
            stopping: None,
            over: false,
            asked: false,
            rests: false,
        }
    }

    /// Attaches to what runs already.
    fn begins(&mut self) -> Result<(), Error> {
        self.feed.sink.started(monotonic());
        self.feed.set_phase(Phase::Steady);
        let adopted = self.subject.scope.adopt(self.feed.source)?;
        self.meet(&adopted);
        (self.feed.progress)(Progress::Started { pid: self.subject.main.pid as u32 });
        Ok(())
    }

    /// Goes on with what was waited for, which is watched already.
    fn continues(&mut self, arrival: Arrival) -> Result<(), Error> {
        self.from_start = arrival.from_start;
        if !arrival.from_start {
            let adopted = self.subject.scope.adopt(self.feed.source)?;
            self.meet(&adopted);
        }
        self.feed.sink.keep(arrival.trees);
        self.feed.sink.started(arrival.time);
        arrival.records.iter().for_each(|record| self.feed.members.take(record));
        arrival.records.iter().for_each(|record| self.feed.sink.record(record));
        self.feed.members.meet(self.subject.main.pid as u32);
        (self.feed.progress)(Progress::Started { pid: self.subject.main.pid as u32 });
        Ok(())
    }

    fn meet(&mut self, pids: &[i32]) {
        for facts in pids.iter().filter_map(|pid| Facts::read(*pid)) {
            self.feed.members.meet(facts.pid as u32);
            self.feed.sink.met(&facts);
        }
    }

    async fn until_over(&mut self, signals: &Signals) -> Result<(), Error> {
        let mut waiting = self.feed.waiting(signals, None)?;
        while !self.over {
            match waiting.next(false).await? {
                Happened::Signals => {
                    self.asked |= asks_to_end(signals);
                    self.over |= self.asked;
                }
                Happened::Records | Happened::Told => self.feed.drain(),
                Happened::Tick => self.tick()?,
            }
        }
        self.feed.drain();
        self.feed.count();
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Error> {
        self.feed.drain();
        self.feed.sink.tick();
        self.attend()?;
        if self.feed.source.helper().is_some_and(has_ended) {
            return Err(Error::Tracer);
        }
        self.over |= self.plan.run_for.is_some_and(|limit| self.feed.start.elapsed() >= limit);
        self.await_restart()?;
        if self.feed.tell() {
            self.over |= self.plan.restarts.is_none() && self.is_gone();
        }
        Ok(())
    }

    /// Looks out for the next start once the last process has ended: its control group will be another one.
    fn await_restart(&mut self) -> Result<(), Error> {
        let Some(unit) = &self.plan.restarts else { return Ok(()) };
        let rests = !self.feed.members.any_known();
        if rests && !self.rests {
            self.feed.source.aim(&aim_at_unit(unit))?;
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
        match attended.attendant.tick(Tree::Below { root, members: &self.feed.members }, end)? {
            Some(Turn::Ready) => {
                self.feed.set_phase(Phase::Steady);
                (self.feed.progress)(Progress::Ready { elapsed: self.feed.start.elapsed() });
            }
            // It ended by itself, and its container with it.
            Some(Turn::Over) if end.is_some() => self.over = true,
            Some(Turn::Over) => {
                self.feed.set_phase(Phase::Shutdown);
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
        if self.feed.members.any_lives() {
            return false;
        }
        let alive = |pid: &i32| tree::member(*pid).is_some_and(|member| !member.zombie);
        let left: Vec<i32> = self.subject.scope.processes().into_iter().filter(alive).collect();
        left.iter().for_each(|pid| self.feed.members.meet(*pid as u32));
        left.is_empty()
    }

    /// How its first process has ended.
    fn end(&self) -> Option<End> {
        self.feed.members.main_ended().map(|status| match libc::WIFSIGNALED(status) {
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

/// How what is recorded of it is understood.
fn config(plan: &Plan, subject: &Subject, judged: &Judged) -> Config {
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
    Config {
        identity: judged.identity.clone(),
        mode: judged.mode,
        backend: plan.backend,
        record: plan.record,
        max_events: Config::MAX_EVENTS,
        paths: plan.paths.clone(),
        within,
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
