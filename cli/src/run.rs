//! `nrtrace run`

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nrtrace_profiles::RawText;
use nrtrace_profiles::classify;
use nrtrace_profiles::event::Exit;
use nrtrace_profiles::text::printable;
use nrtrace_tracer::backend::{Ready, Wanted};
use nrtrace_tracer::changes;
use nrtrace_tracer::course::{Failure, Verdict};
use nrtrace_tracer::recording::{self, Recorded};

use crate::args::{RunArgs, Talk};
use crate::client;
use crate::configuration;
use crate::engine;
use crate::failure::{BROKEN, BadInput};
use crate::origin;
use crate::output::Losses;
use crate::place::{self, RunsIn};
use crate::programs;
use crate::progress::Line;
use crate::prove;
use crate::replay;
use crate::results::{complete, conclude};
use crate::rotated;
use crate::service::started::Started;
use crate::settled::{Settled, settle};
use crate::terminal;
use crate::there::There;
use crate::watcher::prepare;

/// Runs the program, and says what it needs.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    if args.verify || args.minimize {
        if prove::is_of_image(&args.command) {
            return prove::run_image(args);
        }
        client::must_work_itself(&args.command)?;
    }
    if let Some(kind) = engine::asked(args) {
        return engine::run(args, kind);
    }
    if args.sandbox.with.is_some() && !args.verify && !args.minimize {
        return Err(
            BadInput("--with has a proof tried once more: it takes --verify or --minimize".into()).into()
        );
    }
    let mut settled = settle(args)?;
    tell_applied(&settled.name, &args.results.talk);
    if args.verify || args.minimize {
        let Settled { name, facts, plan, output, library, .. } = settled;
        let (identity, policy) = (facts.identity, plan.identity_policy);
        let wanted =
            prove::ProofTask { args, name, identity, policy, library, output, unit: None, image: None };
        return prove::run(&wanted);
    }
    let place = place::of(args)?;
    let line = Line::new(&settled.name, args.lifetime.run_for, args.results.talk.quiet).with_needs(
        &settled.name,
        &settled.facts,
        &args.command,
    );
    let recorded = match place {
        RunsIn::Sandbox => place::sandboxed(args, &settled, &line),
        RunsIn::Here(why) => {
            place::tell(&args.results.talk, &RunsIn::Here(why));
            Ok(None)
        }
    };
    let recorded = recorded.and_then(|recorded| match recorded {
        Some(recorded) => Ok(recorded),
        None => here(args, &mut settled, &line),
    });
    line.clear();
    let recorded = recorded?;
    let mut profile = classify::profile(&recorded.trace, &settled.name);
    profile.executable =
        std::fs::canonicalize(&recorded.program).ok().map(|path| RawText::new(path.as_os_str().as_bytes()));
    if let Some(Verdict::Failed(failure)) = &recorded.verdict {
        profile.notes.push(format!("the program {failure}"));
        if args.results.talk.quiet {
            terminal::tell(format_args!("nrtrace: the program {}", printable(&failure.to_string())));
        }
    }
    if recorded.trace.end.cut_off {
        terminal::tell(format_args!(
            "nrtrace: error: nrtrace's guardian was killed, by the program itself or from outside: the program was cut off, \
             and its whole tree ended"
        ));
    }
    let mut losses = Losses::default();
    if let Some(target) = &settled.recording {
        let saved = replay::saved(&recorded, &settled.name, profile.executable.as_ref());
        losses.unless(target.write(&saved));
    }
    configuration::annotate(&mut profile, &recorded.trace, &settled.library);
    origin::note(&mut profile, &recorded.trace);
    programs::note(&mut profile);
    rotated::note(&mut profile, &args.results.shape.choices());
    conclude(&args.results, args.whole.unit, &profile, settled.output.as_ref(), &mut losses);
    Ok(losses.status(complete(status(args, &recorded), &profile)))
}

/// Runs the program of a unit, and proves what it needs.
pub fn prove_service(args: &RunArgs, started: Started) -> Result<ExitCode> {
    client::must_work_itself(&args.command)?;
    let settled = settle(args)?;
    tell_applied(&settled.name, &args.results.talk);
    let Settled { name, facts, plan, output, library, .. } = settled;
    let (identity, policy) = (facts.identity, plan.identity_policy);
    prove::run(&prove::ProofTask {
        args,
        name,
        identity,
        policy,
        library,
        output,
        unit: Some(started),
        image: None,
    })
}

/// Says what is granted on this machine already, which a run does not see as a need.
fn tell_applied(name: &str, talk: &Talk) {
    let start = format!("{name} as ");
    let keys = changes::applied(Path::new(changes::STATE));
    for key in keys.iter().filter(|key| key.starts_with(&start) && !talk.quiet) {
        terminal::tell(format_args!(
            "nrtrace: granted here already, and so no need of this run: {}; to record all, take it back first (nrtrace undo)",
            printable(key)
        ));
    }
}

/// Runs the program on the machine itself.
fn here(args: &RunArgs, settled: &mut Settled, line: &Line) -> Result<Recorded> {
    let mut ready = watcher(args, settled)?;
    settled.facts.backend = ready.kind;
    settled.say_who(&args.results.talk);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let _there = There::enter(&args.cwd)?;
    let (facts, source) = (settled.facts.clone(), ready.source.as_mut());
    let progress = &mut |progress| line.update(progress);
    Ok(runtime.block_on(recording::record(&settled.plan, facts, source, progress))?)
}

fn watcher(args: &RunArgs, settled: &Settled) -> Result<Ready> {
    let facts = &settled.facts;
    let wanted = Wanted {
        record: facts.record,
        buffer: args.watch.buffer << 20,
        attach: false,
        foretold: None,
        mode: facts.mode,
        identity: &facts.identity,
    };
    prepare(args.watch.backend.choice(), &wanted, &args.results.talk)
}

/// The program's own status, unless nrtrace stopped it as asked, or it is told to ignore it.
fn status(args: &RunArgs, recorded: &Recorded) -> u8 {
    if recorded.trace.end.cut_off {
        return BROKEN;
    }
    // One that ended by itself has a status of its own, but one that ended before it was ready did not do its work.
    let failed = match recorded.verdict {
        Some(Verdict::Failed(Failure::Ended { exit, was_ready, .. })) => {
            was_ready == Some(false) && exit == Exit::Exited { status: 0 }
        }
        Some(Verdict::Failed(_)) => true,
        _ => false,
    };
    if failed && !args.ignore_status {
        return 1;
    }
    let stopped = matches!(recorded.trace.end.exit, Exit::Stopped { .. } | Exit::Running);
    if stopped || args.ignore_status {
        return 0;
    }
    u8::try_from(recorded.status).unwrap_or(u8::MAX)
}
