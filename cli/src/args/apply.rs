//! Arguments of `apply` and `undo`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

const APPLY_EXAMPLES: &str = "\
Examples:
  # What would it change?
  sudo nrtrace apply --dry-run out/

  # Do it, and take it back
  sudo nrtrace apply out/
  sudo nrtrace undo out/

What was there before is kept in /var/lib/nrtrace. Nothing is begun that would take something from another profile that
was applied, that goes through a symbolic link, or that gives a set-user-ID program away.

What changes is told line by line, + for what is made and ~ for what becomes something else, and is asked for on a
terminal. Without a terminal nothing is done unless --yes is given.

Exit status: 0 done, or nothing to do; 1 the answer was no; 2 there is no terminal to ask on; 3 it could not be done.";

const UNDO_EXAMPLES: &str = "\
Examples:
  sudo nrtrace undo --dry-run out/
  sudo nrtrace undo out/

What another profile holds as well stays as that one needs it. What holds data is left, and said. It is told and asked for as
by apply.

Exit status: 0 done; 1 nothing of it was applied here, or all of it was taken back before, or the answer was no; 2 there
is no terminal to ask on; 3 not all could be taken back, which can be tried again.";

/// Arguments of `apply`.
#[derive(Debug, Args)]
#[command(after_help = APPLY_EXAMPLES)]
pub struct ApplyArgs {
    #[command(flatten)]
    pub what: WhatArgs,

    /// The executable to carry capabilities, where the run did not tell which it was
    #[arg(long, value_name = "FILE")]
    pub binary: Option<PathBuf>,
}

/// Arguments of `undo`.
#[derive(Debug, Args)]
#[command(after_help = UNDO_EXAMPLES)]
pub struct UndoArgs {
    #[command(flatten)]
    pub what: WhatArgs,
}

/// What is applied or taken back, and whether it is asked for.
#[derive(Debug, Args)]
pub struct WhatArgs {
    /// The directory that `run -o` or `emit -o` wrote, or the changes.json in it
    #[arg(value_name = "DIR")]
    pub from: PathBuf,

    /// Only a part
    #[arg(long, value_enum, value_name = "PART")]
    pub only: Option<Part>,

    /// Say what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// `--only`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// File capabilities, for starts without the unit
    Capabilities,
}
