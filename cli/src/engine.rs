//! `nrtrace run` of a container engine: the program is what runs in the container.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use anyhow::{Context, Result, anyhow};
use nrtrace_profiles::event::Mode;
use nrtrace_tracer::attach::engine::{Engine, Kind};
use nrtrace_tracer::attach::{self, Plan};
use nrtrace_tracer::backend::{Choice, Wanted};
use nrtrace_tracer::launch::identity;

use crate::args::{RecordArg, RunArgs};
use crate::attach::profile;
use crate::client::client;
use crate::failure::BadInput;
use crate::output::{Losses, Target};
use crate::place::{self, RunsIn, Why};
use crate::progress::Line;
use crate::results::{self, complete, conclude};
use crate::watcher::prepare;
use crate::{knowledge, replay};

const ROOT_NEEDS_CALLS: &str = "the container runs as root, for which each call is put to the oracle, so it needs \
                                --record calls; --user 1000 --cap-add=all makes it a permissive run";

/// The kind of engine that is to be run for what it starts. Whoever says whom the command is to run as means the engine
/// itself.
pub fn asked(args: &RunArgs) -> Option<Kind> {
    let itself = args.enforce || args.as_root || args.subject.user.is_some();
    client(&args.command).map(|(kind, _)| kind).filter(|kind| !itself && *kind != Kind::Manages)
}

/// Runs the engine with nrtrace's own rights, and says what the program in its container needs.
pub fn run(args: &RunArgs, kind: Kind) -> Result<ExitCode> {
    let command = args.command.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    if kind == Kind::Asks {
        return Err(BadInput(format!(
            "{command} has its daemon start containers, which do not descend from it: run nrtrace attach --container NAME \
             --wait beside it (docs/kubernetes.md); to trace {command} itself, name its user with --as"
        ))
        .into());
    }
    if args.watch.backend.choice() == Choice::Ptrace {
        let advice =
            "what a container engine starts can be watched by eBPF alone; attach to its container instead";
        return Err(BadInput(advice.into()).into());
    }
    // Read and opened now, so that a wrong path is told before anything is started.
    let library = knowledge::library(&args.results.more)?;
    let output = results::open(args.results.output.as_deref(), &args.results.files)?;
    let recording = args.save_trace.as_deref().map(|path| Target::open(Some(path))).transpose()?;
    let nobody = identity::resolve(None, &[], "nobody")?;
    let record = args.watch.record.record();
    let wanted = Wanted {
        record,
        buffer: args.watch.buffer << 20,
        attach: true,
        foretold: None,
        mode: Mode::Permissive,
        identity: &nobody,
    };
    place::tell(&args.results.talk, &RunsIn::Here(Why::Client(command.clone())));
    let mut ready = prepare(Choice::Ebpf, &wanted, &args.results.talk)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let mut engine = Engine::start(&args.command, ready.source.as_mut(), None)?;
    let Some(arrival) = runtime.block_on(engine.arrival(ready.source.as_mut(), None))? else {
        let (status, _) = engine.end(args.lifetime.grace)?;
        return Err(anyhow!("{command} ended ({status}), and nothing was run in a container"));
    };
    let subject = arrival.subject.clone();
    let judged = attach::judge(&subject.main, &[], subject.container.as_ref(), None, &[])?;
    if judged.mode == Mode::Observation && args.watch.record == RecordArg::Needs {
        engine.end(args.lifetime.grace)?;
        return Err(BadInput(ROOT_NEEDS_CALLS.into()).into());
    }
    let (run_for, paths) = (args.lifetime.run_for, args.watch.paths.clone());
    let plan = Plan { run_for, backend: ready.kind, record, paths, restarts: None };
    let line = Line::new(&subject.name, args.lifetime.run_for, args.results.talk.quiet);
    let progress = &mut |progress| line.update(progress);
    let source = ready.source.as_mut();
    let recorded = attach::record(&plan, &subject, &judged, Some(arrival), source, None, progress);
    let recorded = runtime.block_on(recorded);
    line.clear();
    let ended = engine.end(args.lifetime.grace);
    let recorded = recorded?;
    let name = args.name.as_deref().unwrap_or(&subject.name);
    let profile = profile(&subject, name, &recorded, &library);
    let mut losses = Losses::default();
    if let Some(target) = recording {
        losses.unless(target.write(&replay::saved(&recorded, &profile.name, profile.executable.as_ref())));
    }
    conclude(&args.results, args.whole.unit, &profile, output.as_ref(), &mut losses);
    let status = match ended {
        Ok((_, stopped)) if stopped || args.ignore_status => 0,
        Ok((status, _)) => number(status),
        Err(error) => {
            losses.unless(Err(error.into()));
            0
        }
    };
    Ok(losses.status(complete(status, &profile)))
}

/// The status as a shell tells it.
fn number(status: ExitStatus) -> u8 {
    let number = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(number).unwrap_or(u8::MAX)
}
