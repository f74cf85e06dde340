//! Machines that programs are built for: this one's and others.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// A kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Arch {
    /// The machine this runs on.
    pub const HOST: Self = if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 };

    /// Debian's name of it.
    pub fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The kernel's name of it, as `uname -m` says.
    pub fn kernel(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// Rust's name of it, for programs that need no library of the machine they run on.
    pub fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-musl",
            Self::Arm64 => "aarch64-unknown-linux-musl",
        }
    }

    /// A compiler's driver that links for it, and the package it is in, where it is not this machine's.
    fn linker(self) -> Option<(&'static str, &'static str)> {
        match self {
            _ if self == Self::HOST => None,
            Self::Amd64 => Some(("x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu")),
            Self::Arm64 => Some(("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")),
        }
    }

    /// A program of the binutils for it.
    pub fn tool(self, name: &str) -> String {
        if self == Self::HOST { name.to_owned() } else { format!("{}-linux-gnu-{name}", self.kernel()) }
    }

    /// cargo with a command, for programs that need no library of such a machine.
    pub fn cargo(self, command: &str) -> Result<Command> {
        let target = self.target();
        let found = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output()?;
        if !Path::new(String::from_utf8_lossy(&found.stdout).trim()).is_dir() {
            let added = Command::new("rustup").args(["target", "add", target]).status();
            if !added.is_ok_and(|status| status.success()) {
                bail!("Rust's standard library for {target} is missing; run `rustup target add {target}`");
            }
        }
        let mut cargo = Command::new("cargo");
        cargo.args([command, "--target", target]);
        if let Some((linker, package)) = self.linker() {
            let there = Command::new(linker).arg("--version").output().is_ok();
            ensure!(there, "{linker} is missing, which links for {target}; run `apt-get install {package}`");
            let name = target.to_uppercase().replace('-', "_");
            cargo.env(format!("CARGO_TARGET_{name}_LINKER"), linker);
        }
        Ok(cargo)
    }

    /// Where cargo puts programs of a profile.
    pub fn built(self, profile: &str) -> PathBuf {
        Path::new("target").join(self.target()).join(profile)
    }

    /// The machine of that name.
    pub fn named(name: &str) -> Result<Self> {
        [Self::Amd64, Self::Arm64].into_iter().find(|arch| arch.debian() == name).context("no such machine")
    }
}
