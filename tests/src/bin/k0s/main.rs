//! Makes the calls that `k0s controller --enable-worker` makes at its start, in the same order, and tolerates what it
//! tolerates. The components that it supervises are this same program under their names.
//!
//! Only the calls are k0s's: files hold place-holders, and nothing is served but the status socket and the ports.

mod components;
mod controller;
mod files;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

/// Where things are, which depends on who it is.
pub struct Vars {
    /// `--data-dir`
    pub data: PathBuf,
    /// `/run/k0s` for root, else in the data directory.
    pub run: PathBuf,
}

impl Vars {
    fn new(words: &[String]) -> Self {
        let data = option(words, "--data-dir").map_or_else(|| PathBuf::from("/var/lib/k0s"), PathBuf::from);
        let run = if is_root() { PathBuf::from("/run/k0s") } else { data.join("run") };
        Self { data, run }
    }

    /// A file in the directory of keys and certificates.
    pub fn pki(&self, name: &str) -> PathBuf {
        self.data.join("pki").join(name)
    }
}

/// Whether it is root, which changes what it does.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The value of `NAME=VALUE` among the words.
pub fn option<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let name = words
        .first()
        .and_then(|word| Path::new(word).file_name())
        .map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    let result = if name == "k0s" { k0s(&words[1..]) } else { components::run(&name, &words[1..]) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn k0s(words: &[String]) -> Result<()> {
    match words.first().map(String::as_str) {
        Some("controller") => controller::run(&Vars::new(words), words),
        Some("api") => components::idle(),
        Some("install" | "start" | "stop") if !is_root() => anyhow::bail!("this command must be run as root"),
        _ => anyhow::bail!("usage: k0s controller [--enable-worker] [--data-dir=DIR]"),
    }
}
