//! Proving a profile: `nrtrace verify`, `nrtrace minimize`, and both after a run.

mod bench;
mod choose;
mod greeted;
mod harden;
mod image;
mod journal;
mod manager;
mod minimize;
mod patience;
mod run;
mod share;
mod tell;
mod units;
mod users;
mod verify;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use nrtrace_profiles::RawText;
use nrtrace_profiles::event::{Exit, Greeting, Record};
use nrtrace_profiles::grants::{Choices, Method};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::proof::TriedImage;
use nrtrace_tracer::backend::Choice;
use nrtrace_tracer::course::{Capture, Course, Failure, Greets, Verdict};
use nrtrace_tracer::image::Image;
use nrtrace_tracer::sandbox::Bind;
use nrtrace_tracer::trial::{self, Lender, Report, Request, Rights, TrialError, Watching};

use crate::args::{
    BackendArg, CourseArgs, ManagerArg, MinimizeArgs, NetworkArg, ProveArgs, Results, SandboxArgs,
    VerifyArgs, Watch,
};
use crate::artefacts::{self, Guard};
use crate::engine;
use crate::failure::BadInput;
use crate::output::{Losses, OutputDir, Target};
use crate::results::Artefacts;
use crate::there::found_from_everywhere;
use crate::{input, results, service, show};

use patience::Patience;
use verify::Verified;

pub use image::{is_of as is_of_image, run as run_image};
pub use run::{Wanted, run};
pub use share::shared;

/// Exit status of what is not proved.
const NOT_PROVED: u8 = 1;
/// What making a sandbox and ending what is in it may take, on a slow machine.
const SLACK: Duration = Duration::from_secs(60);
/// How long one that had to be killed is waited for when it is stopped once more.
const KILLED: Duration = Duration::from_secs(1);

/// How the trials of one program are made.
#[derive(Clone)]
struct Prover {
    command: Vec<OsString>,
    /// The working directory it is started in.
    cwd: PathBuf,
    /// What surrounds its start, where a unit starts it.
    service: Option<trial::Service>,
    /// Whether trials wait for all ports that the first run listened on.
    learns_ports: bool,
    /// Whether trials are granted what is withheld until it is proved.
    proves: bool,
    keep_env: bool,
    env: Vec<(OsString, OsString)>,
    course: Course,
    grace: Duration,
    watch: Watching,
    private_network: bool,
    shared: Vec<Bind>,
    /// What the trials are to be granted, and the artefacts too.
    choices: Choices,
    /// The service manager that has the last word.
    with: Option<ManagerArg>,
    /// Whether it was said how long a trial has to settle.
    settles: bool,
    /// How long is waited for who has never been ready.
    patience: Arc<Patience>,
    /// What each trial has to last at least, as the program is known to die so late.
    lasts: Duration,
    /// How a client is answered by the program as root.
    as_root: Vec<Greeting>,
    /// Where they are made.
    place: Place,
}

/// Where trials are made.
#[derive(Clone)]
enum Place {
    /// In sandboxes of this machine; what watches them is lent.
    Machine(Arc<Lender>),
    /// In containers of an image.
    Image(Arc<Image>),
}

impl Place {
    fn image(&self) -> Option<&Image> {
        match self {
            Self::Machine(_) => None,
            Self::Image(image) => Some(image),
        }
    }
}

impl Prover {
    fn of(args: &ProveArgs, profile: &Profile, private: bool, proves: bool) -> Result<Self> {
        let image = image::of_saved(args, profile)?;
        let command = if let Some(image) = &image {
            image::command(image)
        } else if args.command.is_empty() {
            profile
                .command
                .iter()
                .map(|word| std::ffi::OsStr::from_bytes(word.as_bytes()).to_owned())
                .collect()
        } else {
            found_from_everywhere(&args.command)
        };
        if command.is_empty() {
            return Err(BadInput("the profile names no command: give it after --".into()).into());
        }
        engine::must_work_itself(&command)?;
        check(&args.course)?;
        let is_image = image.is_some();
        manager::check(args.sandbox.with)?;
        let cwd = profile.run.cwd.as_bytes();
        // A unit may say more by now than it did.
        let unit = profile.unit.as_ref().filter(|_| args.command.is_empty());
        let service =
            unit.map(|unit| Ok::<_, anyhow::Error>(service::read(&unit.name)?.around)).transpose()?;
        Ok(Self {
            command,
            cwd: PathBuf::from(std::ffi::OsStr::from_bytes(if cwd.is_empty() { b"/" } else { cwd })),
            service,
            learns_ports: false,
            proves,
            keep_env: args.variables.keep_env,
            env: args.variables.env.clone(),
            course: image::course(&args.course, profile, image.as_deref()),
            grace: args.grace,
            watch: watching(&args.watch),
            private_network: is_image || is_private(&args.sandbox, private),
            shared: shared(&args.sandbox)?,
            choices: choices(&args.results, &args.sandbox),
            with: args.sandbox.with,
            settles: args.course.settle.is_some(),
            patience: Arc::default(),
            lasts: Duration::ZERO,
            as_root: Vec::new(),
            place: image.map_or_else(|| Place::Machine(Arc::default()), Place::Image),
        })
    }

    fn request(&self, rights: Rights, course: Course, watched: bool, capture: Capture) -> Request {
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
    fn greetings(&self) -> Vec<Greeting> {
        match &self.course.greets {
            Greets::As(wanted) => wanted.clone(),
            Greets::Nobody | Greets::Anybody => Vec::new(),
        }
    }

    /// The image that trials were made of, for the proof.
    fn tried_image(&self) -> Option<TriedImage> {
        let image = self.place.image()?;
        Some(TriedImage { name: image.spec().image.clone(), built: image.is_built() })
    }

    /// One trial with what the profile grants.
    fn trial(&self, profile: &Profile, course: &Course, watched: bool) -> Result<Report, TrialError> {
        let choices = Choices { prove: self.proves, ..self.choices.clone() };
        let grace = if watched { end(profile, self.grace) } else { Duration::ZERO };
        let mut report = match &self.place {
            Place::Machine(lender) => {
                let rights = Rights::Granted { profile: Box::new(profile.clone()), choices };
                let mut request = self.request(rights, course.clone(), watched, Capture::Keep);
                request.grace = grace;
                trial::run(&request, lender)?
            }
            Place::Image(image) => image.run(&nrtrace_tracer::image::Request {
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
fn end_again(profile: &Profile, grace: Duration) -> Duration {
    let was_killed = profile.run.exit == (Exit::Stopped { status: None })
        && stopped(profile).is_some_and(|took| took >= grace);
    if was_killed { grace.min(KILLED) } else { grace }
}

/// How long the run took to stop.
fn stopped(profile: &Profile) -> Option<Duration> {
    let stopping = profile.run.timeline?.stopping?;
    Some(Duration::from_nanos(profile.run.duration.0.saturating_sub(stopping.0)))
}

/// What is preferred; that capabilities come from the file can be said in either way.
fn choices(results: &Results, sandbox: &SandboxArgs) -> Choices {
    let mut choices = results.shape.choices();
    if sandbox.file_capabilities {
        choices.prefer.insert(0, Method::FileCapability);
    }
    choices
}

/// The trials' variables are the artefacts', which set no others.
fn give(profile: &mut Profile, env: &[(OsString, OsString)]) {
    for (name, value) in env {
        let raw = |text: &OsString| RawText::new(text.as_bytes());
        profile.run.given.retain(|(known, _)| *known != raw(name));
        profile.run.given.push((raw(name), raw(value)));
    }
}

/// What an earlier proof took away, or could not try, is tried again.
fn forget_hardening(profile: &mut Profile) {
    if let Some(proof) = &mut profile.proof {
        proof.hardening.clear();
        proof.not_applied.clear();
    }
}

/// An exercise needs something to begin with.
fn check(course: &CourseArgs) -> Result<()> {
    if course.exercise.is_some() && course.readiness().is_empty() {
        let message = "--exercise begins once the program is ready, so it needs one of --ready, --ready-port, \
                       --ready-log and --ready-notify";
        return Err(BadInput(message.into()).into());
    }
    Ok(())
}

/// The course of a trial. It takes in what the profile's run shows: how late a need may come, and how long a program
/// takes that does its work and ends.
fn course(args: &CourseArgs, profile: &Profile) -> Course {
    let mut course = args.course(true, late(profile));
    if course.readiness.is_empty() && profile.run.exit == (Exit::Exited { status: 0 }) {
        let took = Duration::from_nanos(profile.run.duration.0);
        course.settle = course.settle.max(took * 4 + Duration::from_secs(10));
    }
    if course.exercise.is_none() && !profile.run.greetings.is_empty() {
        course.greets = Greets::As(profile.run.greetings.clone());
    }
    course
}

/// How long after it was ready, and exercised, the run still took more rights than its user has.
fn late(profile: &Profile) -> Option<Duration> {
    let timeline = profile.run.timeline?;
    let since = timeline.exercised.max(timeline.ready)?;
    Some(Duration::from_nanos(timeline.last_privileged?.0.saturating_sub(since.0)))
}

/// How long a trial waits for readiness: several times what the run or the last trial took.
fn ready_timeout(prover: &Prover, profile: &Profile, verified: Option<&Verified>) -> Duration {
    let given = prover.course.ready_timeout;
    readied(profile, verified).map_or(given, |took| (took * 8 + Duration::from_secs(4)).min(given))
}

/// How long a trial waits for who only sleeps: longer than it took to be ready as a whole.
fn asleep(profile: &Profile, verified: Option<&Verified>) -> Option<Duration> {
    readied(profile, verified).map(|took| took * 2 + Duration::from_secs(1))
}

/// How long the run or the last trial took to be ready.
fn readied(profile: &Profile, verified: Option<&Verified>) -> Option<Duration> {
    let recorded = profile.run.timeline.and_then(|timeline| timeline.ready).map(|took| took.0);
    let tried = verified.and_then(|verified| verified.report.trace.end.milestones?.ready);
    recorded.max(tried).map(Duration::from_nanos)
}

fn watching(args: &Watch) -> Watching {
    let backend = match args.backend {
        BackendArg::Auto => Choice::Auto,
        BackendArg::Ebpf => Choice::Ebpf,
        BackendArg::Ptrace => Choice::Ptrace,
    };
    // What refuses is told by the results of the calls.
    Watching { backend, record: Record::Calls, buffer: args.buffer << 20 }
}

fn is_private(args: &SandboxArgs, default: bool) -> bool {
    args.network.map_or(default, |network| network == NetworkArg::Private)
}

/// `nrtrace verify`
pub fn verify(args: &VerifyArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let prove = &args.prove;
    let mut profile = show::load(&prove.profile, &prove.results.more)?;
    let destination = Destination::open(prove, args.update)?;
    let prover = Prover::of(prove, &profile, false, false)?;
    give(&mut profile, &prover.env);
    if destination.is_some() {
        forget_hardening(&mut profile);
    }
    let made = || if prover.place.image().is_some() { Vec::new() } else { users::made(&profile) };
    let hints = args.update.then(|| verify::Hints { made: made(), suspected: Vec::new() });
    let mut verified = verify::verify(&prover, &mut profile, hints.as_ref(), &prove.results.talk)?;
    if verified.lives() && destination.is_some() {
        harden::harden(&prover, &mut profile, &prove.results.talk)?;
    }
    if verified.lives() {
        verified.failure = manager::try_with(&prover, &mut profile, &prove.results.talk)?;
    }
    took(&mut profile, started);
    let mut losses = Losses::default();
    write(destination.as_ref(), prove, &prover, &profile, &mut losses);
    losses.unless(tell::verified(&verified, &profile, &prover, &prove.results));
    Ok(losses.status(proved(verified.is_proved())))
}

/// `nrtrace minimize`
pub fn minimize(args: &MinimizeArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let prove = &args.prove;
    let mut profile = show::load(&prove.profile, &prove.results.more)?;
    let destination = Destination::open(prove, args.update)?;
    let prover = Prover::of(prove, &profile, true, true)?;
    give(&mut profile, &prover.env);
    let talk = &prove.results.talk;
    forget_hardening(&mut profile);
    let verified = verify::verify(&prover, &mut profile, None, talk)?;
    if !verified.lives() {
        tell::verified(&verified, &profile, &prover, &prove.results)?;
        return Ok(ExitCode::from(NOT_PROVED));
    }
    let beside = match prove.results.output.as_deref() {
        Some(directory) => directory.join("minimize.journal"),
        None => beside(&input::in_directory(&prove.profile)),
    };
    let wanted = minimize::Wanted {
        prover: &prover,
        search: &args.search,
        verified: &verified,
        journal: Some(&beside),
        talk,
    };
    let mut lives = minimize::minimize(&wanted, &mut profile)?;
    lives = lives && manager::try_with(&prover, &mut profile, talk)?.is_none();
    took(&mut profile, started);
    let mut losses = Losses::default();
    write(destination.as_ref(), prove, &prover, &profile, &mut losses);
    let written = match &destination {
        Some(Destination::Directory(output, _)) if losses.is_empty() => Some(output.path()),
        _ => None,
    };
    losses.unless(results::show(&prove.results, &profile, &prover.choices, written));
    Ok(losses.status(proved(lives)))
}

/// Notes how long the trials took.
fn took(profile: &mut Profile, started: Instant) {
    if let Some(proof) = &mut profile.proof {
        proof.took = Some(started.elapsed().into());
    }
}

fn proved(lives: bool) -> ExitCode {
    if lives { ExitCode::SUCCESS } else { ExitCode::from(NOT_PROVED) }
}

/// A file beside a profile.
fn beside(profile: &Path) -> PathBuf {
    let mut name = profile.file_name().unwrap_or_default().to_owned();
    name.push(".journal");
    profile.with_file_name(name)
}

/// Where the profile goes.
enum Destination {
    /// The output directory, with the artefacts, and whether the profile came from there.
    Directory(OutputDir, bool),
    /// Back to the file that it came from.
    File(Target),
}

impl Destination {
    /// The output directory, or with `update` where the profile came from; artefacts that lie beside it go with it.
    fn open(args: &ProveArgs, update: bool) -> Result<Option<Self>> {
        let from = &input::in_directory(&args.profile);
        if let Some(directory) = &args.results.output {
            let output = OutputDir::open(directory)?;
            let is_source = artefacts::is_of(directory, from);
            if !is_source {
                Guard::of(&output, args.results.files.force)
                    .check(results::PROFILE, None)
                    .map_err(|error| BadInput(error.to_string()))?;
            }
            return Ok(Some(Self::Directory(output, is_source)));
        }
        let directory =
            from.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_whole = from.file_name().is_some_and(|name| name == results::PROFILE);
        Ok(match update {
            false => None,
            true if from.as_os_str() == "-" => Some(Self::File(Target::Standard)),
            true if is_whole && directory.join("tmpfiles.d").is_dir() => {
                Some(Self::Directory(OutputDir::open(directory)?, true))
            }
            true => Some(Self::File(Target::open(Some(from))?)),
        })
    }
}

fn write(
    destination: Option<&Destination>,
    args: &ProveArgs,
    prover: &Prover,
    profile: &Profile,
    losses: &mut Losses,
) {
    match destination {
        Some(Destination::Directory(output, is_source)) => {
            let files = &args.results.files;
            let guard = Guard::of(output, files.force).with_source(*is_source);
            let artefacts = Artefacts { files, unit: args.whole.unit };
            results::write(&guard, artefacts, profile, &prover.choices, losses);
        }
        Some(Destination::File(target)) => {
            losses.unless(target.write(&profile.to_json()));
        }
        None => {}
    }
}
