//! `run --verify` and `run --minimize`: from the first run to artefacts that are proved.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use nrtrace_profiles::event::Identity;
use nrtrace_profiles::knowledge::Library;
use nrtrace_profiles::profile::Profile;
use nrtrace_tracer::course::Failure;
use nrtrace_tracer::launch::IdentityPolicy;

use super::choose::{Chosen, choose};
use super::{Prover, check, choices, harden, is_private, manager, minimize, proved, shared, tell, watching};
use crate::args::RunArgs;
use crate::output::{Losses, OutputDir};
use crate::there::found_from_everywhere;

/// What is run and proved.
pub struct Wanted<'a> {
    pub args: &'a RunArgs,
    pub name: String,
    pub identity: Identity,
    pub policy: IdentityPolicy,
    pub library: Library,
    pub output: Option<OutputDir>,
}

/// Runs the program in a sandbox, refused nothing, and proves what it is found to need.
pub fn run(wanted: &Wanted<'_>) -> Result<ExitCode> {
    let args = wanted.args;
    check(&args.course)?;
    manager::check(args.sandbox.with)?;
    let mut given = args.course.course(true, None);
    if let Some(whole) = args.lifetime.run_for {
        // Without readiness, it has to live so long; with it, so long after the exercise.
        given.settle = given.settle.max(whole);
    }
    let prover = Prover {
        command: found_from_everywhere(&args.command),
        cwd: args.cwd.clone(),
        proves: args.minimize,
        keep_env: args.variables.keep_env,
        env: args.variables.env.clone(),
        course: given,
        grace: args.lifetime.grace,
        watch: watching(&args.watch),
        private_network: is_private(&args.sandbox, args.minimize),
        shared: shared(&args.sandbox)?,
        choices: choices(&args.results, &args.sandbox),
        with: args.sandbox.with,
        settles: args.course.settle.is_some() || args.lifetime.run_for.is_some(),
        lender: Arc::default(),
    };
    let Chosen { prover, mut profile, mut verified } = choose(wanted, &prover)?;
    let talk = &args.results.talk;
    let mut lives = if args.minimize { verified.lives() } else { verified.is_proved() };
    // Written now, so that nothing is lost when the search is interrupted.
    let mut losses = write(wanted, &prover, &profile);
    if verified.trials == 0 {
        let written = losses.is_empty();
        losses.unless(tell::unproved(&verified, &profile, &prover, args, written));
    } else if !lives || !args.minimize {
        if lives {
            losses = harden(wanted, &prover, &mut profile, 1)?;
            (verified.failure, losses) = last(wanted, &prover, &mut profile, losses)?;
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
        losses = write(wanted, &prover, &profile);
        if lives {
            losses = harden(wanted, &prover, &mut profile, minimize::LONGER_LIFE)?;
            let failure;
            (failure, losses) = last(wanted, &prover, &mut profile, losses)?;
            lives = failure.is_none();
        }
        let written = losses.is_empty();
        losses.unless(tell::minimized(lives, &profile, &prover, &args.results, written));
    }
    Ok(losses.status(proved(lives)))
}

/// Has the unit take away what the program does without, and writes it all anew.
fn harden(wanted: &Wanted<'_>, prover: &Prover, profile: &mut Profile, longer: u32) -> Result<Losses> {
    harden::harden(prover, profile, longer, &wanted.args.results.talk)?;
    Ok(write(wanted, prover, profile))
}

/// Has the service manager have the last word, where it is asked; what fails there is written as not proved.
fn last(
    wanted: &Wanted<'_>,
    prover: &Prover,
    profile: &mut Profile,
    losses: Losses,
) -> Result<(Option<Failure>, Losses)> {
    let failure = manager::try_with(prover, profile, &wanted.args.results.talk)?;
    let losses = if failure.is_some() { write(wanted, prover, profile) } else { losses };
    Ok((failure, losses))
}

fn write(wanted: &Wanted<'_>, prover: &Prover, profile: &Profile) -> Losses {
    let mut losses = Losses::default();
    if let Some(output) = &wanted.output {
        crate::run::write(output, profile, &prover.choices, wanted.args.whole.unit, &mut losses);
    }
    losses
}
