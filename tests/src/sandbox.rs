//! Runs commands on a copy of this machine that is thrown away afterwards.
//!
//! The work is done by the `sandbox` program of this package ([`crate::enter`]); here is the side that starts it.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nrtrace_tracer::sandbox::{Bind, Devices, Layout};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// Directory inside the sandbox that holds the programs under test.
pub const BIN: &str = "/opt/nrtrace/bin";
/// Directory inside the sandbox whose contents outlive it.
pub const OUT: &str = "/opt/nrtrace/out";
/// Exit status of a sandbox that could not be made.
pub const STATUS_BROKEN: i32 = 125;
/// Exit status of a sandbox that was still busy at its deadline.
pub const STATUS_LATE: i32 = 124;

/// What the `sandbox` program is to do; it gets this as JSON in its only argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// What the sandbox is like.
    pub layout: Layout,
    /// The command; the first word is a path inside the sandbox or searched for in `PATH`.
    pub command: Vec<String>,
    /// The whole environment of the command.
    pub environment: Vec<(String, String)>,
}

/// The machine of the tests: small, and as it is after a start.
fn layout(out: &Path) -> Layout {
    let nodes = [
        ("null", 1, 3, 0o666),
        ("zero", 1, 5, 0o666),
        ("full", 1, 7, 0o666),
        ("random", 1, 8, 0o666),
        ("urandom", 1, 9, 0o666),
        ("kmsg", 1, 11, 0o644),
        ("tty", 5, 0, 0o666),
        // For tests of access to devices: harmless, and closed to all but root.
        ("guarded", 1, 3, 0o600),
    ];
    Layout {
        parent: std::process::id(),
        deadline: Duration::from_secs(60),
        private_network: true,
        host_name: Some("sandbox".into()),
        empty: vec![("/run".into(), 0o755), ("/tmp".into(), 0o1777)],
        devices: Devices::Some(
            nodes.map(|(name, major, minor, mode)| (name.to_owned(), major, minor, mode)).into(),
        ),
        binds: vec![Bind { source: out.into(), target: OUT.into(), writable: true }],
        unprivileged_port_start: Some(1024),
        guarded: false,
        open_files: Some(1024),
    }
}

/// A recipe for sandboxes: each run gets a fresh one, only [`Sandbox::out`] is kept from run to run.
///
/// Inside, the command is root in mount, pid, IPC, UTS and network namespaces of its own, over an overlay of the
/// machine's root file system, with empty `/run`, `/tmp` and `/dev/shm`, a small `/dev`, a loopback interface, and
/// ports below 1024 privileged. Nothing of it is left when the command ends, or the process that started it.
#[derive(Debug)]
pub struct Sandbox {
    plan: Plan,
    out: TempDir,
}

/// How a command in a sandbox ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Exit status, or 128 and the number of the signal that ended it.
    pub status: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Sandbox {
    /// A sandbox that shows `nrtrace` and `fixture` in [`BIN`] and an empty directory at [`OUT`].
    ///
    /// # Errors
    /// When one of the two programs has not been built.
    pub fn new() -> Result<Self> {
        let sandbox = Self::bare()?;
        let nrtrace = match std::env::var_os("NRTRACE") {
            Some(path) => PathBuf::from(path),
            None => sibling("nrtrace")?,
        };
        ensure!(
            nrtrace.is_file(),
            "there is no {}: build it with `cargo build -p nrtrace`, or name it in the variable NRTRACE",
            nrtrace.display()
        );
        let bin = Path::new(BIN);
        Ok(sandbox
            .bind(nrtrace, bin.join("nrtrace"))
            .bind(sibling("fixture")?, bin.join("fixture"))
            .bind(sibling("k0s")?, bin.join("k0s")))
    }

    /// The same without the programs under test.
    ///
    /// # Errors
    /// When no temporary directory can be made.
    pub fn bare() -> Result<Self> {
        let out = TempDir::with_prefix("nrtrace-out-").context("make a directory for results")?;
        let environment = [
            ("PATH", format!("{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")),
            ("LANG", "C.UTF-8".into()),
            ("HOME", "/root".into()),
            ("BIN", BIN.into()),
            ("OUT", OUT.into()),
        ];
        let plan = Plan {
            layout: layout(out.path()),
            command: Vec::new(),
            environment: environment.map(|(name, value)| (name.to_owned(), value)).into(),
        };
        Ok(Self { plan, out })
    }

    /// Shows a file or directory of the machine inside, read-only.
    #[must_use]
    pub fn bind(mut self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.plan.layout.binds.push(Bind { source: source.into(), target: target.into(), writable: false });
        self
    }

    /// Sets a variable of the commands' environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.plan.environment.retain(|(known, _)| known != name);
        self.plan.environment.push((name.into(), value.into()));
        self
    }

    /// How long a command may take before everything in its sandbox is killed.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.plan.layout.deadline = deadline;
        self
    }

    /// What its commands are run by.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where [`OUT`] is on the machine.
    pub fn out(&self) -> &Path {
        self.out.path()
    }

    /// Runs a command in a fresh sandbox and waits for its end.
    ///
    /// # Errors
    /// When the sandbox cannot be made or the deadline passes; the command's own failure is in the result.
    pub fn run<S: AsRef<str>>(&self, command: &[S]) -> Result<Finished> {
        let command: Vec<String> = command.iter().map(|word| word.as_ref().to_owned()).collect();
        let plan = Plan { command, ..self.plan.clone() };
        let output = Command::new(sibling("sandbox")?)
            .arg(serde_json::to_string(&plan)?)
            .stdin(Stdio::null())
            .output()
            .context("start the sandbox program")?;
        let status = output
            .status
            .code()
            .or_else(|| output.status.signal().map(|signal| 128 + signal))
            .context("the sandbox program has neither status nor signal")?;
        let finished = Finished { status, stdout: output.stdout, stderr: output.stderr };
        match status {
            STATUS_BROKEN => bail!("the sandbox could not be made: {finished}"),
            STATUS_LATE => bail!("still running after {} ms: {finished}", plan.layout.deadline.as_millis()),
            _ => Ok(finished),
        }
    }

    /// Runs a bash script, which stops at the first command that fails.
    ///
    /// # Errors
    /// As [`Sandbox::run`].
    pub fn script(&self, text: &str) -> Result<Finished> {
        self.run(&["/bin/bash", "-euo", "pipefail", "-c", text])
    }
}

impl Finished {
    /// The result itself if the command succeeded.
    ///
    /// # Errors
    /// Anything but status 0, with all the command wrote.
    pub fn ok(self) -> Result<Self> {
        ensure!(self.status == 0, "{self}");
        Ok(self)
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "exit status {}", self.status)?;
        for (name, bytes) in [("standard output", &self.stdout), ("standard error", &self.stderr)] {
            writeln!(f, "--- {name}\n{}", String::from_utf8_lossy(bytes).trim_end())?;
        }
        Ok(())
    }
}

/// Another program of the same build.
///
/// # Errors
/// When this program does not know its own path.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program's own path")?;
    let mut directory = own.parent().context("this program's path has no directory")?;
    if directory.file_name() == Some(&OsString::from("deps")) {
        directory = directory.parent().context("the directory deps has no parent")?;
    }
    Ok(directory.join(name))
}
