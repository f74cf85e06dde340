//! `nrtrace run`

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nrtrace_profiles::RawText;
use nrtrace_profiles::classify;
use nrtrace_profiles::event::{Backend, Exit, Identity, Mode, Record};
use nrtrace_profiles::knowledge::Library;
use nrtrace_profiles::text::printable;
use nrtrace_tracer::backend::{Ready, Wanted};
use nrtrace_tracer::changes;
use nrtrace_tracer::course::{Capture, Course, Failure, Verdict};
use nrtrace_tracer::launch::privileges::Privileges;
use nrtrace_tracer::launch::{Credentials, IdentityPolicy, identity};
use nrtrace_tracer::recording::{self, Facts, Recorded};
use nrtrace_tracer::session::Plan;

use crate::args::{IdentityArg, RecordArg, RunArgs, Talk};
use crate::engine;
use crate::failure::{BROKEN, BadInput};
use crate::knowledge;
use crate::name;
use crate::origin;
use crate::output::{Losses, OutputDir, Target};
use crate::place::{self, Place};
use crate::programs;
use crate::progress::Line;
use crate::prove;
use crate::replay;
use crate::results::{self, complete, conclude};
use crate::rotated;
use crate::service::Started;
use crate::terminal;
use crate::there::{There, found_from_everywhere};
use crate::watcher::prepare;

/// What the arguments come to: everything is settled before the program starts.
pub struct Settled {
    /// What is known of programs.
    library: Library,
    /// What the artefacts are named after.
    name: String,
    /// How the program is run.
    pub plan: Plan,
    /// What is recorded.
    pub facts: Facts,
    output: Option<OutputDir>,
    /// Where the recording itself goes.
    recording: Option<Target>,
}

/// Runs the program, and says what it needs.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    if args.verify || args.minimize {
        if prove::is_of_image(&args.command) {
            return prove::run_image(args);
        }
        engine::must_work_itself(&args.command)?;
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
        let wanted = prove::Wanted { args, name, identity, policy, library, output, unit: None, image: None };
        return prove::run(&wanted);
    }
    let place = place::of(args)?;
    let line = Line::new(&settled.name, args.lifetime.run_for, args.results.talk.quiet).with_needs(
        &settled.name,
        &settled.facts,
        &args.command,
    );
    let recorded = match place {
        Place::Sandbox => place::sandboxed(args, &settled, &line),
        Place::Here(why) => {
            place::tell(&args.results.talk, &Place::Here(why));
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
    settled.library.annotate(&mut profile);
    origin::note(&mut profile, &recorded.trace);
    programs::note(&mut profile);
    rotated::note(&mut profile, &args.results.shape.choices());
    conclude(&args.results, args.whole.unit, &profile, settled.output.as_ref(), &mut losses);
    Ok(losses.status(complete(status(args, &recorded), &profile)))
}

/// Runs the program of a unit, and proves what it needs.
pub fn prove_service(args: &RunArgs, started: Started) -> Result<ExitCode> {
    engine::must_work_itself(&args.command)?;
    let settled = settle(args)?;
    tell_applied(&settled.name, &args.results.talk);
    let Settled { name, facts, plan, output, library, .. } = settled;
    let (identity, policy) = (facts.identity, plan.identity_policy);
    prove::run(&prove::Wanted {
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

fn settle(args: &RunArgs) -> Result<Settled> {
    if args.as_root && matches!(args.watch.record, RecordArg::Needs) {
        let message = "--as-root asks about each call, so it needs --record calls";
        return Err(BadInput(message.into()).into());
    }
    let library = knowledge::library(&args.results.more)?;
    let base = args.name.clone().unwrap_or_else(|| name::of(&args.command));
    let (mode, identity, credentials) = whom(args, &base)?;
    let record = args.watch.record.record();
    let plan = Plan {
        command: found_from_everywhere(&args.command),
        before: Vec::new(),
        credentials,
        identity_policy: match args.identity {
            IdentityArg::Keep => IdentityPolicy::Keep,
            IdentityArg::Switch => IdentityPolicy::Switch,
            IdentityArg::Deny => IdentityPolicy::Deny,
        },
        guarded: false,
        keep_env: args.variables.keep_env,
        env: args.variables.env.clone(),
        run_for: args.lifetime.run_for,
        grace: args.lifetime.grace,
        course: course(args)?,
        capture: Capture::Pass,
        relay: None,
    };
    let paths = args.watch.paths.clone();
    if !paths.is_empty() && record == Record::Needs {
        return Err(BadInput("--paths asks about each call, so it needs --record calls".into()).into());
    }
    let facts = Facts { identity, mode, backend: Backend::Ebpf, record, paths };
    // Opened now, so that a wrong path is told before the program runs.
    let output = results::open(args.results.output.as_deref(), &args.results.files)?;
    let recording = args.save_trace.as_deref().map(|path| Target::open(Some(path))).transpose()?;
    Ok(Settled { library, name: identity::name_for(&base), plan, facts, output, recording })
}

/// What the run is to come to, where that was asked for.
fn course(args: &RunArgs) -> Result<Option<Course>> {
    let given = args.course.course(args.course.exercise.is_some() && args.lifetime.run_for.is_none(), None);
    if given.readiness.is_empty() && given.exercise.is_some() {
        let message = "--exercise begins once the program is ready, so it needs one of --ready, --ready-port, \
                       --ready-log and --ready-notify";
        return Err(BadInput(message.into()).into());
    }
    Ok((!given.readiness.is_empty()).then_some(given))
}

/// How the program runs, whom it is judged for, and what it is started with.
fn whom(args: &RunArgs, program: &str) -> Result<(Mode, Identity, Credentials)> {
    let privileges = Privileges::of_self()?;
    if args.enforce && !privileges.can_change_user() {
        let identity = identity::own(args.subject.user.as_deref(), &args.subject.groups, program)?;
        return Ok((Mode::Enforced, identity, Credentials::Unchanged));
    }
    privileges.require_permissive()?;
    let identity = identity::resolve(args.subject.user.as_deref(), &args.subject.groups, program)?;
    Ok(match (args.enforce, args.as_root) {
        (true, _) => (Mode::Enforced, identity.clone(), Credentials::Enforced(identity)),
        (_, true) => (Mode::Observation, identity, Credentials::Unchanged),
        _ => (Mode::Permissive, identity.clone(), Credentials::Permissive(identity)),
    })
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

impl Settled {
    /// Says whom the program runs as.
    pub fn say_who(&self, talk: &Talk) {
        if !talk.verbose {
            return;
        }
        let identity = &self.facts.identity;
        let Identity { user, uid, gid, .. } = identity;
        if self.facts.mode == Mode::Observation {
            terminal::tell(format_args!(
                "nrtrace: running as root, judged for {user} (uid {uid}, gid {gid})"
            ));
            return;
        }
        let fresh = if identity.exists { "" } else { ", which exists nowhere else" };
        terminal::tell(format_args!("nrtrace: running as {user} (uid {uid}, gid {gid}{fresh})"));
    }
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
