//! The Debian packages that the tests use.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The script that installs them, run as root; it can be run again at any time.
pub const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/setup.sh");

/// Installs what is missing. Services of the packages are kept from starting.
///
/// # Errors
/// When the script fails; what it wrote went to standard error.
pub fn install() -> Result<()> {
    let status = Command::new("/bin/bash").arg(SCRIPT).status().with_context(|| format!("run {SCRIPT}"))?;
    ensure!(status.success(), "{SCRIPT} failed ({status}): run it by hand, as root, on Debian 12");
    Ok(())
}
