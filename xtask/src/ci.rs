//! `cargo xtask ci`: everything a change must pass, on a bare Debian machine with Rust.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::{circles, docs, names, schema, vm};

/// The longest source file allowed, in lines.
const LONGEST_FILE: usize = 500;

/// What `profiles` must never depend on: it is the pure middle.
const IMPURE: [&str; 5] = ["aya", "nix", "libc", "tokio", "nrtrace-tracer"];

/// Options of `ci`.
#[derive(Debug, Args)]
pub struct Options {
    /// Leave out the older kernels that `cargo xtask vm` boots
    #[arg(long)]
    no_kernels: bool,
}

/// Runs all checks, cheapest first.
pub fn run(options: &Options) -> Result<()> {
    step("packages", || sh(Command::new("bash").arg("tests/setup.sh")))?;
    step("format", || cargo(&["fmt", "--all", "--check"]))?;
    step("layers", layers)?;
    step("file lengths", file_lengths)?;
    step("names of calls", names::run)?;
    step("circles of files", circles::run)?;
    step("lints", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    step("schemas", || schema::run(&schema::Options { check: true }))?;
    step("the pages that are made", || docs::run(&docs::Options { check: true }))?;
    step("documentation", || {
        sh(Command::new("cargo").args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    step("the committed eBPF object is what its source builds", || {
        cargo(&["xtask", "build-ebpf", "--install", "--check"])
    })?;
    step("the program", || cargo(&["build", "--release", "--package", "nrtrace"]))?;
    step("tests", || {
        let nrtrace = std::env::current_dir()?.join("target/release/nrtrace");
        sh(Command::new("cargo").args(["test", "--workspace", "--no-fail-fast"]).env("NRTRACE", nrtrace))
    })?;
    if !options.no_kernels {
        step("older kernels", vm::ci)?;
    }
    Ok(())
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("== {name}");
    work().with_context(|| format!("failed: {name}"))
}

fn cargo(arguments: &[&str]) -> Result<()> {
    sh(Command::new("cargo").args(arguments))
}

fn sh(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Dependencies point one way: `profiles` sees neither the kernel nor the tracer.
fn layers() -> Result<()> {
    let arguments = ["tree", "--edges", "normal", "--prefix", "none", "--package", "nrtrace-profiles"];
    let output = Command::new("cargo").args(arguments).output().context("cannot start cargo tree")?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    for line in String::from_utf8(output.stdout)?.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        if IMPURE.contains(&name) {
            bail!("nrtrace-profiles depends on {name}");
        }
    }
    Ok(())
}

fn file_lengths() -> Result<()> {
    let output = Command::new("git").args(["ls-files", "*.rs"]).output().context("cannot start git")?;
    let mut long = Vec::new();
    for name in String::from_utf8(output.stdout)?.lines().filter(|name| Path::new(name).exists()) {
        let lines =
            std::fs::read_to_string(name).with_context(|| format!("cannot read {name}"))?.lines().count();
        if lines > LONGEST_FILE {
            long.push(format!("{name}: {lines} lines"));
        }
    }
    ensure!(long.is_empty(), "longer than {LONGEST_FILE} lines, so split by idea:\n{}", long.join("\n"));
    Ok(())
}
