//! `cargo xtask k0s`: whether the page on k0s is what a real k0s is found to need.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Options of `k0s`.
#[derive(clap::Args)]
pub struct Options {
    /// The program; those that it starts are its own, or in the same directory
    #[arg(long, value_name = "PATH")]
    k0s: PathBuf,
}

/// Runs it for a minute under nrtrace in a sandbox, and shows what of the page is otherwise. This takes root.
pub fn run(options: &Options) -> Result<()> {
    let build = ["build", "--release", "--package", "nrtrace", "--package", "nrtrace-tests"];
    let built = Command::new("cargo").args(build).status().context("cannot start cargo")?;
    ensure!(built.success(), "cargo build: {built}");
    let mut compare = Command::new("target/release/k0s-page");
    compare.arg(&options.k0s).arg("docs/k0s.md").env("NRTRACE", "target/release/nrtrace");
    let status = compare.status().context("cannot start k0s-page")?;
    ensure!(status.success(), "docs/k0s.md is not what {} is found to need: {status}", options.k0s.display());
    println!("docs/k0s.md is what {} is found to need", options.k0s.display());
    Ok(())
}
