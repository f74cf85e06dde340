//! Arguments of the subcommands that read a saved profile.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::common::{ColourArg, ReportFormat};
use super::knowledge::KnowledgeDirs;

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

    #[command(flatten)]
    pub more: KnowledgeDirs,
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

    #[command(flatten)]
    pub more: KnowledgeDirs,

    /// How to show it
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,

    /// When to use colour
    #[arg(long, value_enum, default_value_t = ColourArg::Auto, value_name = "WHEN")]
    pub color: ColourArg,
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
