//! What a stop takes, in system calls of the tracer: times are measured by `cargo xtask bench`, beside strace's.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nrtrace_profiles::event::Identity;
use nrtrace_tracer::oracle::Oracle;
use nrtrace_tracer::predict::Predictor;
use nrtrace_tracer::ptrace::{MakeJudge, Stops};

use crate::harness::{Case, open, root};

const CALLS: usize = 2000;
/// wait(2), the call's registers, the path, the question to the kernel, and on it goes.
const PER_FAILURE: usize = 5;
/// And a look at what kind of file is opened.
const PER_OPEN: usize = 6;
/// Start and end of the tracee, the first look around, and every 32 stops a look at the CPU it is on, in its `stat`, which
/// takes a dozen.
const BESIDES: usize = 200 + CALLS / 32 * 12;

/// strace, counting the calls of process `pid`.
fn counting(pid: u32, into: &Path) -> Child {
    let strace = Command::new("strace")
        .args(["-q", "-c", "-U", "name,calls", "-o"])
        .arg(into)
        .args(["-p", &pid.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .expect("strace, which tests/setup.sh installs");
    let tracer = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
    };
    let start = Instant::now();
    while !tracer() {
        assert!(start.elapsed() < Duration::from_secs(30), "strace does not attach");
        std::thread::sleep(Duration::from_millis(5));
    }
    strace
}

#[test]
fn a_call_that_is_judged_takes_one_stop_of_five_or_six_system_calls() {
    assert!(root(), "the tracer is not dumpable: nobody but root can count its calls");
    let identity = Identity {
        user: String::new(),
        group: String::new(),
        uid: 61_190,
        gid: 61_190,
        groups: Vec::new(),
        exists: false,
    };
    drop(Oracle::new(&identity).expect("an oracle"));
    let judge: MakeJudge = Box::new(move || Box::new(Predictor::new(&identity, false).expect("a predictor")));
    let directory = tempfile::tempdir().unwrap();
    let (go, counted) = (directory.path().join("go"), directory.path().join("counted"));
    let wait = go.clone();
    let mut live =
        Case { judge: Some(judge), stops: Stops::EntryAndExit, ..Case::default() }.start(move || {
            // By statx(2), which does not stop here.
            while !wait.exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
            for _ in 0..CALLS / 2 {
                open("/etc/passwd");
                open("/nowhere/at/all");
            }
            0
        });
    let mut strace = counting(live.tracer.pid(), &counted);
    std::fs::write(&go, "").unwrap();
    live.wait(0);
    drop(live);
    strace.wait().unwrap();
    let text = std::fs::read_to_string(&counted).unwrap();
    let calls = |line: &str| -> Option<usize> { line.split_ascii_whitespace().nth(1)?.parse().ok() };
    // The timer is set once for each time that the reader has emptied the queue.
    let counts = |line: &&str| !["total", "timerfd_settime"].iter().any(|name| line.contains(name));
    let total: usize = text.lines().filter(counts).filter_map(calls).sum();
    let least = CALLS / 2 * (PER_FAILURE + PER_OPEN);
    assert!(total >= least, "counted too little: {text}");
    assert!(total <= least + BESIDES, "{total} system calls for {CALLS} stops: {text}");
}
