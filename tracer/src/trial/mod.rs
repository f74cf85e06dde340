//! One run of a program in a sandbox: with what a profile grants and nothing else, or permissive.
//!
//! The side that asks starts this very program anew ([`ARGUMENT`]): a process with one thread can make namespaces and
//! fork. The request goes to its standard input, the report comes back in memory, and nothing of it is left when
//! either side ends.

mod inside;
mod sealed;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nrtrace_profiles::event::{Identity, Record, Trace};
use nrtrace_profiles::grants::Choices;
use nrtrace_profiles::profile::Profile;
use serde::{Deserialize, Serialize};

use crate::course::{Capture, Course, Verdict};
use crate::launch::privileges::Privileges;
use crate::launch::{Error, IdentityPolicy};
use crate::sandbox::{Bind, Devices, Layout};

pub use inside::inside;

/// The only argument of the process that becomes the sandbox.
pub const ARGUMENT: &str = "sandboxed";

/// What the report comes back through, in the process that becomes the sandbox.
const REPORT_FD: i32 = 3;

/// How a program is to be run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The sandbox.
    pub layout: Layout,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// The working directory it is started in.
    pub cwd: PathBuf,
    /// Whom it runs as, and with what.
    pub rights: Rights,
    /// Whether it keeps all of the caller's environment.
    pub keep_env: bool,
    /// Variables that win over all others.
    pub env: Vec<(OsString, OsString)>,
    /// What it is to come to.
    pub course: Option<Course>,
    /// Stop it after this time.
    pub run_for: Option<Duration>,
    /// How long each polite stage of its end may take.
    pub grace: Duration,
    /// What watches it; `None` for nothing.
    pub watch: Option<Watching>,
    /// What becomes of its output.
    pub capture: Capture,
}

/// Whom a program runs as, and with what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Rights {
    /// As this user, who is refused nothing.
    Permissive {
        /// The user.
        identity: Identity,
        /// What becomes of the program's changes of identity.
        policy: IdentityPolicy,
        /// Whose files are made and given beforehand; nothing else of it is granted.
        prepared: Option<Box<Profile>>,
    },
    /// With what the profile's artefacts grant, and nothing else.
    Granted {
        /// The profile.
        profile: Box<Profile>,
        /// How its needs are met where there are several ways.
        choices: Choices,
    },
}

/// What watches a program.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Watching {
    /// The backend, in order of preference.
    pub backend: crate::backend::Choice,
    /// How much is recorded.
    pub record: Record,
    /// Bytes of the eBPF backend's buffer, a power of two.
    pub buffer: usize,
}

/// What a run in a sandbox showed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// What it came to, where something was waited for.
    pub verdict: Option<Verdict>,
    /// What was recorded; without events where nothing watched.
    pub trace: Trace,
    /// The file that was executed.
    pub program: OsString,
    /// The program's status as the shell tells it.
    pub status: i32,
    /// The end of its output, where that was kept.
    pub output: Vec<u8>,
    /// What of the profile could not be applied.
    pub not_applied: Vec<String>,
    /// Ids of the needs for which nothing was prepared, since they lie on what the sandbox shows of the machine.
    pub on_shares: BTreeSet<String>,
    /// Ids of the needs that a service manager would meet, and that no trial can.
    pub withheld: BTreeSet<String>,
    /// What of the machine is not in the sandbox as it is outside.
    pub remarks: Vec<String>,
}

/// What a process that is started for it is to do.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// Make the sandbox.
    Make(Request),
    /// Run the program: this is process 1 of the sandbox, executed anew in it. With remarks on what the sandbox is like.
    Run(Request, Vec<String>),
}

/// What comes back from the sandbox.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Report(Box<Report>),
    Failed { message: String, status: u8 },
}

/// Why a run in a sandbox did not take place.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The privileges are missing.
    #[error("a sandbox takes root; start nrtrace with sudo ({0})")]
    Privileges(Error),
    /// It could not be started or made.
    #[error("the sandbox failed: {0}")]
    Sandbox(String),
    /// The program could not be run in it.
    #[error("{message}")]
    Program {
        /// What happened.
        message: String,
        /// The exit status this amounts to.
        status: u8,
    },
    /// It took too long.
    #[error("the sandbox was ended after {0:?}, since it was not done by then")]
    Late(Duration),
}

impl TrialError {
    /// The exit status this amounts to.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Program { status, .. } => *status,
            _ => 3,
        }
    }
}

/// The sandbox that shows this machine as it is.
pub fn machine(private_network: bool, shared: Vec<Bind>, deadline: Duration) -> Layout {
    Layout {
        parent: std::process::id(),
        deadline,
        private_network,
        host_name: None,
        empty: Vec::new(),
        devices: Devices::Machine,
        binds: shared,
        unprivileged_port_start: None,
        guarded: true,
        open_files: None,
    }
}

/// Runs a program in a fresh sandbox and waits for its end. To be called on a thread that lives until then.
///
/// # Errors
/// When the sandbox cannot be made or the program not started; what becomes of the program is in the report.
pub fn run(request: &Request) -> Result<Report, TrialError> {
    let sandbox = |error: &dyn std::fmt::Display| TrialError::Sandbox(error.to_string());
    let privileges = Privileges::of_self().and_then(|held| held.require_permissive());
    privileges.map_err(TrialError::Privileges)?;
    let text = serde_json::to_vec(&Order::Make(request.clone())).map_err(|error| sandbox(&error))?;
    let memory = memfd_create("report", MFdFlags::MFD_CLOEXEC).map_err(|error| sandbox(&error))?;
    let report = memory.as_raw_fd();
    let said = if request.capture == Capture::Keep { Stdio::piped() } else { Stdio::inherit() };
    let mut command = Command::new("/proc/self/exe");
    command.arg(ARGUMENT).stdin(Stdio::piped()).stderr(said);
    // SAFETY: dup2 is async-signal-safe, and descriptor 3 is nobody's in the new process.
    unsafe {
        command.pre_exec(move || {
            if report == REPORT_FD {
                return nix::errno::Errno::result(libc::fcntl(report, libc::F_SETFD, 0))
                    .map(drop)
                    .map_err(Into::into);
            }
            nix::errno::Errno::result(libc::dup2(report, REPORT_FD)).map(drop).map_err(Into::into)
        });
    }
    let mut child = command.spawn().map_err(|error| sandbox(&error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends early says why by other means.
        let _ = stdin.write_all(&text);
    }
    let output = child.wait_with_output().map_err(|error| sandbox(&error))?;
    let mut file = File::from(memory);
    let mut answer = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut answer)).map_err(|error| sandbox(&error))?;
    match serde_json::from_slice(&answer) {
        Ok(Answer::Report(report)) => Ok(*report),
        Ok(Answer::Failed { message, status }) => Err(TrialError::Program { message, status }),
        Err(_) if output.status.code() == Some(inside::LATE.into()) => {
            Err(TrialError::Late(request.layout.deadline))
        }
        Err(_) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let signal = output.status.signal().map(|signal| format!("signal {signal} ended it"));
            let said = said.trim().strip_prefix("sandbox: ").unwrap_or(said.trim());
            Err(TrialError::Sandbox(signal.unwrap_or_else(|| said.to_owned())))
        }
    }
}
