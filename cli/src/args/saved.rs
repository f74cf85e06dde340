//! Arguments of the subcommands that read a saved profile.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nrtrace_profiles::emit::Format;

use super::common::Showing;
use super::knowledge::KnowledgeDirs;
use super::shape::{Files, Preference, Shape, Whole};
use crate::terminal::ColourArg;

const EMIT_EXAMPLES: &str = "\
Examples:
  # All artefacts of a profile
  nrtrace emit -o out/ out/profile.json

  # One of them, on standard output
  nrtrace emit --format tmpfiles out/profile.json | sudo tee /etc/tmpfiles.d/nrtrace-nginx.conf

  # A whole unit, with the ports opened by a sysctl rather than a capability
  nrtrace emit --unit --prefer sysctl out/profile.json

  # A patch for a manifest of your own
  nrtrace emit --patch deployment.yaml --container web out/profile.json > patch.yaml
  kubectl patch -f deployment.yaml --type strategic --patch-file patch.yaml";

/// Arguments of `emit`.
#[derive(Debug, Args)]
#[command(after_help = EMIT_EXAMPLES)]
pub struct EmitArgs {
    /// The profile, or `-` for standard input
    #[arg(value_name = "PROFILE")]
    pub profile: PathBuf,

    /// What to write: to standard output, or with -o to a directory
    #[arg(long, value_enum, value_delimiter = ',', required_unless_present_any = ["output", "patch", "unit"])]
    pub format: Vec<EmitFormat>,

    /// Write to this directory; without --format, the profile and the files that grant what it needs
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    #[command(flatten)]
    pub files: Files,

    #[command(flatten)]
    pub whole: Whole,

    #[command(flatten)]
    pub shape: Shape,

    /// Write a patch for this Kubernetes manifest
    #[arg(long, value_name = "FILE")]
    pub patch: Option<PathBuf>,

    /// The container of the manifest, where it has several
    #[arg(long, value_name = "NAME", requires = "patch")]
    pub container: Option<String>,

    /// Write the patch as a kustomization
    #[arg(long, requires = "patch")]
    pub kustomize: bool,

    #[command(flatten)]
    pub more: KnowledgeDirs,
}

const REPORT_EXAMPLES: &str = "\
Examples:
  nrtrace report out/
  nrtrace report --all out/
  nrtrace report --format html out/profile.json > report.html
  nrtrace report --format json out/profile.json | jq '.requirements[].id'";

/// Arguments of `report`.
#[derive(Debug, Args)]
#[command(after_help = REPORT_EXAMPLES)]
pub struct ReportArgs {
    /// The profile, the directory that it is in, or `-` for standard input
    #[arg(value_name = "PROFILE")]
    pub profile: PathBuf,

    #[command(flatten)]
    pub preference: Preference,

    #[command(flatten)]
    pub more: KnowledgeDirs,

    #[command(flatten)]
    pub showing: Showing,

    /// When to use colour
    #[arg(long, value_enum, default_value_t = ColourArg::Auto, value_name = "WHEN")]
    pub color: ColourArg,
}

/// `--format` of `emit`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EmitFormat {
    /// Everything, also what is otherwise left to be asked for
    All,
    /// tmpfiles.d(5)
    Tmpfiles,
    /// sysusers.d(5)
    Sysusers,
    /// A drop-in for a systemd service
    #[value(alias = "drop-in")]
    Systemd,
    /// A whole systemd service
    Unit,
    /// A systemd socket for socket activation
    Socket,
    /// A script that sets file capabilities
    Setcap,
    /// A Kubernetes pod
    Kubernetes,
    /// Lines for a Containerfile (Dockerfile)
    Containerfile,
    /// A Compose service
    Compose,
    /// The script that has changes.json carried out
    Apply,
    /// The script that takes that back
    Undo,
    /// What is done to a host, as apply reads it
    Changes,
    /// sysctl.d(5)
    Sysctl,
    /// modules-load.d(5)
    ModulesLoad,
    /// The table
    Table,
    /// A page "Running NAME as a non-root user"
    Markdown,
    /// A report for a browser, in one file
    Html,
    /// The profile
    Json,
}

impl EmitFormat {
    /// The format; none stands for all.
    pub fn format(self) -> Option<Format> {
        Some(match self {
            Self::All => return None,
            Self::Tmpfiles => Format::Tmpfiles,
            Self::Sysusers => Format::Sysusers,
            Self::Systemd => Format::SystemdDropIn,
            Self::Unit => Format::SystemdUnit,
            Self::Socket => Format::SystemdSocket,
            Self::Setcap => Format::Setcap,
            Self::Kubernetes => Format::Kubernetes,
            Self::Containerfile => Format::Containerfile,
            Self::Compose => Format::Compose,
            Self::Apply => Format::Apply,
            Self::Undo => Format::Undo,
            Self::Changes => Format::Changes,
            Self::Sysctl => Format::Sysctl,
            Self::ModulesLoad => Format::ModulesLoad,
            Self::Table => Format::Table,
            Self::Markdown => Format::Markdown,
            Self::Html => Format::Html,
            Self::Json => Format::Json,
        })
    }
}
