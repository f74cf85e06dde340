//! Following the tree: children, threads, programs, ends.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use nix::sys::wait::WaitStatus;
use nrtrace_ebpf::{KIND_EXEC, KIND_EXIT, KIND_FORK};
use nrtrace_profiles::event::Record as Recorded;

use crate::records::{Record, Trace};
use crate::tracee::Tracee;

fn of_kind(trace: &Trace, kind: u16) -> Vec<&Record> {
    trace.records.iter().filter(|record| record.head.kind == kind).collect()
}

#[test]
fn recording_starts_with_the_first_program() {
    let trace = Tracee::default().run(&["/bin/true"]);
    assert_eq!(trace.status, WaitStatus::Exited(trace.child, 0));
    let first = &trace.records[0];
    assert_eq!(first.head.kind, KIND_EXEC, "{first:?}");
    assert_eq!((first.path(), first.executable()), ("/bin/true".to_owned(), "/usr/bin/true".to_owned()));
    assert_eq!(first.head.pid, trace.child.as_raw() as u32);
    let exec = trace.records[1].call().expect("the execve itself");
    assert_eq!((i64::from(exec.nr), exec.ret), (libc::SYS_execve, 0));
}

#[test]
fn the_first_programs_own_checks_count() {
    let directory = tempfile::Builder::new().prefix("nrtrace-probe-exec").tempdir().unwrap();
    std::fs::copy("/bin/true", directory.path().join("true")).unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
    let program = directory.path().join("true");
    let trace = Tracee::default().run(&[program.to_str().unwrap()]);
    let first = &trace.records[0];
    let check = first.check().expect("search on the private directory");
    assert_eq!(i64::from(check.nr), libc::SYS_execve);
    assert_eq!(first.component(), directory.path().to_str().unwrap());
    assert_eq!(first.path(), program.to_str().unwrap());
}

#[test]
fn a_failed_first_program_is_told() {
    let trace = Tracee::default().run(&["/nonexistent"]);
    let calls: Vec<_> =
        trace.records.iter().filter_map(|record| Some((record.path(), record.call()?.ret))).collect();
    assert_eq!(calls, [("/nonexistent".to_owned(), -i64::from(libc::ENOENT))]);
    assert_eq!(trace.status, WaitStatus::Exited(trace.child, 127));
}

#[test]
fn children_orphans_and_threads_are_followed() {
    let script = "
import os, threading, time
def touch(name): open('/run/nrtrace-probe-' + name, 'w').close(); os.unlink('/run/nrtrace-probe-' + name)
thread = threading.Thread(target=touch, args=('thread',)); thread.start(); thread.join()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(0.2); touch('daemon')
        os._exit(0)
    os._exit(7)
os.wait()
os.posix_spawn('/bin/mkdir', ['mkdir', '/run/nrtrace-probe-vfork'], {})
os.wait(); os.rmdir('/run/nrtrace-probe-vfork'); time.sleep(0.4)
";
    let trace = Tracee::default().run(&["/usr/bin/python3", "-c", script]);
    for name in ["thread", "daemon", "vfork"] {
        let path = format!("/run/nrtrace-probe-{name}");
        let checked = trace.records.iter().any(|record| record.check().is_some() && record.path() == path);
        assert!(checked, "no check on {path}");
    }
    let children: BTreeSet<u32> =
        of_kind(&trace, KIND_FORK).iter().filter_map(|record| Some(record.process()?.child_tid)).collect();
    let ended: BTreeSet<u32> = of_kind(&trace, KIND_EXIT).iter().map(|record| record.head.tid).collect();
    assert!(children.is_subset(&ended), "{children:?} were made, {ended:?} ended");
    let thread = of_kind(&trace, KIND_FORK)[0];
    assert_eq!(thread.process().unwrap().child_pid, thread.head.pid, "a thread is of its maker's process");
    let codes: Vec<u32> =
        of_kind(&trace, KIND_EXIT).iter().filter_map(|record| Some(record.process()?.exit_code)).collect();
    assert!(codes.contains(&(7 << 8)), "{codes:?}");
}

#[test]
fn a_thread_that_runs_a_program_takes_the_leaders_number() {
    let script = "
import os, threading
threading.Thread(target=lambda: os.execv('/bin/mkdir', ['mkdir', '/root/nrtrace-probe-no/such'])).start()
import time; time.sleep(5)
";
    let trace = Tracee::default().run(&["/usr/bin/python3", "-c", script]);
    let exec = *of_kind(&trace, KIND_EXEC).last().unwrap();
    let child = trace.child.as_raw() as u32;
    assert_eq!((exec.head.pid, exec.head.tid), (child, child));
    let last = of_kind(&trace, KIND_EXIT).last().unwrap().process().unwrap().last_thread;
    assert_eq!(last, 1);
}

#[test]
fn many_short_children_leave_nothing_out() {
    let tracee = Tracee { record: Recorded::Needs, ..Tracee::default() };
    let trace = tracee.shell("i=0; while [ $i -lt 1000 ]; do (: < /root/x$i) 2>/dev/null; i=$((i+1)); done");
    assert_eq!(trace.lost.total(), 0);
    assert_eq!(of_kind(&trace, KIND_FORK).len(), 1000);
    assert_eq!(of_kind(&trace, KIND_EXIT).len(), 1001);
    let paths: BTreeSet<String> =
        trace.records.iter().filter(|record| record.check().is_some()).map(Record::path).collect();
    assert_eq!(paths.len(), 1000);
}

/// The tests above, which compare process ids, once more where the kernel's own numbers are others.
#[test]
fn numbers_are_those_of_the_tracers_pid_namespace() {
    let own = std::env::current_exe().unwrap();
    let status = std::process::Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc"])
        .arg(own)
        .args(["--test-threads=1", "--exact"])
        .args(["processes::recording_starts_with_the_first_program"])
        .args(["processes::a_thread_that_runs_a_program_takes_the_leaders_number"])
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}
