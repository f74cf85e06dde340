//! `cargo xtask docs`: the page on the command line, made from the program.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The page.
const PAGE: &str = "docs/command-line.md";

/// Options of `docs`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Write nothing; fail if the page is not what the program says
    #[arg(long)]
    pub check: bool,
}

/// Writes the page, or compares it.
pub fn run(options: &Options) -> Result<()> {
    let arguments = ["run", "--quiet", "--package", "nrtrace", "--", "manual"];
    let made = Command::new("cargo").args(arguments).output().context("cannot start cargo")?;
    ensure!(made.status.success(), "nrtrace manual: {}", String::from_utf8_lossy(&made.stderr));
    let text = String::from_utf8(made.stdout)?;
    if std::fs::read_to_string(PAGE).is_ok_and(|present| present == text) {
        return Ok(());
    }
    if options.check {
        bail!("{PAGE} is not what the program says; run `cargo xtask docs` and commit that");
    }
    std::fs::write(PAGE, text).with_context(|| format!("cannot write {PAGE}"))?;
    println!("{PAGE} is written");
    Ok(())
}
