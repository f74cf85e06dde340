//! Groups that have an access already.

use crate::event::Inode;
use crate::grants::{Act, Grade, Grants, Membership, Way, Why, is_account_name};

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
const BROAD: &[(&str, &str, Grade)] = &[
    ("shadow", "group shadow reads every password hash of the machine", Grade::High),
    ("adm", "group adm reads most logs of the machine", Grade::Medium),
    ("systemd-journal", "group systemd-journal reads the whole journal", Grade::Medium),
    ("tty", "group tty writes to every terminal", Grade::Medium),
    ("mail", "group mail reads and writes every mailbox", Grade::Medium),
    // It was made for services that need one of these.
    ("ssl-cert", "group ssl-cert reads every private key in /etc/ssl/private", Grade::Low),
];

/// What joining a group does that has the access already.
const MEMBERS: &str = "its members have the access already";

/// The way to join the group of `inode`, when its members have all of `bits` (4 read, 2 write, 1 execute) and joining it
/// is safe.
pub(super) fn join(inode: &Inode, bits: u32, grants: &Grants) -> Option<Way> {
    let name = inode.group.as_deref().unwrap_or_default();
    if grants.used.is_obeyed(inode.gid)
        || !has(inode, bits)
        || is_made_up(inode.gid)
        || DANGEROUS.contains(&name)
    {
        return None;
    }
    let broad = BROAD.iter().find(|(group, ..)| *group == name);
    let (caution, grade) = broad.map_or((None, Grade::Low), |(_, why, grade)| (Some(*why), *grade));
    Some(member(inode, caution, grade))
}

/// Whether members of a group that is not root's have an access.
fn has(inode: &Inode, bits: u32) -> bool {
    (inode.mode >> 3) & bits == bits && inode.gid != 0
}

fn member(inode: &Inode, caution: Option<&'static str>, grade: Grade) -> Way {
    let membership = Membership { gid: inode.gid, caution, grade, why: Why::default() };
    Way::new(Act::Join(name_of(inode), membership), MEMBERS)
}

/// Whether a group is so dangerous that the access it gives is not to be had.
pub(super) fn is_dangerous(inode: &Inode) -> bool {
    inode.gid == 0 || inode.group.as_deref().is_some_and(|g| DANGEROUS.contains(&g))
}

/// Whether an id is of those that runs make users up with: systemd's range for dynamic users, which belongs to nobody.
pub(super) fn is_made_up(id: u32) -> bool {
    (61184..=65519).contains(&id)
}

/// The way to join a group that amounts to root, where it has the access: for who asks for groups before all else.
pub(super) fn join_on_demand(inode: &Inode, bits: u32) -> Option<Way> {
    has(inode, bits).then(|| member(inode, Some("whoever is in this group can become root"), Grade::High))
}

/// The group's name, or its number where it has no name that can be written.
pub(super) fn name_of(inode: &Inode) -> String {
    match &inode.group {
        Some(name) if is_account_name(name) => name.clone(),
        _ => inode.gid.to_string(),
    }
}
