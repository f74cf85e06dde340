//! Threads, processes and programs that come and go.

use std::ffi::CString;
use std::time::Duration;

use nrtrace_ebpf::record::{KIND_CALL, KIND_EXEC, KIND_EXIT, KIND_FORK};
use nrtrace_tracer::ptrace::Stops;

use crate::harness::{Case, exec, open};

fn command(words: &[&str]) -> Vec<CString> {
    words.iter().map(|word| CString::new(*word).unwrap()).collect()
}

/// Waits for child `pid`; its wait status.
fn reap(pid: i64) -> i32 {
    let mut status = -1;
    // SAFETY: `status` lives through the call.
    unsafe { libc::waitpid(pid as i32, &raw mut status, 0) };
    status
}

#[test]
fn a_program_is_followed_from_its_first_instruction() {
    let trace = Case::default().exec(&["/bin/cat", "/nowhere/for cat"]);
    trace.assert_whole();
    assert_eq!(trace.status.code(), Some(1));
    let exec = trace.kind(KIND_EXEC).next().unwrap();
    assert_eq!(exec.data(), std::fs::canonicalize("/bin/cat").unwrap().to_str().map(leaf_first).unwrap());
    assert_eq!(&exec.head.comm[..4], b"cat\0");
    assert_eq!(trace.call_on("/bin/cat").call.ret, 0, "execve has succeeded");
    assert_eq!(trace.calls_on("/nowhere/for cat").count(), 1);
    let exit = trace.kind(KIND_EXIT).next().unwrap();
    assert_eq!((exit.process.exit_code, exit.process.last_thread), (1 << 8, 1));
}

fn leaf_first(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty()).rev().collect::<Vec<_>>().join("/")
}

#[test]
fn a_thread_that_execs_becomes_the_leader() {
    let echo = command(&["/bin/cat", "/nowhere/after"]);
    let trace = Case::default().run(|| {
        let idle = std::thread::spawn(|| std::thread::sleep(Duration::from_secs(600)));
        std::thread::spawn(move || exec(&echo)).join().unwrap();
        idle.join().map_or(1, |()| 2)
    });
    trace.assert_whole();
    assert_eq!(trace.status.code(), Some(1));
    let call = trace.call_on("/bin/cat");
    assert_eq!((call.head.pid, call.head.tid, call.call.ret), (trace.root as u32, trace.root as u32, 0));
    let exec = trace.kind(KIND_EXEC).next().unwrap();
    assert_eq!((exec.head.pid, exec.head.tid), (trace.root as u32, trace.root as u32));
    let after = trace.call_on("/nowhere/after");
    assert_eq!((after.head.pid, after.head.tid), (trace.root as u32, trace.root as u32));
}

#[test]
fn execs_of_threads_race() {
    for _ in 0..20 {
        let again = command(&["/bin/cat", "/nowhere/won"]);
        let trace = Case::default().run(|| {
            for _ in 0..8 {
                let again = again.clone();
                // While one thread is in execve(2), the kernel lets no other make a thread (EAGAIN).
                let _ = std::thread::Builder::new().spawn(move || exec(&again));
            }
            exec(&again)
        });
        trace.assert_whole();
        assert_eq!(trace.calls_on("/nowhere/won").count(), 1, "{trace:#?}");
        assert_eq!(trace.kind(KIND_EXEC).count(), 1);
    }
}

#[test]
fn children_of_vfork_are_followed() {
    let script = "import subprocess\nfor n in range(20): subprocess.run(['/bin/cat', f'/nowhere/{n}'])";
    let trace = Case::default().exec(&["/usr/bin/python3", "-c", script]);
    trace.assert_whole();
    for n in 0..20 {
        let path = format!("/nowhere/{n}");
        let call = trace.call_on(&path);
        assert_ne!(call.head.pid, trace.root as u32);
    }
    assert_eq!(trace.kind(KIND_EXEC).count(), 21);
}

#[test]
fn threads_of_clone3_belong_to_their_group() {
    let trace = Case::default().run(|| {
        std::thread::spawn(|| open("/nowhere/in thread")).join().unwrap();
        0
    });
    trace.assert_whole();
    let fork = trace.kind(KIND_FORK).next().unwrap();
    assert_eq!(fork.process.child_pid, trace.root as u32);
    let call = trace.call_on("/nowhere/in thread");
    assert_eq!((call.head.pid, call.head.tid), (trace.root as u32, fork.process.child_tid));
}

/// `struct clone_args` of clone3(2), as far as its first version goes.
fn clone3(flags: u64) -> (i64, u64) {
    let mut args = [flags, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
    // SAFETY: makes a process with a copy of the memory, like fork.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, args.as_mut_ptr(), size_of_val(&args)) };
    (pid, std::hint::black_box(args)[0])
}

#[test]
fn a_child_that_asks_not_to_be_traced_is_traced() {
    let flag = libc::CLONE_UNTRACED as u64;
    for stops in [Stops::Entry, Stops::EntryAndExit] {
        let trace = Case { stops, ..Case::default() }.run(|| {
            // SAFETY: makes a process with a copy of the memory, like fork.
            let pid = unsafe { libc::syscall(libc::SYS_clone, flag | libc::SIGCHLD as u64, 0, 0, 0, 0) };
            if pid == 0 {
                return open("/nowhere/by clone").abs();
            }
            let first = reap(pid);
            let (pid, left) = clone3(flag);
            if pid == 0 {
                open("/nowhere/by clone3");
                return if left == flag { 0 } else { 9 };
            }
            let second = reap(pid);
            // The flags are as the caller had them, in child and parent.
            i32::from(first != libc::ENOENT << 8 || second != 0 || left != flag)
        });
        trace.assert_whole();
        assert_eq!(trace.status.code(), Some(0));
        for path in ["/nowhere/by clone", "/nowhere/by clone3"] {
            assert_ne!(trace.call_on(path).head.pid, trace.root as u32);
        }
    }
}

#[test]
fn a_daemon_that_forks_twice_is_followed_beyond_its_parent() {
    let trace = Case::default().run(|| {
        // SAFETY: processes with copies of the memory.
        unsafe {
            if libc::fork() == 0 {
                libc::setsid();
                if libc::fork() == 0 {
                    std::thread::sleep(Duration::from_millis(100));
                    open("/nowhere/by daemon");
                }
                libc::_exit(0);
            }
        }
        0
    });
    trace.assert_whole();
    let call = trace.call_on("/nowhere/by daemon");
    let root_end = trace.kind(KIND_EXIT).find(|seen| seen.head.tid == trace.root as u32).unwrap();
    assert!(call.head.time > root_end.head.time, "the daemon outlives the program");
}

#[test]
fn a_hundred_threads_lose_no_call() {
    let trace = Case { stops: Stops::Entry, ..Case::default() }.run(|| {
        std::thread::scope(|scope| {
            for thread in 0..100 {
                scope.spawn(move || {
                    (0..50).for_each(|n| {
                        open(&format!("/nowhere/{thread}/{n}"));
                    })
                });
            }
        });
        0
    });
    trace.assert_whole();
    let mut paths: Vec<&str> = trace.kind(KIND_CALL).map(|seen| seen.path()).collect();
    paths.retain(|path| path.starts_with("/nowhere/"));
    paths.sort_unstable();
    assert_eq!(paths.len(), 5000);
    paths.dedup();
    assert_eq!(paths.len(), 5000);
}

#[test]
fn a_leader_that_ends_before_its_threads_ends_last() {
    let trace = Case::default().run(|| {
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            open("/nowhere/without leader");
        });
        // SAFETY: ends this thread alone.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        1
    });
    trace.assert_whole();
    assert_eq!(trace.calls_on("/nowhere/without leader").count(), 1);
    assert_eq!(trace.kind(KIND_EXIT).last().unwrap().head.tid, trace.root as u32);
}

#[test]
fn a_forest_of_short_lives_loses_nothing() {
    let trace = Case { stops: Stops::Entry, ..Case::default() }.exec(&[
        "/bin/sh",
        "-c",
        "for i in 1 2 3 4 5 6 7 8; do (for j in 1 2 3 4 5 6 7 8 9; do (: < /nowhere/$i/$j) & done; wait) & done; wait",
    ]);
    trace.assert_whole();
    let opens = trace.kind(KIND_CALL).filter(|seen| seen.path().starts_with("/nowhere/")).count();
    assert_eq!(opens, 72);
    assert_eq!(trace.kind(KIND_FORK).count(), 8 + 72);
}
