//! What `plan` arranges: KEP-2568's matrix, conflicts, and the fewest groups.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};

use nrtrace_profiles::RawText;
use nrtrace_profiles::accesses::FileAccess;
use nrtrace_profiles::event::{FileType, Inode};
use nrtrace_profiles::glob::Pattern;
use nrtrace_profiles::plan::{
    Arrangement, Component, Grouping, Options, Owner, Owners, Public, Reader, emit, plan,
};
use nrtrace_profiles::requirement::Access;
use proptest::prelude::*;

fn access(path: &str, file_type: FileType, access: &[Access]) -> FileAccess {
    FileAccess { path: path.into(), file_type, access: access.iter().copied().collect(), inode: None }
}

fn file(path: &str, what: &[Access]) -> FileAccess {
    access(path, FileType::File, what)
}

fn directory(path: &str, what: &[Access]) -> FileAccess {
    access(path, FileType::Directory, what)
}

fn component(name: &str, files: Vec<FileAccess>) -> Component {
    Component { name: name.into(), files, ..Component::default() }
}

fn options(prefix: &str, paths: &[&str]) -> Options {
    Options {
        prefix: prefix.into(),
        uids: 101..=999,
        gids: 101..=999,
        taken_uids: BTreeSet::from([999, 998]),
        taken_gids: BTreeSet::from([999, 997]),
        given: BTreeMap::new(),
        owners: Owners::Component,
        grouping: Grouping::Set,
        public: Public::Close,
        paths: paths.iter().map(|path| Pattern::new(&RawText::from(*path)).unwrap()).collect(),
    }
}

/// Mode, owner and group of each entry, in a line.
fn outline(arrangement: &Arrangement) -> BTreeMap<String, String> {
    let entries = arrangement.entries.iter();
    entries
        .map(|(path, entry)| {
            let acl = if entry.acl.is_empty() { "" } else { "+" };
            (
                path.to_text(),
                format!("{:04o}{acl} {} {}", entry.mode, arrangement.owner(entry), arrangement.group(entry)),
            )
        })
        .collect()
}

const PKI: &str = "/etc/kubernetes/pki";

/// What the components of a kubeadm control plane do with files, as the table of KEP-2568 has it.
fn control_plane() -> Vec<Component> {
    let read = |names: &[&str]| -> Vec<FileAccess> {
        names.iter().map(|name| file(&format!("/etc/kubernetes/{name}"), &[Access::Read])).collect()
    };
    let mut etcd = read(&[
        "pki/etcd/server.crt",
        "pki/etcd/server.key",
        "pki/etcd/peer.crt",
        "pki/etcd/peer.key",
        "pki/etcd/ca.crt",
    ]);
    etcd.extend([
        directory("/var/lib/etcd", &[Access::Own, Access::Read, Access::Write]),
        directory("/var/lib/etcd/member", &[Access::Create]),
        file("/var/lib/etcd/member/snap.db", &[Access::Create, Access::Read, Access::Write]),
    ]);
    let kas = read(&[
        "pki/etcd/ca.crt",
        "pki/ca.crt",
        "pki/apiserver-etcd-client.crt",
        "pki/apiserver-etcd-client.key",
        "pki/apiserver-kubelet-client.crt",
        "pki/apiserver-kubelet-client.key",
        "pki/front-proxy-client.crt",
        "pki/front-proxy-client.key",
        "pki/front-proxy-ca.crt",
        "pki/sa.pub",
        "pki/sa.key",
        "pki/apiserver.crt",
        "pki/apiserver.key",
    ]);
    let kcm = read(&[
        "pki/ca.crt",
        "pki/ca.key",
        "pki/front-proxy-ca.crt",
        "pki/sa.key",
        "controller-manager.conf",
    ]);
    let ks = read(&["scheduler.conf"]);
    vec![component("etcd", etcd), component("kas", kas), component("kcm", kcm), component("ks", ks)]
}

fn control_plane_options() -> Options {
    options("kubeadm-", &["/etc/kubernetes/pki/**", "/etc/kubernetes/*.conf", "/var/lib/etcd"])
}

#[test]
fn the_control_plane_of_kep_2568() {
    let arrangement = plan(&control_plane(), &control_plane_options()).unwrap();
    let found = outline(&arrangement);
    let own = |name: &str| format!("0600 kubeadm-{name} kubeadm-{name}");
    for (path, entry) in &arrangement.entries {
        let users: Vec<&str> = entry.uses.keys().map(|user| arrangement.components[*user].as_str()).collect();
        let text = &found[&path.to_text()];
        match (entry.file_type, users.as_slice()) {
            (FileType::File, [one]) => assert_eq!(*text, own(one), "{path}"),
            (FileType::File, _) => assert!(text.starts_with("0640 root kubeadm-"), "{path}: {text}"),
            _ => assert_eq!(
                entry.mode & 0o111 & (entry.mode >> 2),
                entry.mode >> 2 & 0o111,
                "{path}: {text}: read without search"
            ),
        }
    }
    // The KEP's own slip was 0600 here.
    assert_eq!(found["/var/lib/etcd"], "0700 kubeadm-etcd kubeadm-etcd");
    assert_eq!(arrangement.conflicts, []);
    // Two sets of components share something, so two groups do.
    let groups: Vec<(String, Vec<&str>)> = arrangement
        .groups
        .iter()
        .map(|group| {
            (group.name.clone(), group.members.iter().map(|m| arrangement.components[*m].as_str()).collect())
        })
        .collect();
    assert_eq!(
        groups,
        [
            ("kubeadm-pki-readers".to_owned(), vec!["kas", "kcm"]),
            ("kubeadm-etcd-ca-crt-readers".to_owned(), vec!["etcd", "kas"]),
        ]
    );
    assert_eq!(found[&format!("{PKI}/etcd")], "0710 root kubeadm-etcd-ca-crt-readers");
    for user in &arrangement.users {
        assert!((101..=997).contains(&user.uid) && user.gid != 997, "{user:?}");
    }
}

#[test]
fn a_group_for_each_file_as_the_kep_has_it() {
    let options = Options { grouping: Grouping::File, ..control_plane_options() };
    let arrangement = plan(&control_plane(), &options).unwrap();
    let found = outline(&arrangement);
    assert_eq!(found[&format!("{PKI}/ca.crt")], "0640 root kubeadm-ca-crt-readers");
    assert_eq!(found[&format!("{PKI}/sa.key")], "0640 root kubeadm-sa-key-readers");
    // kubeadm-front-proxy-ca-crt-readers is longer than a name can be.
    assert_eq!(found[&format!("{PKI}/front-proxy-ca.crt")], "0640 root kubeadm-front-proxy-ca-readers");
    assert_eq!(found[&format!("{PKI}/etcd/ca.crt")], "0640 root kubeadm-etcd-ca-crt-readers");
    assert_eq!(arrangement.groups.len(), 4);
}

#[test]
fn root_keeps_what_is_only_read() {
    let options = Options { owners: Owners::Root, ..control_plane_options() };
    let found = outline(&plan(&control_plane(), &options).unwrap());
    assert_eq!(found[&format!("{PKI}/ca.key")], "0640 root kubeadm-kcm");
    assert_eq!(found["/var/lib/etcd"], "0700 kubeadm-etcd kubeadm-etcd");
}

#[test]
fn etcd_with_group_root_reads_every_key_today() {
    let mut components = control_plane();
    components[0].today = Reader { uid: 500, gids: BTreeSet::from([0]) };
    for component in &mut components {
        for file in component.files.iter_mut().filter(|file| file.path.to_text().ends_with(".key")) {
            let (user, group) = (Some("root".into()), Some("root".into()));
            file.inode = Some(Inode {
                file_type: FileType::File,
                mode: 0o640,
                uid: 0,
                user,
                gid: 0,
                group,
                device: None,
            });
        }
    }
    let arrangement = plan(&components, &control_plane_options()).unwrap();
    let etcd = arrangement.today.iter().find(|excess| excess.component == Some(0)).unwrap();
    assert!(etcd.because.contains("group root (gid 0)"), "{etcd:?}");
    assert!(etcd.paths.contains(&RawText::from("/etc/kubernetes/pki/ca.key")));
    assert!(!etcd.paths.contains(&RawText::from("/etc/kubernetes/pki/etcd/server.key")));
    let page = emit::markdown(&arrangement, "control-plane");
    assert!(page.contains("etcd can read what it does not use, because it runs with group root"), "{page}");
    assert!(
        page.contains("| /etc/kubernetes/pki/sa.key | kas, kcm | 0640 root kubeadm-pki-readers |"),
        "{page}"
    );
}

#[test]
fn writers_and_readers() {
    let components = [
        component(
            "a",
            vec![
                file("/srv/log", &[Access::Append]),
                file("/srv/both", &[Access::Write]),
                file("/srv/three", &[Access::Write]),
                directory("/srv/spool", &[Access::Write]),
                access("/srv/run/sock", FileType::Socket, &[Access::Create]),
            ],
        ),
        component(
            "b",
            vec![
                file("/srv/log", &[Access::Read]),
                file("/srv/both", &[Access::Write]),
                file("/srv/three", &[Access::Write]),
                directory("/srv/spool", &[Access::Write]),
                access("/srv/run/sock", FileType::Socket, &[Access::Write]),
            ],
        ),
        component("c", vec![file("/srv/three", &[Access::Read])]),
    ];
    let arrangement = plan(&components, &options("", &["/srv/*", "/srv/run/**"])).unwrap();
    let found = outline(&arrangement);
    assert_eq!(found["/srv/log"], "0640 a b");
    assert_eq!(found["/srv/both"], "0620 a b");
    assert!(found["/srv/three"].contains('+'), "{found:#?}");
    assert!(arrangement.conflicts.iter().any(|conflict| conflict.path == RawText::from("/srv/three")));
    let spool = &arrangement.entries[&RawText::from("/srv/spool")];
    assert_eq!((spool.mode & 0o7777, spool.owner), (0o1730, Owner::Root), "{found:#?}");
    // Who makes a socket for others makes it in their group.
    assert_eq!(found["/srv/run"], "2710 a b");
    assert!(
        arrangement.notes.iter().any(|note| note.text.contains("UMask=0007")),
        "{:#?}",
        arrangement.notes
    );
    let cannot = plan(&components, &options("", &["/srv/run/**"])).unwrap();
    assert!(
        cannot.conflicts.iter().any(|conflict| conflict.text.contains("add it to --paths")),
        "{:#?}",
        cannot.conflicts
    );
}

#[test]
fn ids_that_are_given_taken_or_gone() {
    let read = |name: &str| component(name, vec![file("/srv/x", &[Access::Read])]);
    let components = [read("a"), read("b")];
    let mut options = options("", &["/srv/x"]);
    options.given.insert("a".into(), (4000, 4001));
    let arrangement = plan(&components, &options).unwrap();
    assert_eq!((arrangement.users[0].uid, arrangement.users[0].gid), (4000, 4001));
    options.given.insert("b".into(), (4000, 4002));
    assert!(plan(&components, &options).unwrap_err().to_string().contains("given to a and to b"));
    options.given.clear();
    options.uids = 998..=999;
    assert!(plan(&components, &options).unwrap_err().to_string().contains("not enough free user ids"));
}

/// The fewest groups of several members with which owner, group and mode alone can give each file's users just what
/// they do, found by trying everything.
fn fewest(files: &[BTreeMap<usize, u32>], components: usize) -> usize {
    let subsets: Vec<BTreeSet<usize>> = (0..1u32 << components)
        .map(|bits| (0..components).filter(|c| bits >> c & 1 == 1).collect())
        .collect();
    let mut states: BTreeSet<BTreeSet<BTreeSet<usize>>> = BTreeSet::from([BTreeSet::new()]);
    for uses in files {
        let mut possible: BTreeSet<Option<BTreeSet<usize>>> = BTreeSet::new();
        for owner in (0..components).map(Some).chain([None]) {
            let writes = owner.is_none_or(|owner| uses.get(&owner).is_some_and(|bits| bits & 2 != 0));
            for group in subsets.iter().filter(|_| writes) {
                for bits in [4, 2, 6] {
                    let granted = |c: usize| {
                        if owner == Some(c) {
                            uses[&c]
                        } else if group.contains(&c) {
                            bits
                        } else {
                            0
                        }
                    };
                    if (0..components).all(|c| granted(c) == uses.get(&c).copied().unwrap_or(0)) {
                        possible.insert((group.len() > 1).then(|| group.clone()));
                    }
                }
            }
        }
        if possible.is_empty() {
            // An ACL it takes: not a matter of this count.
            continue;
        }
        let next = states.iter().flat_map(|state| {
            possible.iter().map(|group| state.iter().cloned().chain(group.clone()).collect())
        });
        states = next.collect();
    }
    states.iter().map(BTreeSet::len).min().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_fewer_groups_would_do(uses in proptest::collection::vec(proptest::collection::vec(0usize..4, 4), 1..6)) {
        let files: Vec<BTreeMap<usize, u32>> = uses
            .iter()
            .map(|row| row.iter().enumerate().map(|(c, n)| (c, [0, 4, 2, 6][*n])).filter(|(_, bits)| *bits != 0).collect())
            .collect();
        let components: Vec<Component> = (0..4)
            .map(|c| {
                let own = files.iter().enumerate().filter_map(|(n, uses)| {
                    let bits = uses.get(&c)?;
                    let access: Vec<Access> =
                        [(4, Access::Read), (2, Access::Write)].iter().filter(|(bit, _)| bits & bit != 0).map(|(_, a)| *a).collect();
                    Some(file(&format!("/srv/f{n}"), &access))
                });
                component(&format!("c{c}"), own.collect())
            })
            .collect();
        let arrangement = plan(&components, &options("", &["/srv/*"])).unwrap();
        let acl = arrangement.entries.values().any(|entry| !entry.acl.is_empty());
        let needed: Vec<BTreeMap<usize, u32>> = files.iter().filter(|uses| uses.len() > 1).cloned().collect();
        let least = fewest(&needed, 4);
        prop_assert!(acl || arrangement.groups.len() == least, "{} groups, {least} would do: {files:?} {:#?}", arrangement.groups.len(), outline(&arrangement));
    }

    #[test]
    fn hostile_names_stay_in_their_place(names in proptest::collection::vec("[^/\0]{1,8}", 1..5)) {
        let files = |what: Access| names.iter().filter(|n| *n != "." && *n != "..").map(|n| file(&format!("/srv/{n}"), &[what])).collect::<Vec<_>>();
        let components = [component("a", files(Access::Read)), component("b", files(Access::Write))];
        let arrangement = plan(&components, &options("", &["/srv"])).unwrap();
        for emitted in emit::files(&arrangement, "plan", &emit::Pods::new()) {
            let control = emitted.text.chars().any(|c| c.is_control() && c != '\n');
            prop_assert!(!control, "{:?}", emitted.text);
            if emitted.file_name.starts_with("tmpfiles") {
                let lines = emitted.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
                prop_assert!(lines.clone().all(|line| line.starts_with("d /srv") || line.starts_with("d \"/srv") || line.starts_with("z /srv") || line.starts_with("z \"/srv")), "{:?}", emitted.text);
            }
            if emitted.file_name.ends_with(".yaml") {
                prop_assert!(serde_norway::from_str::<serde_norway::Value>(&emitted.text).is_ok(), "{}", emitted.text);
            }
        }
    }
}
