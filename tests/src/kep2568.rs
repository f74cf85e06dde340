//! KEP-2568's table of users, groups and modes for the control plane of kubeadm, and what is found beside it.
//!
//! <https://github.com/kubernetes/enhancements/tree/master/keps/sig-cluster-lifecycle/kubeadm/2568-kubeadm-non-root-control-plane>

use std::collections::{BTreeMap, BTreeSet};

use nrtrace_profiles::accesses::Accesses;
use nrtrace_profiles::event::FileType;
use nrtrace_profiles::plan::{Arrangement, Component, Entry};

/// A row of the table.
struct Row {
    path: &'static str,
    components: &'static [&'static str],
    /// Mode, owner and group.
    permission: &'static str,
    /// What a real control plane shows to be right instead, and why.
    instead: Option<(&'static str, &'static str)>,
}

const OPEN: &str = "0644 root root";
const NOT_ITS_OWN: (&str, &str) = (OPEN, "it is only read, so it need not be its reader's own");

const fn row(path: &'static str, components: &'static [&'static str], permission: &'static str) -> Row {
    Row { path, components, permission, instead: None }
}

const fn but(row: Row, instead: (&'static str, &'static str)) -> Row {
    Row { instead: Some(instead), ..row }
}

const ETCD: &str = "0600 kubeadm-etcd kubeadm-etcd";
const KAS: &str = "0600 kubeadm-kas kubeadm-kas";
const KCM: &str = "0600 kubeadm-kcm kubeadm-kcm";
const KS: &str = "0600 kubeadm-ks kubeadm-ks";

#[rustfmt::skip]
const TABLE: [Row; 21] = [
    but(row("/etc/kubernetes/pki/etcd/server.crt", &["etcd"], "0644 kubeadm-etcd kubeadm-etcd"), NOT_ITS_OWN),
    row("/etc/kubernetes/pki/etcd/server.key", &["etcd"], ETCD),
    but(row("/etc/kubernetes/pki/etcd/peer.crt", &["etcd"], "0644 kubeadm-etcd kubeadm-etcd"), NOT_ITS_OWN),
    row("/etc/kubernetes/pki/etcd/peer.key", &["etcd"], ETCD),
    row("/etc/kubernetes/pki/etcd/ca.crt", &["etcd", "kas"], OPEN),
    but(row("/var/lib/etcd", &["etcd"], ETCD), ("0700 kubeadm-etcd kubeadm-etcd", "a directory takes search to be used")),
    row("/etc/kubernetes/pki/ca.crt", &["kas", "kcm"], OPEN),
    row("/etc/kubernetes/pki/apiserver-etcd-client.crt", &["kas"], OPEN),
    row("/etc/kubernetes/pki/apiserver-etcd-client.key", &["kas"], KAS),
    row("/etc/kubernetes/pki/apiserver-kubelet-client.crt", &["kas"], OPEN),
    row("/etc/kubernetes/pki/apiserver-kubelet-client.key", &["kas"], KAS),
    row("/etc/kubernetes/pki/front-proxy-client.crt", &["kas"], OPEN),
    but(row("/etc/kubernetes/pki/front-proxy-client.key", &["kas"], "0600 root root"), (KAS, "kas reads it as it starts: --proxy-client-key-file")),
    row("/etc/kubernetes/pki/front-proxy-ca.crt", &["kas", "kcm"], OPEN),
    row("/etc/kubernetes/pki/sa.pub", &["kas"], KAS),
    // The KEP leaves the owner out.
    row("/etc/kubernetes/pki/sa.key", &["kas", "kcm"], "0640 root kubeadm-sa-key-readers"),
    row("/etc/kubernetes/pki/apiserver.crt", &["kas"], OPEN),
    row("/etc/kubernetes/pki/apiserver.key", &["kas"], KAS),
    row("/etc/kubernetes/pki/ca.key", &["kcm"], KCM),
    row("/etc/kubernetes/controller-manager.conf", &["kcm"], KCM),
    row("/etc/kubernetes/scheduler.conf", &["ks"], KS),
];

/// The components, by the names that the KEP has for their users.
pub const COMPONENTS: [&str; 4] = ["etcd", "kas", "kcm", "ks"];

/// What each component was seen to do with the files that kubeadm makes, as etcd 3.6 and Kubernetes 1.36 do it.
///
/// # Panics
/// Never: the file is part of this program.
#[expect(clippy::expect_used, reason = "the file is part of this program")]
pub fn recorded() -> Vec<Component> {
    let mut all: BTreeMap<String, Accesses> =
        serde_json::from_str(include_str!("kep2568.json")).expect("a map of accesses");
    let component = |name: &str| {
        let files = all.remove(name).unwrap_or_default().files;
        Component { name: name.to_owned(), files, ..Component::default() }
    };
    COMPONENTS.map(component).into()
}

/// What a file is found to be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Mode, owner and group.
    pub permission: String,
    /// The components that can read it.
    pub readers: BTreeSet<String>,
}

/// What an arrangement makes of each file: who reads it is who uses it, or everybody where it is left open.
pub fn arranged(arrangement: &Arrangement) -> BTreeMap<String, Found> {
    let name = |index: &usize| arrangement.components.get(*index).cloned();
    let of = |entry: &Entry| Found {
        permission: format!("{:04o} {} {}", entry.mode, arrangement.owner(entry), arrangement.group(entry)),
        readers: match entry.left {
            true => arrangement.components.iter().cloned().collect(),
            false => entry.uses.keys().filter_map(name).collect(),
        },
    };
    let entries = arrangement.entries.iter().map(|(path, entry)| (path.to_text(), entry));
    let is_row = |path: &str| TABLE.iter().any(|row| row.path == path);
    entries
        .filter(|(path, entry)| entry.file_type != FileType::Directory || is_row(path))
        .map(|(path, entry)| (path, of(entry)))
        .collect()
}

/// A line of what is shown, and whether it is as it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whether all is right.
    pub right: bool,
    /// Path, components, what the KEP has, what is found, and a remark.
    pub cells: [String; 5],
}

/// Every row of the table beside what is found, and every closed file that is in no row: nobody is to read it.
pub fn compare(found: &BTreeMap<String, Found>) -> Vec<Line> {
    let mut lines: Vec<Line> = TABLE.iter().map(|row| beside(row, found.get(row.path))).collect();
    for (path, found) in found.iter().filter(|(path, _)| TABLE.iter().all(|row| row.path != *path)) {
        // What is open to everybody is no secret.
        if found.permission.get(3..4) != Some("0") || !path.starts_with("/etc/kubernetes/") {
            continue;
        }
        let right = found.readers.is_empty();
        let remark = if right { "no component reads it" } else { "it is in no row, and can be read" };
        let cells = [path, &joined(&found.readers), "", &found.permission, remark].map(str::to_owned);
        lines.push(Line { right, cells });
    }
    lines
}

fn beside(row: &Row, found: Option<&Found>) -> Line {
    let none = Found { permission: "not there".into(), readers: BTreeSet::new() };
    let found = found.unwrap_or(&none);
    let expected = row.instead.map_or(row.permission, |(permission, _)| permission);
    let everybody = expected == OPEN;
    let readers: BTreeSet<String> = row.components.iter().map(|name| (*name).to_owned()).collect();
    let is_read = if everybody { found.readers.is_superset(&readers) } else { found.readers == readers };
    let remark = match row.instead {
        _ if found.permission != expected => "another owner, group or mode".to_owned(),
        _ if !is_read => format!("it can be read by {}", joined(&found.readers)),
        Some((_, why)) => why.to_owned(),
        None => String::new(),
    };
    Line {
        right: found.permission == expected && is_read,
        cells: [
            row.path.to_owned(),
            row.components.join(", "),
            row.permission.to_owned(),
            found.permission.clone(),
            remark,
        ],
    }
}

fn joined(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
