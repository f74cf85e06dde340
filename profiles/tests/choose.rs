//! What a search tries beyond leaving things out: other users, other ways, and what a program may have missed.

mod samples;

use std::collections::{BTreeMap, BTreeSet};

use nrtrace_profiles::RawText;
use nrtrace_profiles::event::FileType::{Directory, File};
use nrtrace_profiles::event::{Exit, Inode};
use nrtrace_profiles::grants::{Choices, Method};
use nrtrace_profiles::profile::{GaveUp, LookedAt, Profile};
use nrtrace_profiles::prove::suspects::{suspects, words};
use nrtrace_profiles::prove::users::{becomes, owners};
use nrtrace_profiles::prove::{judge, ways};
use nrtrace_profiles::requirement::{Access, IdentityOperation, Need, Requirement, Severity};
use nrtrace_profiles::ways::plan;
use samples::*;

const WEB: (&str, u32) = ("web", 120);

fn looked(call: &str, path: &str, outcome: &str, inode: Option<Inode>) -> LookedAt {
    LookedAt { call: call.into(), path: path.into(), outcome: outcome.into(), inode }
}

fn gave_up(looked_at: Vec<LookedAt>) -> Profile {
    let mut profile = profile("served", &["/usr/sbin/served"], Vec::new());
    profile.gave_up = Some(GaveUp { exit: Exit::Exited { status: 1 }, stderr: Vec::new(), looked_at });
    profile
}

fn told(profile: &Profile, made: &[RawText], tried: &[&str]) -> Vec<String> {
    let tried: BTreeSet<String> = tried.iter().map(|id| (*id).to_owned()).collect();
    suspects(profile, profile, made, &tried).iter().map(words).collect()
}

#[test]
fn what_it_looked_at_last_is_suspected() {
    let file = |mode| Some(inode(File, ROOT, ROOT, mode));
    let profile = gave_up(vec![
        looked("stat", "/var/lib/served/early", "ok", file(0o644)),
        looked("stat", "/etc/passwd", "ok", file(0o644)),
        looked("stat", "/var/lib/served", "ok", Some(root_directory(0o755))),
        looked("stat", "/etc/served/served.conf", "ok", file(0o644)),
        looked("open", "/var/lib/served/sub/x", "ENOENT", None),
    ]);
    // Of the last four, what the plan would give: never the accounts.
    assert_eq!(
        told(&profile, &[], &[]),
        [
            "/var/lib/served/sub, which is not there",
            "owning /etc/served/served.conf",
            "owning /var/lib/served"
        ]
    );
    let tried = ["path:/var/lib/served", "path:/var/lib/served/sub"];
    let made = ["/run/served".into(), "/usr/lib/served".into()];
    assert_eq!(
        told(&profile, &made, &tried),
        ["owning /etc/served/served.conf", "/run/served, which is not there"]
    );
}

#[test]
fn what_is_its_own_or_granted_already_is_not_suspected() {
    let mut profile = gave_up(Vec::new());
    let own = inode(File, ("served", profile.identity.uid), ROOT, 0o644);
    let of_root = inode(File, ROOT, ROOT, 0o644);
    profile.gave_up.as_mut().unwrap().looked_at = vec![
        looked("stat", "/srv/a", "ok", Some(own)),
        looked("access", "/srv/b", "EACCES", Some(of_root.clone())),
        looked("stat", "/srv/c", "ok", Some(of_root)),
    ];
    let suspected = suspects(&profile, &profile, &[], &BTreeSet::new());
    assert_eq!(suspected.iter().map(words).collect::<Vec<_>>(), ["owning /srv/c"]);
    suspected.iter().for_each(|suspect| judge::add(&mut profile, suspect));
    assert!(told(&profile, &[], &[]).is_empty());
}

#[test]
fn a_directory_that_was_missed_on_the_way_is_suspected() {
    let mut missing = requirement(path_need("/run/served", Directory, &[Access::Create]), "openat", None);
    missing.severity = Severity::Probe;
    missing.evidence.outcomes = BTreeMap::from([("ENOENT".to_owned(), 1)]);
    let seen = profile("served", &["/usr/sbin/served"], vec![missing]);
    assert_eq!(told(&seen, &[], &[]), ["/run/served, which is not there"]);
}

fn switches(uids: &[u32]) -> Vec<Requirement> {
    uids.iter().map(|uid| identity(IdentityOperation::SetUser, &[u32::MAX, *uid, u32::MAX], None)).collect()
}

#[test]
fn who_it_becomes_is_told_in_order_and_never_root() {
    let mut needs = switches(&[120, 0, 33]);
    needs.push(identity(IdentityOperation::SetGroup, &[65534], None));
    for (at, need) in needs.iter_mut().enumerate() {
        need.evidence.first = nrtrace_profiles::requirement::Seconds(10 - at as u64);
    }
    let hints = becomes(&profile("served", &["served"], needs));
    let told: Vec<(u32, Option<u32>)> = hints.iter().map(|hint| (hint.uid, hint.gid)).collect();
    assert_eq!(told, [(33, Some(65534)), (120, Some(65534))]);
}

#[test]
fn owners_are_services_that_own_most() {
    let owned = |name: &str, owner: (&str, u32), mode: u32| {
        path(name, File, &[Access::Read], (name, inode(File, owner, ROOT, mode)))
    };
    let mut profile = profile(
        "served",
        &["served"],
        vec![
            owned("/srv/a", WEB, 0o600),
            owned("/srv/b", ("db", 121), 0o600),
            owned("/srv/c", WEB, 0o640),
            owned("/srv/d", ("ann", 1000), 0o600),
            owned("/srv/e", ROOT, 0o600),
            identity(IdentityOperation::Chown, &[33, 33], Some("/run/served.sock")),
        ],
    );
    let told =
        |profile: &Profile| owners(profile).into_iter().map(|hint| (hint.uid, hint.why)).collect::<Vec<_>>();
    let uses = "who owns what it uses".to_owned();
    assert_eq!(told(&profile), [(120, uses.clone()), (121, uses), (33, "whom it gives files to".into())]);
    profile.identity.uid = 120;
    assert_eq!(owners(&profile).len(), 2);
}

/// The ways that are tried one after the other for the first need.
fn tried(mut profile: Profile) -> Vec<Method> {
    let id = profile.requirements[0].id.clone();
    let mut tried = Vec::new();
    while let Some(next) = ways::next(&profile, &id, &Choices::default()) {
        tried.extend(next.requirements[0].way);
        profile = next;
        assert!(tried.len() < 10, "{tried:?}");
    }
    tried
}

#[test]
fn a_file_made_in_vain_becomes_a_directory_of_its_own() {
    let pid = |directory: &str| {
        let name = format!("{directory}/served.pid");
        let need = path(&name, File, &[Access::Create], (directory, root_directory(0o755)));
        profile("served", &["/usr/sbin/served"], vec![need])
    };
    assert!(tried(pid("/run/served")).contains(&Method::Own));
    // What all use is given to nobody.
    assert!(!tried(pid("/run")).contains(&Method::Own));
}

#[test]
fn a_change_of_identity_is_answered_by_the_unit_at_last() {
    let groups = profile("served", &["served"], vec![identity(IdentityOperation::SetGroups, &[33], None)]);
    assert!(plan(&groups, &Choices::default()).directives.is_empty());
    assert_eq!(tried(groups.clone()), [Method::Unit]);
    let id = groups.requirements[0].id.clone();
    let next = ways::next(&groups, &id, &Choices::default()).unwrap();
    let directives = plan(&next, &Choices::default()).directives;
    let told: Vec<&str> = directives.keys().map(|(_, value)| value.as_str()).collect();
    assert_eq!(told, ["~setgroups:0"]);
    assert!(matches!(next.requirements[0].need, Need::Identity { .. }));
}

#[test]
fn a_capability_stands_in_for_nothing() {
    let need = capability(nrtrace_profiles::Capability::SYS_TIME);
    assert!(tried(profile("served", &["served"], vec![need])).is_empty());
}
