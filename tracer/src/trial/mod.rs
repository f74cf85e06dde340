//! One run of a program in a sandbox: with what a profile grants and nothing else, or permissive.
//!
//! The side that asks starts this very program anew ([`ARGUMENT`]): a process with one thread can make namespaces and
//! fork. The request goes there in memory, the report comes back by the same way, and nothing of it is left when either
//! side ends.

mod closed;
mod inside;
mod lend;
mod live;
mod sealed;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nrtrace_profiles::RawText;
use nrtrace_profiles::event::{self, Identity, Record, Trace};
use nrtrace_profiles::grants::Choices;
use nrtrace_profiles::profile::Profile;
use serde::{Deserialize, Serialize};

use crate::course::{Capture, Course, Verdict};
use crate::ebpf::Numbers;
use crate::launch::environment::SERVICE_PATH;
use crate::launch::privileges::Privileges;
use crate::launch::{Error, IdentityPolicy};
use crate::sandbox::{Bind, Devices, Group, Layout};
pub use crate::session::Step;

pub use closed::reopen;
pub use inside::inside;
pub use lend::Lender;
pub use live::{News, live};

/// The first argument of the process that becomes the sandbox; the numbers of descriptors follow.
pub const ARGUMENT: &str = "sandboxed";

/// How a program is to be run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The sandbox.
    pub layout: Layout,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// The working directory it is started in.
    pub cwd: PathBuf,
    /// The unit that starts it, where there is one.
    pub service: Option<Service>,
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
    /// Patterns of the files whose accesses are all kept.
    pub paths: Vec<RawText>,
    /// What becomes of its output.
    pub capture: Capture,
}

/// What a unit says of a program's start besides its command.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Service {
    /// Directives, as the text of a unit: what is granted comes after them, as a drop-in does.
    pub directives: String,
    /// Its variables. Nothing of the caller's goes with them.
    pub env: Vec<(OsString, OsString)>,
    /// What is run before the program.
    pub before: Vec<Step>,
}

/// Whom a program runs as, and with what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Rights {
    /// To be recorded for this user.
    Recorded {
        /// The user.
        identity: Identity,
        /// Whether it is refused nothing, has its own rights alone, or is root in the program's place.
        mode: event::Mode,
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
    /// Ids of the needs that a pod's volumes met, and that nothing on a machine would.
    #[serde(default)]
    pub by_volume: BTreeSet<String>,
    /// What of the machine is not in the sandbox as it is outside.
    pub remarks: Vec<String>,
}

/// What a process that is started for it is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    request: Request,
    /// What a program that is run for its user, and not for a proof, has of its caller: the signals that are blocked.
    called: Option<u64>,
    /// A probe that is loaded, as descriptors that are inherited.
    lent: Option<Numbers>,
    /// The control group for the program, where its unit asks for one, or why there is none.
    group: Option<Result<Group, String>>,
    /// Remarks on what the sandbox is like, for its process 1, which is executed anew in it.
    made: Option<Vec<String>>,
}

/// What comes back from the sandbox.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Report(Box<Report>),
    Failed { message: String, status: u8 },
    NoSandbox(String),
}

/// Why a run in a sandbox did not take place.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The privileges are missing.
    #[error("a sandbox takes root; start nrtrace with sudo ({0})")]
    Privileges(Error),
    /// It could not be made: nothing was run.
    #[error("the sandbox failed: {0}")]
    Unmade(String),
    /// It ended without an answer.
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

/// Runs a program in a fresh sandbox and waits for its end. To be called on a thread that lives until then. What watches it
/// is lent for the time, where that can be.
///
/// # Errors
/// When the sandbox cannot be made or the program not started; what becomes of the program is in the report.
pub fn run(request: &Request, lender: &Lender) -> Result<Report, TrialError> {
    let loan = request.watch.as_ref().and_then(|watch| lender.lend(watch));
    let said = if request.capture == Capture::Keep { Stdio::piped() } else { Stdio::inherit() };
    let lent = loan.as_ref().and_then(|loan| loan.numbers());
    let order = Order { request: request.clone(), called: None, lent, group: None, made: None };
    Sandboxed::start(&order, None, said)?.answer()
}

/// A process that was started to become a sandbox.
struct Sandboxed {
    child: Child,
    memory: File,
    deadline: Duration,
}

impl Sandboxed {
    /// Starts it; a run that is followed has a socket, and the signals that are blocked in the process.
    fn start(
        order: &Order,
        followed: Option<(RawFd, libc::sigset_t)>,
        said: Stdio,
    ) -> Result<Self, TrialError> {
        let unmade = |error: &dyn std::fmt::Display| TrialError::Unmade(error.to_string());
        let privileges = Privileges::of_self().and_then(|held| held.require_permissive());
        privileges.map_err(TrialError::Privileges)?;
        let memory = memfd_create("order", MFdFlags::MFD_CLOEXEC).map_err(|error| unmade(&error))?;
        let mut memory = File::from(memory);
        put(&mut memory, order).map_err(|error| unmade(&error))?;
        let own = memory.as_raw_fd();
        let lent = order.lent.as_ref().map(Numbers::all).unwrap_or_default();
        let mut command = Command::new("/proc/self/exe");
        if order.request.service.is_some() {
            command.env_clear().env("PATH", SERVICE_PATH).env("LANG", "C.UTF-8");
        }
        command.arg(ARGUMENT).arg(own.to_string()).stderr(said);
        match followed {
            Some((socket, _)) => command.arg(socket.to_string()).stdin(Stdio::inherit()),
            None => command.stdin(Stdio::null()),
        };
        // SAFETY: all of it is async-signal-safe, and about descriptors of the new process.
        unsafe {
            command.pre_exec(move || {
                let socket = followed.map(|(socket, _)| socket);
                for fd in std::iter::once(own).chain(socket).chain(lent.iter().copied()) {
                    nix::errno::Errno::result(libc::fcntl(fd, libc::F_SETFD, 0))?;
                }
                if let Some((_, blocked)) = &followed {
                    nix::errno::Errno::result(libc::sigprocmask(
                        libc::SIG_SETMASK,
                        blocked,
                        std::ptr::null_mut(),
                    ))?;
                }
                Ok(())
            });
        }
        let child = command.spawn().map_err(|error| unmade(&error))?;
        Ok(Self { child, memory, deadline: order.request.layout.deadline })
    }

    /// What it answers in the end.
    fn answer(self) -> Result<Report, TrialError> {
        let Self { child, mut memory, deadline } = self;
        let sandbox = |error: &dyn std::fmt::Display| TrialError::Sandbox(error.to_string());
        let output = child.wait_with_output().map_err(|error| sandbox(&error))?;
        match take(&mut memory).map_err(|error| sandbox(&error))? {
            Some(Answer::Report(report)) => Ok(*report),
            Some(Answer::Failed { message, status }) => Err(TrialError::Program { message, status }),
            Some(Answer::NoSandbox(why)) => Err(TrialError::Unmade(why)),
            None if output.status.code() == Some(inside::LATE.into()) => Err(TrialError::Late(deadline)),
            None => Err(TrialError::Sandbox(broken(output.status, &output.stderr))),
        }
    }
}

/// Why it has not answered.
fn broken(status: ExitStatus, said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let signal = status.signal().map(|signal| format!("signal {signal} ended it"));
    signal.unwrap_or_else(|| said.trim().strip_prefix("sandbox: ").unwrap_or(said.trim()).to_owned())
}

/// Leaves something in a memory that two processes share, in place of what was there.
fn put(memory: &mut File, what: &impl Serialize) -> std::io::Result<()> {
    let text = serde_json::to_vec(what)?;
    memory.set_len(0)?;
    memory.rewind()?;
    memory.write_all(&text)
}

/// Takes what the other has left there, if it is of that kind.
fn take<T: serde::de::DeserializeOwned>(memory: &mut File) -> std::io::Result<Option<T>> {
    let mut text = Vec::new();
    memory.rewind()?;
    memory.read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text).ok())
}
