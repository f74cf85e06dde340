//! `nrtrace start`: does with a drop-in what a trial does with it, and is the program from then on.

use std::process::ExitCode;

use anyhow::{Context, Result};
use nix::sys::signal::SigSet;
use nrtrace_profiles::text::printable;
use nrtrace_tracer::apply::{self, Unit};
use nrtrace_tracer::launch::environment::find_program;
use nrtrace_tracer::launch::privileges::Privileges;
use nrtrace_tracer::launch::spawn::{self, Launch};
use nrtrace_tracer::launch::{Credentials, IdentityPolicy};

use crate::args::StartArgs;
use crate::input;
use crate::terminal;

/// No unit is longer.
const MOST: u64 = 1 << 20;

/// Becomes the program; it returns only if that fails.
pub fn start(args: &StartArgs) -> Result<ExitCode> {
    let text = input::text(&args.unit, MOST)?;
    let unit = Unit::parse(&text);
    let privileges = Privileges::of_self()?;
    privileges.require_permissive()?;
    let applied = apply::start(&unit, Err("it takes a control group, which systemd makes"))?;
    for what in &applied.not_applied {
        terminal::tell(format_args!("nrtrace: not applied: {}", printable(what)));
    }
    let mut confined = applied.confined;
    confined.fence.directory.get_or_insert_with(|| "/".into());
    let path = confined.environment.get(std::ffi::OsStr::new("PATH")).cloned().unwrap_or_default();
    let name = args.command.first().context("which program?")?;
    let program = find_program(name, &[&path])?;
    let environment = confined.environment.clone();
    Err(spawn::replace(&Launch {
        guarded: false,
        session: false,
        program: &program,
        arguments: &args.command,
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
