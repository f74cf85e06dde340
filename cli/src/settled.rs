//! What the arguments of `nrtrace run` come to.

use anyhow::Result;
use nrtrace_profiles::event::{Backend, Identity, Mode, Record};
use nrtrace_profiles::knowledge::Library;
use nrtrace_tracer::course::{Capture, Course};
use nrtrace_tracer::launch::privileges::Privileges;
use nrtrace_tracer::launch::{Credentials, IdentityPolicy, identity};
use nrtrace_tracer::recording::RecordingFacts;
use nrtrace_tracer::session::Plan;

use crate::args::{IdentityArg, RecordArg, RunArgs, Talk};
use crate::failure::BadInput;
use crate::knowledge;
use crate::name;
use crate::output::{OutputDir, Target};
use crate::results;
use crate::terminal;
use crate::there::found_from_everywhere;

/// What the arguments come to: everything is settled before the program starts.
pub struct Settled {
    /// What is known of programs.
    pub library: Library,
    /// What the artefacts are named after.
    pub name: String,
    /// How the program is run.
    pub plan: Plan,
    /// What is recorded.
    pub facts: RecordingFacts,
    pub output: Option<OutputDir>,
    /// Where the recording itself goes.
    pub recording: Option<Target>,
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

/// Settles what the arguments come to.
///
/// # Errors
/// What does not go together, cannot be read or opened, or is not allowed.
pub fn settle(args: &RunArgs) -> Result<Settled> {
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
    let facts = RecordingFacts { identity, mode, backend: Backend::Ebpf, record, paths };
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
