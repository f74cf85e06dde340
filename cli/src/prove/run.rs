//! `run --verify` and `run --minimize`: from the first run to artefacts that are proved.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use nrtrace_profiles::emit::Format;
use nrtrace_profiles::event::Identity;
use nrtrace_profiles::knowledge::Library;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::ways::plan;
use nrtrace_tracer::course::Failure;
use nrtrace_tracer::image::Image;
use nrtrace_tracer::launch::IdentityPolicy;

use super::choose::{Chosen, choose};
use super::{
    Place, Prover, check, choices, harden, image, is_private, manager, minimize, proved, shared, tell, took,
    watching,
};
use crate::args::{CourseArgs, ReportFormat, RunArgs};
use crate::artefacts::Guard;
use crate::output::{Losses, OutputDir};
use crate::results::{self, Artefacts};
use crate::rotated;
use crate::service::Started;
use crate::terminal;
use crate::there::found_from_everywhere;

/// A service of which nothing tells when it is ready is watched so long at first.
const FIRST_LIFE: Duration = Duration::from_secs(5);

/// What is run and proved.
pub struct Wanted<'a> {
    pub args: &'a RunArgs,
    pub name: String,
    pub identity: Identity,
    pub policy: IdentityPolicy,
    pub library: Library,
    pub output: Option<OutputDir>,
    /// The unit that starts it.
    pub unit: Option<Started>,
    /// Whose containers are run, where it is an image.
    pub image: Option<Arc<Image>>,
}

/// Runs the program in a sandbox, refused nothing, and proves what it is found to need.
pub fn run(wanted: &Wanted<'_>) -> Result<ExitCode> {
    let args = wanted.args;
    check(&args.course)?;
    manager::check(args.sandbox.with)?;
    let started = Instant::now();
    let prover = prover(wanted)?;
    let Chosen { prover, mut profile, mut verified } = choose(wanted, &prover)?;
    let talk = &args.results.talk;
    let mut lives = if args.minimize { verified.lives() } else { verified.is_proved() };
    // Written now, so that nothing is lost when the search is interrupted.
    let mut losses = write(wanted, &prover, &profile);
    if verified.trials == 0 {
        let written = written(wanted, &losses);
        losses.unless(tell::unproved(&verified, &profile, &prover, args, written));
    } else if !lives || !args.minimize {
        if lives {
            harden::harden(&prover, &mut profile, talk)?;
            (verified.failure, losses) = finish(wanted, &prover, &mut profile, started)?;
            lives = verified.lives();
        }
        losses.unless(tell::verified(&verified, &profile, &prover, &args.results));
    } else {
        let journal = wanted.output.as_ref().map(|output| output.path().join("minimize.journal"));
        let search = minimize::Wanted {
            prover: &prover,
            search: &args.search,
            verified: &verified,
            journal: journal.as_deref(),
            talk,
        };
        lives = minimize::minimize(&search, &mut profile)?;
        // Written now, too.
        losses = write(wanted, &prover, &profile);
        if lives {
            let failure;
            (failure, losses) = finish(wanted, &prover, &mut profile, started)?;
            lives = failure.is_none();
        }
        let written = written(wanted, &losses);
        losses.unless(results::show(&args.results, &profile, &prover.choices, written));
    }
    if lives && wanted.unit.is_some() && wanted.output.is_none() {
        losses.unless(drop_in(args, &prover, &profile));
    }
    Ok(losses.status(proved(lives)))
}

/// What makes the trials.
fn prover(wanted: &Wanted<'_>) -> Result<Prover> {
    let args = wanted.args;
    let mut given = args.course.course(true, None);
    if let Some(whole) = args.lifetime.run_for {
        // Without readiness, it has to live so long; with it, so long after the exercise.
        given.settle = given.settle.max(whole);
    }
    let told = args.course.settle.is_some() || args.lifetime.run_for.is_some();
    if wanted.unit.is_some() && given.readiness.is_empty() && !told {
        // On what it listens is waited for later, and shows with the first run alone.
        given.settle = given.settle.max(FIRST_LIFE);
    }
    let image = wanted.image.clone();
    Ok(Prover {
        command: image.as_deref().map_or_else(|| found_from_everywhere(&args.command), image::command),
        cwd: args.cwd.clone(),
        service: wanted.unit.as_ref().map(|unit| unit.around.clone()),
        learns_ports: wanted.unit.is_some() && is_untold(&args.course),
        proves: args.minimize,
        keep_env: args.variables.keep_env,
        env: args.variables.env.clone(),
        course: given,
        grace: args.lifetime.grace,
        watch: watching(&args.watch),
        private_network: image.is_some() || is_private(&args.sandbox, args.minimize),
        shared: shared(&args.sandbox)?,
        choices: choices(&args.results, &args.sandbox),
        with: args.sandbox.with,
        settles: args.course.settle.is_some() || args.lifetime.run_for.is_some(),
        patience: Arc::default(),
        lasts: Duration::ZERO,
        as_root: Vec::new(),
        place: image.map_or_else(|| Place::Machine(Arc::default()), Place::Image),
    })
}

/// Prints the drop-in, where nothing else goes to standard output.
fn drop_in(args: &RunArgs, prover: &Prover, profile: &Profile) -> Result<()> {
    if args.results.showing.format != ReportFormat::Table {
        return Ok(());
    }
    terminal::print(&Format::SystemdDropIn.emit(profile, &plan(profile, &prover.choices)).text)
}

/// Whether nobody said when it is ready: what its unit says may be less than that it serves.
fn is_untold(course: &CourseArgs) -> bool {
    course.ready_port.is_empty() && course.ready_log.is_none() && course.exercise.is_none()
}

/// Has the service manager have the last word, where it is asked, and writes what it all came to and how long it took.
fn finish(
    wanted: &Wanted<'_>,
    prover: &Prover,
    profile: &mut Profile,
    started: Instant,
) -> Result<(Option<Failure>, Losses)> {
    let failure = manager::try_with(prover, profile, &wanted.args.results.talk)?;
    took(profile, started);
    rotated::note(profile, &prover.choices);
    Ok((failure, write(wanted, prover, profile)))
}

/// Where the files are, if all could be written.
fn written<'a>(wanted: &'a Wanted<'_>, losses: &Losses) -> Option<&'a Path> {
    wanted.output.as_ref().filter(|_| losses.is_empty()).map(OutputDir::path)
}

fn write(wanted: &Wanted<'_>, prover: &Prover, profile: &Profile) -> Losses {
    let mut losses = Losses::default();
    if let Some(output) = &wanted.output {
        let files = &wanted.args.results.files;
        let artefacts = Artefacts { files, unit: wanted.args.whole.unit };
        results::write(&Guard::of(output, files.force), artefacts, profile, &prover.choices, &mut losses);
    }
    losses
}
