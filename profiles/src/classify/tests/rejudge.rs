//! Recordings judged anew for another user.

use super::build::*;
use crate::classify::{profile, rejudge};
use crate::event::{FileType, Identity, Inode};
use crate::requirement::Basis;

fn www() -> Identity {
    Identity {
        user: "www-data".into(),
        group: "www-data".into(),
        uid: 33,
        gid: 33,
        groups: vec![4],
        exists: true,
    }
}

fn ids(trace: &crate::event::Trace, identity: &Identity) -> Vec<String> {
    profile(&rejudge(trace, identity), "x").requirements.into_iter().map(|need| need.id).collect()
}

#[test]
fn what_another_user_may_is_no_need() {
    let trace = super::fixtures::nginx();
    let before = profile(&trace, "x");
    let same = rejudge(&trace, &trace.run.identity);
    let again = profile(&same, "x");
    let ids_of = |profile: &crate::profile::Profile| -> Vec<String> {
        profile.requirements.iter().map(|need| need.id.clone()).collect()
    };
    assert_eq!(ids_of(&again), ids_of(&before), "for its own user nothing changes");
    assert!(
        again
            .requirements
            .iter()
            .filter(|need| need.id.starts_with("path:"))
            .all(|need| need.basis == Basis::Predicted)
    );
    let root =
        Identity { uid: 0, gid: 0, groups: vec![], user: "root".into(), group: "root".into(), exists: true };
    assert!(ids(&trace, &root).iter().all(|id| !id.starts_with("path:")), "root may");
}

#[test]
fn owners_and_groups_are_those_of_the_new_user() {
    let log = Inode {
        file_type: FileType::File,
        mode: 0o640,
        uid: 33,
        user: Some("www-data".into()),
        gid: 4,
        group: Some("adm".into()),
        device: None,
    };
    let mut event = open("/var/log/x/access.log", 0o2001).0;
    let crate::event::Object::Path(path) = &mut event.object else { panic!("no path") };
    path.inode = Some(log.clone());
    event.checks.push(crate::event::Check {
        capability: crate::Capability::DAC_OVERRIDE,
        granted: true,
        frames: vec!["may_open".into()].into(),
        component: Some(crate::event::Component { path: "/var/log/x/access.log".into(), inode: log }),
        foreign: false,
        not_audited: false,
        child_namespace: false,
        predicted: None,
    });
    let trace = trace("x", [Make(event)]);
    assert_eq!(ids(&trace, &trace.run.identity), ["path:/var/log/x/access.log"]);
    assert_eq!(ids(&trace, &www()), [""; 0], "its owner may write");
    let adm = Identity { uid: 50, ..www() };
    assert_eq!(ids(&trace, &adm), ["path:/var/log/x/access.log"], "its group may only read");
}

#[test]
fn what_only_the_old_user_could_becomes_a_need() {
    let secret = Inode {
        file_type: FileType::File,
        mode: 0o600,
        uid: UID,
        user: Some("test".into()),
        gid: UID,
        group: None,
        device: None,
    };
    let mut event = open("/etc/x.key", 0).0;
    let crate::event::Object::Path(path) = &mut event.object else { panic!("no path") };
    path.inode = Some(secret);
    let mut trace = trace("x", [Make(event)]);
    trace.run.identity.exists = true;
    assert_eq!(profile(&trace, "x").requirements, []);
    assert_eq!(ids(&trace, &www()), ["path:/etc/x.key"]);
}
