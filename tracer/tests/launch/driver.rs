//! A run without a probe, described by JSON in the environment; and what starts one.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use nrtrace_profiles::event::Phase;
use nrtrace_tracer::course::Capture;
use nrtrace_tracer::launch::{Credentials, Error, IdentityCall, IdentityPolicy, identity};
use nrtrace_tracer::session::{self, Counters, Plan, Progress, Sink, Source};
use serde_json::{Value, json};

/// Holds the description of a run: `out` (the file for the results), and what differs from a plain permissive run.
pub const VARIABLE: &str = "NRTRACE_TEST_RUN";

/// Makes the run of the description; the command is in the arguments.
pub fn drive(description: &OsStr) -> ExitCode {
    let description: Value = serde_json::from_str(description.to_str().unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut recorder = Recorder::default();
    let mut source = Silent { watched: None, fails: description["watch_fails"] == true, fds: pipe() };
    let mut progress = Vec::new();
    let result = plan(&description).and_then(|plan| {
        let mut tell = |told| match told {
            Progress::Running { .. } => {}
            told => progress.push(format!("{told:?}")),
        };
        runtime.block_on(session::run(&plan, &mut source, &mut recorder, &mut tell))
    });
    let (status, mut value) = match &result {
        Ok(ended) => (
            ended.status,
            json!({
                "exit": ended.exit, "status": ended.status, "milliseconds": ended.duration.as_millis() as u64,
                "notes": ended.notes, "missing": ended.missing_capabilities, "environment": ended.environment,
                "program": ended.program,
            }),
        ),
        Err(error) => (error.exit_status().into(), json!({ "error": error.to_string() })),
    };
    // They come in nearly the order they were made in.
    recorder.calls.sort_by_key(|call| call.time);
    let calls = recorder.calls.iter().map(|call| {
        json!({
            "name": call.name, "pid": call.pid, "tid": call.tid, "comm": call.comm, "args": call.args,
            "object": call.object, "outcome": call.outcome, "late": call.time >= recorder.start,
        })
    });
    value["calls"] = calls.collect();
    value["phases"] = json!(recorder.phases);
    value["progress"] = json!(progress);
    value["watched"] = json!(source.watched);
    value["started"] = json!(recorder.pid);
    std::fs::write(description["out"].as_str().unwrap(), value.to_string()).unwrap();
    ExitCode::from(status as u8)
}

fn plan(description: &Value) -> Result<Plan, Error> {
    let text = |name: &str| description[name].as_str();
    let time = |name: &str| description[name].as_u64().map(Duration::from_millis);
    let command: Vec<OsString> = std::env::args_os().skip(1).collect();
    let groups: Vec<String> = description["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|group| group.as_str().unwrap().into())
        .collect();
    let program = command.first().map(|name| name.display().to_string()).unwrap_or_default();
    let identity = identity::resolve(text("as"), &groups, &program)?;
    Ok(Plan {
        before: Vec::new(),
        command,
        credentials: match text("credentials") {
            Some("enforced") => Credentials::Enforced(identity),
            Some("unchanged") => Credentials::Unchanged,
            _ => Credentials::Permissive(identity),
        },
        identity_policy: match text("identity") {
            Some("switch") => IdentityPolicy::Switch,
            Some("deny") => IdentityPolicy::Deny,
            _ => IdentityPolicy::Keep,
        },
        guarded: false,
        keep_env: false,
        env: vec![(VARIABLE.into(), text("inner").unwrap_or_default().into())]
            .into_iter()
            .filter(|(_, value): &(_, OsString)| !value.is_empty())
            .collect(),
        run_for: time("for"),
        grace: time("grace").unwrap_or(Plan::GRACE),
        course: None,
        capture: Capture::Pass,
        relay: None,
    })
}

fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe().unwrap()
}

/// A source that has nothing to tell.
struct Silent {
    watched: Option<u32>,
    fails: bool,
    fds: (OwnedFd, OwnedFd),
}

impl Source for Silent {
    fn watch(&mut self, child: BorrowedFd<'_>) -> Result<(), Error> {
        if self.fails {
            return Err(Error::source(std::io::Error::other("no probe today")));
        }
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", child.as_raw_fd())).unwrap();
        let pid: u32 =
            info.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap().trim().parse().unwrap();
        // The child has not become the program yet.
        let exe = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
        assert_eq!(exe(&pid.to_string()), exe("self"));
        self.watched = Some(pid);
        Ok(())
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fds.0.as_fd()
    }

    fn drain(&mut self, _sink: &mut dyn FnMut(&[u8])) {}

    fn lost(&self) -> u64 {
        0
    }
}

#[derive(Default)]
struct Recorder {
    start: u64,
    pid: u32,
    calls: Vec<IdentityCall>,
    phases: Vec<Phase>,
}

impl Sink for Recorder {
    fn started(&mut self, pid: u32, time: u64) {
        (self.pid, self.start) = (pid, time);
    }

    fn record(&mut self, bytes: &[u8]) {
        panic!("the source is silent, whence {bytes:?}?");
    }

    fn identity_call(&mut self, call: IdentityCall) {
        self.calls.push(call);
    }

    fn set_phase(&mut self, phase: Phase) {
        self.phases.push(phase);
    }

    fn tick(&mut self) {}

    fn counters(&self) -> Counters {
        Counters::default()
    }
}

/// What came of a run.
pub struct Outcome {
    /// Exit status of the driver.
    pub status: i32,
    /// What the program wrote.
    pub stdout: String,
    /// Likewise on standard error.
    pub stderr: String,
    /// What the driver found.
    pub value: Value,
}

impl Outcome {
    /// The recorded calls as `name: object` with the outcome's word.
    pub fn calls(&self) -> Vec<&Value> {
        self.value["calls"].as_array().unwrap().iter().collect()
    }

    /// The error's message.
    pub fn error(&self) -> &str {
        self.value["error"].as_str().unwrap_or_else(|| panic!("no error but {}", self.value))
    }
}

/// A run that goes on.
pub struct Running {
    /// The driver.
    pub child: Child,
    out: tempfile::NamedTempFile,
}

impl Running {
    /// Waits for its end.
    pub fn wait(self) -> Outcome {
        let output = self.child.wait_with_output().unwrap();
        let text = std::fs::read_to_string(self.out.path()).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Outcome {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            value: serde_json::from_str(&text).unwrap_or_else(|_| panic!("no results; {stderr}")),
            stderr,
        }
    }

    /// Sends the driver a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: a plain system call; the child has not been waited for.
        assert_eq!(unsafe { nix::libc::kill(self.child.id() as i32, signal) }, 0);
    }
}

/// The description as it is passed on, with the results going to `out`.
pub fn describe(mut description: Value, out: &std::path::Path) -> String {
    description["out"] = json!(out);
    description.to_string()
}

/// Starts a run, in a process group of its own, behind the words of `prefix` if there are any.
pub fn start_behind(prefix: &[&str], description: Value, command: &[&str]) -> Running {
    let out = tempfile::NamedTempFile::new().unwrap();
    let own = std::env::current_exe().unwrap();
    let words: Vec<&OsStr> = prefix.iter().map(OsStr::new).chain([own.as_os_str()]).collect();
    let child = Command::new(words[0])
        .args(&words[1..])
        .args(command)
        .env(VARIABLE, describe(description, out.path()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    Running { child, out }
}

/// Starts a run.
pub fn start(description: Value, command: &[&str]) -> Running {
    start_behind(&[], description, command)
}

/// Makes a run.
pub fn run(description: Value, command: &[&str]) -> Outcome {
    start(description, command).wait()
}

/// Makes a permissive run of a Python script, which must succeed.
pub fn python(description: Value, script: &str, arguments: &[&str]) -> Outcome {
    let command = [&["/usr/bin/python3", "-c", script], arguments].concat();
    let outcome = run(description, &command);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{}", outcome.value);
    outcome
}

/// Process ids of those whose command line holds `marker`.
pub fn processes(marker: &str) -> Vec<i32> {
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(marker)
    };
    pids.filter(has).collect()
}

/// Waits until `condition` holds, for ten seconds at most.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} did not come about");
}
