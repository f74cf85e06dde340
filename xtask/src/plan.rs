//! `cargo xtask plan`: whether the plan for a real control plane is that of KEP-2568, and each component serves so.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Options of `plan`.
#[derive(clap::Args)]
pub struct Options {
    /// Where etcd, kube-apiserver, kube-controller-manager and kube-scheduler are
    #[arg(long, value_name = "DIR")]
    bin: PathBuf,
}

/// Records the four in a sandbox, with the files that kubeadm makes, applies the plan, and starts each as its own user. This
/// takes root, openssl and curl.
pub fn run(options: &Options) -> Result<()> {
    let build = ["build", "--release", "--package", "nrtrace", "--package", "nrtrace-tests"];
    let built = Command::new("cargo").args(build).status().context("cannot start cargo")?;
    ensure!(built.success(), "cargo build: {built}");
    let mut control_plane = Command::new("target/release/control-plane");
    control_plane.arg(&options.bin).env("NRTRACE", "target/release/nrtrace");
    let status = control_plane.status().context("cannot start control-plane")?;
    ensure!(status.success(), "the plan is not that of KEP-2568, or a component does not serve: {status}");
    println!("the plan is that of KEP-2568, and each component serves as its own user");
    Ok(())
}
