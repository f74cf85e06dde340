//! The loop while the program runs.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpgid, getpgrp};
use nrtrace_profiles::event::{self, Event, Exit, Phase};

use super::feed::{Feed, Happened};
use super::{Plan, Progress, Sink};
use crate::course::{Attendant, Tree, Turn};
use crate::launch::guardian::{Guardian, Ward};
use crate::launch::signals::{Ending, Origin, Received, Sender, Signals, reaction};
use crate::launch::stop::{Stage, Stop};
use crate::launch::supervisor::Supervisor;
use crate::launch::tree::{self, End, Member};
use crate::launch::{Error, signals};

/// Of what may be a need, so many events are told while the program runs.
const SEEN: usize = 500;

/// Who looks after the program.
pub(super) struct Beside<'a> {
    pub(super) supervisor: Option<Supervisor>,
    pub(super) guardian: Guardian,
    pub(super) attendant: &'a mut Attendant,
}

/// A program that runs, and all that looks after it.
pub(super) struct Running<'a, 's> {
    feed: Feed<'a, dyn Sink + 's>,
    signals: &'a Signals,
    supervisor: Option<Supervisor>,
    child: Ward,
    guardian: Guardian,
    attendant: &'a mut Attendant,
    run_for: Option<Duration>,
    stop: Stop,
    asked: BTreeSet<(i32, u64)>,
    interrupted: bool,
    /// How the program itself ended, and whether the run had begun to end by then.
    end: Option<(End, bool)>,
    /// Somebody has killed the guardian, and so cut the run off.
    cut_off: bool,
    /// Events that were looked at for what may be a need, and how many of them were told.
    looked_at: usize,
    seen: usize,
}

impl<'a, 's> Running<'a, 's> {
    pub(super) fn new(
        plan: &Plan,
        feed: Feed<'a, dyn Sink + 's>,
        signals: &'a Signals,
        child: Ward,
        beside: Beside<'a>,
    ) -> Self {
        let Beside { supervisor, guardian, attendant } = beside;
        Self {
            feed,
            signals,
            supervisor,
            child,
            guardian,
            attendant,
            run_for: plan.run_for,
            stop: Stop::new(plan.grace),
            asked: BTreeSet::new(),
            interrupted: false,
            end: None,
            cut_off: false,
            looked_at: 0,
            seen: 0,
        }
    }

    /// Runs until the tree is gone.
    pub(super) async fn until_gone(mut self, notes: &mut Vec<String>) -> Result<Outcome, Error> {
        let mut waiting = self.feed.waiting(self.signals, Some(self.guardian.as_fd()))?;
        while !self.is_over()? && self.stop.stage() != Stage::GivenUp {
            match waiting.next(!self.guardian.is_gone()).await? {
                Happened::Signals => self.handle_signals(),
                Happened::Records => self.drain(),
                // What the guardian says is heard at the top of the loop.
                Happened::Told => {}
                Happened::Tick => self.tick()?,
            }
        }
        if self.stop.stage() == Stage::GivenUp {
            let left: BTreeSet<String> = self.alive().iter().map(|member| member.pid.to_string()).collect();
            notes.push(format!(
                "these processes could not be killed and were left behind: {}",
                left.into_iter().collect::<Vec<_>>().join(" ")
            ));
            self.guardian.abandon();
        }
        if self.cut_off {
            notes.push(
                "the program was cut off: the guardian, nrtrace's helper between it and the program, was killed, by the \
                 program itself or from outside, so the whole tree was ended"
                    .into(),
            );
        }
        self.drain();
        self.feed.count();
        for call in self.supervisor.take().map(Supervisor::finish).unwrap_or_default() {
            self.feed.sink.identity_call(call);
        }
        Ok(self.outcome())
    }

    /// Hears how the program ended. Whether the tree is gone.
    ///
    /// # Errors
    /// When the source's helper has ended: nobody watches any more.
    fn is_over(&mut self) -> Result<bool, Error> {
        // Asked first: what the guardian said before it ended is still there to be heard.
        let gone = self.guardian.is_gone();
        if let Some(end) = self.guardian.end_of_program() {
            // A Ctrl-C that ended it has reached nrtrace before it could be reaped.
            self.handle_signals();
            // A signal to the whole group may have ended it before the relay has told of it.
            while self.stop.stage() == Stage::Running
                && let Some(received) = self.signals.untold()
            {
                self.react(received);
            }
            self.end = Some((end, self.stop.stage() > Stage::Running));
        }
        // Whoever ended the guardian may have left its tree.
        let escaped = gone && !self.scattered().is_empty();
        if (escaped || self.guardian.was_killed()) && !self.cut_off {
            self.cut_off();
        }
        if !gone && self.feed.source.helper().is_some_and(has_ended) {
            return Err(Error::Helper);
        }
        Ok(gone && !escaped)
    }

    /// The guardian was killed: the tree is killed by its mark.
    fn cut_off(&mut self) {
        self.cut_off = true;
        let was_running = self.stop.stage() == Stage::Running;
        // It goes with the guardian, if that has not told how it ended.
        self.end.get_or_insert((End::Signaled(libc::SIGKILL), !was_running));
        self.begin(Stage::Killing);
    }

    /// What is watched and lives, wherever it hangs by now.
    fn scattered(&self) -> Vec<Member> {
        tree::scattered(&|pid, pidfd| self.feed.source.watches(pid, pidfd))
    }

    /// What lives of the tree.
    fn alive(&self) -> Vec<Member> {
        let mut found = self.scattered();
        // The number of a guardian that was killed may be somebody else's.
        if !self.guardian.was_killed() {
            found.extend(tree::descendants(self.guardian.pid()).into_iter().filter(|member| !member.zombie));
        }
        found
    }

    fn kill(&self) {
        tree::kill(|| self.alive());
    }

    fn drain(&mut self) {
        self.feed.drain();
        for call in self.supervisor.iter().flat_map(Supervisor::drain) {
            self.feed.sink.identity_call(call);
        }
    }

    fn tick(&mut self) -> Result<(), Error> {
        self.drain();
        self.feed.sink.tick();
        self.attend()?;
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.feed.start);
        if self.run_for.is_some_and(|limit| elapsed >= limit) && self.stop.stage() == Stage::Running {
            self.begin(Stage::Terminating);
        }
        if self.stop.tick(now) {
            self.entered();
        }
        match self.stop.stage() {
            // Whoever was adopted meanwhile.
            Stage::Terminating => tree::ask_to_end(self.guardian.pid(), &mut self.asked),
            Stage::Killing => self.kill(),
            Stage::Running | Stage::Interrupted | Stage::GivenUp => {}
        }
        if self.feed.tell() {
            self.tell_seen();
        }
        Ok(())
    }

    /// Tells what may be a need and was not told yet.
    fn tell_seen(&mut self) {
        let events = self.feed.sink.events();
        let new = events.get(self.looked_at..).unwrap_or_default();
        self.looked_at = events.len();
        let room = SEEN - self.seen;
        for event in new.iter().filter(|event| may_be_needed(event)).take(room) {
            self.seen += 1;
            (self.feed.progress)(Progress::Seen(Box::new(event.clone())));
        }
    }

    /// Sees how the program's course comes along.
    fn attend(&mut self) -> Result<(), Error> {
        let end = self.end.map(|(end, _)| end);
        let tree = Tree::Below { root: self.guardian.pid(), members: &self.feed.members };
        match self.attendant.tick(tree, end)? {
            Some(Turn::Ready) => {
                self.drain();
                if self.stop.stage() == Stage::Running {
                    self.feed.set_phase(Phase::Steady);
                }
                (self.feed.progress)(Progress::Ready { elapsed: self.feed.start.elapsed() });
            }
            Some(Turn::Over) if self.attendant.ends() => self.begin(Stage::Terminating),
            Some(Turn::Over) | None => {}
        }
        Ok(())
    }

    /// Begins the end, or hastens it.
    fn begin(&mut self, stage: Stage) {
        let was_running = self.stop.stage() == Stage::Running;
        if was_running {
            self.drain();
        }
        if self.stop.advance(stage, Instant::now()) {
            if was_running {
                self.feed.set_phase(Phase::Shutdown);
                self.attendant.stopping();
            }
            self.entered();
        }
    }

    fn entered(&mut self) {
        match self.stop.stage() {
            Stage::Terminating => tree::ask_to_end(self.guardian.pid(), &mut self.asked),
            Stage::Killing => self.kill(),
            Stage::Running | Stage::Interrupted | Stage::GivenUp => {}
        }
        (self.feed.progress)(Progress::Stopping(self.stop.stage()));
    }

    fn handle_signals(&mut self) {
        while let Some(received) = self.signals.next() {
            self.react(received);
        }
    }

    fn react(&mut self, received: Received) {
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
            let _ = tree::send(&self.child.pidfd, received.number);
        }
    }

    fn origin(&self, received: Received) -> signals::Origin {
        match received.sender {
            Sender::Kernel => {
                let reached_program = getpgid(Some(self.child.pid)) == Ok(getpgrp());
                Origin::Terminal { reached_program }
            }
            Sender::Process(pid) if pid > 0 && tree::contains(self.guardian.pid(), pid) => Origin::Tree,
            Sender::Process(_) => Origin::Outside,
        }
    }

    fn outcome(&self) -> Outcome {
        let stopped = self.stop.stage() > Stage::Running;
        let Some((end, ended_in_stop)) = self.end else {
            let cut_off = self.cut_off;
            return Outcome { exit: Exit::Running, status: 0, daemon: false, end: None, cut_off };
        };
        let exit = match end {
            End::Exited(status) if ended_in_stop => Exit::Stopped { status: Some(status) },
            End::Signaled(_) if ended_in_stop => Exit::Stopped { status: None },
            // The program has left a daemon behind, and that was stopped.
            End::Exited(0) if stopped => Exit::Stopped { status: Some(0) },
            end => end.into(),
        };
        let daemon = matches!(end, End::Exited(0)) && stopped && !ended_in_stop;
        Outcome { exit, status: end.shell_status(), daemon, end: Some(end), cut_off: self.cut_off }
    }
}

/// How it all ended.
pub(super) struct Outcome {
    /// How the program ended.
    pub(super) exit: Exit,
    /// Its status for the shell.
    pub(super) status: i32,
    /// Whether it left a daemon behind, which was stopped.
    pub(super) daemon: bool,
    /// How the program itself ended, where that is known.
    pub(super) end: Option<End>,
    /// Whether the guardian was killed, and so the run cut off.
    pub(super) cut_off: bool,
}

/// Whether a child of this process has ended; it is left to be reaped.
pub(crate) fn has_ended(pid: i32) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(Pid::from_raw(pid)), flags), Ok(WaitStatus::StillAlive))
}

fn may_be_needed(event: &Event) -> bool {
    let refused = event::Outcome::Failure { errno: libc::EACCES } == event.outcome
        || event::Outcome::Failure { errno: libc::EPERM } == event.outcome;
    !event.checks.is_empty() || refused || event.outcome == event::Outcome::Answered
}
