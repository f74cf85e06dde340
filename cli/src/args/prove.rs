//! Arguments of what proves a profile: `verify`, `minimize`, and the options of `run` that do the same.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::common::{Results, Variables, Watch};
use super::course::CourseArgs;
use super::shape::Whole;
use super::value;
use super::{EXIT_STATUS, MORE};

const VERIFY_EXAMPLES: &str = "\
Examples:
  # Does nginx serve with what the profile grants, and nothing else?
  sudo nrtrace verify out/profile.json --ready-port 80 --exercise 'curl -sf http://127.0.0.1/' -- /usr/sbin/nginx -g 'daemon off;'

  # If it does not: add what it was refused, until it does
  sudo nrtrace verify --update out/profile.json --ready-port 80 -- /usr/sbin/nginx -g 'daemon off;'";

const MINIMIZE_EXAMPLES: &str = "\
Examples:
  # Drop every grant that it can live without; the smaller profile and its artefacts go to min/
  sudo nrtrace minimize out/profile.json --ready-port 80 -o min/ -- /usr/sbin/nginx -g 'daemon off;'";

/// The sandbox that runs and trials are made in.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sandbox")]
pub struct SandboxArgs {
    /// The network of the sandbox
    ///
    /// The network of runs and trials: the machine's own, or a private one with a loopback interface and one that leads nowhere
    /// [default: private for minimize and run --minimize, else host]
    #[arg(hide_short_help = true, long, value_enum, value_name = "WHICH")]
    pub network: Option<NetworkArg>,

    /// Show this path in the sandbox as it is
    ///
    /// Show this file or directory in the sandbox as it is, so that what the program writes to it stays; for the sockets of
    /// services it depends on. nrtrace itself changes nothing there, and proves nothing of needs that lie there. Not what
    /// holds the accounts (/, /etc), and not /proc, /sys and /dev
    #[arg(long, value_name = "PATH")]
    pub share: Vec<PathBuf>,

    /// Give capabilities by the file, as setcap.sh does, in place of the unit's ambient ones
    #[arg(hide_short_help = true, long)]
    pub file_capabilities: bool,

    /// Once it is proved, have the service manager of this machine try the very unit, too: what the profile grants is
    /// applied here for that time, as apply.sh does, and what the program writes meanwhile it writes to this machine
    #[arg(hide_short_help = true, long, value_enum, value_name = "MANAGER")]
    pub with: Option<ManagerArg>,
}

/// `--with`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ManagerArg {
    /// systemd, where it is process 1
    Systemd,
}

/// `--network`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NetworkArg {
    /// The machine's
    Host,
    /// A private one
    Private,
}

/// How the program of a saved profile is run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Program")]
pub struct ProveArgs {
    /// The profile
    #[arg(value_name = "PROFILE")]
    pub profile: PathBuf,

    #[command(flatten)]
    pub course: CourseArgs,

    #[command(flatten)]
    pub sandbox: SandboxArgs,

    #[command(flatten)]
    pub watch: Watch,

    #[command(flatten)]
    pub variables: Variables,

    /// How long a program that is told to stop has until it is killed
    #[arg(hide_short_help = true, help_heading = "Program", long, value_name = "DURATION", value_parser = value::duration, default_value = "5s")]
    pub grace: Duration,

    #[command(flatten)]
    pub whole: Whole,

    #[command(flatten)]
    pub results: Results,

    /// The program and its arguments [default: those of the profile]
    #[arg(help_heading = "Program", trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(after_help = MORE, after_long_help = format!("{VERIFY_EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct VerifyArgs {
    /// Add what is missing to the profile, and try again until the program lives or nothing more can be added; the
    /// profile is written back, or to --output
    #[arg(long)]
    pub update: bool,

    #[command(flatten)]
    pub prove: ProveArgs,
}

/// Arguments of `minimize`.
#[derive(Debug, Args)]
#[command(after_help = MORE, after_long_help = format!("{MINIMIZE_EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct MinimizeArgs {
    /// Write the smaller profile back to its file, where there is no --output
    #[arg(long)]
    pub update: bool,

    #[command(flatten)]
    pub search: SearchArgs,

    #[command(flatten)]
    pub prove: ProveArgs,
}

/// How the smallest profile is looked for.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sandbox")]
pub struct SearchArgs {
    /// Trials at the same time [default: one for each processor, 1 with the host's network]
    #[arg(hide_short_help = true, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,

    /// Begin anew, also where an earlier search was interrupted
    #[arg(hide_short_help = true, long)]
    pub restart: bool,
}
