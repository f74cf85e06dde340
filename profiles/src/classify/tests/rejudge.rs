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
    path.inode = Some(Box::new(log.clone()));
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
    path.inode = Some(Box::new(secret));
    let mut trace = trace("x", [Make(event)]);
    trace.run.identity.exists = true;
    assert_eq!(profile(&trace, "x").requirements, []);
    assert_eq!(ids(&trace, &www()), ["path:/etc/x.key"]);
}

/// Calls that do the same, with their arguments, the access that they need, and whether the file is there.
type Variants = (Vec<(&'static str, Vec<u64>)>, &'static str, bool);

/// What a call of each name does with a file of root's in a directory of root's, of which another user has neither.
fn variants() -> Vec<Variants> {
    const FD: u64 = 7;
    const AT: u64 = u64::MAX - 99;
    let open = |flags: u64| {
        vec![("open", vec![1, flags]), ("openat", vec![AT, 1, flags]), ("openat2", vec![AT, 1, 2, 24])]
    };
    let mut creat = open(0o1101);
    creat.push(("creat", vec![1, 0o644]));
    let of =
        |calls: &[(&'static str, &[u64])]| calls.iter().map(|(name, args)| (*name, args.to_vec())).collect();
    vec![
        (open(1), "write", true),
        (creat, "create", true),
        (of(&[("truncate", &[1, 0]), ("truncate64", &[1, 0])]), "write", true),
        (
            of(&[("setxattr", &[1]), ("lsetxattr", &[1]), ("fsetxattr", &[FD]), ("setxattrat", &[AT, 1])]),
            "write",
            true,
        ),
        (of(&[("access", &[1, 2]), ("faccessat", &[AT, 1, 2]), ("faccessat2", &[AT, 1, 2])]), "write", true),
        (
            of(&[
                ("chmod", &[1, 0o600]),
                ("fchmod", &[FD, 0o600]),
                ("fchmodat", &[AT, 1, 0o600]),
                ("fchmodat2", &[AT, 1, 0o600]),
                ("file_setattr", &[AT, 1, 2]),
            ]),
            "own",
            true,
        ),
        (
            of(&[
                ("utime", &[1, 2]),
                ("utimes", &[1, 2]),
                ("futimesat", &[AT, 1, 2]),
                ("utimensat", &[AT, 1, 2]),
                ("utimensat_time64", &[AT, 1, 2]),
            ]),
            "own",
            true,
        ),
        (of(&[("mkdir", &[1, 0o755]), ("mkdirat", &[AT, 1, 0o755])]), "create", false),
        (of(&[("mknod", &[1, 0o10_644]), ("mknodat", &[AT, 1, 0o10_644])]), "create", false),
        (of(&[("unlink", &[1]), ("unlinkat", &[AT, 1, 0])]), "delete", true),
    ]
}

#[test]
fn variants_of_a_call_bring_the_same_need_for_another_user() {
    let own =
        Identity { user: "root".into(), group: "root".into(), uid: 0, gid: 0, groups: vec![], exists: true };
    for (alike, access, there) in variants() {
        let needs = alike.iter().map(|(name, args)| {
            let mut made = call(name, args).on("/srv/file");
            if there {
                made = made.there(FileType::File, 0o644, 0);
            }
            if *name == "openat2" {
                made.0.call.structure = vec![alike[0].1[1], 0];
            }
            made.0.credentials = crate::event::Credentials { uid: 0, gid: 0 };
            let mut trace = trace("thing", [made]);
            trace.run.identity = own.clone();
            let found = profile(&rejudge(&trace, &www()), "x").requirements;
            found.into_iter().map(|need| format!("{:?}", need.need)).collect::<Vec<_>>()
        });
        let needs: Vec<_> = needs.collect();
        for ((name, _), found) in alike.iter().zip(&needs) {
            assert_eq!(found.len(), 1, "{name}: {found:?}");
            assert_eq!(found, &needs[0], "{name}");
            assert!(found[0].to_lowercase().contains(access), "{name}: {found:?}");
        }
    }
}
