//! Programs to be timed under each tracer. Each times itself, so that a tracer's start-up is not counted in.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Opens and closes a file, and fails to open another, a hundred thousand times
    Storm,
    /// Starts a small program a thousand times
    Exec,
    /// Runs `find /usr`, a real program with hundreds of thousands of calls
    Find,
}

impl Workload {
    /// All that `bench` measures.
    pub const BENCHED: [Self; 3] = [Self::Storm, Self::Exec, Self::Find];

    /// Does the work `scale` times over and writes the nanoseconds it took to `result`.
    pub fn run(self, scale: u32, result: &Path) -> Result<()> {
        let started = Instant::now();
        match self {
            Self::Storm => storm(scale * 100_000),
            Self::Exec => exec(scale * 1_000)?,
            Self::Find => (0..scale).try_for_each(|_| find())?,
        }
        let elapsed = started.elapsed().as_nanos();
        std::fs::write(result, elapsed.to_string())
            .with_context(|| format!("cannot write {}", result.display()))
    }
}

fn storm(rounds: u32) {
    for _ in 0..rounds {
        drop(File::open("/etc/passwd"));
        drop(File::open("/nonexistent/nrtrace"));
    }
}

fn exec(rounds: u32) -> Result<()> {
    for _ in 0..rounds {
        let status = Command::new("/bin/true").status().context("cannot run /bin/true")?;
        ensure!(status.success(), "/bin/true failed");
    }
    Ok(())
}

fn find() -> Result<()> {
    let status = Command::new("/usr/bin/find")
        .arg("/usr")
        .stdout(Stdio::null())
        .status()
        .context("cannot run find")?;
    ensure!(status.success(), "find failed: {status}");
    Ok(())
}
