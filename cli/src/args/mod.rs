//! The command line.

mod apply;
mod attach;
mod common;
mod course;
mod generate;
mod knowledge;
mod oci;
mod plan;
mod pod;
mod prove;
mod run;
mod saved;
mod service;
mod several;
mod shape;
mod start;
mod value;

use std::os::fd::RawFd;

use crate::terminal::ColourArg;
use clap::{Args, Parser, Subcommand};

pub use apply::{ApplyArgs, UndoArgs, WhatArgs};
pub use attach::AttachArgs;
pub use common::{BackendArg, RecordArg, ReportFormat, Results, Showing, Talk, Watch};
pub use course::CourseArgs;
pub use generate::{CompletionsArgs, ManualArgs, SchemaArgs, SchemaKind, Shell};
pub use knowledge::{KnowledgeArgs, KnowledgeCommand, KnowledgeDirs};
pub use oci::OciArgs;
pub use plan::{GroupsArg, OwnerArg, PlanArgs, PlanFormat, PublicArg};
pub use pod::PodArgs;
pub use prove::{ManagerArg, MinimizeArgs, NetworkArg, ProveArgs, SandboxArgs, SearchArgs, VerifyArgs};
pub use run::{IdentityArg, RunArgs};
pub use saved::{EmitArgs, EmitFormat, ReportArgs};
pub use service::{FinishArgs, RecordArgs, ServiceArgs, ServiceCommand, UndoRecordArgs, UnitArgs};
pub use several::{
    CheckArgs, CheckFormat, DiffArgs, DiffFormat, ExplainArgs, MergeArgs, ReplayArgs, Written,
};
pub use shape::Files;
pub use start::StartArgs;

const ABOUT: &str = "Finds out what a program needs in order to run as a non-root user, and writes the configuration that grants it";

const EXIT_STATUS: &str = "\
Exit status:
  run: the program's own (128 + N when signal N ended it), or 0 when nrtrace stopped it as asked;
       1 when it was not ready in time, ended well before it was ready, or failed its exercise
  0    done; for verify, minimize and run --verify: proved
  1    a finding: check, diff; not proved: verify, minimize; records were lost, so there may be more
       needs: run, attach, replay, where it would be 0 otherwise
  2    the command line or an input file is wrong
  3    nrtrace could not do its work, or could not write a result, which costs no other; the message
       says what is missing
  126  the program cannot be executed
  127  the program was not found";

/// The end of a short help.
const MORE: &str = "--help tells all options, with examples.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "nrtrace", version, about = ABOUT, after_help = EXIT_STATUS, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a program as a non-root user that is refused nothing, and say what it would have been refused
    Run(Box<RunArgs>),
    /// Prove a drop-in for a systemd unit, with all that it says of its start; or record it as it lives
    Service(Box<ServiceArgs>),
    /// Make a pod run without root: record a copy of it on its node, write the patch, and prove it
    Pod(Box<PodArgs>),
    /// Prove a profile: run the program in a sandbox with what it grants and nothing else
    Verify(Box<VerifyArgs>),
    /// Make a profile smaller: drop every grant that the program can live without
    Minimize(Box<MinimizeArgs>),
    /// Watch what runs already (a process, a unit, a control group, a container), and say what it needs as a non-root user
    Attach(Box<AttachArgs>),
    /// Be an OCI runtime that gives a container all capabilities, and hand on to the real one
    OciRuntime(OciArgs),
    /// Do to this machine what a profile needs, and keep what was there before
    Apply(ApplyArgs),
    /// Take back what apply did
    Undo(UndoArgs),
    /// Become a program as its drop-in says, where there is no systemd: user, capabilities, filters, mounts, environment
    Start(StartArgs),
    /// Write artefacts from a saved profile
    Emit(EmitArgs),
    /// Show a saved profile
    Report(ReportArgs),
    /// Plan users, groups, owners and modes for several components that share files, so that each has what it uses and
    /// nobody more
    Plan(PlanArgs),
    /// List, show and check what is known of programs: their files, ports, and the options that move them
    Knowledge(KnowledgeArgs),
    /// Put the profiles of several runs together as one
    Merge(MergeArgs),
    /// Say everything that is known about one need
    Explain(ExplainArgs),
    /// Make the profile again from a recording, for another user too, without running anything
    Replay(ReplayArgs),
    /// Say what changes from one profile to another
    Diff(DiffArgs),
    /// Fail when a profile needs more than was agreed on
    Check(CheckArgs),
    /// Print the JSON Schema of a file that nrtrace reads or writes
    Schema(SchemaArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Write the man pages, or the whole manual as Markdown
    #[command(hide = true)]
    Manual(ManualArgs),
    /// Say what works on this host, and what is missing for the rest
    Doctor(DoctorArgs),
    /// Becomes the sandbox that is asked for in the memory behind a descriptor
    #[command(hide = true)]
    Sandboxed {
        /// The descriptor
        memory: RawFd,
        /// That of a socket, for a run that is followed
        news: Option<RawFd>,
    },
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// When to use colour
    #[arg(long, value_enum, default_value_t = ColourArg::Auto, value_name = "WHEN")]
    pub color: ColourArg,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// Who asks for a short help sees it at once, and each option where it belongs.
    #[test]
    fn a_short_help_fits_a_screen() {
        for name in ["run", "service", "pod", "attach", "verify", "minimize", "report", "apply"] {
            let mut command = Cli::command();
            let found = command.find_subcommand_mut(name).unwrap();
            let help = found.clone().term_width(100).render_help().to_string();
            assert!(help.lines().count() <= 40, "{name}: {} lines\n{help}", help.lines().count());
            for option in found.get_opts() {
                let long = option.get_long().unwrap_or_default();
                let heading = option.get_help_heading().unwrap_or_default();
                let wanted = match long {
                    "output" | "format" => "Result",
                    "color" => "Messages",
                    "network" => "Sandbox",
                    _ => continue,
                };
                let own = ["report", "apply"].contains(&name);
                assert!(own || heading == wanted, "{name} --{long} is below {heading:?}");
            }
        }
    }

    #[test]
    fn the_command_keeps_its_own_options() {
        let cli =
            Cli::try_parse_from(["nrtrace", "run", "--for", "5s", "nginx", "-g", "daemon off;"]).unwrap();
        let Command::Run(run) = cli.command else { panic!("not run") };
        assert_eq!(run.command, ["nginx", "-g", "daemon off;"]);
    }
}
