//! Proving a profile: `nrtrace verify`, `nrtrace minimize`, and both after a run.

mod bench;
mod journal;
mod minimize;
mod run;
mod tell;
mod verify;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use nrtrace_profiles::event::Record;
use nrtrace_profiles::grants::{Choices, Method};
use nrtrace_profiles::profile::Profile;
use nrtrace_tracer::backend::Choice;
use nrtrace_tracer::course::{Capture, Course};
use nrtrace_tracer::sandbox::Bind;
use nrtrace_tracer::trial::{self, Report, Request, Rights, TrialError, Watching};

use crate::args::{
    BackendArg, CourseArgs, MinimizeArgs, NetworkArg, ProveArgs, Results, SandboxArgs, VerifyArgs, Watch,
};
use crate::failure::BadInput;
use crate::output::OutputDir;
use crate::show;
use crate::there::found_from_everywhere;

pub use run::{Wanted, run};

/// Exit status of what is not proved.
const NOT_PROVED: u8 = 1;
/// What making a sandbox and ending what is in it may take, on a slow machine.
const SLACK: Duration = Duration::from_secs(60);

/// How the trials of one program are made.
#[derive(Clone)]
struct Prover {
    command: Vec<OsString>,
    /// The working directory it is started in.
    cwd: PathBuf,
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
}

impl Prover {
    fn of(args: &ProveArgs, profile: &Profile, private: bool, proves: bool) -> Result<Self> {
        let command = if args.command.is_empty() {
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
        check(&args.course)?;
        let cwd = profile.run.cwd.as_bytes();
        Ok(Self {
            command,
            cwd: PathBuf::from(std::ffi::OsStr::from_bytes(if cwd.is_empty() { b"/" } else { cwd })),
            proves,
            keep_env: args.variables.keep_env,
            env: args.variables.env.clone(),
            course: course(&args.course, profile),
            grace: args.grace,
            watch: watching(&args.watch),
            private_network: is_private(&args.sandbox, private),
            shared: shared(&args.sandbox)?,
            choices: choices(&args.results, &args.sandbox),
        })
    }

    fn request(&self, rights: Rights, course: Course, watched: bool, capture: Capture) -> Request {
        let whole = course.ready_timeout + course.exercise_timeout + course.settle + self.grace * 4 + SLACK;
        Request {
            layout: trial::machine(self.private_network, self.shared.clone(), whole),
            command: self.command.clone(),
            cwd: self.cwd.clone(),
            rights,
            keep_env: self.keep_env,
            env: self.env.clone(),
            course: Some(course),
            run_for: None,
            grace: self.grace,
            watch: watched.then_some(self.watch),
            capture,
        }
    }

    /// One trial with what the profile grants.
    fn trial(&self, profile: &Profile, course: &Course, watched: bool) -> Result<Report, TrialError> {
        let choices = Choices { prove: self.proves, ..self.choices.clone() };
        let rights = Rights::Granted { profile: Box::new(profile.clone()), choices };
        trial::run(&self.request(rights, course.clone(), watched, Capture::Keep))
    }
}

/// What is preferred; that capabilities come from the file can be said in either way.
fn choices(results: &Results, sandbox: &SandboxArgs) -> Choices {
    let mut choices = results.shape.choices();
    if sandbox.file_capabilities {
        choices.prefer.insert(0, Method::FileCapability);
    }
    choices
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
    use nrtrace_profiles::event::Exit;
    let time = |seconds: nrtrace_profiles::requirement::Seconds| Duration::from_nanos(seconds.0);
    let late = profile.run.timeline.and_then(|timeline| {
        let since = timeline.exercised.max(timeline.ready)?;
        Some(time(timeline.last_privileged?).saturating_sub(time(since)))
    });
    let mut course = args.course(true, late);
    if course.readiness.is_empty() && profile.run.exit == (Exit::Exited { status: 0 }) {
        course.settle = course.settle.max(time(profile.run.duration) * 4 + Duration::from_secs(10));
    }
    course
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

fn shared(args: &SandboxArgs) -> Result<Vec<Bind>> {
    let bind = |path: &PathBuf| {
        let path = std::path::absolute(path)?;
        if !path.exists() {
            return Err(BadInput(format!("--share: there is no {}", path.display())).into());
        }
        Ok(Bind { source: path.clone(), target: path, writable: true })
    };
    args.share.iter().map(bind).collect()
}

/// `nrtrace verify`
pub fn verify(args: &VerifyArgs) -> Result<ExitCode> {
    let prove = &args.prove;
    let mut profile = show::load(&prove.profile, &prove.results.more)?;
    let output = prove.results.output.as_deref().map(OutputDir::open).transpose()?;
    let prover = Prover::of(prove, &profile, false, false)?;
    let verified = verify::verify(&prover, &mut profile, args.update, &prove.results.talk)?;
    if output.is_some() || args.update {
        write(output.as_ref(), prove, &prover, &profile)?;
    }
    tell::verified(&verified, &profile, &prover, &prove.results)?;
    Ok(if verified.lives() { ExitCode::SUCCESS } else { ExitCode::from(NOT_PROVED) })
}

/// `nrtrace minimize`
pub fn minimize(args: &MinimizeArgs) -> Result<ExitCode> {
    let prove = &args.prove;
    let mut profile = show::load(&prove.profile, &prove.results.more)?;
    let output = prove.results.output.as_deref().map(OutputDir::open).transpose()?;
    let prover = Prover::of(prove, &profile, true, true)?;
    let talk = &prove.results.talk;
    let verified = verify::verify(&prover, &mut profile, false, talk)?;
    if !verified.lives() {
        tell::verified(&verified, &profile, &prover, &prove.results)?;
        return Ok(ExitCode::from(NOT_PROVED));
    }
    let beside = match prove.results.output.as_deref() {
        Some(directory) => directory.join("minimize.journal"),
        None => beside(&prove.profile),
    };
    let wanted = minimize::Wanted { prover: &prover, search: &args.search, journal: Some(&beside), talk };
    let proved = minimize::minimize(&wanted, &mut profile)?;
    if output.is_some() || args.update {
        write(output.as_ref(), prove, &prover, &profile)?;
    }
    tell::minimized(proved, &profile, &prover, &prove.results)?;
    Ok(if proved { ExitCode::SUCCESS } else { ExitCode::from(NOT_PROVED) })
}

/// A file beside a profile.
fn beside(profile: &Path) -> PathBuf {
    let mut name = profile.file_name().unwrap_or_default().to_owned();
    name.push(".journal");
    profile.with_file_name(name)
}

/// Writes the profile to the output directory, or back to where it came from, with the artefacts that lie beside it.
fn write(output: Option<&OutputDir>, args: &ProveArgs, prover: &Prover, profile: &Profile) -> Result<()> {
    let from = &args.profile;
    if let Some(output) = output {
        return crate::run::write(output, profile, &prover.choices, args.whole.unit);
    }
    let directory = from.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let written = OutputDir::open(directory)?;
    if name == "profile.json" && directory.join("tmpfiles.d").is_dir() {
        return crate::run::write(&written, profile, &prover.choices, args.whole.unit);
    }
    written.write(&name, &profile.to_json(), false)
}
