//! `run --verify` and `run --minimize`: from the first run to artefacts that are proved.

use std::process::ExitCode;

use anyhow::Result;
use nrtrace_profiles::RawText;
use nrtrace_profiles::classify;
use nrtrace_profiles::event::Identity;
use nrtrace_profiles::knowledge::Library;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::prove::judge;
use nrtrace_profiles::text::printable;
use nrtrace_tracer::course::{Capture, Failure, Verdict};
use nrtrace_tracer::launch::IdentityPolicy;
use nrtrace_tracer::trial::{self, Report, Rights};

use super::bench::last_words;
use super::verify::Verified;
use super::{
    NOT_PROVED, Prover, check, choices, course, harden, is_private, minimize, proved, shared, tell, verify,
    watching,
};
use crate::args::RunArgs;
use crate::output::{Losses, OutputDir};
use crate::progress::Trials;
use crate::terminal;
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
    let mut given = args.course.course(true, None);
    if let Some(whole) = args.lifetime.run_for {
        // Without readiness, it has to live so long; with it, so long after the exercise.
        given.settle = given.settle.max(whole);
    }
    let mut prover = Prover {
        command: found_from_everywhere(&args.command),
        cwd: args.cwd.clone(),
        proves: args.minimize,
        keep_env: args.variables.keep_env,
        env: args.variables.env.clone(),
        course: given.clone(),
        grace: args.lifetime.grace,
        watch: watching(&args.watch),
        private_network: is_private(&args.sandbox, args.minimize),
        shared: shared(&args.sandbox)?,
        choices: choices(&args.results, &args.sandbox),
    };
    let talk = &args.results.talk;
    let shown = Trials::new(&wanted.name, talk);
    shown.say("running in a sandbox, refused nothing");
    let rights = Rights::Permissive { identity: wanted.identity.clone(), policy: wanted.policy };
    let mut report = trial::run(&prover.request(rights, given, true, Capture::Pass))?;
    drop(shown);
    let mut profile = classify::profile(&report.trace, &wanted.name);
    let program = std::fs::canonicalize(&report.program).ok();
    profile.executable = program.map(|path| RawText::new(path.into_os_string().into_encoded_bytes()));
    profile.notes.extend(report.remarks.iter().cloned());
    wanted.library.annotate(&mut profile);
    if let Some(Verdict::Failed(failure)) = report.verdict.clone() {
        // It went where nrtrace's own output goes; what the probe saw of it is kept.
        report.output =
            report.trace.end.stderr.iter().map(RawText::as_bytes).collect::<Vec<_>>().join(&b'\n');
        let goes_on = judge::gives_more(&profile, &prover.choices);
        profile.notes.push(came_short(&profile, &failure, &report, goes_on));
        if !goes_on {
            let mut losses = write(wanted, &prover, &profile);
            let verified = Verified::without_trial(failure, report);
            let written = losses.is_empty();
            losses.unless(tell::unproved(&verified, &profile, &prover, args, written));
            return Ok(losses.status(ExitCode::from(NOT_PROVED)));
        }
    }
    prover.course = course(&args.course, &profile);
    let verified = verify::verify(&prover, &mut profile, true, talk)?;
    let mut lives = verified.lives();
    // Written now, so that nothing is lost when the search is interrupted.
    let mut losses = write(wanted, &prover, &profile);
    if !lives || !args.minimize {
        if lives {
            losses = harden(wanted, &prover, &mut profile, 1)?;
        }
        losses.unless(tell::verified(&verified, &profile, &prover, &args.results));
    } else {
        let journal = wanted.output.as_ref().map(|output| output.path().join("minimize.journal"));
        let search = minimize::Wanted {
            prover: &prover,
            search: &args.search,
            untried: &verified.refused.untried,
            journal: journal.as_deref(),
            talk,
        };
        lives = minimize::minimize(&search, &mut profile)?;
        losses = write(wanted, &prover, &profile);
        if lives {
            losses = harden(wanted, &prover, &mut profile, minimize::LONGER_LIFE)?;
        }
        let written = losses.is_empty();
        losses.unless(tell::minimized(lives, &profile, &prover, &args.results, written));
    }
    Ok(losses.status(proved(lives)))
}

/// Says that the recorded run itself did not live, and what that means for a proof.
fn came_short(profile: &Profile, failure: &Failure, report: &Report, goes_on: bool) -> String {
    let said = last_words(report);
    let said = if said.is_empty() { said } else { format!(" (it said last: {said})") };
    let note = format!("the recorded run itself, with every right, {failure}{said}");
    let then = if goes_on {
        "a trial shows whether it lives with what it was refused or did not find"
    } else {
        "no grant can mend that, so nothing could be proved"
    };
    terminal::tell(format_args!("nrtrace: {}", printable(&format!("{}: {note}: {then}", profile.name))));
    note
}

/// Has the unit take away what the program does without, and writes it all anew.
fn harden(wanted: &Wanted<'_>, prover: &Prover, profile: &mut Profile, longer: u32) -> Result<Losses> {
    harden::harden(prover, profile, longer, &wanted.args.results.talk)?;
    Ok(write(wanted, prover, profile))
}

fn write(wanted: &Wanted<'_>, prover: &Prover, profile: &Profile) -> Losses {
    let mut losses = Losses::default();
    if let Some(output) = &wanted.output {
        crate::run::write(output, profile, &prover.choices, wanted.args.whole.unit, &mut losses);
    }
    losses
}
