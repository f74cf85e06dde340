//! `nrtrace completions`, `nrtrace manual` and `nrtrace schema`: what is made from the command line's own definition and
//! from the types.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use nrtrace_profiles::schema::Kind;

use crate::args::{Cli, CompletionsArgs, ManualArgs, SchemaArgs, SchemaKind, Shell};
use crate::output::OutputDir;
use crate::{complete, terminal};

/// Prints the completions of a shell.
pub fn completions(args: &CompletionsArgs) -> Result<ExitCode> {
    let shell: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut text = Vec::new();
    shell.write_registration(complete::VARIABLE, "nrtrace", "nrtrace", "nrtrace", &mut text)?;
    terminal::print(&String::from_utf8(text).context("the completions are not text")?)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a JSON Schema.
pub fn schema(args: &SchemaArgs) -> Result<ExitCode> {
    let kind = match args.kind {
        SchemaKind::Profile => Kind::Profile,
        SchemaKind::Changes => Kind::Changes,
        SchemaKind::Trace => Kind::Trace,
        SchemaKind::Policy => Kind::Policy,
        SchemaKind::Check => Kind::Check,
        SchemaKind::Diff => Kind::Diff,
        SchemaKind::Explain => Kind::Explain,
    };
    terminal::print(&kind.text())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the manual: a page for each subcommand, or all of them as Markdown on standard output.
pub fn manual(args: &ManualArgs) -> Result<ExitCode> {
    match &args.output {
        Some(directory) => pages(directory)?,
        None => terminal::print(&markdown())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn pages(directory: &Path) -> Result<()> {
    let output = OutputDir::open(directory)?;
    let mut all = Cli::command().disable_help_subcommand(true);
    all.build();
    for command in [&all].into_iter().chain(shown(&all)) {
        let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).section("1").manual("nrtrace").render(&mut page)?;
        let text = String::from_utf8(page).context("the page is not text")?;
        output.write(&format!("{name}.1"), &text, false)?;
    }
    Ok(())
}

fn markdown() -> String {
    let mut all = Cli::command().disable_help_subcommand(true).term_width(100);
    all.build();
    let mut out = String::from(
        "# Command line\n\nMade from the program itself by `cargo xtask docs`; `nrtrace COMMAND --help` shows the same.\n",
    );
    for command in [&all].into_iter().chain(shown(&all)) {
        let title = command.get_bin_name().unwrap_or("nrtrace").to_owned();
        let help = command.clone().render_long_help().to_string();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        out.push_str(&format!("\n## {title}\n\n```text\n{}\n```\n", lines.join("\n").trim_end()));
    }
    out
}

/// The subcommands, each followed by its own.
fn shown(all: &Command) -> Vec<&Command> {
    let own = all.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    own.flat_map(|command| std::iter::once(command).chain(shown(command))).collect()
}
