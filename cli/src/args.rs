//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

const ABOUT: &str = "Finds out what a program needs in order to run as a non-root user, and writes the configuration that grants it";

const EXIT_STATUS: &str = "\
Exit status:
  run: the program's own (128 + N when signal N ended it), or 0 when nrtrace stopped it as asked
  0    done
  2    the command line or an input file is wrong
  3    nrtrace could not do its work; the message says what is missing
  126  the program cannot be executed
  127  the program was not found";

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
    /// Write artefacts from a saved profile
    Emit(EmitArgs),
    /// Show a saved profile
    Report(ReportArgs),
    /// Say what works on this host, and what is missing for the rest
    Doctor(DoctorArgs),
}

const RUN_EXAMPLES: &str = "\
Examples:
  # What does nginx need? Let it serve for five seconds; artefacts go to out/
  sudo nrtrace run --for 5s -o out/ -- /usr/sbin/nginx -g 'daemon off;'

  # As a user that exists, until Ctrl-C
  sudo nrtrace run --as etcd -- etcd --data-dir /var/lib/etcd

  # How far does it get with the rights it would have?
  sudo nrtrace run --enforce --as www-data -- /usr/sbin/nginx -g 'daemon off;'

  # In CI: the profile alone, as JSON, without slowing anything else down
  sudo nrtrace run --record needs --format json -q --for 30s -- ./server > profile.json";

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = format!("{RUN_EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct RunArgs {
    /// Run as this user: a name, or a number; with a group after a colon [default: a uid that exists
    /// nowhere, from 61184 on, named after the program]
    #[arg(long = "as", value_name = "USER|UID[:GID]")]
    pub user: Option<String>,

    /// Supplementary groups, by name or number [default: none]
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    pub groups: Vec<String>,

    /// Stop the program after this time (like 30s, 2m or 500ms)
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub run_for: Option<Duration>,

    /// How long a program that is told to stop has until it is killed
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    pub grace: Duration,

    /// Write profile.json and all artefacts to this directory
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// What to record: `calls` adds the results of system calls, listening addresses and standard error to the
    /// capability checks; `needs` slows nothing else on the machine down
    #[arg(long, value_enum, default_value_t = RecordArg::Calls)]
    pub record: RecordArg,

    /// What watches the program: `ebpf` sees the kernel consult capabilities, `ptrace` works without eBPF and predicts
    /// that by an oracle, `auto` takes the first that works
    #[arg(long, value_enum, default_value_t = BackendArg::Auto)]
    pub backend: BackendArg,

    /// What happens when the program changes its identity, or gives a file to another user: `keep` answers with
    /// success without doing it, `switch` lets it happen, `deny` refuses with EPERM
    #[arg(long, value_enum, default_value_t = IdentityArg::Keep)]
    pub identity: IdentityArg,

    /// Keep the caller's HOME, USER, LOGNAME, SHELL and PATH
    #[arg(long)]
    pub keep_env: bool,

    /// Set a variable in the program's environment
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(OsString, OsString)>,

    /// Size of the buffer between the kernel and nrtrace, in MiB (a power of two)
    #[arg(long, value_name = "MIB", default_value_t = 8, value_parser = buffer)]
    pub buffer: usize,

    /// Run with the user's rights alone, so that refusals are real: shows what the program does about them, and what
    /// refuses besides the user's rights; what comes after a fatal refusal is not seen. Without root, the user is the
    /// caller
    #[arg(long)]
    pub enforce: bool,

    /// Run with nrtrace's own rights, and ask the kernel for each access whether the user of --as would have it:
    /// for programs that insist on root. The paths may differ from those used when not root
    #[arg(long, conflicts_with = "enforce")]
    pub as_root: bool,

    /// Exit with 0 when the profile is complete, whatever the program's own status
    #[arg(long)]
    pub ignore_status: bool,

    /// What to print at the end: a table on standard error, or the profile as JSON on standard output
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,

    #[command(flatten)]
    pub talk: Talk,

    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// How much nrtrace itself says.
#[derive(Debug, Args)]
pub struct Talk {
    /// Say nothing but errors, and the result where it was asked for
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say more: what was attached, what each need is known by
    #[arg(short, long)]
    pub verbose: bool,

    /// When to use colour
    #[arg(long, value_enum, default_value_t = ColourArg::Auto, value_name = "WHEN")]
    pub color: ColourArg,
}

const EMIT_EXAMPLES: &str = "\
Examples:
  # All artefacts of a profile
  nrtrace emit -o out/ out/profile.json

  # One of them, on standard output
  nrtrace emit --format tmpfiles out/profile.json | sudo tee /etc/tmpfiles.d/nginx.conf";

/// Arguments of `emit`.
#[derive(Debug, Args)]
#[command(after_help = EMIT_EXAMPLES)]
pub struct EmitArgs {
    /// The profile, or `-` for standard input
    #[arg(value_name = "PROFILE")]
    pub profile: PathBuf,

    /// Print this artefact
    #[arg(long, value_enum, required_unless_present = "output")]
    pub format: Option<EmitFormat>,

    /// Write all artefacts to this directory
    #[arg(short, long, value_name = "DIR", conflicts_with = "format")]
    pub output: Option<PathBuf>,
}

const REPORT_EXAMPLES: &str = "\
Examples:
  nrtrace report out/profile.json
  nrtrace report --format json out/profile.json | jq '.requirements[].id'";

/// Arguments of `report`.
#[derive(Debug, Args)]
#[command(after_help = REPORT_EXAMPLES)]
pub struct ReportArgs {
    /// The profile, or `-` for standard input
    #[arg(value_name = "PROFILE")]
    pub profile: PathBuf,

    /// How to show it
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,

    /// When to use colour
    #[arg(long, value_enum, default_value_t = ColourArg::Auto, value_name = "WHEN")]
    pub color: ColourArg,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// When to use colour
    #[arg(long, value_enum, default_value_t = ColourArg::Auto, value_name = "WHEN")]
    pub color: ColourArg,
}

/// `--record`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecordArg {
    /// Capability checks alone
    Needs,
    /// Capability checks and system calls
    Calls,
}

/// `--backend`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendArg {
    /// eBPF if it loads, else ptrace
    Auto,
    /// eBPF alone
    Ebpf,
    /// ptrace alone
    Ptrace,
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

/// `--format` of `run` and `report`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// A table for people
    Table,
    /// The profile
    Json,
}

/// `--format` of `emit`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EmitFormat {
    /// tmpfiles.d(5)
    Tmpfiles,
    /// sysusers.d(5)
    Sysusers,
    /// A drop-in for a systemd service
    Systemd,
    /// A script that sets file capabilities
    Setcap,
    /// A Kubernetes pod
    Kubernetes,
    /// sysctl.d(5)
    Sysctl,
    /// modules-load.d(5)
    ModulesLoad,
}

/// `--color`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColourArg {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// A time span such as `30s`; a bare number counts seconds.
fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 30s, 2m or 500ms"))
}

fn variable(text: &str) -> Result<(OsString, OsString), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

fn buffer(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(mib) if mib.is_power_of_two() && mib <= 1024 => Ok(mib),
        _ => Err("a power of two from 1 to 1024".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("soon").is_err());
    }

    #[test]
    fn the_command_keeps_its_own_options() {
        let cli =
            Cli::try_parse_from(["nrtrace", "run", "--for", "5s", "nginx", "-g", "daemon off;"]).unwrap();
        let Command::Run(run) = cli.command else { panic!("not run") };
        assert_eq!(run.command, ["nginx", "-g", "daemon off;"]);
    }
}
