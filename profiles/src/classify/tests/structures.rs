//! What stands in structures that calls point to.

use crate::Capability;
use crate::event::Backend;
use crate::requirement::{Limit, Need};

use super::build::*;
use super::{needs, run};

#[test]
fn more_files_than_anybody_may_open_are_no_need() {
    // Beyond fs.nr_open the kernel refuses without asking for a capability.
    let limit = |resource: u64| call("prlimit64", &[0, resource, 0x7000]).fails(EPERM);
    let mut trace = trace("x", [limit(7)]);
    needs(&trace, &[]);
    trace.run.backend = Backend::Ptrace;
    needs(&trace, &["limit:open-files"]);
    // What was asked for is known, and no check was foretold.
    trace.events[0].call.structure = vec![1 << 31, 1 << 31];
    needs(&trace, &[]);
}

#[test]
fn a_limit_is_raised_to_what_was_asked_for() {
    let raise = |structure: &[u64]| {
        let mut event = call("setrlimit", &[7, 0x7000]).check(Capability::SYS_RESOURCE, "capable do_prlimit");
        event.0.call.structure = structure.to_vec();
        event
    };
    let value = |events: Vec<Make>| match run(&trace("x", events)).requirements.pop().map(|one| one.need) {
        Some(Need::Limit { limit: Limit::OpenFiles, value }) => value,
        other => panic!("{other:?}"),
    };
    assert_eq!(value(vec![raise(&[4096, 65_536])]), Some(65_536));
    assert_eq!(value(vec![raise(&[4096, 65_536]), raise(&[9, 1 << 20])]), Some(1 << 20));
    assert_eq!(value(vec![raise(&[u64::MAX, u64::MAX])]), Some(i64::MAX), "no limit");
    assert_eq!(value(vec![raise(&[])]), None, "it could not be read");
}

#[test]
fn the_flags_of_openat2_say_what_it_does() {
    let mut open =
        call("openat2", &[0, 0x7000, 0x7100, 24]).on("/srv/x").check(Capability::DAC_OVERRIDE, OPEN);
    open.0.call.structure = vec![0o2001, 0];
    needs(&trace("x", [open]), &["path:/srv/x file append"]);
}
