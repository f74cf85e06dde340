//! One run of an image, watched or not.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use nrtrace_profiles::emit::{Confined, confined};
use nrtrace_profiles::event::{Backend, Mode};
use nrtrace_profiles::grants::Choices;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::ways::plan;

use super::volumes::Volumes;
use super::{Error, Image};
use crate::attach::engine::{Engine, apart};
use crate::attach::process::Facts;
use crate::attach::{self, Attended, Target};
use crate::backend::{self, Choice, Wanted};
use crate::course::{Attendant, Capture, Course, Tree, Turn, Verdict};
use crate::launch::identity;
use crate::launch::tree::{self, End};
use crate::members::Members;
use crate::session::TICK;
use crate::trial::{Report, TrialError, Watching};

/// How long podman may take to start a container.
pub(super) const START: Duration = Duration::from_secs(120);
/// How long podman may take to end after its container.
const END: Duration = Duration::from_secs(30);
/// podman's statuses: its own failure, and a program that cannot be executed or is not there.
const NOT_STARTED: std::ops::RangeInclusive<i32> = 125..=127;

/// With what a container is started.
#[derive(Clone, Copy, Debug)]
pub enum Rights<'a> {
    /// Refused nothing, as this user and group.
    Recorded((u32, u32)),
    /// With what the profile's `kubernetes.yaml` says, and nothing else.
    Granted(&'a Profile, &'a Choices),
}

/// How it is run.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// With what.
    pub rights: Rights<'a>,
    /// What it is to come to; its commands are run in the container.
    pub course: Course,
    /// What watches it; `None` for nothing.
    pub watch: Option<Watching>,
    /// How long it may take to end, where it is watched.
    pub grace: Duration,
    /// What becomes of its output.
    pub capture: Capture,
}

impl From<Error> for TrialError {
    fn from(error: Error) -> Self {
        Self::Sandbox(error.to_string())
    }
}

impl Image {
    /// Runs it in a fresh container and waits for its end.
    ///
    /// # Errors
    /// When the container cannot be made or watched; what becomes of the program is in the report.
    pub fn run(&self, request: &Request<'_>) -> Result<Report, TrialError> {
        let command = self.command();
        if command.is_empty() {
            return Err(
                Error::Input(format!("{} names no command: give one after it", self.spec.image)).into()
            );
        }
        let confined = match request.rights {
            Rights::Recorded(_) => None,
            Rights::Granted(profile, choices) => Some(confined(profile, &plan(profile, choices))),
        };
        let number = self.next();
        let name = format!("{}{number}", self.prefix);
        let volumes = Volumes::new(self.directory.join(number.to_string()))?;
        let mut trial = Trial { image: self, request, confined, name, command, volumes, started: false };
        let words = match trial.words()? {
            Ok(words) => words,
            Err(unprepared) => return Ok(trial.report_of(unprepared)),
        };
        trial.started = true;
        match request.watch {
            Some(watch) => trial.watched(&words, watch),
            None => trial.unwatched(&words),
        }
    }
}

/// A container that is to be started. Dropped, it is gone.
pub(super) struct Trial<'a> {
    pub(super) image: &'a Image,
    pub(super) request: &'a Request<'a>,
    pub(super) confined: Option<Confined>,
    pub(super) name: String,
    pub(super) command: Vec<String>,
    pub(super) volumes: Volumes,
    started: bool,
}

/// What became of a program that nobody watched.
pub(super) struct Outcome {
    pub(super) end: Option<End>,
    pub(super) after: Duration,
    pub(super) verdict: Verdict,
    pub(super) output: Vec<u8>,
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if self.started {
            // Where that fails, the sweeper does it in the end.
            let _ = self.image.spec.podman.ask(&["rm", "-f", "-v", "-t", "0", &self.name]);
        }
    }
}

impl Trial<'_> {
    fn unwatched(&mut self, words: &[String]) -> Result<Report, TrialError> {
        let course = self.course();
        let mut attendant = Attendant::new(Some(&course), self.request.capture, None).map_err(sandbox)?;
        let nothing = nothing()?;
        let stdio = stdio(&attendant, &nothing);
        let mut command = self.image.spec.podman.command(words);
        // SAFETY: it makes async-signal-safe calls alone, on descriptors that live until the child has begun.
        unsafe { command.pre_exec(move || apart(stdio)) };
        let mut client = command.spawn().map_err(sandbox)?;
        let main = match self.begun(&mut client) {
            Ok(main) => main,
            Err(error) => {
                let _ = self.image.spec.podman.ask(&["rm", "-f", "-v", "-t", "0", &self.name]);
                let _ = client.wait();
                return Err(error);
            }
        };
        attendant.started(SigSet::empty(), None);
        let begun = Instant::now();
        let end = self.follow(&mut attendant, &mut client, main);
        let after = begun.elapsed();
        let _ = self.image.spec.podman.ask(&["rm", "-f", "-v", "-t", "0", &self.name]);
        self.started = false;
        let status = client.wait().map_err(sandbox)?;
        let end = end?;
        let (course, output) = attendant.finish(end);
        if main.is_none() && NOT_STARTED.contains(&status.code().unwrap_or_default()) {
            return Err(not_started(status, &output));
        }
        let verdict = course.map_or(Verdict::Lived, |came| came.verdict);
        if verdict == Verdict::Interrupted {
            return Err(interrupted());
        }
        Ok(self.report_of(Outcome { end, after, verdict, output }))
    }

    /// Waits until the program runs; its process, or nothing where the client has ended before that was seen.
    fn begun(&self, client: &mut Child) -> Result<Option<i32>, TrialError> {
        let (since, file) = (Instant::now(), self.pidfile());
        loop {
            let ended = client.try_wait().map_err(sandbox)?.is_some();
            let pid = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<i32>().ok());
            let facts = pid.map(Facts::read);
            match (pid, facts) {
                (Some(pid), Some(Some(facts))) if !attach::is_runtime(&facts) => return Ok(Some(pid)),
                (Some(pid), Some(None)) if ended => return Ok(Some(pid)),
                _ if ended => return Ok(None),
                _ if since.elapsed() > START => return Err(TrialError::Late(START)),
                _ => std::thread::sleep(TICK),
            }
        }
    }

    /// Looks at it until its course is over or it has ended; how it ended.
    fn follow(
        &self,
        attendant: &mut Attendant,
        client: &mut Child,
        main: Option<i32>,
    ) -> Result<Option<End>, TrialError> {
        let main = main.unwrap_or_default();
        let (root, members) = (tree::above(main), Members::new(main as u32));
        let mut gone: Option<Instant> = None;
        loop {
            let end = client.try_wait().map_err(sandbox)?.map(ended);
            let tree = Tree::Below { root, members: &members };
            if attendant.tick(tree, end).map_err(sandbox)? == Some(Turn::Over) || end.is_some() {
                return Ok(end);
            }
            // Its container has ended; a client that does not tell of it is not waited for.
            let is_gone = tree::member(main).is_none_or(|member| member.zombie);
            gone = gone.or(is_gone.then(Instant::now));
            if gone.is_some_and(|since| since.elapsed() > END) {
                return Err(TrialError::Late(END));
            }
            std::thread::sleep(TICK);
        }
    }

    fn watched(&mut self, words: &[String], watch: Watching) -> Result<Report, TrialError> {
        let nobody = identity::resolve(None, &[], "nobody").map_err(sandbox)?;
        let wanted = Wanted {
            record: watch.record,
            buffer: watch.buffer,
            attach: true,
            foretold: None,
            mode: if self.confined.is_some() { Mode::Enforced } else { Mode::Permissive },
            identity: &nobody,
        };
        let mut ready = backend::prepare(Choice::Ebpf, &wanted).map_err(sandbox)?;
        let course = self.course();
        let mut attendant = Attendant::new(Some(&course), self.request.capture, None).map_err(sandbox)?;
        let nothing = nothing()?;
        let stdio = stdio(&attendant, &nothing);
        let command: Vec<OsString> =
            self.image.spec.podman.words().iter().chain(words).map(OsString::from).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(sandbox)?;
        let source = ready.source.as_mut();
        let mut engine = Engine::start(&command, source, Some(stdio)).map_err(sandbox)?;
        let target = Target::Container(self.name.clone());
        let arrival = runtime.block_on(engine.arrival(source, Some(&target))).map_err(sandbox)?;
        let Some(arrival) = arrival else {
            let status = engine.ended();
            attendant.started(SigSet::empty(), None);
            let (_, output) = attendant.finish(None);
            return Err(status.map_or_else(interrupted, |status| not_started(status, &output)));
        };
        attendant.started(SigSet::empty(), None);
        let subject = arrival.subject.clone();
        let judged =
            attach::judge(&subject.main, &[], subject.container.as_ref(), None, &[]).map_err(sandbox)?;
        let plan = attach::Plan {
            run_for: None,
            backend: Backend::Ebpf,
            record: watch.record,
            paths: Vec::new(),
            restarts: None,
        };
        let attended = Attended {
            attendant: &mut attendant,
            stop: self.image.inspected.stop,
            grace: self.request.grace,
        };
        let progress = &mut |_| {};
        let recording =
            attach::record(&plan, &subject, &judged, Some(arrival), source, Some(attended), progress);
        let recorded = runtime.block_on(recording).map_err(sandbox)?;
        let _ = self.image.spec.podman.ask(&["rm", "-f", "-v", "-t", "0", &self.name]);
        self.started = false;
        // It has nobody left to hand a signal on to.
        let since = Instant::now();
        while engine.ended().is_none() && since.elapsed() < END {
            std::thread::sleep(TICK);
        }
        engine.end(Duration::ZERO).map_err(sandbox)?;
        if judged.mode != wanted.mode {
            return Err(TrialError::Sandbox(
                "the container's user is not the one that it was started as".into(),
            ));
        }
        if recorded.verdict == Some(Verdict::Interrupted) {
            return Err(interrupted());
        }
        let mut trace = recorded.trace;
        self.describe(&mut trace.run);
        Ok(Report {
            verdict: recorded.verdict,
            program: recorded.program.into(),
            output: recorded.output,
            ..self.report(trace)
        })
    }
}

fn nothing() -> Result<File, TrialError> {
    File::open("/dev/null").map_err(sandbox)
}

/// The client's standard streams: where nothing is kept, nrtrace's own, but for its input.
fn stdio(attendant: &Attendant, nothing: &File) -> [RawFd; 3] {
    let [input, output, error] = attendant.stdio();
    [input.unwrap_or(nothing.as_raw_fd()), output.unwrap_or(1), error.unwrap_or(2)]
}

fn sandbox(error: impl std::fmt::Display) -> TrialError {
    TrialError::Sandbox(error.to_string())
}

fn interrupted() -> TrialError {
    TrialError::Sandbox("interrupted; what was made for the trials is taken away".into())
}

/// podman's status is that of the program, and for a signal as the shell tells it.
pub(super) fn ended(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code @ 129..=192), _) => End::Signaled(code - 128),
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Signaled(signal.unwrap_or(libc::SIGKILL)),
    }
}

/// Nothing was run in the container: what podman said of it.
fn not_started(status: ExitStatus, output: &[u8]) -> TrialError {
    let said = String::from_utf8_lossy(output);
    let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned();
    let status = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    TrialError::Program { message: format!("podman did not start the container: {said}"), status }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_end_is_told_as_a_shell_tells_it() {
        let status = |code: i32| ExitStatus::from_raw(code << 8);
        assert_eq!(ended(status(0)), End::Exited(0));
        assert_eq!(ended(status(3)), End::Exited(3));
        assert_eq!(ended(status(137)), End::Signaled(9));
        assert_eq!(ended(ExitStatus::from_raw(15)), End::Signaled(15));
    }
}
