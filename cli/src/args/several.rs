//! Arguments of the subcommands that compare profiles, and put them together.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use nrtrace_profiles::Capability;
use nrtrace_profiles::emit::Level;

use super::common::{Showing, Subject};
use super::knowledge::KnowledgeDirs;
use super::shape::{Files, Shape, Whole};
use crate::complete;
use crate::terminal::ColourArg;

const MERGE_EXAMPLES: &str = "\
Examples:
  # Three runs, so that names which differ from run to run show
  nrtrace merge run-1/profile.json run-2/profile.json run-3/profile.json -o profile.json

  # Accept what a newer run needs besides
  nrtrace merge baseline.json out/profile.json -o baseline.json";

/// Arguments of `merge`.
#[derive(Debug, Args)]
#[command(after_help = MERGE_EXAMPLES)]
pub struct MergeArgs {
    /// The profiles, merged ones among them; `-` for standard input
    #[arg(required = true, value_name = "PROFILE")]
    pub profiles: Vec<PathBuf>,

    /// Take in runs that failed or were never ready, too, which are left out otherwise
    #[arg(long)]
    pub allow_failed: bool,

    /// Write the merged profile to this file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

const DIFF_EXAMPLES: &str = "\
Examples:
  nrtrace diff v1/profile.json v2/profile.json
  nrtrace diff --format json v1/profile.json v2/profile.json | jq -r '.added[].id'

Exit status:
  0    they need the same
  1    they differ
  2    the command line or an input file is wrong";

/// Arguments of `diff`.
#[derive(Debug, Args)]
#[command(after_help = DIFF_EXAMPLES)]
pub struct DiffArgs {
    /// The old profile, or `-` for standard input
    #[arg(value_name = "OLD")]
    pub old: PathBuf,

    /// The new profile, or `-` for standard input
    #[arg(value_name = "NEW")]
    pub new: PathBuf,

    /// How to show it
    #[arg(long, value_enum, default_value_t = DiffFormat::Text)]
    pub format: DiffFormat,

    /// When to use colour
    #[arg(long, value_enum, default_value_t = ColourArg::Auto, value_name = "WHEN")]
    pub color: ColourArg,
}

/// `--format` of `diff`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// A line for each change
    Text,
    /// For programs
    Json,
}

const CHECK_EXAMPLES: &str = "\
Examples:
  # Fail when the release needs more than was agreed on
  nrtrace check out/profile.json --baseline nrtrace/baseline.json

  # Rules that hold for any program; in a file, they are TOML: deny-paths = [\"/etc/shadow\"]
  nrtrace check out/profile.json --deny-capability CAP_SYS_ADMIN --deny-path /etc/shadow --max-level restricted

  # In a GitHub workflow: annotations and a summary, and a file for code scanning
  nrtrace check out/profile.json --baseline nrtrace/baseline.json --format github --write sarif=nrtrace.sarif

Exit status:
  0    all as agreed
  1    a finding
  2    the command line or an input file is wrong";

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub struct CheckArgs {
    /// The profile, or `-` for standard input
    #[arg(value_name = "PROFILE")]
    pub profile: PathBuf,

    /// The profile that was agreed on: each need that it has not is a finding
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,

    /// A file of rules, in TOML
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// Nothing may need this capability
    #[arg(long, value_name = "CAP")]
    pub deny_capability: Vec<Capability>,

    /// Nothing may need this path or what is below it; `*`, `?` and `**` as in glob(7)
    #[arg(long, value_name = "PATTERN")]
    pub deny_path: Vec<String>,

    /// The level of the Pod Security Standards that the program has to fit
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub max_level: Option<LevelArg>,

    /// Leave out what the program lives without: what it merely tried, and what was proved to be no need
    #[arg(long)]
    pub ignore_optional: bool,

    /// Take an incomplete record, or a run that failed, for good enough
    #[arg(long)]
    pub allow_incomplete: bool,

    /// What to print
    #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
    pub format: CheckFormat,

    /// Write a file as well, like sarif=nrtrace.sarif
    #[arg(long, value_name = "FORMAT=FILE", value_parser = written)]
    pub write: Vec<Written>,

    /// When to use colour
    #[arg(long, value_enum, default_value_t = ColourArg::Auto, value_name = "WHEN")]
    pub color: ColourArg,
}

/// A file that is written beside what is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// How.
    pub format: CheckFormat,
    /// Where.
    pub path: PathBuf,
}

fn written(text: &str) -> Result<Written, String> {
    let (format, path) = text.split_once('=').ok_or("write it as FORMAT=FILE")?;
    Ok(Written { format: CheckFormat::from_str(format, false)?, path: path.into() })
}

/// `--format` of `check`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// JUnit's XML, for test reports
    Junit,
    /// Annotations in a GitHub workflow, and the step's summary
    Github,
    /// Markdown
    Markdown,
    /// GitLab's code quality report
    Gitlab,
}

/// `--max-level`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LevelArg {
    /// Hardened
    Restricted,
    /// No known privilege escalation
    Baseline,
    /// Anything goes
    Privileged,
}

impl From<LevelArg> for Level {
    fn from(level: LevelArg) -> Self {
        match level {
            LevelArg::Restricted => Self::Restricted,
            LevelArg::Baseline => Self::Baseline,
            LevelArg::Privileged => Self::Privileged,
        }
    }
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  nrtrace explain out/ path:/run/nginx.pid
  nrtrace explain out/ nginx.pid
  nrtrace explain out/ 'tcp 80'
  nrtrace explain out/ /var/lib/nginx/";

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(after_help = EXPLAIN_EXAMPLES)]
pub struct ExplainArgs {
    /// The profile, the directory that it is in, or `-` for standard input
    #[arg(value_name = "PROFILE")]
    pub profile: PathBuf,

    /// What the table calls it: a path, a port, a row of several needs, a directory with / at its end; an id or a part of
    /// one. Several needs are told one after the other, in JSON as a document each
    #[arg(value_name = "NEED", add = ArgValueCompleter::new(complete::needs))]
    pub need: String,

    /// How to show it
    #[arg(long, value_enum, default_value_t = DiffFormat::Text)]
    pub format: DiffFormat,

    /// When to use colour
    #[arg(long, value_enum, default_value_t = ColourArg::Auto, value_name = "WHEN")]
    pub color: ColourArg,

    #[command(flatten)]
    pub more: KnowledgeDirs,
}

const REPLAY_EXAMPLES: &str = "\
Examples:
  # Record once
  sudo nrtrace run --for 5s --save-trace nginx.trace -- /usr/sbin/nginx -g 'daemon off;'

  # What would it need as www-data? Files for that user go to out/
  nrtrace replay --as www-data -o out/ nginx.trace

  # One artefact
  nrtrace replay --as www-data --format json nginx.trace | nrtrace emit --format kubernetes -";

/// Arguments of `replay`.
#[derive(Debug, Args)]
#[command(after_help = REPLAY_EXAMPLES)]
pub struct ReplayArgs {
    /// The recording, as run --save-trace wrote it, or `-` for standard input
    #[arg(value_name = "TRACE")]
    pub trace: PathBuf,

    #[command(flatten)]
    pub subject: Subject,

    /// Write profile.json and the files that grant what it needs to this directory
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    #[command(flatten)]
    pub files: Files,

    #[command(flatten)]
    pub showing: Showing,

    #[command(flatten)]
    pub whole: Whole,

    #[command(flatten)]
    pub shape: Shape,

    /// When to use colour
    #[arg(long, value_enum, default_value_t = ColourArg::Auto, value_name = "WHEN")]
    pub color: ColourArg,

    #[command(flatten)]
    pub more: KnowledgeDirs,
}
