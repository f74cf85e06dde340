//! Looking at processes: `/proc/self`, the links below `/proc/PID`, and the oracle's own thread.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nrtrace_tracer::oracle::{Answer, Asker, Cause, Oracle, Question, Want};

use crate::world::{identity, look};

/// A process of root's that waits, and is ended with this.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap())
    }

    fn asker(&self) -> Asker {
        Asker { pid: self.0.id(), tid: self.0.id() }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(process: Option<Asker>, path: &str, want: Want) -> Answer {
    let root = look(Path::new("/"));
    let oracle = Oracle::new(&identity(1000, 1000, &[])).unwrap();
    let question = Question::new(root.as_fd(), root.as_fd(), path.as_bytes(), want);
    oracle.ask(&Question { process, ..question }).unwrap()
}

#[test]
fn a_process_may_look_at_itself() {
    let sleeper = Sleeper::start();
    let read = Want::Open(libc::O_RDONLY);
    for path in ["/proc/self/fd/0", "/proc/thread-self/environ", "/proc/self/exe"] {
        assert_eq!(ask(Some(sleeper.asker()), path, read), Answer::Allowed, "{path}");
    }
    let number = format!("/proc/{}/environ", sleeper.0.id());
    assert_eq!(ask(Some(sleeper.asker()), &number, read), Answer::Allowed);
    let write = Want::Open(libc::O_WRONLY);
    assert_eq!(ask(Some(sleeper.asker()), "/proc/self/oom_score_adj", write), Answer::Allowed);
    // What is behind the link is judged as any file.
    assert!(matches!(ask(Some(sleeper.asker()), "/proc/self/exe", write), Answer::Refused(_)));
}

#[test]
fn links_of_another_users_process_are_closed() {
    let sleeper = Sleeper::start();
    let path = format!("/proc/{}/exe", sleeper.0.id());
    let Answer::Refused(refusal) = ask(None, &path, Want::Reach) else {
        panic!("{path}: not ours to look at")
    };
    assert_eq!((refusal.cause, refusal.errno), (Cause::OtherProcess, libc::EACCES));
    let Answer::Refused(refusal) = ask(None, &format!("/proc/{}/environ", sleeper.0.id()), Want::Open(0))
    else {
        panic!("{path}: not ours to read")
    };
    assert_eq!(refusal.cause, Cause::Permission);
}

#[test]
fn the_judge_keeps_real_ids_that_the_target_cannot_signal_and_ends_with_its_oracle() {
    let oracle = Oracle::new(&identity(61999, 61999, &[])).unwrap();
    let judges = || {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let status = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok());
        status.filter(|status| status.contains("\t61999\n")).collect::<Vec<_>>()
    };
    let found = judges();
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("Uid:\t0\t0\t0\t61999\n"), "{}", found[0]);
    assert!(found[0].contains("CapPrm:\t0000000000000000\n"), "{}", found[0]);
    drop(oracle);
    assert_eq!(judges().len(), 0);
}
