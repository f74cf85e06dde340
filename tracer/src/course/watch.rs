//! The stations of a run, looked at a few times in a second.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use nrtrace_profiles::event::{Greeting, Milestones};

use super::command::Command;
use super::greeting::{Answer, Asking};
use super::notify::Notify;
use super::output::Output;
use super::quiet::Quiet;
use super::readiness::Asker;
use super::{Came, Course, Failure, Greets, Tree, Verdict, port};
use crate::launch::Error;
use crate::launch::tree::End;

/// While it settles, readiness is asked for so often.
const INTERVAL: Duration = Duration::from_millis(500);
/// So many "no" in a row while it settles, and it is not ready any more; one may be the asker's own trouble.
const NO_LONGER: u32 = 3;
/// A client that is answered otherwise than is wanted tries again so often, after a while.
const CLIENTS: u32 = 5;
const BETWEEN_CLIENTS: Duration = Duration::from_millis(300);
/// To so many ports clients connect at the most.
const MOST_PORTS: usize = 8;

/// Something has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The program is ready.
    Ready,
    /// All is over; the verdict tells how it went.
    Over,
}

/// Where a run has got to.
#[derive(Debug)]
pub struct Watch {
    course: Course,
    asker: Asker,
    signal_mask: SigSet,
    start: Instant,
    quiet: Quiet,
    stage: Stage,
    milestones: Milestones,
    greetings: Vec<Greeting>,
    verdict: Option<Verdict>,
    /// The process that is still to become the program.
    preceded: Option<i32>,
}

#[derive(Debug)]
enum Stage {
    Waiting,
    Exercising(Command),
    Settling { since: Instant, next: Instant, refusals: u32 },
    Greeting { asking: Asking, times: u32 },
    Over,
}

impl Watch {
    /// Begins at the program's start, or once the process `preceded` has become the program.
    pub fn new(course: &Course, notify: Option<Notify>, signal_mask: SigSet, preceded: Option<i32>) -> Self {
        let now = Instant::now();
        let stage = if course.readiness.is_empty() {
            Stage::Settling { since: now, next: now, refusals: 0 }
        } else {
            Stage::Waiting
        };
        Self {
            asker: Asker::new(&course.readiness, notify, signal_mask),
            course: course.clone(),
            signal_mask,
            start: now,
            quiet: Quiet::new(now),
            stage,
            milestones: Milestones::default(),
            greetings: Vec::new(),
            verdict: None,
            preceded,
        }
    }

    /// Takes a look. `tree` is the program's, `end` how the program itself has ended.
    ///
    /// # Errors
    /// When a command cannot be started.
    pub fn tick(
        &mut self,
        tree: Tree<'_>,
        end: Option<End>,
        output: Option<&Output>,
    ) -> Result<Option<Turn>, Error> {
        if matches!(self.stage, Stage::Over) {
            return Ok(None);
        }
        // One that ends well may have left a daemon behind.
        if let Some(end) = end.filter(|end| *end != End::Exited(0)) {
            if self.only_learns() {
                return Ok(self.over(Verdict::Lived));
            }
            let was_ready = self.was_ready();
            return Ok(self.fail(ended(end, self.start.elapsed(), was_ready)));
        }
        if let Some(pid) = self.preceded {
            if is_still_nrtrace(pid) {
                return Ok(self.not_yet());
            }
            self.preceded = None;
            self.start = Instant::now();
            if let Stage::Settling { .. } = self.stage {
                self.settle();
            }
        }
        match &mut self.stage {
            Stage::Waiting => self.wait(tree, output),
            Stage::Exercising(exercise) => {
                let Some(finished) = exercise.poll() else { return Ok(None) };
                if !finished.succeeded {
                    return Ok(self.fail(Failure::Exercise { end: finished.end, said: finished.said }));
                }
                self.milestones.exercised = Some(self.now());
                self.settle();
                Ok(None)
            }
            Stage::Settling { .. } => self.settling(tree, output),
            Stage::Greeting { .. } => Ok(self.greet(tree)),
            Stage::Over => Ok(None),
        }
    }

    /// What is run before the program has not ended: nothing is known of the program yet.
    fn not_yet(&mut self) -> Option<Turn> {
        let waited = self.start.elapsed();
        if waited < self.course.ready_timeout {
            return None;
        }
        let said = "what is to be run before the program has not ended".to_owned();
        self.fail(Failure::NotReady { waited, said })
    }

    fn wait(&mut self, tree: Tree<'_>, output: Option<&Output>) -> Result<Option<Turn>, Error> {
        if self.asker.ask(tree, output)? == Some(true) {
            self.milestones.ready = Some(self.now());
            match &self.course.exercise {
                Some(text) => {
                    let limit = self.course.exercise_timeout;
                    self.stage = Stage::Exercising(Command::start(text, limit, self.signal_mask)?);
                }
                None => self.settle(),
            }
            return Ok(Some(Turn::Ready));
        }
        let now = Instant::now();
        let waited = now.duration_since(self.start);
        let asleep = self.course.asleep;
        let is_asleep = asleep.is_some_and(|longest| self.quiet.lasts(|| tree.processes(), now) >= longest);
        if waited < self.course.ready_timeout && !is_asleep {
            return Ok(None);
        }
        let said = self.asker.said(tree);
        Ok(self.fail(Failure::NotReady { waited, said }))
    }

    fn settle(&mut self) {
        let now = Instant::now();
        self.stage = Stage::Settling { since: now, next: now + INTERVAL, refusals: 0 };
    }

    fn settling(&mut self, tree: Tree<'_>, output: Option<&Output>) -> Result<Option<Turn>, Error> {
        let Stage::Settling { since, next, refusals } = &mut self.stage else { return Ok(None) };
        let now = Instant::now();
        let at_the_end = now.duration_since(*since) >= self.course.settle;
        if self.course.readiness.is_empty() {
            return Ok(if at_the_end { self.lived(tree) } else { None });
        }
        if !at_the_end && now < *next {
            return Ok(None);
        }
        match self.asker.ask(tree, output)? {
            None => Ok(None),
            Some(true) if at_the_end => Ok(self.lived(tree)),
            Some(true) => {
                (*next, *refusals) = (now + INTERVAL, 0);
                Ok(None)
            }
            Some(false) => {
                *refusals += 1;
                *next = now + INTERVAL / 5;
                if *refusals < NO_LONGER {
                    return Ok(None);
                }
                let said = self.asker.said(tree);
                Ok(self.fail(Failure::NoLongerReady { said }))
            }
        }
    }

    /// It has lived long enough; clients come last, since a program may end with the first.
    fn lived(&mut self, tree: Tree<'_>) -> Option<Turn> {
        let servers = self.servers(tree);
        if servers.is_empty() {
            return self.over(Verdict::Lived);
        }
        self.milestones.asked = Some(self.now());
        self.stage = Stage::Greeting { asking: Asking::start(servers, Duration::ZERO), times: 1 };
        None
    }

    /// Where clients connect, and whether the server is known to wait for a question.
    fn servers(&self, tree: Tree<'_>) -> Vec<(SocketAddr, bool)> {
        let reached = || port::reached(&tree.processes());
        match &self.course.greets {
            Greets::Nobody => Vec::new(),
            Greets::Anybody => {
                reached().into_values().take(MOST_PORTS).map(|address| (address, false)).collect()
            }
            Greets::As(wanted) => {
                let reached = reached();
                let address = |port: u16| {
                    reached.get(&port).copied().unwrap_or_else(|| (Ipv4Addr::LOCALHOST, port).into())
                };
                wanted.iter().map(|greeting| (address(greeting.port), greeting.waits)).collect()
            }
        }
    }

    fn greet(&mut self, tree: Tree<'_>) -> Option<Turn> {
        let Stage::Greeting { asking, times } = &mut self.stage else { return None };
        let (answers, times) = (asking.answers()?, *times);
        self.greetings = answers.iter().map(|answer| answer.greeting.clone()).collect();
        let Greets::As(wanted) = &self.course.greets else { return self.over(Verdict::Lived) };
        let is_met = |wanted: &&Greeting| answers.iter().any(|answer| wanted.is_met_by(&answer.greeting));
        let Some(wanted) = wanted.iter().find(|wanted| !is_met(wanted)).cloned() else {
            return self.over(Verdict::Lived);
        };
        if times < CLIENTS {
            let asking = Asking::start(self.servers(tree), BETWEEN_CLIENTS);
            self.stage = Stage::Greeting { asking, times: times + 1 };
            return None;
        }
        let of_port = |answer: &&Answer| answer.greeting.port == wanted.port;
        let said = answers.iter().find(of_port).map(|answer| answer.line.clone());
        self.fail(Failure::Greeting { wanted, said })
    }

    /// Whether it has lived, and a client only learns how it answers.
    fn only_learns(&self) -> bool {
        matches!(self.stage, Stage::Greeting { .. }) && self.course.greets == Greets::Anybody
    }

    fn fail(&mut self, failure: Failure) -> Option<Turn> {
        self.over(Verdict::Failed(failure))
    }

    fn over(&mut self, verdict: Verdict) -> Option<Turn> {
        self.verdict = Some(verdict);
        self.stage = Stage::Over;
        self.asker.stop();
        Some(Turn::Over)
    }

    /// The program is told to stop: what has not been reached by now is not reached any more.
    pub fn stopping(&mut self) {
        if self.milestones.stopping.is_none() {
            self.milestones.stopping = Some(self.now());
        }
        if self.verdict.is_none() {
            self.over(if self.only_learns() { Verdict::Lived } else { Verdict::Interrupted });
        }
    }

    /// What it came to, once the program's tree is gone.
    pub fn finish(self, end: Option<End>) -> Came {
        let (was_ready, only_learns) = (self.was_ready(), self.only_learns());
        let verdict = self.verdict.unwrap_or_else(|| match end {
            _ if only_learns => Verdict::Lived,
            // A program that does its work and ends has no readiness.
            Some(End::Exited(0)) if self.course.readiness.is_empty() && !self.course.stays => Verdict::Lived,
            Some(end) => Verdict::Failed(ended(end, self.start.elapsed(), was_ready)),
            None => Verdict::Interrupted,
        });
        let notified = self.course.readiness.notify && self.milestones.ready.is_some();
        let milestones = Milestones { notified, ..self.milestones };
        Came { milestones, verdict, greetings: self.greetings }
    }

    fn was_ready(&self) -> Option<bool> {
        (!self.course.readiness.is_empty()).then_some(self.milestones.ready.is_some())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

fn ended(end: End, after: Duration, was_ready: Option<bool>) -> Failure {
    Failure::Ended { exit: end.into(), after, was_ready }
}

/// Whether a process has executed nothing yet.
fn is_still_nrtrace(pid: i32) -> bool {
    let file = |process: &str| {
        let facts = std::fs::metadata(format!("/proc/{process}/exe")).ok()?;
        Some((facts.dev(), facts.ino()))
    };
    file("self").is_some_and(|own| file(&pid.to_string()) == Some(own))
}
