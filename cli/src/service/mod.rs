//! `nrtrace service`: from a unit of this machine to a drop-in for it that is proved.

pub mod find;
mod record;
mod recording;
pub mod started;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use nrtrace_profiles::emit::escape::shell;
use nrtrace_profiles::text::printable;
use nrtrace_profiles::unit::{Kind, Service, variables};
use nrtrace_tracer::files::read_regular;
use nrtrace_tracer::trial::{self, Step};

use crate::args::{RunArgs, ServiceArgs, ServiceCommand};
use crate::failure::BadInput;
use crate::{run, terminal};

use find::FoundUnit;
use started::Started;

/// No file of variables is longer.
const MOST: u64 = 1 << 20;

/// What does its work and ends may take so long.
const LONGEST_WORK: Duration = Duration::from_secs(60);

/// Reads a unit, by its name or the path of its file.
///
/// # Errors
/// When there is none, it starts nothing, or a file that it takes is not there.
pub fn read(unit: &str) -> Result<Started> {
    let found = find::find(unit)?;
    let file = found.files.first().cloned().unwrap_or_default();
    let host = find::host(&file);
    let service =
        Service::of(&found.unit, &found.name, &host).map_err(|error| BadInput(error.to_string()))?;
    let mut env: BTreeMap<String, String> = service.environment.iter().cloned().collect();
    for (pattern, optional) in &service.environment_files {
        for path in matching(pattern) {
            match read_regular(&path, MOST) {
                Ok(text) => env.extend(variables(&String::from_utf8_lossy(&text))),
                Err(_) if *optional => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("{}: EnvironmentFile={pattern}", service.name));
                }
            }
        }
    }
    let known: BTreeMap<String, String> = directories(&service).into_iter().chain(env.clone()).collect();
    let start = service.start.resolved(&known);
    let kept = service.kept(&found.unit);
    let before = service.before.iter().map(|step| Step {
        command: step.resolved(&known).into_iter().map(OsString::from).collect(),
        may_fail: step.prefix.may_fail,
        full: step.prefix.is_privileged(),
    });
    let around = trial::Service {
        directives: service.text(),
        before: before.collect(),
        env: env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
    };
    Ok(Started {
        kept,
        command: start.into_iter().map(OsString::from).collect(),
        cwd: working_directory(&service)?,
        around,
        notes: notes(&service, &found),
        files: found.files,
        service,
    })
}

/// The files that a pattern names, in order of their names; where there are none, or it is no pattern, itself.
fn matching(pattern: &str) -> Vec<PathBuf> {
    let found: Vec<PathBuf> = glob::glob(pattern).map(|paths| paths.flatten().collect()).unwrap_or_default();
    if found.is_empty() { vec![pattern.into()] } else { found }
}

/// The variables by which systemd tells of directories: commands may name them.
fn directories(service: &Service) -> BTreeMap<String, String> {
    let kinds = [("Runtime", "/run"), ("State", "/var/lib"), ("Cache", "/var/cache"), ("Logs", "/var/log")];
    let of_kind = |(kind, base): &(&str, &str)| {
        let directive = format!("{kind}Directory");
        let of_it = service.directives.iter().filter(|(name, _)| *name == directive);
        let paths: Vec<String> = of_it.map(|(_, value)| format!("{base}/{value}")).collect();
        (!paths.is_empty()).then(|| (format!("{}_DIRECTORY", kind.to_uppercase()), paths.join(":")))
    };
    kinds.iter().filter_map(of_kind).collect()
}

fn working_directory(service: &Service) -> Result<PathBuf> {
    let Some((path, optional)) = &service.directory else { return Ok("/".into()) };
    let path = match (path.as_str(), &service.user) {
        ("~", Some(user)) => {
            let account = nrtrace_tracer::accounts::user_by_name(user);
            let account = account.with_context(|| format!("{}: there is no user {user}", service.name))?;
            account.dir
        }
        ("~", None) => PathBuf::from("/root"),
        _ => PathBuf::from(path),
    };
    let made =
        service.directives.iter().any(|(name, value)| name.ends_with("Directory") && path.ends_with(value));
    Ok(if *optional && !path.is_dir() && !made { "/".into() } else { path })
}

/// What of a unit is not as it would be under systemd, in words.
fn notes(service: &Service, found: &FoundUnit) -> Vec<String> {
    let mut notes = Vec::new();
    let name = &service.name;
    if let Some(own) = &found.own {
        notes.push(format!(
            "{} is left out: what nrtrace wrote earlier is found anew (nrtrace undo takes back what was applied with it)",
            own.display()
        ));
    }
    let name_of = |path: &&PathBuf| path.file_name().is_some_and(|name| name > OsStr::new(find::OWN));
    let later: Vec<String> =
        found.files.iter().skip(1).filter(name_of).map(|path| path.display().to_string()).collect();
    if !later.is_empty() {
        notes.push(format!(
            "{} is read after {} and wins where both say something, User= perhaps: install the drop-in as zz-nonroot.conf",
            later.join(", "),
            find::OWN
        ));
    }
    if service.dynamic_user {
        notes.push(
            "DynamicUser=: it does not run as root; the drop-in has it run as a user that stays".into(),
        );
    }
    if let Some(called) = &service.start.called {
        notes.push(format!("ExecStart=@: it is started by its own name here, and not as {called}"));
    }
    if service.start.prefix.is_privileged() {
        notes.push("ExecStart=+ or ExecStart=!: it starts as root whatever User= says; the drop-in sets it anew without".into());
    }
    if service.kind == Kind::Dbus {
        notes.push("Type=dbus: when it has its name on the bus is not seen; --ready tells when it is ready, and --share /run/dbus shows it the bus of this machine".into());
    }
    let own = format!("{}.socket", name.stem());
    let beside = find::trees().iter().any(|tree| tree.join(&own).is_file());
    let sockets: Vec<String> = service.sockets.iter().cloned().chain(beside.then_some(own)).collect();
    if !sockets.is_empty() {
        notes.push(format!(
            "{} hands it sockets under systemd, and nobody does here: it listens by itself, if it can",
            sockets.join(", ")
        ));
    }
    if !service.otherwise.is_empty() {
        notes.push(format!(
            "{}: not tried; what has no + there runs as the service's user, too",
            service.otherwise.iter().map(|key| format!("{key}=")).collect::<Vec<_>>().join(", ")
        ));
    }
    notes
}

/// `nrtrace service`
pub fn service(args: ServiceArgs) -> Result<ExitCode> {
    match &args.command {
        Some(ServiceCommand::Record(args)) => record::record(args),
        Some(ServiceCommand::Finish(args)) => record::finish(args),
        Some(ServiceCommand::Status(args)) => record::status(args),
        Some(ServiceCommand::Undo(args)) => record::undo(args),
        None => prove(args),
    }
}

/// `nrtrace service UNIT`
fn prove(args: ServiceArgs) -> Result<ExitCode> {
    if args.sandbox.with.is_some() {
        let message =
            "--with systemd is for run, verify and minimize: it tries a unit of its own, and not this one";
        return Err(BadInput(message.into()).into());
    }
    let started = read(args.unit.as_deref().unwrap_or_default())?;
    let talk = &args.results.talk;
    if !talk.quiet {
        let files: Vec<String> = started.files.iter().map(|path| path.display().to_string()).collect();
        tell(&format!("{}: {}", started.service.name, files.join(", ")));
        for step in &started.around.before {
            tell(&format!(
                "before it: {}{}",
                words(&step.command),
                if step.full { ", with all rights" } else { "" }
            ));
        }
        tell(&format!("starts {}", words(&started.command)));
        started.notes.iter().for_each(|note| tell(note));
    }
    let args = run_args(args, &started)?;
    run::prove_service(&args, started)
}

fn tell(text: &str) {
    terminal::tell(format_args!("nrtrace: {}", printable(text)));
}

fn words(command: &[OsString]) -> String {
    command.iter().map(|word| shell::readable(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// The same as `nrtrace run --minimize` would be told by hand.
fn run_args(args: ServiceArgs, started: &Started) -> Result<RunArgs> {
    let service = &started.service;
    let mut args = RunArgs {
        name: Some(service.name.stem()),
        command: started.command.clone(),
        cwd: started.cwd.clone(),
        verify: args.no_minimize,
        minimize: !args.no_minimize,
        ..RunArgs::of(args)
    };
    if args.subject.user.is_none() && !service.dynamic_user {
        args.subject.user = service.user.as_ref().map(|user| match &service.group {
            Some(group) => format!("{user}:{group}"),
            None => user.clone(),
        });
        if let Some(user) = &service.user
            && user.parse::<u32>().is_err()
            && nrtrace_tracer::accounts::user_by_name(user).is_none()
        {
            let message = format!("{}: User={user} is not there: make it first, or say --as", service.name);
            return Err(BadInput(message).into());
        }
    }
    args.subject.groups.extend(service.groups.iter().cloned());
    args.course.stays = service.kind != Kind::Oneshot;
    if service.kind == Kind::Oneshot {
        args.course.settle.get_or_insert(LONGEST_WORK);
    }
    if args.course.readiness().is_empty() {
        match (service.kind, &service.pid_file) {
            (Kind::Notify, _) => args.course.ready_notify = true,
            // The daemon is there once its number is in the file, and lives.
            (Kind::Forking, Some(path)) => {
                let path = shell::quoted(path);
                args.course.ready = Some(format!("[ -s {path} ] && kill -0 \"$(head -n 1 {path})\"").into());
            }
            _ => {}
        }
    }
    Ok(args)
}
