//! What was attached to.

use super::build::{call, open, trace};
use super::*;
use crate::Capability;
use crate::container::{Container, Mounted, Place};
use crate::event::{Asked, Attached, FileType, Mode};

const O_WRONLY: u64 = 1;
const EACCES: i32 = 13;
const DAC: Capability = Capability::DAC_OVERRIDE;
const OPEN: &str = "generic_permission inode_permission may_open path_openat";

fn attached(own_refusals: bool) -> Attached {
    Attached { target: "process 7".into(), from_start: false, own_refusals }
}

#[test]
fn what_refuses_others_than_root_is_real() {
    let denied = |path: &str, uid: u32| {
        let mut made =
            open(path, O_WRONLY).check(DAC, OPEN).at(path, FileType::File, 0o600).refused().fails(EACCES);
        made.0.credentials.uid = uid;
        made
    };
    let mut foretold =
        open("/srv/x", O_WRONLY).check(DAC, "").at("/srv/x", FileType::File, 0o600).foretold(Asked::File);
    foretold.0.credentials.uid = 0;
    let mut trace = trace("x", [denied("/srv/worker", 33), denied("/srv/master", 0), foretold]);
    trace.run.mode = Mode::Observation;
    trace.run.attached = Some(attached(true));
    let of = |trace: &crate::event::Trace| -> Vec<String> {
        run(trace).requirements.iter().map(|requirement| requirement.id.clone()).collect()
    };
    assert_eq!(of(&trace), ["path:/srv/worker", "path:/srv/x"]);
    trace.run.attached = Some(attached(false));
    assert_eq!(of(&trace), ["path:/srv/x"]);
}

#[test]
fn each_path_of_a_container_has_its_place() {
    let mounted =
        |at: &str, place| Mounted { at: at.into(), place, volume: None, host: None, read_only: false };
    let check = |path: &str| open(path, O_WRONLY).check(DAC, OPEN).at(path, FileType::File, 0o600);
    let mut trace = trace("x", [check("/etc/x"), check("/data/x"), call("getpid", &[])]);
    trace.run.attached = Some(attached(true));
    trace.run.container = Some(Container {
        mounts: vec![mounted("/", Place::Image), mounted("/data", Place::Volume)],
        ..Container::default()
    });
    let profile = run(&trace);
    let places: Vec<Place> =
        profile.requirements.iter().map(|need| need.evidence.placement.as_ref().unwrap().place).collect();
    assert_eq!(places, [Place::Volume, Place::Image]);
    assert_eq!(profile.container, trace.run.container);
}
