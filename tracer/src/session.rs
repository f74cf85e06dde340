//! A run, from the fork to the end of the last process of the tree.

mod feed;
mod running;

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use libc::sock_filter;
use nix::time::{ClockId, clock_gettime};
use nrtrace_ebpf::layout::Aim;
use nrtrace_ebpf::record::Former;
use nrtrace_profiles::event::{Event, Exit, Phase};
use nrtrace_profiles::{Capability, RawText};
use serde::{Deserialize, Serialize};

pub(crate) use self::feed::{Feed, Happened};
pub(crate) use self::running::has_ended;
use self::running::{Beside, Running};
pub use crate::collect::Counters;
use crate::course::{Attendant, Came, Capture, Course};
use crate::launch::environment::{self, Home, Origin, Variables};
use crate::launch::privileges::{self, Privileges};
use crate::launch::signals::{Relay, Signals};
use crate::launch::spawn::{self, Before, Launch};
use crate::launch::stop::Stage;
use crate::launch::supervisor::Supervisor;
use crate::launch::{Credentials, Error, IdentityCall, IdentityPolicy};

/// From when on a process that runs already is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// From now on.
    Now,
    /// From its next execve(2) on: it has not become the program yet.
    WithExec,
    /// What descends from it, from the first execve(2) in another mount namespace than its own on.
    InContainer,
}

/// What watches the program.
pub trait Source {
    /// Begins to watch a process, which has not run its program's first instruction yet, and all it starts.
    ///
    /// # Errors
    /// When it cannot be watched; [`Error::source`] takes any error.
    fn watch(&mut self, child: BorrowedFd<'_>) -> Result<(), Error>;

    /// Begins to watch a process that runs already, with all its threads and all it starts from now on. One that is gone
    /// by now is no error.
    ///
    /// # Errors
    /// When it cannot be watched, or this source only watches what it has started.
    fn adopt(&mut self, pid: i32, begins: Begins) -> Result<(), Error> {
        let (_, _) = (pid, begins);
        Err(Error::source(std::io::Error::other("this source watches only what it has started")))
    }

    /// Tells which tasks besides the adopted ones belong to what is watched. False where this source cannot tell them by
    /// itself.
    ///
    /// # Errors
    /// When that cannot be set up.
    fn aim(&mut self, aim: &Aim) -> Result<bool, Error> {
        let _ = aim;
        Ok(false)
    }

    /// Becomes readable when there are records; must be pollable with epoll(7).
    fn as_fd(&self) -> BorrowedFd<'_>;

    /// Hands over all records there are.
    fn drain(&mut self, sink: &mut dyn FnMut(&[u8]));

    /// Has equal calls told once from now on and then counted, where the source can; what was told under another number is
    /// told anew. Without a number, each is told.
    fn fold(&mut self, turn: Option<u32>) {
        let _ = turn;
    }

    /// Hands over how often what was told once was made again.
    fn repeats(&self, sink: &mut dyn FnMut(Former)) {
        let _ = sink;
    }

    /// Records that could not be delivered so far.
    fn lost(&self) -> u64;

    /// The seccomp filter that the program must carry; empty for none.
    fn filter(&self) -> Vec<sock_filter> {
        Vec::new()
    }

    /// Whether it watches that process: what it has begun to watch, or something that descends from it.
    fn watches(&self, pid: i32, pidfd: BorrowedFd<'_>) -> bool {
        let (_, _) = (pid, pidfd);
        false
    }

    /// The process that does the watching, if it is a child of this one.
    fn helper(&self) -> Option<i32> {
        None
    }
}

/// What collects the records.
pub trait Sink {
    /// The program is about to run: its process id and the time (`CLOCK_MONOTONIC`, nanoseconds), before any record.
    fn started(&mut self, pid: u32, time: u64);

    /// A record of the source.
    fn record(&mut self, bytes: &[u8]);

    /// A call that nrtrace answered in the kernel's place. It comes shortly after it was made, not in order with the
    /// records.
    fn identity_call(&mut self, call: IdentityCall);

    /// Another phase begins; what happened before has been handed over.
    fn set_phase(&mut self, phase: Phase);

    /// Time has passed: [`TICK`].
    fn tick(&mut self);

    /// Under which number equal calls may be told once; none when each is to be told.
    fn turn(&self) -> Option<u32> {
        None
    }

    /// A call that was told once was made again.
    fn repeated(&mut self, told: Former) {
        let _ = told;
    }

    /// What has been collected so far.
    fn counters(&self) -> Counters;

    /// The events so far, new ones last.
    fn events(&self) -> &[Event] {
        &[]
    }
}

/// How often [`Sink::tick`] is called and the source drained, whether or not it is readable.
pub const TICK: Duration = Duration::from_millis(20);

/// What to run, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// What is run before it, in its place and with its rights.
    pub before: Vec<Step>,
    /// Whom it runs as.
    pub credentials: Credentials,
    /// What becomes of its changes of identity.
    pub identity_policy: IdentityPolicy,
    /// Whether its calls that would change the machine are answered in the kernel's place, as in a sandbox.
    pub guarded: bool,
    /// Whether it keeps all of the caller's environment.
    pub keep_env: bool,
    /// Variables that win over all others.
    pub env: Vec<(OsString, OsString)>,
    /// Stop it after this time.
    pub run_for: Option<Duration>,
    /// How long each polite stage of the end may take: after Ctrl-C, and after SIGTERM.
    pub grace: Duration,
    /// What it is to come to.
    pub course: Option<Course>,
    /// What becomes of its output.
    pub capture: Capture,
    /// Who takes the signals, where this process does not.
    pub relay: Option<Relay>,
}

/// A command that is run before the program, as `ExecStartPre=` of systemd.service(5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Whether it is no failure when it fails.
    pub may_fail: bool,
    /// Whether it keeps the rights of the service manager.
    pub full: bool,
}

impl Plan {
    /// Default of [`Plan::grace`].
    pub const GRACE: Duration = Duration::from_secs(5);
}

/// What is told while the program runs.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Progress {
    /// It has been executed.
    Started {
        /// Its process id.
        pid: u32,
    },
    /// It runs; told several times a second.
    Running {
        /// Since its start.
        elapsed: Duration,
        /// What has been collected.
        counters: Counters,
        /// Records that could not be delivered.
        lost: u64,
    },
    /// Something was refused, a capability consulted or a call answered in the kernel's place: what may be a need. Of many,
    /// the first are told.
    Seen(Box<Event>),
    /// The program is ready.
    Ready {
        /// Since its start.
        elapsed: Duration,
    },
    /// The end has got to a new stage.
    Stopping(Stage),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How the program ended.
    pub exit: Exit,
    /// The program's status as the shell tells it: its exit status, or 128 and the signal's number.
    pub status: i32,
    /// Whether it exited with success and left a daemon behind, which was stopped.
    pub daemon: bool,
    /// Whether the guardian was killed, by the program or from outside, and the tree ended for that.
    pub cut_off: bool,
    /// From its start to the end of its tree.
    pub duration: Duration,
    /// When it was started: `CLOCK_MONOTONIC`, in nanoseconds.
    pub start: u64,
    /// The file that was executed: absolute, symbolic links kept.
    pub program: PathBuf,
    /// Variables that can redirect its files, as it had them.
    pub environment: Vec<(RawText, RawText)>,
    /// Capabilities of this kernel it could not be given; empty unless the run was permissive.
    pub missing_capabilities: Vec<Capability>,
    /// Things worth telling the user.
    pub notes: Vec<String>,
    /// What it came to, and when; where something was waited for.
    pub course: Option<Came>,
    /// The end of its output, where that was kept.
    pub output: Vec<u8>,
}

/// Runs the program and hands what is recorded to `sink`, until its whole tree is gone.
///
/// Takes over the process's signals while it lasts; children that it had before are left alone. To be called on a current-thread runtime with IO and time enabled, on a thread that outlives the run, in a
/// process whose other threads, if any, block the signals that [`Signals::take`] takes.
///
/// # Errors
/// When the program cannot be started or watched. Nothing of it is left behind then.
pub async fn run(
    plan: &Plan,
    source: &mut dyn Source,
    sink: &mut dyn Sink,
    progress: &mut dyn FnMut(Progress),
) -> Result<Ended, Error> {
    let mut attendant = Attendant::new(plan.course.as_ref(), plan.capture, plan.credentials.owner())?;
    let prepared = Prepared::new(plan, attendant.variable())?;
    let signals = Signals::take_or_hear(plan.relay.as_ref())?;
    let trace_filter = source.filter();
    let launch = Launch {
        program: &prepared.program,
        arguments: &plan.command,
        before: &prepared.before,
        environment: &prepared.variables,
        credentials: &plan.credentials,
        policy: plan.identity_policy,
        guarded: plan.guarded,
        session: plan.guarded && plan.relay.is_none(),
        privileges: prepared.privileges,
        trace_filter: &trace_filter,
        signal_mask: signals.mask_before(),
        stdio: attendant.stdio(),
    };
    let paused = spawn::pause(&launch)?;
    source.watch(paused.as_fd())?;
    let start = monotonic();
    sink.started(paused.pid().as_raw() as u32, start);
    let started = paused.release()?;
    let first = (!prepared.before.is_empty()).then_some(started.child.pid.as_raw());
    attendant.started(signals.mask_before(), first);
    progress(Progress::Started { pid: started.child.pid.as_raw() as u32 });

    let mut notes = prepared.notes;
    if started.unsupervised {
        notes.push(
            "changes of identity, and in a sandbox of the machine, were answered by the filter alone, because another seccomp listener (a container's, \
             perhaps) is installed above: which files were given to whom was not recorded"
                .into(),
        );
    }
    let (child, guardian) = (started.child, started.guardian);
    let supervisor = started.listener.map(|fd| {
        // A call that is answered does not stop for a tracer.
        Supervisor::start(fd, plan.identity_policy, !trace_filter.is_empty())
    });
    let supervisor = supervisor.transpose()?;
    let beside = Beside { supervisor, guardian, attendant: &mut attendant };
    let feed = Feed::new(source, sink, progress, child.pid.as_raw() as u32);
    let running = Running::new(plan, feed, &signals, child, beside);
    let outcome = running.until_gone(&mut notes).await?;
    let (course, output) = attendant.finish(outcome.end);
    Ok(Ended {
        exit: outcome.exit,
        status: outcome.status,
        daemon: outcome.daemon,
        cut_off: outcome.cut_off,
        duration: Duration::from_nanos(monotonic().saturating_sub(start)),
        start,
        program: prepared.program,
        environment: environment::redirects(&prepared.variables),
        missing_capabilities: prepared.missing,
        notes,
        course,
        output,
    })
}

struct Prepared {
    program: PathBuf,
    before: Vec<Before>,
    variables: Variables,
    privileges: Privileges,
    missing: Vec<Capability>,
    notes: Vec<String>,
}

impl Prepared {
    fn new(plan: &Plan, variable: Option<(OsString, OsString)>) -> Result<Self, Error> {
        let privileges = Privileges::of_self()?;
        let mut missing = Vec::new();
        if let Credentials::Permissive(_) = plan.credentials {
            privileges.require_permissive()?;
            missing = privileges.missing();
        }
        let caller: Variables = std::env::vars_os().collect();
        let mut variables = match (&plan.credentials, plan.credentials.identity()) {
            (Credentials::Confined(confined), _) => {
                let kept = caller.iter().filter(|_| plan.keep_env);
                let kept = kept.map(|(name, value)| (name.clone(), value.clone()));
                let own =
                    confined.environment.iter().chain(plan.env.iter().map(|(name, value)| (name, value)));
                kept.chain(own.map(|(name, value)| (name.clone(), value.clone()))).collect()
            }
            (_, Some(identity)) => {
                let origin = Origin {
                    caller: &caller,
                    caller_uids: &environment::caller_uids(&caller),
                    keep: plan.keep_env,
                    overrides: &plan.env,
                };
                environment::build(identity, &Home::of(identity), origin)
            }
            (_, None) => caller.clone().into_iter().chain(plan.env.iter().cloned()).collect(),
        };
        variables.extend(variable);
        let name = plan.command.first().cloned().unwrap_or_default();
        let path = std::ffi::OsStr::new("PATH");
        let search: Vec<_> =
            [variables.get(path), caller.get(path)].into_iter().flatten().map(OsString::as_os_str).collect();
        let program = environment::find_program(&name, &search)?;
        let before = plan.before.iter().map(|step| Before::find(step, &search));
        let before = before.collect::<Result<_, _>>()?;
        let notes = privileges::note_on_executable(&program).into_iter().collect();
        Ok(Self { program, before, variables, privileges, missing, notes })
    }
}

pub(crate) fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    now.as_nanos() as u64
}
