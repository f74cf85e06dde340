//! Groups that have an access already.

use super::account::is_account_name;
use crate::event::Inode;

/// A group that may be joined.
pub(super) struct Usable {
    /// Its name, or its number where it has no name that can be written.
    pub(super) name: String,
    /// Its number on the machine of the run.
    pub(super) gid: u32,
    /// What else it opens.
    pub(super) caution: Option<&'static str>,
}

/// Groups whose members are root in all but name, or own the hardware.
const DANGEROUS: &[&str] = &[
    "root",
    "disk",
    "sudo",
    "wheel",
    "admin",
    "docker",
    "lxd",
    "incus",
    "incus-admin",
    "kmem",
    "mem",
    "staff",
    "libvirt",
    "podman",
    "podmansock",
    "shutdown",
    "sys",
    "bin",
    "daemon",
    "utmp",
];

/// Groups that open much more than the one file.
const BROAD: &[(&str, &str)] = &[
    ("shadow", "group shadow reads every password hash of the machine"),
    ("adm", "group adm reads most logs of the machine"),
    ("systemd-journal", "group systemd-journal reads the whole journal"),
    ("tty", "group tty writes to every terminal"),
    ("mail", "group mail reads and writes every mailbox"),
    ("ssl-cert", "group ssl-cert reads every private key in /etc/ssl/private"),
];

/// The group of `inode` when its members have all of `bits` (4 read, 2 write, 1 execute) and joining it is safe.
pub(super) fn usable(inode: &Inode, bits: u32) -> Option<Usable> {
    let has = (inode.mode >> 3) & bits == bits;
    let name = inode.group.clone().unwrap_or_default();
    if !has || is_made_up(inode.gid) || inode.gid == 0 || DANGEROUS.contains(&name.as_str()) {
        return None;
    }
    let caution = BROAD.iter().find(|(group, _)| *group == name).map(|(_, why)| *why);
    Some(Usable { name: name_of(inode), gid: inode.gid, caution })
}

/// The name of a group that has an access already and may be joined, with what else it opens.
pub fn usable_group(inode: &Inode, bits: u32) -> Option<(String, Option<&'static str>)> {
    usable(inode, bits).map(|group| (group.name, group.caution))
}

/// Whether a group is so dangerous that the access it gives is not to be had.
pub(super) fn is_dangerous(inode: &Inode) -> bool {
    inode.gid == 0 || inode.group.as_deref().is_some_and(|g| DANGEROUS.contains(&g))
}

/// Whether an id is of those that runs make users up with: systemd's range for dynamic users, which belongs to nobody.
pub(super) fn is_made_up(id: u32) -> bool {
    (61184..=65519).contains(&id)
}

/// A group that amounts to root, where it has the access: for who asks for it by name.
pub(super) fn on_demand(inode: &Inode, bits: u32) -> Option<Usable> {
    let has = (inode.mode >> 3) & bits == bits;
    let caution = Some("whoever is in this group can become root");
    (has && inode.gid != 0).then(|| Usable { name: name_of(inode), gid: inode.gid, caution })
}

/// The group's name, or its number where it has no name that can be written.
pub(super) fn name_of(inode: &Inode) -> String {
    match &inode.group {
        Some(name) if is_account_name(name) => name.clone(),
        _ => inode.gid.to_string(),
    }
}
