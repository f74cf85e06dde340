//! What the probe costs, and what it does when it is flooded.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{ForkResult, fork};
use nrtrace_profiles::event::Record;
use nrtrace_tracer::ebpf::{Options, Probe, support};

use crate::tracee::{Tracee, pidfd};

#[test]
fn loading_is_quick() {
    // Time on the processor: what else the machine does is not counted.
    let now = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let start = now();
    let probe = Probe::load(&Options::default()).unwrap();
    let took = now() - start;
    println!("loaded in {took:?}, {}", probe.hooks().description());
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn support_tells_what_works() {
    let features = support();
    for feature in &features {
        println!("{:24} {:?}", feature.name, feature.works);
    }
    let works = |name: &str| features.iter().find(|feature| feature.name == name).unwrap().works.is_ok();
    assert!(works("BTF") && works("CAP_BPF") && works("CAP_PERFMON") && works("tp_btf/sys_exit"));
    assert!(works("tp_btf/cap_capable") || works("fexit/cap_capable"));
}

/// Runs `work` in a child under the probe (with what it records, or none) and returns what the child measured of
/// itself: processor time of the quickest of 30 rounds, in nanoseconds.
fn measured(record: Option<Record>, work: fn()) -> u64 {
    let mut probe = record.map(|record| Probe::load(&Options { record, ..Options::default() }).unwrap());
    let (wait, go) = nix::unistd::pipe().unwrap();
    let (result, report) = nix::unistd::pipe().unwrap();
    // SAFETY: the child only makes system calls.
    let child = match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            drop(go);
            let _ = nix::unistd::read(wait.as_fd(), &mut [0]);
            let mut least = u64::MAX;
            for _ in 0..30 {
                let start = processor_time();
                work();
                least = least.min(processor_time() - start);
            }
            let _ = nix::unistd::write(report.as_fd(), &least.to_ne_bytes());
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        }
    };
    if let Some(probe) = &mut probe {
        probe.watch_now(pidfd(child).as_fd()).unwrap();
    }
    drop(go);
    while waitpid(child, Some(WaitPidFlag::WNOHANG)).unwrap() == WaitStatus::StillAlive {
        if let Some(probe) = &mut probe {
            probe.drain(&mut |_| {});
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut bytes = [0; 8];
    assert_eq!(nix::unistd::read(result.as_fd(), &mut bytes), Ok(8));
    u64::from_ne_bytes(bytes)
}

/// Processor time of this process, in nanoseconds.
fn processor_time() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes the time.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// How often [`storm`] does it.
const STORM: u64 = 5000;

/// Opens and closes a file, and fails to open another.
fn storm() {
    for _ in 0..STORM {
        // SAFETY: plain system calls with constant strings.
        unsafe {
            libc::close(libc::open(c"/etc/hostname".as_ptr(), libc::O_RDONLY));
            libc::open(c"/etc/nrtrace-none".as_ptr(), libc::O_RDONLY);
        }
    }
}

/// The ratios to running untraced: least times of runs that alternate, since the machine does other things too.
#[test]
fn a_storm_of_opens_is_not_slowed_much() {
    let [mut none, mut needs, mut calls] = [u64::MAX; 3];
    for _ in 0..3 {
        none = none.min(measured(None, storm));
        needs = needs.min(measured(Some(Record::Needs), storm));
        calls = calls.min(measured(Some(Record::Calls), storm));
    }
    let ratio = |time: u64| time as f64 / none as f64;
    println!("untraced {} ns a round; needs {:.3}, calls {:.3}", none / STORM, ratio(needs), ratio(calls));
    assert!(ratio(needs) < 1.3 && ratio(calls) < 2.0, "needs {:.3}, calls {:.3}", ratio(needs), ratio(calls));
}

#[test]
fn a_flood_is_counted() {
    let script = "for my $i (1..200000) { open my $f, '<', qq(/root/x$i) }";
    let tracee = Tracee { buffer: 1 << 16, ..Tracee::default() };
    let trace = tracee.run(&["/usr/bin/perl", "-e", script]);
    let is_flood = |path: String| path.starts_with("/root/x");
    let checks =
        trace.records.iter().filter(|record| record.check().is_some() && is_flood(record.path())).count();
    let calls =
        trace.records.iter().filter(|record| record.call().is_some() && is_flood(record.path())).count();
    assert!(trace.lost.checks > 0 && trace.lost.calls > 0, "{:?}", trace.lost);
    println!("{checks} checks, {calls} calls, {:?}", trace.lost);
    // A walk that leaves the quick way consults the capability once more.
    assert!(checks as u64 + trace.lost.checks >= 200_000);
    // Lost calls cannot be told apart: some may be of the interpreter's start and end.
    let all = calls as u64 + trace.lost.calls;
    assert!((200_000..200_100).contains(&all), "{all} calls");
}
