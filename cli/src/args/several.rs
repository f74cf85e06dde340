//! Arguments of the subcommands that compare profiles, and put them together.

use std::path::PathBuf;

use clap::Args;

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

    /// Write the merged profile to this file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
