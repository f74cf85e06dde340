//! What the probe costs, and what it does when it is flooded.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use nrtrace_profiles::event::Record;
use nrtrace_tracer::ebpf::{Options, Probe, support};

use crate::tracee::{Tracee, pidfd};

#[test]
fn loading_is_quick() {
    let start = Instant::now();
    let probe = Probe::load(&Options::default()).unwrap();
    let took = start.elapsed();
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
