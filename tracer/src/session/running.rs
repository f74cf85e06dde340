//! The loop while the program runs.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{getpgid, getpgrp};
use nrtrace_profiles::event::{Exit, Phase};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::MissedTickBehavior;

use super::{Plan, Progress, Sink, Source, TICK};
use crate::launch::signals::{Ending, Origin, Received, Sender, Signals, reaction};
use crate::launch::spawn::Child;
use crate::launch::stop::{Stage, Stop};
use crate::launch::supervisor::Supervisor;
use crate::launch::tree::{self, End};
use crate::launch::{Error, signals};

/// One in so many ticks is told as progress.
const TOLD: u32 = 10;

/// A program that runs, and all that looks after it.
pub(super) struct Running<'a> {
    source: &'a mut dyn Source,
    sink: &'a mut dyn Sink,
    progress: &'a mut dyn FnMut(Progress),
    signals: &'a Signals,
    supervisor: Option<Supervisor>,
    child: Child,
    guard: tree::Guard,
    run_for: Option<Duration>,
    start: Instant,
    stop: Stop,
    asked: BTreeSet<(i32, u64)>,
    interrupted: bool,
    /// How the program itself ended, and whether the run had begun to end by then.
    end: Option<(End, bool)>,
    ticks: u32,
}

impl<'a> Running<'a> {
    #[expect(clippy::too_many_arguments, reason = "each is a part of the run, named where it is passed")]
    pub(super) fn new(
        plan: &Plan,
        source: &'a mut dyn Source,
        sink: &'a mut dyn Sink,
        progress: &'a mut dyn FnMut(Progress),
        signals: &'a Signals,
        child: Child,
        supervisor: Option<Supervisor>,
        guard: tree::Guard,
    ) -> Self {
        Self {
            source,
            sink,
            progress,
            signals,
            supervisor,
            child,
            guard,
            run_for: plan.run_for,
            start: Instant::now(),
            stop: Stop::new(plan.grace),
            asked: BTreeSet::new(),
            interrupted: false,
            end: None,
            ticks: 0,
        }
    }

    /// Runs until the tree is gone; the program's end and its status for the shell.
    pub(super) async fn until_gone(mut self, notes: &mut Vec<String>) -> Result<(Exit, i32), Error> {
        let signals = pollable(self.signals.as_fd()).map_err(failed("signals"))?;
        let records = pollable(self.source.as_fd()).map_err(failed("records"))?;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !self.reap()? && self.stop.stage() != Stage::GivenUp {
            tokio::select! {
                ready = signals.readable() => {
                    ready.map_err(failed("signals"))?.clear_ready();
                    self.handle_signals();
                }
                ready = records.readable() => {
                    ready.map_err(failed("records"))?.clear_ready();
                    self.drain();
                }
                _ = ticks.tick() => self.tick(),
            }
        }
        if self.stop.stage() == Stage::GivenUp {
            let left: Vec<String> = tree::descendants().iter().map(|member| member.pid.to_string()).collect();
            notes.push(format!(
                "these processes could not be killed and were left behind: {}",
                left.join(" ")
            ));
            self.guard.gone = true;
        }
        self.drain();
        for call in self.supervisor.take().map(Supervisor::finish).unwrap_or_default() {
            self.sink.identity_call(call);
        }
        Ok(self.outcome())
    }

    /// Reaps what has ended. Whether the tree is gone.
    ///
    /// # Errors
    /// When the source's helper has ended: nobody watches any more.
    fn reap(&mut self) -> Result<bool, Error> {
        let helper = self.source.helper();
        loop {
            match tree::reap() {
                Ok(Some(reaped)) if helper.is_some_and(|helper| helper.pid == reaped.pid) => {
                    return Err(Error::Helper);
                }
                Ok(Some(reaped)) if reaped.pid == self.child.pid().as_raw() && self.end.is_none() => {
                    // A Ctrl-C that ended it has reached nrtrace before it could be reaped.
                    self.handle_signals();
                    self.end = Some((reaped.end, self.stop.stage() > Stage::Running));
                }
                Ok(Some(_)) | Err(Errno::EINTR) => {}
                // With a helper there always is a child; looking through all processes is put off until it is idle.
                Ok(None) => {
                    let over = helper.is_some_and(|helper| !helper.busy) && tree::descendants().is_empty();
                    self.guard.gone |= over;
                    return Ok(over);
                }
                Err(_) => {
                    self.guard.gone = true;
                    return Ok(true);
                }
            }
        }
    }

    fn drain(&mut self) {
        let sink = &mut *self.sink;
        self.source.drain(&mut |bytes| sink.record(bytes));
        for call in self.supervisor.iter().flat_map(Supervisor::drain) {
            sink.identity_call(call);
        }
    }

    fn tick(&mut self) {
        self.drain();
        self.sink.tick();
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.start);
        if self.run_for.is_some_and(|limit| elapsed >= limit) && self.stop.stage() == Stage::Running {
            self.begin(Stage::Terminating);
        }
        if self.stop.tick(now) {
            self.entered();
        }
        match self.stop.stage() {
            // Whoever was adopted meanwhile.
            Stage::Terminating => tree::ask_to_end(&mut self.asked),
            Stage::Killing => drop(tree::kill_all()),
            Stage::Running | Stage::Interrupted | Stage::GivenUp => {}
        }
        if self.ticks.is_multiple_of(TOLD) {
            let (counters, lost) = (self.sink.counters(), self.source.lost());
            (self.progress)(Progress::Running { elapsed, counters, lost });
        }
        self.ticks = self.ticks.wrapping_add(1);
    }

    /// Begins the end, or hastens it.
    fn begin(&mut self, stage: Stage) {
        let was_running = self.stop.stage() == Stage::Running;
        if was_running {
            self.drain();
        }
        if self.stop.advance(stage, Instant::now()) {
            if was_running {
                self.sink.set_phase(Phase::Shutdown);
            }
            self.entered();
        }
    }

    fn entered(&mut self) {
        match self.stop.stage() {
            Stage::Terminating => tree::ask_to_end(&mut self.asked),
            Stage::Killing => drop(tree::kill_all()),
            Stage::Running | Stage::Interrupted | Stage::GivenUp => {}
        }
        (self.progress)(Progress::Stopping(self.stop.stage()));
    }

    fn handle_signals(&mut self) {
        while let Some(received) = self.signals.next() {
            let reaction = reaction(received.number, self.origin(received), self.interrupted);
            if reaction.stop == Some(Ending::Interrupt) && received.sender == Sender::Kernel {
                self.interrupted = true;
            }
            match reaction.stop {
                Some(Ending::Interrupt) => self.begin(Stage::Interrupted),
                Some(Ending::Terminate) => self.begin(Stage::Terminating),
                Some(Ending::Kill) => self.begin(Stage::Killing),
                None => {}
            }
            if reaction.forward {
                // It may have ended: then there is nobody to tell.
                let _ = tree::send(&self.child.as_fd(), received.number);
            }
        }
    }

    fn origin(&self, received: Received) -> signals::Origin {
        match received.sender {
            Sender::Kernel => {
                let reached_program = getpgid(Some(self.child.pid())) == Ok(getpgrp());
                Origin::Terminal { reached_program }
            }
            Sender::Process(pid) if pid > 0 && tree::contains(pid) => Origin::Tree,
            Sender::Process(_) => Origin::Outside,
        }
    }

    fn outcome(&self) -> (Exit, i32) {
        let stopped = self.stop.stage() > Stage::Running;
        let Some((end, ended_in_stop)) = self.end else { return (Exit::Running, 0) };
        let exit = match end {
            End::Exited(status) if ended_in_stop => Exit::Stopped { status: Some(status) },
            End::Signaled(_) if ended_in_stop => Exit::Stopped { status: None },
            // The program has left a daemon behind, and that was stopped.
            End::Exited(0) if stopped => Exit::Stopped { status: Some(0) },
            End::Exited(status) => Exit::Exited { status },
            End::Signaled(signal) => Exit::Signaled { signal },
        };
        (exit, end.shell_status())
    }
}

fn failed(subject: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |error| Error::system("polling", subject, error)
}

/// A duplicate of `fd`, registered with the runtime.
fn pollable(fd: BorrowedFd<'_>) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps its descriptor open, and the same one, until it is dropped.
    let registered = unsafe { AsyncFd::register_with_interest(fd.try_clone_to_owned()?, Interest::READABLE) };
    registered.map_err(|error| error.into_parts().1)
}
