//! Arguments of `nrtrace service`.

use clap::Args;

use super::common::{Lifetime, Results, Subject, Variables, Watch};
use super::course::CourseArgs;
use super::prove::{SandboxArgs, SearchArgs};
use super::run::{IdentityArg, RunArgs};
use super::shape::Whole;
use super::{EXIT_STATUS, MORE};

const EXAMPLES: &str = "\
Examples:
  # What does the unit of nginx need in order to run as a user? Proved, in out/
  sudo nrtrace service nginx -o out/

  # The same with a client, and its answer on standard output: the drop-in
  sudo nrtrace service nginx --exercise 'curl -sf http://127.0.0.1/' --ready-port 80

  # An instance, for the user that the unit names
  sudo nrtrace service postgresql@15-main -o out/";

/// Arguments of `service`.
#[derive(Debug, Args)]
#[command(after_help = MORE, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct ServiceArgs {
    /// The unit: its name, or the path of its file
    ///
    /// The unit: its name, or the path of its file. All its drop-ins count, as they do for systemd, which need not run. What it
    /// says of its program's start holds in the trials: commands before it, variables, user, directories, limits, what hardens
    #[arg(value_name = "UNIT")]
    pub unit: String,

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
