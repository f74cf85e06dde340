//! What the arguments say of trials.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;
use nrtrace_profiles::event::{Exit, Record};
use nrtrace_profiles::grants::{Choices, Method};
use nrtrace_profiles::profile::Profile;
use nrtrace_tracer::backend::Choice;
use nrtrace_tracer::course::{Course, Greets};
use nrtrace_tracer::image::Image;
use nrtrace_tracer::trial::Watching;

use crate::args::{BackendArg, CourseArgs, NetworkArg, Results, SandboxArgs, Watch};
use crate::failure::BadInput;

/// An exercise needs something to begin with.
pub(super) fn check(course: &CourseArgs) -> Result<()> {
    if course.exercise.is_some() && course.readiness().is_empty() {
        let message = "--exercise begins once the program is ready, so it needs one of --ready, --ready-port, \
                       --ready-log and --ready-notify";
        return Err(BadInput(message.into()).into());
    }
    Ok(())
}

/// The course of a trial; where nothing is said of readiness, the image's own check tells it.
pub(super) fn course(args: &CourseArgs, profile: &Profile, image: Option<&Image>) -> Course {
    let mut course = on_machine(args, profile);
    if course.readiness.is_empty() {
        course.readiness.command = image.and_then(Image::health).map(OsString::from);
    }
    course
}

/// The course of a trial on this machine. It takes in what the profile's run shows: how late a need may come, and how long a program
/// takes that does its work and ends.
fn on_machine(args: &CourseArgs, profile: &Profile) -> Course {
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
pub(super) fn late(profile: &Profile) -> Option<Duration> {
    let timeline = profile.run.timeline?;
    let since = timeline.exercised.max(timeline.ready)?;
    Some(Duration::from_nanos(timeline.last_privileged?.0.saturating_sub(since.0)))
}

/// What is preferred; that capabilities come from the file can be said in either way.
pub(super) fn choices(results: &Results, sandbox: &SandboxArgs) -> Choices {
    let mut choices = results.shape.choices();
    if sandbox.file_capabilities {
        choices.prefer.insert(0, Method::FileCapability);
    }
    choices
}

pub(super) fn watching(args: &Watch) -> Watching {
    let backend = match args.backend {
        BackendArg::Auto => Choice::Auto,
        BackendArg::Ebpf => Choice::Ebpf,
        BackendArg::Ptrace => Choice::Ptrace,
    };
    // What refuses is told by the results of the calls.
    Watching { backend, record: Record::Calls, buffer: args.buffer << 20 }
}

pub(super) fn is_private(args: &SandboxArgs, default: bool) -> bool {
    args.network.map_or(default, |network| network == NetworkArg::Private)
}
