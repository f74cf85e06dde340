//! Arguments of the subcommands that tell about nrtrace itself.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  nrtrace completions bash > ~/.local/share/bash-completion/completions/nrtrace
  nrtrace completions zsh > ~/.zfunc/_nrtrace
  nrtrace completions fish > ~/.config/fish/completions/nrtrace.fish";

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// A shell that completes words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash(1)
    Bash,
    /// zsh(1)
    Zsh,
    /// fish(1)
    Fish,
}

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Of which file
    #[arg(value_enum, value_name = "FILE")]
    pub kind: SchemaKind,
}

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaKind {
    /// profile.json
    Profile,
    /// changes.json, which apply reads
    Changes,
    /// What run --save-trace writes
    Trace,
    /// What check --policy reads (TOML)
    Policy,
    /// What check --format json prints
    Check,
    /// What diff --format json prints
    Diff,
    /// What explain --format json prints
    Explain,
}

/// Arguments of `manual`.
#[derive(Debug, Args)]
pub struct ManualArgs {
    /// Write man pages to this directory [default: print the whole as Markdown]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}
