//! Enforced runs, and runs with other rights than the user's.

use crate::Capability;
use crate::event::{Asked, Attached, Cause, Exit, FileType, Milestones, Mode, Object, Phase, Trace};
use crate::profile::Run;
use crate::requirement::{Basis, Seconds, Severity};

use super::build::*;
use super::{lines, run};

const DAC: Capability = Capability::DAC_OVERRIDE;

/// An enforced run of these events that ends so, five seconds after its start.
fn enforced(exit: Exit, events: impl IntoIterator<Item = Make>) -> Trace {
    let mut trace = trace("x -g 'a b'", events);
    trace.run.mode = Mode::Enforced;
    trace.end.exit = exit;
    trace
}

fn denied() -> Make {
    mkdir("/srv/x").in_directory("/srv").refused().fails(EACCES)
}

#[test]
fn a_refusal_is_required_when_the_program_fails_soon_after() {
    let mut trace = enforced(Exit::Exited { status: 1 }, [denied()]);
    let severity = |trace: &Trace| run(trace).requirements[0].severity;
    assert_eq!(severity(&trace), Severity::Probe, "five seconds later");
    trace.end.duration = 1_000_000_000;
    assert_eq!(severity(&trace), Severity::Required);
    let profile = run(&trace);
    assert_eq!((profile.requirements[0].basis, &profile.gave_up), (Basis::Denied, &None));
    assert!(profile.notes[0].contains("sudo nrtrace run -- x -g"), "{:?}", profile.notes);
    for exit in [Exit::Exited { status: 0 }, Exit::Stopped { status: Some(0) }, Exit::Running] {
        trace.end.exit = exit;
        assert_eq!(severity(&trace), Severity::Probe, "{exit:?}");
    }
    trace.end.exit = Exit::Signaled { signal: 6 };
    assert_eq!(severity(&trace), Severity::Required);
    // In a permissive run, only what nrtrace could not give is refused at all.
    trace.run.mode = Mode::Permissive;
    trace.end.exit = Exit::Exited { status: 0 };
    assert_eq!(severity(&trace), Severity::Required);
}

#[test]
fn what_is_asked_about_and_never_used_is_no_need() {
    let asked =
        || call("access", &[0, 2]).on("/etc/x").check(DAC, ACCESS).at("/etc/x", FileType::File, 0o644);
    let mut trace = trace("x", [asked()]);
    let severity = |trace: &Trace| run(trace).requirements[0].severity;
    assert_eq!(severity(&trace), Severity::Probe);
    assert!(run(&trace).requirements[0].only_asked());
    // What it does about the answer can be to end.
    trace.end.exit = Exit::Exited { status: 1 };
    trace.end.duration = 1_000_000_000;
    assert_eq!(severity(&trace), Severity::Required);
    // What follows is a need: here, writing the file.
    let opened = open("/etc/x", O_WRONLY).check(DAC, OPEN).at("/etc/x", FileType::File, 0o644);
    assert_eq!(severity(&super::build::trace("x", [asked(), opened])), Severity::Required);
}

#[test]
fn what_no_right_mends_is_told_with_its_reason() {
    let causes = [(Cause::Immutable, EPERM), (Cause::NoExec, EACCES), (Cause::Policy, EACCES)];
    for (cause, errno) in causes {
        let event = open("/srv/x", O_WRONLY).fails(errno).hindered(cause, "/srv/x");
        let profile = run(&enforced(Exit::Exited { status: 1 }, [event]));
        assert_eq!((lines(&profile).len(), &profile.gave_up), (0, &None), "{cause:?}");
        let obstacle = profile.unexplained[0].obstacle.as_ref().unwrap();
        assert_eq!((obstacle.cause, obstacle.at.as_ref().unwrap().to_text().as_str()), (cause, "/srv/x"));
    }
    // A filter is the last thing to think of.
    let event = bind(crate::event::Protocol::Tcp, "0.0.0.0", 80).fails(EACCES).hindered(Cause::Seccomp, "");
    assert_eq!(lines(&run(&enforced(Exit::Exited { status: 1 }, [event]))), ["port:tcp:0.0.0.0:80?"]);
}

#[test]
fn a_capability_that_was_consulted_tells_more_than_the_file() {
    let event = denied().hindered(Cause::Policy, "/srv");
    let profile = run(&enforced(Exit::Exited { status: 1 }, [event]));
    assert_eq!((lines(&profile).len(), profile.unexplained.len()), (1, 0));
}

#[test]
fn roots_own_rights_are_not_the_users() {
    let of_root = open("/srv/own", O_WRONLY).check(DAC, OPEN).at("/srv/own", FileType::File, 0o600);
    let of_user = open("/srv/x", O_WRONLY).check(DAC, "").at("/srv/x", FileType::File, 0o600);
    let events = [
        of_root,
        of_user.foretold(Asked::File),
        call("chmod", &[0, 0o600]).on("/srv/mode").check(Capability::FOWNER, CHMOD),
        call("setuid", &[0]).ids(&[0]).check(Capability::SETUID, "ns_capable_setid __sys_setuid"),
        call("setuid", &[33]).ids(&[33]).check(Capability::SETUID, "ns_capable_setid __sys_setuid"),
        bind(crate::event::Protocol::Tcp, "0.0.0.0", 80).check(Capability::NET_BIND_SERVICE, BIND),
    ];
    let mut trace = trace("x", events);
    trace.run.mode = Mode::Observation;
    let profile = run(&trace);
    assert_eq!(lines(&profile), ["path:/srv/x file write", "port:tcp:0.0.0.0:80", "identity:set-user:33"]);
    assert_eq!(profile.requirements[0].basis, Basis::Predicted);
    assert_eq!(profile.requirements[1].basis, Basis::Kernel);
    assert!(profile.notes[0].contains("geteuid"), "{:?}", profile.notes);
}

#[test]
fn what_the_caller_gave_is_not_what_a_program_looked_at() {
    let mut looked = call("newfstatat", &[2]).on("/home/me/log");
    if let Object::Path(path) = &mut looked.0.object {
        path.given = "".into();
    }
    let mut trace = trace("x", [looked, call("stat", &[]).on("/srv/x")]);
    trace.end.exit = Exit::Exited { status: 1 };
    let looked: Vec<String> =
        run(&trace).gave_up.unwrap().looked_at.iter().map(|look| look.path.to_text()).collect();
    assert_eq!(looked, ["/srv/x"]);
}

#[test]
fn the_timeline_tells_from_when_on_nothing_privileged_happened() {
    const SECOND: u64 = 1_000_000_000;
    let phases = [Phase::Startup, Phase::Steady, Phase::Shutdown];
    let mut trace = trace("x", phases.map(|phase| mkdir("/srv/x").in_directory("/srv").phase(phase)));
    for (event, seconds) in trace.events.iter_mut().zip([1, 3, 9]) {
        (event.time, event.last) = (seconds * SECOND, seconds * SECOND);
    }
    trace.end.duration = 10 * SECOND;
    let reached = Milestones { ready: Some(2 * SECOND), stopping: Some(8 * SECOND), ..Milestones::default() };
    trace.end.milestones = Some(reached);
    let Run { timeline, duration, .. } = run(&trace).run;
    let timeline = timeline.unwrap();
    assert_eq!(timeline.last_privileged, Some(Seconds(3 * SECOND)));
    assert_eq!(timeline.privileged_after_ready(), Some(Seconds(SECOND)));
    assert_eq!(timeline.quiet(duration), Some(Seconds(5 * SECOND)));
    trace.end.milestones = None;
    assert_eq!(run(&trace).run.timeline, None);
}

#[test]
fn ids_get_the_names_they_have() {
    let events = [
        call("setgid", &[33]).ids(&[33]).answered(),
        call("setuid", &[33]).ids(&[33]).answered(),
        call("chown", &[0, 33, 4]).gift("/srv/x", 33, 4).answered(),
    ];
    let mut trace = trace("x", events);
    trace.end.accounts.users.insert(33, "www-data".into());
    trace.end.accounts.groups.insert(4, "adm".into());
    let profile = run(&trace);
    let names: Vec<&[String]> = profile.requirements.iter().map(|need| &need.evidence.names[..]).collect();
    assert_eq!(names, [&["www-data".to_owned(), "adm".to_owned()][..], &[], &["www-data".to_owned()]]);
    assert!(profile.notes.iter().any(|note| note.contains("--as www-data")), "{:?}", profile.notes);
    // `attach` has an option of another name.
    trace.run.attached = Some(Attached { target: "unit x".into(), from_start: true, own_refusals: false });
    let profile = run(&trace);
    let notes = profile.notes.join("\n");
    assert!(notes.contains("--target-user www-data") && !notes.contains("--as "), "{notes}");
}
