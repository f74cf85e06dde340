//! Arguments of `nrtrace run`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::common::{Lifetime, Results, Subject, Variables, Watch};
use super::course::CourseArgs;
use super::prove::{SandboxArgs, SearchArgs};
use super::shape::Whole;
use super::{EXIT_STATUS, MORE};

const RUN_EXAMPLES: &str = "\
Examples:
  # What does nginx need? Let it serve for five seconds; artefacts go to out/
  sudo nrtrace run --for 5s -o out/ -- /usr/sbin/nginx -g 'daemon off;'

  # The same with a client: it is ready when it listens, is exercised, and the run ends
  sudo nrtrace run --ready-port 80 --exercise 'curl -sf http://127.0.0.1/' -o out/ -- /usr/sbin/nginx -g 'daemon off;'

  # The whole loop: what it needs, proved by the kernel, with nothing that it can live without
  sudo nrtrace run --minimize --ready-port 80 -o out/ -- /usr/sbin/nginx -g 'daemon off;'

  # As a user that exists, until Ctrl-C; what it writes stays
  sudo nrtrace run --in-place --as etcd -- etcd --data-dir /var/lib/etcd

  # How far does it get with the rights it would have?
  sudo nrtrace run --enforce --as www-data -- /usr/sbin/nginx -g 'daemon off;'

  # In CI: the profile alone, as JSON, without slowing anything else down
  sudo nrtrace run --record needs --format json -q --for 30s -- ./server > profile.json";

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = MORE, after_long_help = format!("{RUN_EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct RunArgs {
    #[command(flatten)]
    pub subject: Subject,

    /// What the files and a made-up user are named after [default: the program; of an interpreter the script, module or
    /// archive that it runs]
    #[arg(hide_short_help = true, help_heading = "Program", long, value_name = "NAME")]
    pub name: Option<String>,

    #[command(flatten)]
    pub lifetime: Lifetime,

    #[command(flatten)]
    pub course: CourseArgs,

    #[command(flatten)]
    pub watch: Watch,

    #[command(flatten)]
    pub variables: Variables,

    /// The working directory of the program; the way to it is part of what the program needs
    #[arg(hide_short_help = true, help_heading = "Program", long, value_name = "DIR", default_value = "/")]
    pub cwd: PathBuf,

    /// What happens when the program changes its identity, or gives a file to another user: `keep` answers with
    /// success without doing it, `switch` lets it happen, `deny` refuses with EPERM
    #[arg(hide_short_help = true, help_heading = "Program", long, value_enum, default_value_t = IdentityArg::Keep)]
    pub identity: IdentityArg,

    /// With the user's rights alone, so that refusals are real
    ///
    /// Run with the user's rights alone, so that refusals are real: shows what the program does about them, and what
    /// refuses besides the user's rights; what comes after a fatal refusal is not seen. Without root, the user is the
    /// caller
    #[arg(help_heading = "Program", long)]
    pub enforce: bool,

    /// With root's rights, judged for the user
    ///
    /// Run with nrtrace's own rights, and ask the kernel for each access whether the user of --as would have it:
    /// for programs that insist on root. The paths may differ from those used when not root
    #[arg(help_heading = "Program", long, conflicts_with = "enforce")]
    pub as_root: bool,

    /// On the machine itself, where what it writes stays
    ///
    /// Run on the machine itself, where all that the program changes stays. Else it runs in a sandbox that shows this machine,
    /// its network included, and what it writes is thrown away
    #[arg(help_heading = "Program", long, conflicts_with_all = ["verify", "minimize"])]
    pub in_place: bool,

    /// Prove the result
    ///
    /// Prove the result: run again, in a fresh sandbox, with what was found to be needed and nothing else, until the program
    /// lives
    #[arg(help_heading = "Program", long, conflicts_with_all = ["enforce", "as_root"])]
    pub verify: bool,

    /// Prove it, and leave out what it can live without
    ///
    /// The same, and drop every grant that the program can live without
    #[arg(help_heading = "Program", long, conflicts_with_all = ["enforce", "as_root"])]
    pub minimize: bool,

    #[command(flatten)]
    pub sandbox: SandboxArgs,

    #[command(flatten)]
    pub search: SearchArgs,

    /// Exit with 0 when the profile is complete, whatever the program's own status
    #[arg(hide_short_help = true, help_heading = "Result", long)]
    pub ignore_status: bool,

    /// Write the recording itself to this file, for nrtrace replay
    #[arg(hide_short_help = true, help_heading = "Result", long, value_name = "FILE", conflicts_with_all = ["verify", "minimize"])]
    pub save_trace: Option<PathBuf>,

    #[command(flatten)]
    pub whole: Whole,

    #[command(flatten)]
    pub results: Results,

    /// The program and its arguments
    #[arg(help_heading = "Program", required = true, trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// `--identity`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IdentityArg {
    /// Answer with success, do nothing
    Keep,
    /// Let it happen
    Switch,
    /// Refuse with EPERM
    Deny,
}
