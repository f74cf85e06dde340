//! Arguments of `nrtrace service`.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::common::{Lifetime, Results, Subject, Variables, Watch};
use super::course::CourseArgs;
use super::prove::{SandboxArgs, SearchArgs};
use super::run::{IdentityArg, RunArgs};
use super::shape::Whole;
use super::{EXIT_STATUS, MORE};
use crate::complete;

const EXAMPLES: &str = "\
Examples:
  # What does the unit of nginx need in order to run as a user? Proved, in out/
  sudo nrtrace service nginx -o out/

  # The same with a client, and its answer on standard output: the drop-in
  sudo nrtrace service nginx --exercise 'curl -sf http://127.0.0.1/' --ready-port 80

  # An instance, for the user that the unit names
  sudo nrtrace service postgresql@15-main -o out/

  # What does the living one need? It is watched until it is finished, and is then as it was
  sudo nrtrace service record nginx
  sudo nrtrace service finish nginx -o out/

A unit that is called like one of the commands is named whole: record.service.";

const SELDOM: [&str; 4] = ["all", "no_minimize", "run_for", "verbose"];

const RECORD_EXAMPLES: &str = "\
Examples:
  sudo nrtrace service record nginx
  nrtrace service status nginx
  sudo nrtrace service finish nginx -o out/

Nothing of the unit is changed but that it waits for its recorder, and, where it runs as a user,
is given all capabilities. That ends with finish, with undo, when the recorder ends however that
comes, and with a reboot. A unit of root's is refused nothing as it is: it goes on as root, so that
its files stay whose they are, and each access is judged for the user.

Exit status: 0 it is recorded; 2 it cannot be, or is already; 3 it could not be done: taken back.";

/// Arguments of `service`.
#[derive(Debug, Args)]
#[command(
    after_help = MORE,
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"),
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    // What is asked for seldom, so that all else is seen at once.
    mut_args(|arg| match SELDOM.contains(&arg.get_id().as_str()) {
        true => arg.hide_short_help(true),
        false => arg,
    })
)]
pub struct ServiceArgs {
    /// What to do with the living unit.
    #[command(subcommand)]
    pub command: Option<ServiceCommand>,

    /// The unit: its name, or the path of its file
    ///
    /// The unit: its name, or the path of its file. All its drop-ins count, as they do for systemd, which need not run. What it
    /// says of its program's start holds in the trials: commands before it, variables, user, directories, limits, what hardens
    #[arg(value_name = "UNIT", required = true, add = ArgValueCompleter::new(complete::units))]
    pub unit: Option<String>,

    /// Prove it, and keep also what it can live without
    #[arg(help_heading = "Program", long)]
    pub no_minimize: bool,

    #[command(flatten)]
    pub subject: Subject,

    #[command(flatten)]
    pub lifetime: Lifetime,

    #[command(flatten)]
    pub course: CourseArgs,

    #[command(flatten)]
    pub watch: Watch,

    #[command(flatten)]
    pub sandbox: SandboxArgs,

    #[command(flatten)]
    pub search: SearchArgs,

    #[command(flatten)]
    pub results: Results,
}

/// What is done with the living unit.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Restart the living unit under watch, and record what it needs until it is finished
    Record(RecordArgs),
    /// End the recording, restart the unit as it was, and write the result, which is not proved
    Finish(Box<FinishArgs>),
    /// Say what is recorded, and since when
    Status(UnitArgs),
    /// Take back what record did, and throw away what was recorded
    Undo(UndoRecordArgs),
}

/// A unit that is installed.
#[derive(Debug, Args)]
pub struct UnitArgs {
    /// The unit, by its name
    #[arg(value_name = "UNIT", add = ArgValueCompleter::new(complete::units))]
    pub unit: String,
}

/// Arguments of `service record`.
#[derive(Debug, Args)]
#[command(after_help = RECORD_EXAMPLES)]
pub struct RecordArgs {
    #[command(flatten)]
    pub unit: UnitArgs,

    /// Judge a unit of root's for this user [default: one made up]
    #[arg(long = "as", alias = "target-user", value_name = "USER|UID[:GID]", add = ArgValueCompleter::new(complete::users))]
    pub user: Option<String>,

    /// Do not restart it: its next start is recorded
    #[arg(long)]
    pub no_restart: bool,
}

/// Arguments of `service finish`.
#[derive(Debug, Args)]
pub struct FinishArgs {
    #[command(flatten)]
    pub unit: UnitArgs,

    /// Do not restart it, so that what it needs to end is not seen: for a unit of root's
    #[arg(long)]
    pub no_restart: bool,

    #[command(flatten)]
    pub results: Results,
}

/// Arguments of `service undo`.
#[derive(Debug, Args)]
pub struct UndoRecordArgs {
    #[command(flatten)]
    pub unit: UnitArgs,

    /// Only have the unit be as it was: what its recorder calls as it ends
    #[arg(long, hide = true)]
    pub left: bool,
}

impl RunArgs {
    /// The arguments of a run of the unit's program, which is not named yet.
    pub fn of(args: ServiceArgs) -> Self {
        Self {
            subject: args.subject,
            name: None,
            lifetime: args.lifetime,
            course: args.course,
            watch: args.watch,
            variables: Variables { keep_env: false, env: Vec::new() },
            cwd: "/".into(),
            identity: IdentityArg::Keep,
            enforce: false,
            as_root: false,
            in_place: false,
            verify: false,
            minimize: true,
            sandbox: args.sandbox,
            search: args.search,
            ignore_status: false,
            save_trace: None,
            whole: Whole { unit: false },
            results: args.results,
            command: Vec::new(),
        }
    }
}
