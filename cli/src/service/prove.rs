//! From a unit to a drop-in for it that is proved.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use nrtrace_profiles::emit::escape::shell;
use nrtrace_profiles::unit::Kind;

use super::started::{self, Started};
use crate::args::{RunArgs, ServiceArgs};
use crate::failure::BadInput;
use crate::run;
use crate::terminal::note;

/// What does its work and ends may take so long.
const LONGEST_WORK: Duration = Duration::from_secs(60);

/// `nrtrace service UNIT`
pub fn prove(args: ServiceArgs) -> Result<ExitCode> {
    if args.sandbox.with.is_some() {
        let message =
            "--with systemd is for run, verify and minimize: it tries a unit of its own, and not this one";
        return Err(BadInput(message.into()).into());
    }
    let started = started::read(args.unit.as_deref().unwrap_or_default())?;
    let talk = &args.results.talk;
    if !talk.quiet {
        let files: Vec<String> = started.files.iter().map(|path| path.display().to_string()).collect();
        note(&format!("{}: {}", started.service.name, files.join(", ")));
        for step in &started.around.before {
            note(&format!(
                "before it: {}{}",
                words(&step.command),
                if step.full { ", with all rights" } else { "" }
            ));
        }
        note(&format!("starts {}", words(&started.command)));
        started.notes.iter().for_each(|text| note(text));
    }
    let args = run_args(args, &started)?;
    run::prove_service(&args, started)
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
