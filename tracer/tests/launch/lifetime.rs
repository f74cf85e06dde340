//! How a run ends, and the signals on the way.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use serde_json::json;

use crate::driver::{VARIABLE, describe, eventually, processes, run, start};

pub const TESTS: &[(&str, fn())] = &[
    ("statuses_are_the_programs_own", statuses_are_the_programs_own),
    ("a_stubborn_program_is_killed", a_stubborn_program_is_killed),
    ("a_polite_program_may_clean_up", a_polite_program_may_clean_up),
    ("a_daemon_keeps_the_run_alive", a_daemon_keeps_the_run_alive),
    ("a_daemon_is_stopped", a_daemon_is_stopped),
    ("orphans_are_asked_too", orphans_are_asked_too),
    ("stopped_processes_end_as_well", stopped_processes_end_as_well),
    ("many_processes_end", many_processes_end),
    ("signals_are_forwarded", signals_are_forwarded),
    ("sigterm_ends_the_run", sigterm_ends_the_run),
    ("the_programs_own_group_signals_are_left_to_it", the_programs_own_group_signals_are_left_to_it),
    ("job_control_in_a_terminal", job_control_in_a_terminal),
    ("ctrl_c_twice_kills", ctrl_c_twice_kills),
];

fn statuses_are_the_programs_own() {
    let cases = [
        ("exit 7", 7, json!({ "how": "exited", "status": 7 })),
        ("kill -9 $$", 137, json!({ "how": "signaled", "signal": 9 })),
        ("kill -36 $$", 164, json!({ "how": "signaled", "signal": 36 })),
        ("true", 0, json!({ "how": "exited", "status": 0 })),
    ];
    for (script, status, exit) in cases {
        let outcome = run(json!({}), &["sh", "-c", script]);
        assert_eq!((outcome.status, &outcome.value["exit"]), (status, &exit), "{script}");
        assert_eq!(outcome.value["phases"], json!([]));
    }
}

fn a_stubborn_program_is_killed() {
    let start = Instant::now();
    let script = "trap '' TERM; while :; do sleep 3601; done";
    let outcome = run(json!({ "for": 300, "grace": 300 }), &["sh", "-c", script]);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(outcome.value["exit"], json!({ "how": "stopped", "status": null }));
    assert_eq!(outcome.value["phases"], json!(["shutdown"]));
    let progress = outcome.value["progress"].as_array().unwrap();
    assert_eq!(progress[1..], [json!("Stopping(Terminating)"), json!("Stopping(Killing)")]);
    assert_eq!(processes("3601"), [0; 0]);
}

fn a_polite_program_may_clean_up() {
    let script = "trap 'echo bye; exit 3' TERM; while :; do sleep 0.05; done";
    let outcome = run(json!({ "for": 300 }), &["sh", "-c", script]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (3, "bye\n"));
    assert_eq!(outcome.value["exit"], json!({ "how": "stopped", "status": 3 }));
}

fn a_daemon_keeps_the_run_alive() {
    let outcome = run(json!({}), &["sh", "-c", "(setsid sh -c 'sleep 0.7; echo late' &); exit 0"]);
    assert_eq!(outcome.stdout, "late\n");
    assert!(outcome.value["milliseconds"].as_u64().unwrap() >= 700);
    assert_eq!(outcome.value["exit"], json!({ "how": "exited", "status": 0 }));
}

fn a_daemon_is_stopped() {
    let script =
        "(setsid sh -c 'trap \"echo daemon bye; exit\" TERM; while :; do sleep 0.05; done' &); exit 0";
    let outcome = run(json!({ "for": 500 }), &["sh", "-c", script]);
    assert_eq!(outcome.stdout, "daemon bye\n");
    assert_eq!(outcome.value["exit"], json!({ "how": "stopped", "status": 0 }));
}

fn orphans_are_asked_too() {
    // The shell dies of SIGTERM at once; what it waited for is adopted and asked in turn, well before the grace is over.
    let start = Instant::now();
    let outcome = run(json!({ "for": 300, "grace": 60_000 }), &["sh", "-c", "sleep 3602; echo never"]);
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!((outcome.status, outcome.stdout.as_str()), (128 + libc::SIGTERM, ""));
    assert_eq!(processes("3602"), [0; 0]);
}

fn stopped_processes_end_as_well() {
    let start = Instant::now();
    let outcome = run(json!({ "for": 300, "grace": 60_000 }), &["sh", "-c", "kill -STOP $$"]);
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(outcome.status, 128 + libc::SIGTERM);
}

fn many_processes_end() {
    let script =
        "trap '' TERM; for i in $(seq 100); do (trap '' TERM; setsid sleep 3603 & sleep 3603) & done; wait";
    let outcome = run(json!({ "for": 1000, "grace": 100 }), &["sh", "-c", script]);
    assert_eq!(outcome.value["exit"], json!({ "how": "stopped", "status": null }));
    assert_eq!(processes("3603"), [0; 0]);
}

fn signals_are_forwarded() {
    let script = "trap 'echo usr1' USR1; trap 'echo hup' HUP; trap 'echo rt' 40; trap 'echo int; exit 9' INT; echo ready; \
                  while :; do sleep 0.05; done";
    let mut running = start(json!({}), &["sh", "-c", script]);
    let mut lines = BufReader::new(running.child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("ready"));
    for (signal, word) in [(libc::SIGUSR1, "usr1"), (libc::SIGHUP, "hup"), (40, "rt"), (libc::SIGINT, "int")]
    {
        running.signal(signal);
        assert_eq!(lines.next().as_deref(), Some(word));
    }
    let outcome = running.wait();
    assert_eq!(outcome.status, 9);
    assert_eq!(outcome.value["exit"], json!({ "how": "stopped", "status": 9 }));
    assert_eq!(outcome.value["progress"][1], "Stopping(Interrupted)");
}

fn sigterm_ends_the_run() {
    let mut running = start(json!({}), &["sh", "-c", "echo ready; (setsid sleep 3604 &) ; exec sleep 3604"]);
    let mut line = String::new();
    BufReader::new(running.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    running.signal(libc::SIGTERM);
    let outcome = running.wait();
    assert_eq!((outcome.status, processes("3604").len()), (143, 0));
    assert_eq!(outcome.value["phases"], json!(["shutdown"]));
}

fn the_programs_own_group_signals_are_left_to_it() {
    let script = "trap '' TERM; kill -TERM 0; sleep 0.3; echo done; exit 4";
    let outcome = run(json!({}), &["sh", "-c", script]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (4, "done\n"));
    assert_eq!(outcome.value["exit"], json!({ "how": "exited", "status": 4 }));
}

/// Whether the process is sleep(1).
pub fn is_sleep(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n")
}

fn is_stopped(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T "))
}

/// An interactive shell on a terminal, to be typed to.
struct Terminal {
    script: std::process::Child,
    output: std::sync::mpsc::Receiver<u8>,
    seen: String,
}

impl Terminal {
    fn new() -> Self {
        let mut script = Command::new("script")
            .args(["-qfec", "bash --norc --noprofile -i", "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = script.stdout.take().unwrap();
        let (sender, output) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for byte in BufReader::new(stdout).bytes().map_while(Result::ok) {
                if sender.send(byte).is_err() {
                    return;
                }
            }
        });
        Self { script, output, seen: String::new() }
    }

    fn type_(&mut self, text: &str) {
        self.script.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Waits for `text` and forgets what came before.
    fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.seen.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let byte = self.output.recv_timeout(left);
            let byte = byte.unwrap_or_else(|_| panic!("{text:?} did not come; only {:?}", self.seen));
            self.seen.push(char::from(byte));
        }
        self.seen.clear();
    }

    fn start(&mut self, description: String, script: &str) {
        self.expect("# ");
        let own = std::env::current_exe().unwrap();
        self.type_(&format!("{VARIABLE}='{description}' {} sh -c '{script}'\n", own.display()));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // With the terminal gone its session is hung up.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

fn job_control_in_a_terminal() {
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut terminal = Terminal::new();
    terminal.start(describe(json!({}), out.path()), "exec sleep 3606");
    eventually("the program's start", || processes("sleep\u{0}3606").iter().any(|pid| is_sleep(*pid)));
    terminal.type_("\u{1a}");
    terminal.expect("Stopped");
    terminal.expect("# ");
    // nrtrace, whose arguments hold the script, and the program.
    eventually("everybody's stop", || {
        let members = processes("3606");
        members.len() == 2 && members.iter().all(|pid| is_stopped(*pid))
    });
    terminal.type_("fg\n");
    // The shell names the job it continues.
    terminal.expect("sh -c");
    eventually("everybody's going on", || processes("3606").iter().all(|pid| !is_stopped(*pid)));
    terminal.type_("\u{3}");
    terminal.expect("# ");
    terminal.type_("echo status=$?\n");
    terminal.expect("status=130");
    drop(terminal);
    let value: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(out.path()).unwrap()).unwrap();
    assert_eq!(value["progress"][1], "Stopping(Interrupted)");
    assert_eq!(value["exit"], json!({ "how": "stopped", "status": null }));
}

fn ctrl_c_twice_kills() {
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut terminal = Terminal::new();
    let script = "trap \"\" INT TERM; echo be\"gun\"; while :; do sleep 0.0372; done";
    terminal.start(describe(json!({ "grace": 60_000 }), out.path()), script);
    terminal.expect("begun");
    terminal.type_("\u{3}");
    std::thread::sleep(Duration::from_millis(200));
    terminal.type_("\u{3}");
    terminal.expect("# ");
    terminal.type_("echo status=$?\n");
    terminal.expect("status=137");
    drop(terminal);
    assert_eq!(processes("0.0372"), [0; 0]);
}
