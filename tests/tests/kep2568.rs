//! The plan for a control plane is that of KEP-2568; `cargo xtask plan` does the same with the programs themselves.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;

use nrtrace_profiles::RawText;
use nrtrace_profiles::glob::Pattern;
use nrtrace_profiles::plan::{Component, Grouping, Options, Owners, Public, emit, plan};
use nrtrace_tests::kep2568::{arranged, compare, recorded};

fn options(public: Public) -> Options {
    Options {
        prefix: "kubeadm-".into(),
        uids: 101..=999,
        gids: 101..=999,
        taken_uids: Default::default(),
        taken_gids: Default::default(),
        given: BTreeMap::new(),
        owners: Owners::Component,
        grouping: Grouping::Set,
        public,
        paths: ["/etc/kubernetes", "/var/lib/etcd"]
            .map(|path| Pattern::new(&RawText::from(path)).unwrap())
            .into(),
    }
}

/// The rows that are not as they have to be.
fn wrong(components: &[Component], public: Public) -> Vec<String> {
    let arrangement = plan(components, &options(public)).unwrap();
    assert_eq!(arrangement.conflicts, []);
    let lines = compare(&arranged(&arrangement));
    lines.into_iter().filter(|line| !line.right).map(|line| line.cells.join(" | ")).collect()
}

#[test]
fn the_plan_is_that_of_the_kep() {
    assert_eq!(wrong(&recorded(), Public::Leave), Vec::<String>::new());
    let arrangement = plan(&recorded(), &options(Public::Leave)).unwrap();
    let groups: Vec<&str> = arrangement.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(groups, ["kubeadm-sa-key-readers"]);
}

#[test]
fn another_plan_is_told_from_it() {
    let mut components = recorded();
    components[2].files.retain(|file| !file.path.to_text().ends_with("/sa.key"));
    let found = wrong(&components, Public::Leave);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("/etc/kubernetes/pki/sa.key"), "{found:#?}");
    // Closed certificates are stricter than the KEP, and not it: nine are closed, and sa.key's group opens some of them, too.
    assert_eq!(wrong(&recorded(), Public::Close).len(), 10);
}

#[test]
fn what_etcd_makes_itself_is_not_made_for_it() {
    let arrangement = plan(&recorded(), &options(Public::Leave)).unwrap();
    let text = emit::tmpfiles(&arrangement, "plan");
    let lines: Vec<&str> =
        text.lines().filter(|line| line.contains("/var/lib/etcd") && !line.starts_with('#')).collect();
    assert_eq!(
        lines,
        [
            "d /var/lib/etcd 0700 kubeadm-etcd kubeadm-etcd -",
            "Z /var/lib/etcd/member - kubeadm-etcd kubeadm-etcd",
            "z /var/lib/etcd/member/snap/db 0600 kubeadm-etcd kubeadm-etcd",
        ]
    );
    assert!(!text.contains("wal.tmp"), "{text}");
}

#[test]
fn the_screen_tells_who_runs_as_what_and_shares_what() {
    let arrangement = plan(&recorded(), &options(Public::Leave)).unwrap();
    let screen = emit::screen(&arrangement);
    let expected = "\
component  runs as       uid  gid  further groups
etcd       kubeadm-etcd  999  999  none
kas        kubeadm-kas   998  998  kubeadm-sa-key-readers
kcm        kubeadm-kcm   997  997  kubeadm-sa-key-readers
ks         kubeadm-ks    996  996  none

shared group            gid  members   opens
kubeadm-sa-key-readers  995  kas, kcm  /etc/kubernetes/pki/sa.key

22 files: 12 of one component alone, 1 shared, 9 left as they are, since everybody may read them
";
    assert_eq!(screen, expected);
}
