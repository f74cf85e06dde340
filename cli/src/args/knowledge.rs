//! Arguments of `nrtrace knowledge`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use crate::complete;

/// Where more is known of programs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Result")]
pub struct KnowledgeDirs {
    /// Also use the knowledge files (NAME.toml) in this directory; one of the same name replaces nrtrace's own. Can be
    /// given several times
    #[arg(hide_short_help = true, long = "knowledge", value_name = "DIR")]
    pub directories: Vec<PathBuf>,
}

const KNOWLEDGE_EXAMPLES: &str = "\
Examples:
  nrtrace knowledge list
  nrtrace knowledge show nginx

  # Start a file of one's own from one that is there, check it, use it
  nrtrace knowledge show --toml nginx > known/caddy.toml
  nrtrace knowledge check known/*.toml
  sudo nrtrace run --knowledge known/ --for 5s -- caddy run

Exit status:
  0    done; all files are sound
  1    check: a file is not sound
  2    the command line is wrong, a file cannot be read, or nothing is known under a name";

/// Arguments of `knowledge`.
#[derive(Debug, Args)]
#[command(after_help = KNOWLEDGE_EXAMPLES)]
pub struct KnowledgeArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KnowledgeCommand,
}

/// The subcommands of `knowledge`.
#[derive(Debug, Subcommand)]
pub enum KnowledgeCommand {
    /// List the programs that something is known of
    List {
        #[command(flatten)]
        more: KnowledgeDirs,
    },
    /// Show what is known of a program
    Show {
        /// Its name in the list
        #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete::programs))]
        name: String,

        /// Print the file itself
        #[arg(long)]
        toml: bool,

        #[command(flatten)]
        more: KnowledgeDirs,
    },
    /// Say what is wrong with knowledge files: form, patterns, sources
    Check {
        /// The files, each named NAME.toml
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}
