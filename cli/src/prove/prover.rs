//! How trials of one program are made.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nrtrace_profiles::event::{Exit, Greeting};
use nrtrace_profiles::grants::Choices;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::proof::TriedImage;
use nrtrace_tracer::course::{Capture, Course, Failure, Greets, Verdict};
use nrtrace_tracer::image::Image;
use nrtrace_tracer::sandbox::Bind;
use nrtrace_tracer::trial::{self, Lender, Report, Request, Rights, TrialError, Watching};

use super::patience::Patience;
use crate::args::ManagerArg;

/// What making a sandbox and ending what is in it may take, on a slow machine.
pub(super) const SLACK: Duration = Duration::from_secs(60);

/// How long one that had to be killed is waited for when it is stopped once more.
const KILLED: Duration = Duration::from_secs(1);

/// How the trials of one program are made.
#[derive(Clone)]
pub(super) struct Prover {
    pub(super) command: Vec<OsString>,
    /// The working directory it is started in.
    pub(super) cwd: PathBuf,
    /// What surrounds its start, where a unit starts it.
    pub(super) service: Option<trial::Service>,
    /// Whether trials wait for all ports that the first run listened on.
    pub(super) learns_ports: bool,
    /// Whether trials are granted what is withheld until it is proved.
    pub(super) proves: bool,
    pub(super) keep_env: bool,
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) course: Course,
    pub(super) grace: Duration,
    pub(super) watch: Watching,
    pub(super) private_network: bool,
    pub(super) shared: Vec<Bind>,
    /// What the trials are to be granted, and the artefacts too.
    pub(super) choices: Choices,
    /// The service manager that has the last word.
    pub(super) with: Option<ManagerArg>,
    /// Whether it was said how long a trial has to settle.
    pub(super) settles: bool,
    /// How long is waited for who has never been ready.
    pub(super) patience: Arc<Patience>,
    /// What each trial has to last at least, as the program is known to die so late.
    pub(super) lasts: Duration,
    /// How a client is answered by the program as root.
    pub(super) as_root: Vec<Greeting>,
    /// Where they are made.
    pub(super) place: TrialPlace,
}

/// Where trials are made.
#[derive(Clone)]
pub(super) enum TrialPlace {
    /// In sandboxes of this machine; what watches them is lent.
    Machine(Arc<Lender>),
    /// In containers of an image.
    Image(Arc<Image>),
}

impl TrialPlace {
    pub(super) fn image(&self) -> Option<&Image> {
        match self {
            Self::Machine(_) => None,
            Self::Image(image) => Some(image),
        }
    }
}

impl Prover {
    pub(super) fn request(&self, rights: Rights, course: Course, watched: bool, capture: Capture) -> Request {
        let whole = course.ready_timeout + course.exercise_timeout + course.settle + self.grace * 4 + SLACK;
        Request {
            layout: trial::machine(self.private_network, self.shared.clone(), whole),
            command: self.command.clone(),
            cwd: self.cwd.clone(),
            service: self.service.clone(),
            rights,
            keep_env: self.keep_env,
            env: self.env.clone(),
            course: Some(course),
            run_for: None,
            grace: self.grace,
            watch: watched.then_some(self.watch),
            paths: Vec::new(),
            capture,
        }
    }

    /// How a client had to be answered in the trials, for the proof.
    pub(super) fn greetings(&self) -> Vec<Greeting> {
        match &self.course.greets {
            Greets::As(wanted) => wanted.clone(),
            Greets::Nobody | Greets::Anybody => Vec::new(),
        }
    }

    /// The image that trials were made of, for the proof.
    pub(super) fn tried_image(&self) -> Option<TriedImage> {
        let image = self.place.image()?;
        Some(TriedImage { name: image.spec().image.clone(), built: image.is_built(), namespace: None })
    }

    /// One trial with what the profile grants.
    pub(super) fn trial(
        &self,
        profile: &Profile,
        course: &Course,
        watched: bool,
    ) -> Result<Report, TrialError> {
        let choices = Choices { prove: self.proves, ..self.choices.clone() };
        let grace = if watched { end(profile, self.grace) } else { Duration::ZERO };
        let mut report = match &self.place {
            TrialPlace::Machine(lender) => {
                let rights = Rights::Granted { profile: Box::new(profile.clone()), choices };
                let mut request = self.request(rights, course.clone(), watched, Capture::Keep);
                request.grace = grace;
                trial::run(&request, lender)?
            }
            TrialPlace::Image(image) => image.run(&nrtrace_tracer::image::Request {
                rights: nrtrace_tracer::image::Rights::Granted(profile, &choices),
                course: course.clone(),
                watch: watched.then_some(self.watch),
                grace,
                capture: Capture::Keep,
            })?,
        };
        if report.verdict == Some(Verdict::Lived) {
            report.verdict = ended_early(profile, &report).map(Verdict::Failed).or(report.verdict);
        }
        Ok(report)
    }
}

/// A program that the recorded run had to stop has not done its work when it ends by itself sooner than that, also with
/// success.
fn ended_early(profile: &Profile, report: &Report) -> Option<Failure> {
    let (end, run) = (&report.trace.end, &profile.run);
    let by_itself = end.exit == (Exit::Exited { status: 0 }) && !run.daemon;
    let stopped = matches!(run.exit, Exit::Stopped { .. });
    (by_itself && stopped && end.duration < run.duration.0).then(|| Failure::Ended {
        exit: end.exit,
        after: Duration::from_nanos(end.duration),
        was_ready: None,
    })
}

/// How long the end of a trial is watched: what does not end in several times of what the run took will not. How a trial
/// that nobody watches ends tells nothing.
fn end(profile: &Profile, grace: Duration) -> Duration {
    let several = stopped(profile).map(|took| took * 4 + Duration::from_millis(500));
    let grace = end_again(profile, grace);
    several.map_or(grace, |several| grace.min(several))
}

/// The same of a run that is to tell more: only one that had to be killed will have to be again.
pub(super) fn end_again(profile: &Profile, grace: Duration) -> Duration {
    let was_killed = profile.run.exit == (Exit::Stopped { status: None })
        && stopped(profile).is_some_and(|took| took >= grace);
    if was_killed { grace.min(KILLED) } else { grace }
}

/// How long the run took to stop.
fn stopped(profile: &Profile) -> Option<Duration> {
    let stopping = profile.run.timeline?.stopping?;
    Some(Duration::from_nanos(profile.run.duration.0.saturating_sub(stopping.0)))
}
