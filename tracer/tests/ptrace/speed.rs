//! Against strace.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nrtrace_tracer::ptrace::Stops;

use crate::harness::{Case, exec};

const OPENS: usize = 50_000;
const SCRIPT: &str = "import os
for n in range(50000):
    try: os.open('/nowhere/%d' % n, os.O_RDONLY)
    except OSError: pass";

/// Runs `command` traced, and counts its records without looking into them.
fn count(stops: Stops, command: &[&str]) -> usize {
    let command: Vec<CString> = command.iter().map(|word| CString::new(*word).unwrap()).collect();
    let mut live = Case { stops, from_exec: true, ..Case::default() }.start(|| exec(&command));
    let mut records = 0;
    while live.tracer.tasks() > 0 {
        let _ = poll(&mut [PollFd::new(live.tracer.as_fd(), PollFlags::POLLIN)], 20u8);
        live.tracer.drain(&mut |_| records += 1);
    }
    live.tracer.drain(&mut |_| records += 1);
    live.finish();
    records
}

#[test]
#[ignore = "a measurement: run it alone, on a quiet machine, in release mode"]
fn one_stop_takes_at_most_half_of_straces_time() {
    let python = "/usr/bin/python3";
    let time = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    let [mut entry, mut exit, mut strace, mut plain] = [Duration::MAX; 4];
    for _ in 0..3 {
        for (stops, best) in [(Stops::Entry, &mut entry), (Stops::EntryAndExit, &mut exit)] {
            *best = (*best).min(time(&mut || {
                assert!(count(stops, &[python, "-c", SCRIPT]) >= OPENS);
            }));
        }
        let options =
            ["-f", "--seccomp-bpf", "-e", "trace=%file,%net", "-o", "/dev/null", python, "-c", SCRIPT];
        strace = strace
            .min(time(&mut || assert!(Command::new("strace").args(options).status().unwrap().success())));
        let run = |command: &mut Command| assert!(command.stdin(Stdio::null()).status().unwrap().success());
        plain = plain.min(time(&mut || run(Command::new(python).args(["-c", SCRIPT]))));
    }
    let ratio = entry.as_secs_f64() / strace.as_secs_f64();
    eprintln!(
        "entry {entry:?}, entry and exit {exit:?}, strace {strace:?}, untraced {plain:?}: {ratio:.2} of strace"
    );
    assert!(ratio <= 0.5, "{ratio:.2} of strace's time");
}
