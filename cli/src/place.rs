//! Where a plain run happens: in a sandbox that is thrown away with all that the program wrote, or in place.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use nrtrace_profiles::text::printable;
use nrtrace_tracer::launch::privileges::Privileges;
use nrtrace_tracer::recording::Recorded;
use nrtrace_tracer::trial::{self, News, Report, Request, Rights, TrialError, Watching};

use crate::args::{NetworkArg, RunArgs, Talk};
use crate::client;
use crate::failure::BadInput;
use crate::hidden;
use crate::progress::Line;
use crate::prove::shared;
use crate::settled::Settled;
use crate::terminal;
use crate::there::There;
use crate::watcher::{Watcher, announce};

/// Where a run happens.
pub enum RunsIn {
    /// In a sandbox.
    Sandbox,
    /// On the machine itself.
    Here(Why),
}

/// Why a run happens in place.
pub enum Why {
    /// It was asked for.
    Asked,
    /// Nobody but root can make a sandbox.
    NotRoot,
    /// The program, of that name, has its work done by others.
    Client(String),
    /// It was tried.
    Unmade(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("as --in-place asks"),
            Self::NotRoot => f.write_str("since a sandbox takes root"),
            Self::Client(name) => {
                write!(f, "since {name} has its work done by others, outside of any sandbox")
            }
            Self::Unmade(why) => write!(f, "since no sandbox can be made here ({why})"),
        }
    }
}

/// The first line of a run. Whoever asked for silence and expects a sandbox is told where there is none.
pub fn tell(talk: &Talk, place: &RunsIn) {
    let told = match place {
        RunsIn::Here(Why::Unmade(_)) => true,
        RunsIn::Sandbox | RunsIn::Here(_) => !talk.quiet,
    };
    if !told {
        return;
    }
    match place {
        RunsIn::Sandbox => terminal::tell(format_args!(
            "nrtrace: in a sandbox: what the program writes is thrown away (--in-place keeps it); its network is the caller's"
        )),
        RunsIn::Here(why) => terminal::tell(format_args!(
            "nrtrace: in place, {}: what the program changes stays",
            printable(&why.to_string())
        )),
    }
}

/// Where a run is to happen.
///
/// # Errors
/// Options of a sandbox, where there is to be none.
pub fn of(args: &RunArgs) -> Result<RunsIn> {
    let place = match client::client(&args.command) {
        _ if args.in_place => RunsIn::Here(Why::Asked),
        Some((_, name)) => RunsIn::Here(Why::Client(name)),
        None if Privileges::of_self()?.require_permissive().is_err() => RunsIn::Here(Why::NotRoot),
        None => RunsIn::Sandbox,
    };
    if args.sandbox.file_capabilities {
        return Err(
            BadInput("--file-capabilities is about the trials of --verify and --minimize".into()).into()
        );
    }
    match &place {
        RunsIn::Here(why) if args.sandbox.network.is_some() || !args.sandbox.share.is_empty() => Err(
            BadInput(format!("--network and --share are about a sandbox, and this run is in place, {why}"))
                .into(),
        ),
        _ => Ok(place),
    }
}

/// Runs the program in a sandbox. `None` where none can be made; nothing was run then.
///
/// # Errors
/// When the program cannot be run, or must not be run without a sandbox.
pub fn sandboxed(args: &RunArgs, settled: &Settled, line: &Line) -> Result<Option<Recorded>> {
    drop(There::enter(&args.cwd)?);
    let request = request(args, settled)?;
    let talk = &args.results.talk;
    let mut news = |news: News| match news {
        News::Made(_) => {
            tell(talk, &RunsIn::Sandbox);
            settled.say_who(talk);
        }
        News::Watched { description, fallback, verifier, .. } => {
            announce(args.watch.backend.choice(), &Watcher { description, fallback, verifier }, talk);
        }
        News::Progress(progress) => line.update(progress),
    };
    let why = match trial::live(&request, &mut news) {
        Ok(report) => return Ok(Some(recorded(report))),
        Err(TrialError::Unmade(why)) => why,
        Err(TrialError::Privileges(error)) => error.to_string(),
        Err(error) => return Err(error.into()),
    };
    if args.sandbox.network == Some(NetworkArg::Private) || !args.sandbox.share.is_empty() {
        return Err(TrialError::Unmade(why).into());
    }
    tell(talk, &RunsIn::Here(Why::Unmade(why)));
    Ok(None)
}

fn request(args: &RunArgs, settled: &Settled) -> Result<Request> {
    let private = args.sandbox.network == Some(NetworkArg::Private);
    let Settled { plan, facts, .. } = settled;
    Ok(Request {
        layout: trial::machine(private, shared(&args.sandbox)?, Duration::MAX),
        command: plan.command.clone(),
        cwd: args.cwd.clone(),
        service: None,
        rights: Rights::Recorded {
            identity: facts.identity.clone(),
            mode: facts.mode,
            policy: plan.identity_policy,
            prepared: None,
        },
        keep_env: plan.keep_env,
        env: plan.env.clone(),
        course: plan.course.clone(),
        run_for: plan.run_for,
        grace: plan.grace,
        watch: Some(Watching {
            backend: args.watch.backend.choice(),
            record: facts.record,
            buffer: args.watch.buffer << 20,
        }),
        paths: facts.paths.iter().map(|pattern| pattern.text().clone()).collect(),
        capture: plan.capture,
    })
}

fn recorded(report: Report) -> Recorded {
    let mut trace = report.trace;
    let hidden = hidden::services(&trace);
    trace.end.notes.extend(report.remarks.into_iter().chain(hidden));
    let closed: Vec<String> = trial::reopen(&mut trace).iter().map(ToString::to_string).collect();
    if !closed.is_empty() {
        trace.end.notes.push(format!(
            "the sandbox keeps {} read-only: what the program was refused there is judged by owner and mode, and what it \
             would have gone on to do was not seen; a run with --in-place shows that",
            closed.join(", ")
        ));
    }
    Recorded {
        trace,
        status: report.status,
        program: report.program.into(),
        verdict: report.verdict,
        output: report.output,
        left: Vec::new(),
    }
}
