//! `nrtrace attach`

use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use nrtrace_profiles::classify;
use nrtrace_profiles::container::outside;
use nrtrace_profiles::event::{Identity, Mode};
use nrtrace_profiles::knowledge::Library;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::text::printable;
use nrtrace_tracer::attach::process::Facts;
use nrtrace_tracer::attach::{self, Arrival, Judged, Plan, Subject, Target};
use nrtrace_tracer::backend::{Choice, Ready, Wanted};
use nrtrace_tracer::launch::identity;
use nrtrace_tracer::recording::Recorded;
use nrtrace_tracer::session::{Begins, Progress};
use tokio::runtime::Runtime;

use crate::args::{AttachArgs, RecordArg};
use crate::failure::BadInput;
use crate::output::Losses;
use crate::progress::Line;
use crate::results::{self, complete, conclude};
use crate::watcher::prepare;
use crate::{knowledge, notify, terminal};

/// What is attached to, and what watches it.
struct Settled {
    subject: Subject,
    judged: Judged,
    arrival: Option<Arrival>,
    ready: Ready,
}

/// Watches what runs already, and says what it needs.
pub fn attach(args: &AttachArgs) -> Result<ExitCode> {
    let target = args.aim.target().ok_or_else(|| BadInput("name what to attach to".into()))?;
    // Read and opened now, so that a wrong path is told before anything is waited for.
    let library = knowledge::library(&args.results.more)?;
    if !args.watch.paths.is_empty() && args.watch.record == RecordArg::Needs {
        return Err(BadInput("--paths asks about each call, so it needs --record calls".into()).into());
    }
    let output = results::open(args.results.output.as_deref(), &args.results.files)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let mut settled = settle(args, &target, &runtime)?;
    if args.results.talk.verbose {
        terminal::note(&who(&settled));
    }
    let Settled { subject, judged, arrival, ready } = &mut settled;
    let plan = Plan {
        run_for: args.run_for,
        backend: ready.kind,
        record: args.watch.record.record(),
        paths: args.watch.paths.clone(),
        restarts: match &target {
            Target::Unit(unit) if args.restarts => Some(unit.clone()),
            _ => None,
        },
    };
    let line = Line::new(&subject.name, args.run_for, args.results.talk.quiet);
    let quiet = args.results.talk.quiet;
    let description = printable(&subject.description).into_owned();
    let mut progress = |progress: Progress| {
        // Scripts wait for this line before they try what they want to have seen.
        if matches!(progress, Progress::Started { .. }) && !quiet {
            terminal::tell(format_args!("nrtrace: attached to {description}"));
        }
        if let Progress::Running { counters, lost, .. } = &progress {
            notify::counts(counters, *lost);
        }
        line.update(progress);
    };
    let recording =
        attach::record(&plan, subject, judged, arrival.take(), ready.source.as_mut(), None, &mut progress);
    let recorded = runtime.block_on(recording);
    line.clear();
    let name = args.name.as_deref().unwrap_or(&subject.name);
    let profile = profile(subject, name, &recorded?, &library);
    let mut losses = Losses::default();
    conclude(&args.results, args.whole_unit, &profile, output.as_ref(), &mut losses);
    Ok(losses.status(complete(0, &profile)))
}

/// What a recording means.
pub fn profile(subject: &Subject, name: &str, recorded: &Recorded, library: &Library) -> Profile {
    let name = identity::name_for(name);
    let mut profile = classify::profile(&recorded.trace, &name);
    profile.executable = subject.main.exe.clone();
    library.annotate(&mut profile);
    profile
}

fn settle(args: &AttachArgs, target: &Target, runtime: &Runtime) -> Result<Settled> {
    if args.restarts {
        return wait(args, target, runtime);
    }
    match attach::find(target) {
        Ok(subject) if !(args.wait && attach::is_runtime(&subject.main)) => found(args, subject),
        Err(error) if !(args.wait && attach::is_not_there(&error)) => Err(error.into()),
        _ => wait(args, target, runtime),
    }
}

fn found(args: &AttachArgs, subject: Subject) -> Result<Settled> {
    let judged = judge(args, &subject)?;
    let ready = watcher(args, args.watch.backend.choice(), &judged, &subject)?;
    Ok(Settled { subject, judged, arrival: None, ready })
}

/// Waits until it runs: with eBPF its start is seen, with ptrace its appearance is looked for.
fn wait(args: &AttachArgs, target: &Target, runtime: &Runtime) -> Result<Settled> {
    let told = |what: &str| {
        if !args.results.talk.quiet {
            terminal::tell(format_args!("nrtrace: waiting for {}{what}", printable(&text(target))));
        }
    };
    let interrupted = || anyhow!("interrupted while waiting for {}: nothing was recorded", text(target));
    let choice = args.watch.backend.choice();
    if args.restarts && choice == Choice::Ptrace {
        return Err(BadInput("--restarts takes eBPF, which sees each start".into()).into());
    }
    let mut sight = attach::Sight::before(target)?;
    if choice != Choice::Ptrace {
        // Whom it is judged for is known when it is there; the probe does not need to know.
        let nobody = identity::resolve(None, &[], "nobody")?;
        let wanted = wanted(args, Mode::Observation, &nobody, None);
        match prepare(Choice::Ebpf, &wanted, &args.results.talk) {
            Ok(mut ready) => {
                told("");
                notify::ready();
                let arrival = runtime.block_on(attach::expect(target, ready.source.as_mut(), &mut sight))?;
                let arrival = arrival.ok_or_else(interrupted)?;
                let subject = arrival.subject.clone();
                let judged = judge(args, &subject)?;
                // What was missed at its start is adopted as what runs already is.
                let arrival = Some(arrival).filter(|arrival| arrival.from_start);
                return Ok(Settled { subject, judged, arrival, ready });
            }
            Err(error) if choice == Choice::Ebpf || args.restarts => return Err(error),
            Err(error) => terminal::note(&crate::failure::words(&error)),
        }
    }
    told(", whose first moments may not be seen without eBPF");
    loop {
        let (subject, begins) =
            runtime.block_on(attach::poll(target, &mut sight))?.ok_or_else(interrupted)?;
        let judged = judge(args, &subject)?;
        let mut ready = watcher(args, Choice::Ptrace, &judged, &subject)?;
        if begins == Begins::Now {
            return Ok(Settled { subject, judged, arrival: None, ready });
        }
        // What has started meanwhile is looked for anew.
        if let Some(arrival) = attach::await_start(&subject, ready.source.as_mut())? {
            return Ok(Settled { subject, judged, arrival: Some(arrival), ready });
        }
    }
}

fn text(target: &Target) -> String {
    match target {
        Target::Process(pid) => format!("process {pid}"),
        Target::Unit(unit) => format!("unit {unit}"),
        Target::Cgroup(path) => format!("control group {}", path.display()),
        Target::Container(name) => format!("container {name}"),
    }
}

fn judge(args: &AttachArgs, subject: &Subject) -> Result<Judged> {
    // What has neither a command nor an executable has ended: it may have been the runtime's.
    let others = subject.scope.processes().into_iter().filter_map(Facts::read);
    let others: Vec<Facts> =
        others.filter(|facts| !attach::is_runtime(facts) && !facts.is_kernel()).collect();
    let container = subject.container.as_ref();
    let mut judged =
        attach::judge(&subject.main, &others, container, args.target_user.as_deref(), &args.groups)?;
    if let Some(name) = args.name.as_deref().filter(|_| !judged.identity.exists) {
        let Identity { user, group, .. } = identity::resolve(None, &[], name)?;
        for judged in [&mut judged.identity, &mut judged.on_host] {
            (judged.user, judged.group) = (user.clone(), group.clone());
        }
    }
    if judged.mode == Mode::Observation && args.watch.record == RecordArg::Needs {
        return Err(BadInput(format!(
            "{} runs as root, for which each call is put to the oracle, so it needs --record calls; --record needs is for \
             what runs as another user",
            subject.description
        ))
        .into());
    }
    Ok(judged)
}

fn watcher(args: &AttachArgs, choice: Choice, judged: &Judged, subject: &Subject) -> Result<Ready> {
    let own = judged.mode == Mode::Observation && judged.own_refusals;
    let root = outside(&subject.main.uid_map, 0).filter(|_| own);
    prepare(choice, &wanted(args, judged.mode, &judged.on_host, root), &args.results.talk)
}

fn wanted<'a>(args: &AttachArgs, mode: Mode, identity: &'a Identity, foretold: Option<u32>) -> Wanted<'a> {
    let record = args.watch.record.record();
    Wanted { record, buffer: args.watch.buffer << 20, attach: true, foretold, mode, identity }
}

fn who(settled: &Settled) -> String {
    let Judged { mode, identity, .. } = &settled.judged;
    let user = format!("{} (uid {}, gid {})", identity.user, identity.uid, identity.gid);
    let how = match mode {
        Mode::Observation => format!("judged for {user}"),
        Mode::Enforced => format!("judged by what {user} is refused"),
        Mode::Permissive => format!("refused nothing as {user}, and judged by what the kernel asks"),
    };
    format!("{}, {how}", settled.subject.description)
}
