//! The guardian: what becomes of the tree when nrtrace or the guardian itself is killed, and whose tree it is.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::libc;
use serde_json::json;

use crate::driver::{Running, eventually, processes, start, start_behind};
use crate::lifetime::is_sleep;

pub const TESTS: &[(&str, fn())] = &[
    ("killed_it_takes_the_program_along", killed_it_takes_the_program_along),
    ("killed_it_takes_the_stubborn_along", killed_it_takes_the_stubborn_along),
    ("killed_before_the_program_runs", killed_before_the_program_runs),
    ("a_killed_guardian_is_told", a_killed_guardian_is_told),
    ("nobody_outlives_nrtrace_and_its_guardian", nobody_outlives_nrtrace_and_its_guardian),
    ("a_killed_keeper_takes_nothing_away", a_killed_keeper_takes_nothing_away),
    ("the_guardian_keeps_to_itself", the_guardian_keeps_to_itself),
    ("children_from_before_are_left_alone", children_from_before_are_left_alone),
];

fn killed_it_takes_the_program_along() {
    let mut running = start(json!({}), &["sleep", "3605"]);
    eventually("the program's start", || processes("sleep\u{0}3605").iter().any(|pid| is_sleep(*pid)));
    running.signal(libc::SIGKILL);
    running.child.wait().unwrap();
    eventually("the program's end", || processes("sleep\u{0}3605").is_empty());
}

fn killed_it_takes_the_stubborn_along() {
    // A set-user-ID program is spared PR_SET_PDEATHSIG.
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("sleep");
    std::fs::copy("/usr/bin/sleep", &copy).unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let script = "trap '' HUP INT TERM; (setsid sleep 3620 &); sleep 3620 & exec \"$0\" 3620";
    for group in [false, true] {
        let mut running = start(json!({}), &["sh", "-c", script, copy.to_str().unwrap()]);
        eventually("the start", || processes("sleep\u{0}3620").len() == 3);
        let guardian = guardian_of(&running);
        if group {
            kill(-(running.child.id() as i32), libc::SIGKILL);
        } else {
            running.signal(libc::SIGKILL);
        }
        running.child.wait().unwrap();
        eventually("the end", || processes("sleep\u{0}3620").is_empty() && is_gone(guardian));
    }
}

/// Kills the driver sooner and sooner before it can have started the program, and after.
fn killed_before_the_program_runs() {
    for microseconds in (0..40).map(|step| step * 500) {
        let mut running = start(json!({}), &["sh", "-c", "trap '' TERM; (setsid sleep 3621 &); sleep 3621"]);
        std::thread::sleep(Duration::from_micros(microseconds));
        running.signal(libc::SIGKILL);
        running.child.wait().unwrap();
    }
    let own = std::env::current_exe().ok();
    let orphaned = || guardians().iter().filter(|(_, keeper)| exe(parent_of(*keeper)) != own).count();
    eventually("the end", || processes("sleep\u{0}3621").is_empty() && orphaned() == 0);
}

fn a_killed_guardian_is_told() {
    let running = start(json!({}), &["sleep", "3622"]);
    eventually("the start", || processes("sleep\u{0}3622").iter().any(|pid| is_sleep(*pid)));
    kill(guardian_of(&running), libc::SIGKILL);
    let outcome = running.wait();
    assert_eq!((outcome.status, processes("sleep\u{0}3622")), (137, vec![]));
    assert!(outcome.value["notes"].to_string().contains("was cut off: the guardian"), "{}", outcome.value);
}

fn nobody_outlives_nrtrace_and_its_guardian() {
    for with_nrtrace in [true, false] {
        let script = "trap '' HUP INT TERM; (setsid sleep 3626 &); (sleep 0.1; exec setsid sleep 3626) & exec sleep 3626";
        let mut running = start(json!({}), &["sh", "-c", script]);
        eventually("the start", || {
            processes("sleep\u{0}3626").iter().filter(|pid| is_sleep(**pid)).count() == 3
        });
        let guardian = guardian_of(&running);
        if with_nrtrace {
            running.signal(libc::SIGKILL);
        }
        kill(guardian, libc::SIGKILL);
        running.child.wait().unwrap();
        eventually("the end", || processes("sleep\u{0}3626").is_empty());
    }
}

fn a_killed_keeper_takes_nothing_away() {
    let mut running = start(json!({}), &["sh", "-c", "(setsid sleep 3627 &); exec sleep 3627"]);
    eventually("the start", || processes("sleep\u{0}3627").iter().filter(|pid| is_sleep(**pid)).count() == 2);
    let guardian = guardian_of(&running);
    kill(parent_of(guardian), libc::SIGKILL);
    running.child.wait().unwrap();
    eventually("the end", || processes("sleep\u{0}3627").is_empty() && is_gone(guardian));
}

fn the_guardian_keeps_to_itself() {
    let mut running = start(json!({}), &["sh", "-c", "exec >/dev/null 2>&1; exec sleep 3623"]);
    eventually("the start", || processes("sleep\u{0}3623").iter().any(|pid| is_sleep(*pid)));
    let guardian = guardian_of(&running);
    eventually("two descriptors, its channel and its signals", || {
        std::fs::read_dir(format!("/proc/{guardian}/fd")).unwrap().count() == 2
    });
    let line = std::fs::read(format!("/proc/{guardian}/cmdline")).unwrap();
    assert_eq!(String::from_utf8(line).unwrap().trim_end_matches('\0'), "guardian");
    let status = std::fs::read_to_string(format!("/proc/{guardian}/status")).unwrap();
    let own: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap();
    assert!(own < 4096, "{own} kB");
    // It is deaf to what a terminal or a hasty user sends.
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGTSTP] {
        kill(guardian, signal);
    }
    std::thread::sleep(Duration::from_millis(100));
    assert!(running.child.try_wait().unwrap().is_none());
    running.signal(libc::SIGTERM);
    let outcome = running.wait();
    assert_eq!((outcome.status, outcome.value["notes"].to_string()), (143, "[]".into()));
    assert!(is_gone(guardian));
}

fn children_from_before_are_left_alone() {
    // A child that stays, one that becomes a zombie, and one whose own child is orphaned during the run.
    let shell = "{ sleep 3624 & sleep 0 & sh -c 'sleep 3624 & sleep 0.3' & } >/dev/null 2>&1; exec \"$@\"";
    for description in [json!({}), json!({ "for": 600, "grace": 100 })] {
        let seconds = if description["for"].is_null() { "0.6" } else { "3625" };
        let start = Instant::now();
        let prefix = ["bash", "-c", shell, "bash"];
        let outcome =
            start_behind(&prefix, description, &["sh", "-c", &format!("exec sleep {seconds}")]).wait();
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(matches!(outcome.status, 0 | 143), "{}", outcome.value);
        let left = processes("sleep\u{0}3624");
        left.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
        assert_eq!(left.len(), 2);
        eventually("the sleepers' end", || processes("sleep\u{0}3624").is_empty());
    }
}

/// Every guardian of a run of this binary, and its keeper's process id.
fn guardians() -> Vec<(i32, i32)> {
    let own = std::env::current_exe().unwrap();
    let parent = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let mut lines = status.lines();
        let is_guardian = lines.next() == Some("Name:\tguardian") && exe(*pid) == Some(own.clone());
        let parent = lines.find_map(|line| line.strip_prefix("PPid:\t")?.parse().ok());
        parent.filter(|_| is_guardian)
    };
    processes("").into_iter().filter_map(|pid| Some((pid, parent(&pid)?))).collect()
}

/// 0 for a process that is gone.
fn parent_of(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("PPid:\t")?.parse().ok()).unwrap_or(0)
}

fn exe(pid: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// The guardian below a driver.
fn guardian_of(running: &Running) -> i32 {
    let driver = running.child.id() as i32;
    guardians().into_iter().find(|(_, keeper)| parent_of(*keeper) == driver).unwrap().0
}

fn is_gone(pid: i32) -> bool {
    // Whether process 1 has reaped it is not our affair.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

fn kill(pid: i32, signal: i32) {
    // SAFETY: a plain system call.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}
