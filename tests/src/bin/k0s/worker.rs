//! The worker: kernel set-up, which only warns, the bootstrap kubeconfig, containerd and the kubelet.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::Vars;
use crate::controller::supervise;
use crate::files::{atomic, create_temp, init_dir};

/// Brings the worker up.
pub fn run(vars: &Vars, children: &mut Vec<Child>) -> Result<()> {
    kernel();
    bootstrap_kubeconfig(vars)?;
    containerd(vars, children)?;
    init_dir(&vars.data.join("images"), 0o755)?;
    init_dir(&vars.data.join("kubelet"), 0o755)?;
    init_dir(&vars.run.join("kubelet"), 0o755)?;
    atomic(&vars.run.join("kubelet/config.yaml"), 0o600, None)?;
    atomic(&vars.run.join("kubelet/ca.crt"), 0o644, None)?;
    let root = format!("--root-dir={}", vars.data.join("kubelet").display());
    let plugins = "--volume-plugin-dir=/usr/libexec/k0s/kubelet-plugins/volume/exec".to_owned();
    children.push(supervise(vars, "kubelet", &[root, plugins], None)?);
    Ok(())
}

/// Modules and parameters; each failure is worth a warning.
fn kernel() {
    for (module, sign) in [
        ("overlay", "/sys/module/overlay"),
        ("nf_conntrack", "/proc/sys/net/netfilter"),
        ("br_netfilter", "/proc/sys/net/bridge"),
    ] {
        if !Path::new(sign).exists() {
            let _ = Command::new("modprobe").arg(module).stderr(Stdio::null()).status();
        }
    }
    for name in ["ipv4/conf/all", "ipv4/conf/default", "ipv6/conf/all", "ipv6/conf/default"] {
        let path = format!("/proc/sys/net/{name}/forwarding");
        if let Err(error) = fs::write(&path, "1") {
            eprintln!("level=warning msg=\"Failed to set {path}\" error=\"{error}\"");
        }
    }
}

/// In XDG_RUNTIME_DIR or /run; never in TMPDIR, since a directory is always given. Only taken at the first start.
fn bootstrap_kubeconfig(vars: &Vars) -> Result<()> {
    if vars.data.join("kubelet.conf").exists() {
        return Ok(());
    }
    let directory = std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty());
    let directory = directory.map_or_else(|| PathBuf::from("/run"), PathBuf::from);
    let path = create_temp(&directory, "k0s-", "-kubelet-bootstrap-kubeconfig")
        .context("failed to write bootstrap kubeconfig")?;
    init_dir(&vars.data.join("kubelet/pki"), 0o755)?;
    let written = atomic(&vars.data.join("kubelet.conf"), 0o600, None);
    fs::remove_file(path)?;
    written?;
    atomic(&vars.run.join("kubelet-direct.conf"), 0o640, None)
}

fn containerd(vars: &Vars, children: &mut Vec<Child>) -> Result<()> {
    init_dir(Path::new("/etc/k0s"), 0o755)?;
    init_dir(Path::new("/etc/k0s/containerd.d"), 0o755)?;
    atomic(Path::new("/etc/k0s/containerd.toml"), 0o644, None)?;
    let arguments = [
        format!("--root={}", vars.data.join("containerd").display()),
        format!("--state={}", vars.run.join("containerd").display()),
        format!("--address={}", vars.run.join("containerd.sock").display()),
    ];
    children.push(supervise(vars, "containerd", &arguments, None)?);
    Ok(())
}
