//! What several subcommands share.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use nrtrace_profiles::glob::Pattern;

use nrtrace_profiles::event::Record;
use nrtrace_tracer::backend::Choice;

use super::knowledge::KnowledgeDirs;
use super::shape::{Files, Shape};
use super::value;
use crate::complete;
use crate::terminal::ColourArg;

/// Whom the program runs as, or is judged for.
#[derive(Debug, Args)]
#[command(next_help_heading = "Program")]
pub struct Subject {
    /// Run as this user [default: one made up]
    ///
    /// Run as this user: a name, or a number; with a group after a colon [default: a uid that exists
    /// nowhere, from 61184 on, named after the program; run --verify and run --minimize also try the users that the program
    /// points to]
    #[arg(long = "as", value_name = "USER|UID[:GID]", add = ArgValueCompleter::new(complete::users))]
    pub user: Option<String>,

    /// Supplementary groups, by name or number [default: none]
    #[arg(hide_short_help = true, long, value_name = "GROUP", value_delimiter = ',', add = ArgValueCompleter::new(complete::groups))]
    pub groups: Vec<String>,
}

/// How long the program runs, and how it ends.
#[derive(Debug, Args)]
#[command(next_help_heading = "Program")]
pub struct Lifetime {
    /// Stop the program after this time: 30s, 2m, 500ms
    ///
    /// Stop the program after this time (like 30s, 2m or 500ms)
    #[arg(long = "for", value_name = "DURATION", value_parser = value::duration)]
    pub run_for: Option<Duration>,

    /// How long a program that is told to stop has until it is killed
    #[arg(hide_short_help = true, long, value_name = "DURATION", value_parser = value::duration, default_value = "5s")]
    pub grace: Duration,
}

/// What watches the program, and what it records.
#[derive(Debug, Args)]
#[command(next_help_heading = "Recording")]
pub struct Watch {
    /// What to record: `calls` adds the results of system calls, listening addresses and standard error to the
    /// capability checks; `needs` slows nothing else on the machine down
    #[arg(hide_short_help = true, long, value_enum, default_value_t = RecordArg::Calls)]
    pub record: RecordArg,

    /// What watches the program: `ebpf` sees the kernel consult capabilities, `ptrace` works without eBPF and predicts
    /// that by an oracle, `auto` takes the first that works
    #[arg(hide_short_help = true, long, value_enum, default_value_t = BackendArg::Auto)]
    pub backend: BackendArg,

    /// Also tell of every access to these files, refused or not, for `nrtrace plan`: an absolute path, with all that is
    /// in it, or a pattern with `*`, `?` and `**`. Can be given several times
    #[arg(hide_short_help = true, long, value_name = "GLOB", value_parser = value::pattern)]
    pub paths: Vec<Pattern>,

    /// Size of the buffer between the kernel and nrtrace, in MiB (a power of two)
    #[arg(hide_short_help = true, long, value_name = "MIB", default_value_t = 8, value_parser = value::buffer)]
    pub buffer: usize,
}

/// The program's environment.
#[derive(Debug, Args)]
#[command(next_help_heading = "Program")]
pub struct Variables {
    /// Keep the caller's HOME, USER, LOGNAME, SHELL and PATH
    #[arg(hide_short_help = true, long)]
    pub keep_env: bool,

    /// Set a variable, for the program and in the files
    ///
    /// Set a variable in the program's environment, and in the files written
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = value::variable)]
    pub env: Vec<(OsString, OsString)>,
}

/// How the result is shown.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Result")]
pub struct Showing {
    /// What to print at the end
    ///
    /// What to print: the table, which run, attach, verify and minimize print on standard error, or something else, on
    /// standard output
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,

    /// Show the evidence, too
    ///
    /// Show each need with its evidence, after the answer
    #[arg(long)]
    pub all: bool,
}

/// What becomes of the result.
#[derive(Debug, Args)]
#[command(next_help_heading = "Result")]
pub struct Results {
    /// Write the profile and the files that grant it here
    ///
    /// Write profile.json and the files that grant what it needs to this directory
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    #[command(flatten)]
    pub files: Files,

    #[command(flatten)]
    pub showing: Showing,

    #[command(flatten)]
    pub shape: Shape,

    #[command(flatten)]
    pub more: KnowledgeDirs,

    #[command(flatten)]
    pub talk: Talk,
}

/// How much nrtrace itself says.
#[derive(Debug, Args)]
#[command(next_help_heading = "Messages")]
pub struct Talk {
    /// Say nothing but errors
    ///
    /// Say nothing but errors, and the result where it was asked for
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say more
    ///
    /// Say more: what was attached, what each need is known by
    #[arg(short, long)]
    pub verbose: bool,

    /// When to use colour
    #[arg(hide_short_help = true, long, value_enum, default_value_t = ColourArg::Auto, value_name = "WHEN")]
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

impl RecordArg {
    /// What it stands for.
    pub fn record(self) -> Record {
        match self {
            Self::Needs => Record::Needs,
            Self::Calls => Record::Calls,
        }
    }
}

impl BackendArg {
    /// What it stands for.
    pub fn choice(self) -> Choice {
        match self {
            Self::Auto => Choice::Auto,
            Self::Ebpf => Choice::Ebpf,
            Self::Ptrace => Choice::Ptrace,
        }
    }
}

/// `--format` of `run`, `report` and their kind
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// A table for people
    Table,
    /// The profile
    Json,
    /// A page of documentation
    Markdown,
    /// A report for a browser, in one file
    Html,
}
