//! `cargo xtask demo`: all the set-up, and nrtrace on a real service.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Where the results go.
const OUT: &str = "out";

/// Installs nginx without starting it, builds nrtrace, and traces nginx in a sandbox.
pub fn run() -> Result<()> {
    let done = |command: &mut Command| -> Result<()> {
        let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
        ensure!(status.success(), "{command:?}: {status}");
        Ok(())
    };
    done(Command::new("bash").args(["tests/setup.sh", "nginx", "curl", "procps", "systemd", "util-linux"]))?;
    done(Command::new("cargo").args([
        "build",
        "--release",
        "--package",
        "nrtrace",
        "--package",
        "nrtrace-tests",
    ]))?;
    done(Command::new("target/release/demo").arg(OUT).env("NRTRACE", "target/release/nrtrace"))?;
    println!("\nThe profile and the artefacts are in {OUT}/.");
    Ok(())
}
