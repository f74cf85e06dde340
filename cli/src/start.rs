//! `nrtrace start`: does with a drop-in what a trial does with it, and is the program from then on.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::SigSet;
use nrtrace_profiles::text::printable;
use nrtrace_tracer::apply::{self, Unit};
use nrtrace_tracer::launch::environment::find_program;
use nrtrace_tracer::launch::privileges::Privileges;
use nrtrace_tracer::launch::spawn::{self, Before, Launch};
use nrtrace_tracer::launch::{Credentials, IdentityPolicy};
use nrtrace_tracer::trial::Step;

use crate::args::StartArgs;
use crate::failure::BadInput;
use crate::input;
use crate::service;
use crate::service::started::Started;
use crate::terminal;

/// No unit is longer.
const MOST: u64 = 1 << 20;

/// Becomes the program; it returns only if that fails.
pub fn start(args: &StartArgs) -> Result<ExitCode> {
    let text = input::text(&args.unit, MOST)?;
    let of_unit = if args.command.is_empty() { Some(of_drop_in(&args.unit)?) } else { None };
    let command = of_unit.as_ref().map_or(&args.command, |unit| &unit.command);
    let around = of_unit.as_ref().map(|unit| unit.around.clone()).unwrap_or_default();
    let unit = Unit::parse(&format!("{}\n{text}", around.directives));
    let privileges = Privileges::of_self()?;
    privileges.require_permissive()?;
    let applied = apply::start(&unit, Err("it takes a control group, which systemd makes"))?;
    for what in &applied.not_applied {
        terminal::tell(format_args!("nrtrace: not applied: {}", printable(what)));
    }
    let mut confined = applied.confined;
    let directory = of_unit.as_ref().map_or(Path::new("/"), |unit| &unit.cwd);
    confined.fence.directory.get_or_insert_with(|| directory.into());
    confined.environment.extend(around.env);
    let environment = confined.environment.clone();
    let path = environment.get(OsStr::new("PATH")).cloned().unwrap_or_default();
    let program = find_program(command.first().context("which program?")?, &[&path])?;
    let (full, before): (Vec<Step>, Vec<Step>) = around.before.into_iter().partition(|step| step.full);
    full.iter().try_for_each(|step| with_all_rights(step, &environment))?;
    let before = before.iter().map(|step| Before::find(step, &[&path])).collect::<Result<Vec<_>, _>>()?;
    Err(spawn::replace(&Launch {
        guarded: false,
        session: false,
        program: &program,
        arguments: command,
        before: &before,
        environment: &environment,
        credentials: &Credentials::Confined(confined),
        policy: IdentityPolicy::Switch,
        privileges,
        trace_filter: &[],
        signal_mask: SigSet::empty(),
        stdio: [None; 3],
    })
    .into())
}

/// The unit that a drop-in is for.
fn of_drop_in(path: &Path) -> Result<Started> {
    let directory = path.canonicalize().ok().and_then(|path| Some(path.parent()?.file_name()?.to_owned()));
    let name = directory.as_deref().and_then(OsStr::to_str).and_then(|name| name.strip_suffix(".d"));
    match name.filter(|name| name.ends_with(".service")) {
        Some(name) => service::started::read(name),
        None => {
            let message = format!(
                "{} is no drop-in by the name of its directory (NAME.service.d): give the command after --",
                path.display()
            );
            Err(BadInput(message).into())
        }
    }
}

/// Runs what systemd runs as root before the program.
fn with_all_rights(step: &Step, variables: &std::collections::BTreeMap<OsString, OsString>) -> Result<()> {
    let Some((program, arguments)) = step.command.split_first() else { return Ok(()) };
    let mut command = Command::new(program);
    let status = command.args(arguments).env_clear().envs(variables).current_dir("/").status();
    let status = status.with_context(|| program.display().to_string())?;
    ensure!(
        step.may_fail || status.success(),
        "{}, which is run before the program: {status}",
        program.display()
    );
    Ok(())
}
