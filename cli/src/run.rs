//! `nrtrace run`

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nrtrace_profiles::RawText;
use nrtrace_profiles::classify;
use nrtrace_profiles::emit::{self, Format, Style};
use nrtrace_profiles::event::{Backend, Exit, Identity, Mode, Record};
use nrtrace_profiles::grants::Choices;
use nrtrace_profiles::knowledge::Library;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::text::printable;
use nrtrace_profiles::ways::plan;
use nrtrace_tracer::backend::{self, Choice, Ready, Wanted};
use nrtrace_tracer::course::{Capture, Course, Failure, Verdict};
use nrtrace_tracer::ebpf;
use nrtrace_tracer::launch::privileges::Privileges;
use nrtrace_tracer::launch::{Credentials, IdentityPolicy, identity};
use nrtrace_tracer::recording::{self, Facts, Recorded};
use nrtrace_tracer::session::Plan;

use crate::args::{IdentityArg, RecordArg, ReportFormat, Results, RunArgs, Talk};
use crate::engine;
use crate::failure::{BROKEN, BadInput};
use crate::knowledge;
use crate::output::{Losses, OutputDir, Target};
use crate::place::{self, Place};
use crate::progress::Line;
use crate::prove;
use crate::replay;
use crate::shipped;
use crate::terminal;
use crate::there::{There, found_from_everywhere};

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
    if args.verify || args.minimize {
        let Settled { name, facts, plan, output, library, .. } = settled;
        let (identity, policy) = (facts.identity, plan.identity_policy);
        return prove::run(&prove::Wanted { args, name, identity, policy, library, output });
    }
    let place = place::of(args)?;
    let line = Line::new(&settled.name, args.lifetime.run_for, args.results.talk.quiet);
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
    conclude(&args.results, args.whole.unit, &profile, settled.output.as_ref(), &mut losses);
    Ok(losses.status(complete(status(args, &recorded), &profile)))
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
    let program = args.command.first().map_or(OsStr::new(""), |word| word.as_os_str());
    let base = Path::new(program).file_name().unwrap_or(program).to_string_lossy();
    let (mode, identity, credentials) = whom(args, &base)?;
    let record = args.watch.record.record();
    let plan = Plan {
        command: found_from_everywhere(&args.command),
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
    let output = args.results.output.as_deref().map(OutputDir::open).transpose()?;
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

/// What watches a program, for people.
pub struct Watcher {
    /// What it is, in a few words.
    pub description: String,
    /// Why it is not the first choice.
    pub fallback: Option<String>,
    /// What the kernel's verifier said of the first choice.
    pub verifier: Option<String>,
}

/// Prepares what watches the program, and says which it is where that was left to nrtrace.
pub fn prepare(choice: Choice, wanted: &Wanted<'_>, talk: &Talk) -> Result<Ready> {
    let prepared = backend::prepare(choice, wanted);
    let refusal = match &prepared {
        Ok(ready) => ready.fallback.as_ref(),
        Err(error) => error.ebpf(),
    };
    let verifier = refusal.and_then(ebpf::Error::verifier_log);
    let fallback = refusal.map(ToString::to_string);
    if prepared.is_err() {
        say_verifier(verifier.as_deref(), talk);
    }
    let ready = prepared?;
    announce(choice, &Watcher { description: ready.description.clone(), fallback, verifier }, talk);
    Ok(ready)
}

/// Says what watches the program, where that was left to nrtrace.
pub fn announce(choice: Choice, watcher: &Watcher, talk: &Talk) {
    say_verifier(watcher.verifier.as_deref(), talk);
    let description = &watcher.description;
    match &watcher.fallback {
        Some(why) => terminal::tell(format_args!(
            "nrtrace: backend: {description}, because eBPF does not work here: {why}"
        )),
        None if choice == Choice::Auto && !talk.quiet => {
            terminal::tell(format_args!(
                "nrtrace: backend: {description}, the first choice, which works here"
            ));
        }
        None if talk.verbose => terminal::tell(format_args!("nrtrace: backend: {description}")),
        None => {}
    }
}

fn say_verifier(log: Option<&str>, talk: &Talk) {
    for line in log.filter(|_| talk.verbose).unwrap_or_default().lines() {
        terminal::tell(format_args!("{}", printable(line)));
    }
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

/// Writes the profile and all artefacts, by what was preferred, with a whole unit if asked for.
pub fn write(output: &OutputDir, profile: &Profile, choices: &Choices, unit: bool, losses: &mut Losses) {
    let mut grants = plan(profile, choices);
    if profile.container.is_none() {
        grants.shipped = shipped::lines();
    }
    losses.unless(output.write("profile.json", &profile.to_json(), false));
    let unit = unit.then(|| Format::SystemdUnit.emit(profile, &grants));
    output.write_all(emit::files(profile, &grants).into_iter().chain(unit), losses);
}

/// Writes what was asked for, and shows it whatever became of the files.
pub fn conclude(
    results: &Results,
    unit: bool,
    profile: &Profile,
    output: Option<&OutputDir>,
    losses: &mut Losses,
) {
    if let Some(output) = output {
        write(output, profile, &results.shape.choices(), unit, losses);
    }
    let output = output.filter(|_| losses.is_empty());
    losses.unless(show(results, profile, output));
}

/// Shows the result as it was asked for.
fn show(results: &Results, profile: &Profile, output: Option<&OutputDir>) -> Result<()> {
    let grants = &plan(profile, &results.shape.choices());
    match results.format {
        // The program may have written to standard output as well; this is why the table goes elsewhere.
        ReportFormat::Json => {
            terminal::print(&profile.to_json())?;
        }
        ReportFormat::Markdown => terminal::print(&Format::Markdown.emit(profile, grants).text)?,
        ReportFormat::Html => terminal::print(&Format::Html.emit(profile, grants).text)?,
        ReportFormat::Table if !results.talk.quiet => {
            let style: Style = terminal::style(results.talk.color, &std::io::stderr());
            let table = emit::table(profile, grants, style, terminal::width());
            terminal::tell(format_args!("{}", table.trim_end_matches('\n')));
        }
        ReportFormat::Table => {}
    }
    if let Some(output) = output.filter(|_| !results.talk.quiet) {
        terminal::tell(format_args!("Profile and artefacts are in {}", output.path().display()));
    }
    Ok(())
}

/// An incomplete record is a finding, where there is no other.
pub fn complete(status: u8, profile: &Profile) -> ExitCode {
    let Some(shortfall) = profile.run.shortfall() else { return ExitCode::from(status) };
    terminal::tell(format_args!("nrtrace: incomplete: {shortfall}; there may be more needs"));
    ExitCode::from(status.max(1))
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
