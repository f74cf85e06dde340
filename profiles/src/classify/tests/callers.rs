//! Who called, where many did.

use crate::changes::Changes;
use crate::emit::Format;
use crate::requirement::Evidence;
use crate::ways::grants;
use crate::{Capability, RawText};

use super::build::*;
use super::run;

fn used_by(executables: impl Iterator<Item = usize>) -> crate::event::Trace {
    let uses = executables.flat_map(|n| {
        // The same executable in several threads takes no room from others.
        (0..3).map(move |thread| {
            let mut call = call("clock_settime", &[]).by(100, &format!("thread{n:03}-{thread}"));
            call.0.process.exe = Some(RawText::from(&*format!("/usr/bin/tool{n:03}")));
            call.check(Capability::SYS_TIME, "capable security_settime64")
        })
    });
    trace("x", uses.collect::<Vec<_>>())
}

#[test]
fn each_executable_that_used_a_capability_is_to_carry_it() {
    let profile = run(&used_by(0..40));
    let evidence = &profile.requirements[0].evidence;
    assert_eq!((profile.requirements.len(), evidence.executables().len()), (1, 40));
    assert!(evidence.callers.len() < 40 + Evidence::CALLERS, "{}", evidence.callers.len());
    let script = Format::Setcap.emit(&profile, &grants(&profile));
    for n in 0..40 {
        let line = format!("# setcap cap_sys_time=ep /usr/bin/tool{n:03}\n");
        assert!(script.text.contains(&line), "{n}: {}", script.text);
    }
    assert_eq!(script.unmet, []);
    assert_eq!(Changes::of(&profile, &grants(&profile)).file_capabilities.len(), 40);
    // Whatever the order in which they called.
    assert_eq!(run(&used_by((0..40).rev())).requirements[0].evidence.callers, evidence.callers);
}

#[test]
fn it_is_said_that_there_are_more_executables_than_are_told() {
    let profile = run(&used_by(0..Evidence::EXECUTABLES + 10));
    assert_eq!(profile.requirements[0].evidence.executables().len(), Evidence::EXECUTABLES);
    let plan = crate::ways::plan(
        &profile,
        &crate::grants::Choices {
            prefer: vec![crate::grants::Method::FileCapability],
            ..crate::grants::Choices::default()
        },
    );
    for format in [Format::Setcap, Format::Apply, Format::Containerfile] {
        let unmet = format.emit(&profile, &plan).unmet;
        let told = unmet.iter().any(|unmet| unmet.reason.contains("not all are told"));
        assert!(told, "{format:?}: {unmet:?}");
    }
}
