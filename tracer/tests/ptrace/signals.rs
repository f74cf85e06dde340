//! Signals, job control and sudden death.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nrtrace_tracer::ptrace::Stops;

use crate::harness::{Case, alone, open};

fn state(pid: i32) -> Option<char> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    status.rsplit_once(')')?.1.trim_start().chars().next()
}

#[test]
fn the_real_parent_sees_stops_and_continues() {
    for stops in [Stops::Entry, Stops::EntryAndExit] {
        let (told, tell) = nix::unistd::pipe().unwrap();
        let mut live = Case { stops, ..Case::default() }.start(|| {
            open("/nowhere/before");
            for signal in [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN] {
                // SAFETY: plain numbers. The child is in a process group of its own, or SIGTSTP would do nothing there.
                unsafe {
                    libc::setpgid(0, 0);
                    libc::kill(libc::getpid(), signal);
                }
                // The next stop, or the end, would take back that it continued before the parent has heard of it.
                nix::unistd::read(&told, &mut [0]).unwrap();
            }
            open("/nowhere/after");
            0
        });
        for signal in [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN] {
            let status = live.wait(libc::WUNTRACED);
            assert!(libc::WIFSTOPPED(status), "{status:#x}");
            assert_eq!(libc::WSTOPSIG(status), signal);
            std::thread::sleep(Duration::from_millis(20));
            live.until(|seen| seen.iter().any(|seen| seen.path() == "/nowhere/before"));
            assert!(live.look().iter().all(|seen| seen.path() != "/nowhere/after"), "it stays stopped");
            // SAFETY: plain numbers.
            unsafe { libc::kill(live.pid, libc::SIGCONT) };
            let status = live.wait(libc::WCONTINUED);
            assert!(libc::WIFCONTINUED(status), "{status:#x}");
            nix::unistd::write(&tell, &[0]).unwrap();
        }
        let trace = live.finish();
        trace.assert_whole();
        assert_eq!(trace.calls_on("/nowhere/after").count(), 1);
    }
}

#[test]
fn a_stopped_group_of_threads_stops_and_dies_as_one() {
    let mut live = Case::default().start(|| {
        for _ in 0..4 {
            std::thread::spawn(|| {
                loop {
                    open("/nowhere/busy");
                }
            });
        }
        std::thread::sleep(Duration::from_secs(600));
        0
    });
    live.until(|seen| seen.len() > 100);
    // SAFETY: plain numbers.
    unsafe { libc::kill(live.pid, libc::SIGSTOP) };
    assert!(libc::WIFSTOPPED(live.wait(libc::WUNTRACED)));
    std::thread::sleep(Duration::from_millis(20));
    let quiet = live.look().len();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(live.look().len(), quiet, "no thread runs");
    // SAFETY: plain numbers.
    unsafe { libc::kill(live.pid, libc::SIGKILL) };
    let trace = live.finish();
    trace.assert_whole();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&trace.status), Some(libc::SIGKILL));
}

static CAUGHT: AtomicU32 = AtomicU32::new(0);

extern "C" fn catch(_: libc::c_int) {
    CAUGHT.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_storm_of_signals_arrives_whole() {
    let trace = Case::default().run(|| {
        let real_time = libc::SIGRTMIN() + 3;
        for signal in [libc::SIGUSR1, libc::SIGTRAP, real_time] {
            let handler: extern "C" fn(libc::c_int) = catch;
            // SAFETY: the handler only adds to an atomic.
            unsafe { libc::signal(signal, handler as usize) };
        }
        for n in 0..1000 {
            let signal = [libc::SIGUSR1, libc::SIGTRAP, real_time][n % 3];
            // SAFETY: plain numbers; the signal is delivered before the call returns.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), signal) };
            open("/nowhere/in storm");
        }
        i32::from(CAUGHT.load(Ordering::Relaxed) != 1000)
    });
    assert_eq!(trace.status.code(), Some(0));
    assert_eq!(trace.calls_on("/nowhere/in storm").count(), 1000);
    assert!(trace.calls_on("/nowhere/in storm").all(|seen| seen.call.ret == -i64::from(libc::ENOENT)));
}

#[test]
fn timers_do_not_disturb_calls() {
    let trace = Case::default().run(|| {
        let handler: extern "C" fn(libc::c_int) = catch;
        let every = libc::timeval { tv_sec: 0, tv_usec: 150 };
        let timer = libc::itimerval { it_interval: every, it_value: every };
        // SAFETY: the handler only adds to an atomic; the timer is local.
        unsafe {
            libc::signal(libc::SIGALRM, handler as usize);
            libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
        }
        let wrong = (0..2000).filter(|_| open("/nowhere/in time") != -libc::ENOENT).count();
        i32::from(wrong != 0 || CAUGHT.load(Ordering::Relaxed) == 0)
    });
    assert_eq!(trace.status.code(), Some(0));
    assert_eq!(trace.calls_on("/nowhere/in time").count(), 2000);
}

#[test]
fn a_signal_that_kills_is_the_exit_status() {
    let trace = Case::default().exec(&["/bin/sh", "-c", "kill -SEGV $$"]);
    trace.assert_whole();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&trace.status), Some(libc::SIGSEGV));
}

#[test]
fn death_at_any_moment_leaves_nothing() {
    for round in 0..200u64 {
        let stops = if round % 2 == 0 { Stops::Entry } else { Stops::EntryAndExit };
        let mut live = Case { stops, ..Case::default() }.start(|| {
            // SAFETY: plain numbers, and processes with copies of the memory.
            unsafe {
                libc::setpgid(0, 0);
                std::thread::spawn(|| {
                    loop {
                        open("/nowhere/busy");
                    }
                });
                loop {
                    match libc::fork() {
                        0 => libc::_exit(open("/nowhere/short").abs()),
                        pid => libc::waitpid(pid, std::ptr::null_mut(), 0),
                    };
                }
            }
        });
        live.until(|seen| !seen.is_empty());
        std::thread::sleep(Duration::from_micros(round * 7919 % 4000));
        // SAFETY: plain numbers; the group is the tracee's own.
        unsafe { libc::kill(-live.pid, libc::SIGKILL) };
        let trace = live.finish();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&trace.status), Some(libc::SIGKILL));
        trace.assert_whole();
    }
}

/// Waits until `pid` is gone or a zombie.
fn dies(pid: i32) -> bool {
    let start = Instant::now();
    while !matches!(state(pid), None | Some('Z' | 'X')) {
        if start.elapsed() > Duration::from_secs(5) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

#[test]
fn a_tracer_that_is_killed_takes_the_tree_along() {
    let mut live = Case::default().start(|| {
        // SAFETY: a process with a copy of the memory.
        unsafe { libc::fork() };
        open("/nowhere/alive");
        std::thread::sleep(Duration::from_secs(600));
        0
    });
    live.until(|seen| seen.iter().filter(|seen| seen.path() == "/nowhere/alive").count() == 2);
    let mut pids: Vec<i32> = live.look().iter().map(|seen| seen.head.pid as i32).collect();
    pids.dedup();
    // SAFETY: plain numbers.
    unsafe { libc::kill(live.tracer.pid() as i32, libc::SIGKILL) };
    let status = live.wait(0);
    assert_eq!(libc::WTERMSIG(status), libc::SIGKILL);
    for pid in pids {
        assert!(dies(pid), "{pid} lives on");
    }
}

#[test]
fn a_parent_that_is_killed_takes_tracer_and_tree_along() {
    let alone = alone();
    let (read, write) = nix::unistd::pipe().unwrap();
    // SAFETY: a process with a copy of the memory, which ends by being killed.
    let parent = unsafe { libc::fork() };
    if parent == 0 {
        let live = Case::default().start_alone(alone, || {
            // Without this the kernel would do the tracer's work.
            // SAFETY: plain numbers.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0) };
            open("/nowhere/alive");
            std::thread::sleep(Duration::from_secs(600));
            0
        });
        let pids = [live.tracer.pid() as i32, live.pid].map(i32::to_ne_bytes).concat();
        let _ = nix::unistd::write(&write, &pids);
        std::thread::sleep(Duration::from_secs(600));
    }
    let mut pids = [0u8; 8];
    assert_eq!(nix::unistd::read(&read, &mut pids), Ok(8));
    // SAFETY: plain numbers; the process is this one's child.
    unsafe {
        libc::kill(parent, libc::SIGKILL);
        libc::waitpid(parent, std::ptr::null_mut(), 0);
    }
    for pid in [0, 4].map(|at| i32::from_ne_bytes([pids[at], pids[at + 1], pids[at + 2], pids[at + 3]])) {
        assert!(dies(pid), "{pid} lives on");
    }
}
