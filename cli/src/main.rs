//! The `nrtrace` command: arguments, wiring, progress, exit status.

mod apply;
mod args;
mod artefacts;
mod attach;
mod check;
mod client;
mod compare;
mod complete;
mod configuration;
mod doctor;
mod emit;
mod engine;
mod explain;
mod failure;
mod generate;
mod hidden;
mod input;
mod knowledge;
mod live;
mod meant;
mod merge;
mod name;
mod notify;
mod oci;
mod origin;
mod output;
mod place;
mod plan;
mod pod;
mod programs;
mod progress;
mod prove;
mod replay;
mod results;
mod rotated;
mod run;
mod screen;
mod service;
mod settled;
mod shipped;
mod show;
mod start;
mod systemd;
mod terminal;
mod there;
mod watcher;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use clap_complete::CompleteEnv;

use args::{Cli, Command};

fn main() -> ExitCode {
    nrtrace_tracer::accounts::settle();
    if let Some(args) = oci::called_as_runtime() {
        return oci::run(&args).unwrap_or_else(|error| failure::report(&error));
    }
    // A shell that asks is answered, and nothing more happens.
    CompleteEnv::with_factory(Cli::command).var(complete::VARIABLE).complete();
    let cli = Cli::parse_from(pod::command_line());
    if matches!(
        cli.command,
        Command::Run(_)
            | Command::Service(_)
            | Command::Pod(_)
            | Command::Verify(_)
            | Command::Minimize(_)
            | Command::Attach(_)
            | Command::Doctor(_)
    ) && let Err(error) = nrtrace_tracer::limits::require_descriptors()
    {
        return failure::report(&error.into());
    }
    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Service(args) => service::service(*args),
        Command::Pod(args) => pod::pod(*args),
        Command::Verify(args) => prove::verify(&args),
        Command::Minimize(args) => prove::minimize(&args),
        Command::Attach(args) => attach::attach(&args),
        Command::Apply(args) => apply::apply(&args),
        Command::Undo(args) => apply::undo(&args),
        Command::Start(args) => start::start(&args),
        Command::Emit(args) => emit::emit(&args),
        Command::OciRuntime(args) => oci::run(&args),
        Command::Report(args) => show::report(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Knowledge(args) => knowledge::run(&args),
        Command::Merge(args) => merge::merge(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Schema(args) => generate::schema(&args),
        Command::Completions(args) => generate::completions(&args),
        Command::Manual(args) => generate::manual(&args),
        Command::Diff(args) => compare::diff(&args),
        Command::Check(args) => check::check(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Sandboxed { memory, news } => Ok(nrtrace_tracer::trial::inside(memory, news)),
    };
    result.unwrap_or_else(|error| failure::report(&error))
}
