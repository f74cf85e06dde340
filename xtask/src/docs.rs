//! `cargo xtask docs`: the pages on the command line, made from the program, and on what calls need, made from their table.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

const COMMAND_LINE: &str = "docs/command-line.md";
const COVERAGE: &str = "docs/coverage.md";

/// Options of `docs`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Write nothing; fail if a page is not what it is made from
    #[arg(long)]
    pub check: bool,
}

/// Writes the pages, or compares them.
pub fn run(options: &Options) -> Result<()> {
    let arguments = ["run", "--quiet", "--package", "nrtrace", "--", "manual"];
    let made = Command::new("cargo").args(arguments).output().context("cannot start cargo")?;
    ensure!(made.status.success(), "nrtrace manual: {}", String::from_utf8_lossy(&made.stderr));
    let text = String::from_utf8(made.stdout)?;
    page(options, COMMAND_LINE, &text)?;
    page(options, COVERAGE, &nrtrace_profiles::calls::coverage())
}

fn page(options: &Options, page: &str, text: &str) -> Result<()> {
    if std::fs::read_to_string(page).is_ok_and(|present| present == text) {
        return Ok(());
    }
    if options.check {
        bail!("{page} is not what it is made from; run `cargo xtask docs` and commit that");
    }
    std::fs::write(page, text).with_context(|| format!("cannot write {page}"))?;
    println!("{page} is written");
    Ok(())
}
