//! Grants for what is there already: groups, owners, ACL entries, modes.

use std::collections::BTreeMap;

use super::account::safe_name;
use super::groups::{Usable, is_dangerous, on_demand, usable};
use super::paths::{MEMBERS, foreign_owner, kept_group, note_owner, refuse_foreign};
use super::place::{Class, Place, is_at_root, is_below, own_name, parent};
use super::secret::{Secret, is_home, secret};
use super::tally::Wish;
use super::{Acl, Credential, Directory, File, FileKind, Grants, Method, Setting, Why};

use crate::RawText;
use crate::event::FileType;
use crate::profile::Profile;
use crate::requirement::Access;

/// Opens something that is there already.
pub(super) fn open(wish: &Wish, grants: &mut Grants) {
    if inside_own(wish, grants) {
        return;
    }
    let bits = wish.bits();
    let writes = bits & 2 != 0 || wish.has(Access::Own);
    let inode = wish.inode();
    let group = inode.and_then(|inode| usable(inode, bits));
    // No group makes an owner; and none that opens much else is joined only to write.
    let fits = |group: &Usable| !wish.has(Access::Own) && (!writes || group.caution.is_none());
    let place = grants.world.place(wish.path);
    let group = group.filter(fits).or_else(|| demanded(wish, grants));
    match (ways_to_open(wish, place, group.is_some(), grants), group) {
        (Some(Method::Group), Some(group)) => return grants.join(&group, Why::new(wish.id, MEMBERS)),
        (Some(Method::Own), _) => return give(wish, place, grants),
        (Some(Method::Credential), _) => return hand_over(wish, grants),
        (Some(Method::Acl), _) if writes => {
            let why = Why::new(wish.id, "the user alone may write it; its owner and mode stay");
            return grants.acl(wish.path, bits, why);
        }
        _ => {}
    }
    if !writes && closed(wish, grants) {
        return;
    }
    if wish.file_type == FileType::Socket {
        let hint = "change mode or group in the configuration of the service that owns the socket";
        let danger = inode.is_some_and(|i| is_dangerous(i) && i.gid != 0);
        let reason = if danger {
            "its group amounts to root"
        } else {
            "the service that owns it makes it anew each time"
        };
        grants.refuse(wish.id, reason, hint);
    } else if writes {
        give(wish, place, grants);
    } else if is_kernel_tree(wish.path) {
        attribute(wish, grants);
    } else {
        // A script is read by its interpreter, and a directory that is listed is also passed through.
        let with = if bits & 5 != 0 && wish.is_directory() { 1 } else { 0 };
        grants.acl(
            wish.path,
            bits | with,
            Why::new(wish.id, format!("the user alone may {} it", verbs(bits))),
        );
        if let Some(Secret::Credential(why)) = secret(wish.path, inode, &grants.world)
            && let Some(acl) = grants.acls.get_mut(wish.path)
        {
            acl.caution = Some(why);
        }
    }
}

/// The group of a socket that amounts to root, for who prefers groups to everything else.
fn demanded(wish: &Wish, grants: &Grants) -> Option<Usable> {
    let asks = grants.choices.prefer.first() == Some(&Method::Group) && wish.file_type == FileType::Socket;
    wish.inode().filter(|_| asks).and_then(|inode| on_demand(inode, wish.bits()))
}

/// Whether a need to read is refused, since what is read is a secret of the machine or somebody's home.
fn closed(wish: &Wish, grants: &mut Grants) -> bool {
    let listed = wish.is_directory() && wish.bits() & 4 != 0 && is_home(wish.path, &grants.world);
    let reason = match secret(wish.path, wish.inode(), &grants.world) {
        Some(Secret::Closed(why)) if !wish.is_directory() => why,
        _ if listed => "it is the home of somebody else, and what is in it is nobody's business",
        _ => return false,
    };
    let hint = if wish.is_directory() {
        "have the program keep what it needs in a directory of its own"
    } else {
        "do without it, or have systemd hand over a copy (--prefer credential)"
    };
    grants.refuse(wish.id, reason, hint);
    true
}

/// Opens an attribute below `/sys` to the user's group; what the kernel shows in `/proc` is not opened.
fn attribute(wish: &Wish, grants: &mut Grants) {
    let opens = wish.path.as_bytes().starts_with(b"/sys/")
        && grants.world.setting == Setting::Host
        && wish.bits() == 4
        && wish.file_type == FileType::File;
    match wish.inode().filter(|inode| opens && inode.uid == 0 && inode.mode & 0o400 != 0) {
        Some(inode) => {
            let why = Why::new(wish.id, "it stays root's, and the user's group may read it");
            let mode = Some(inode.mode & 0o777 | 0o040);
            let group = Some(grants.account.group.clone());
            merge_file(
                wish.path,
                File { kind: FileKind::Attribute, mode, group, existed: true, why },
                grants,
            );
        }
        None => {
            let reason =
                "the kernel shows it to root, and nrtrace does not know that another mode would be kept";
            grants.refuse(wish.id, reason, "do without it, or have a helper read it");
        }
    }
}

/// Takes back what could not be put in place: below a directory that changes hands, systemd-tmpfiles follows no way from
/// the user to what is somebody else's.
pub(super) fn close_ways(grants: &mut Grants) {
    let owned: Vec<RawText> =
        grants.directories.iter().filter(|(_, grant)| grant.existed).map(|(path, _)| path.clone()).collect();
    let reaches = |path: &RawText, itself: bool, grants: &Grants| {
        let Some(top) = owned.iter().find(|top| is_below(path.as_bytes(), top.as_bytes())) else {
            return true;
        };
        let mut way = if itself { path.clone() } else { parent(path) };
        while way != *top {
            if !grants.directories.contains_key(&way) {
                return false;
            }
            way = parent(&way);
        }
        true
    };
    let mut closed: Vec<(RawText, Why)> = Vec::new();
    let acls = std::mem::take(&mut grants.acls);
    let (kept, lost) = acls.into_iter().partition(|(path, _)| reaches(path, true, grants));
    grants.acls = kept;
    closed.extend(BTreeMap::into_iter(lost).map(|(path, acl): (RawText, Acl)| (path, acl.why)));
    let files = std::mem::take(&mut grants.files);
    let itself = |file: &File| matches!(file.kind, FileKind::Existing | FileKind::Attribute);
    let (kept, lost) = files.into_iter().partition(|(path, file)| reaches(path, itself(file), grants));
    grants.files = kept;
    closed.extend(BTreeMap::into_iter(lost).map(|(path, file): (RawText, File)| (path, file.why)));
    let lost: Vec<RawText> =
        grants.directories.keys().filter(|path| !reaches(path, false, grants)).cloned().collect();
    for path in lost {
        closed.extend(grants.directories.remove(&path).map(|grant| (path, grant.why)));
    }
    for (path, why) in closed {
        for need in &why.needs {
            let reason = format!(
                "the way to {path} leads through a directory that changes hands, and what lies between does not"
            );
            grants.refuse(need, reason, "have the program use a directory of its own");
        }
    }
}

/// Takes back the way into homes in which nothing is granted: root's, and those of other users.
pub(super) fn close_homes(profile: &Profile, grants: &mut Grants) {
    let inside = |home: &RawText, path: &RawText| is_below(path.as_bytes(), home.as_bytes());
    let empty = |home: &RawText| {
        let granted = grants.acls.iter().filter(|(_, acl)| acl.bits != 1).map(|(path, _)| path);
        !granted.chain(grants.files.keys()).chain(grants.directories.keys()).any(|path| inside(home, path))
    };
    let passes =
        |(path, acl): &(&RawText, &Acl)| acl.bits == 1 && is_home(path, &grants.world) && empty(path);
    let closed: Vec<RawText> = grants.acls.iter().filter(passes).map(|(path, _)| path.clone()).collect();
    for path in closed {
        let Some(acl) = grants.acls.remove(&path) else { continue };
        for need in profile.requirements.iter().filter(|need| acl.why.needs.contains(&need.id)) {
            let reason = format!("{path} is somebody else's home, and nothing in it is granted");
            grants.refuse(&need.id, reason, "have what the program needs there in a directory of its own");
        }
    }
}

/// How to open what is there: the preferred way of those that can be; none stands for what is usual.
fn ways_to_open(wish: &Wish, place: Place, group: bool, grants: &Grants) -> Option<Method> {
    let writes = wish.bits() & 2 != 0 || wish.has(Access::Own);
    let closed = matches!(secret(wish.path, wish.inode(), &grants.world), Some(Secret::Closed(_)));
    let private = matches!(place, Place::Private(class) if class != Class::Config)
        && wish.file_type != FileType::Socket
        && (wish.is_directory() || !is_at_root(wish.path))
        && wish.inode().is_none_or(|inode| {
            foreign_owner(wish.path, inode, grants).is_none()
                && (inode.file_type != FileType::File || inode.mode & 0o6111 == 0)
        });
    let handed = wish.bits() == 4 && wish.file_type == FileType::File && !is_kernel_tree(wish.path);
    // A secret of the machine is handed over for who asks for that, and not because nothing else is left.
    let handed = handed && (!closed || grants.choices.prefer.contains(&Method::Credential));
    let ways = [
        (group, Method::Group),
        (private && writes, Method::Own),
        (!wish.has(Access::Own) && (private || (!writes && !closed)), Method::Acl),
        (private && !writes, Method::Own),
        (handed, Method::Credential),
    ];
    let ways: Vec<Method> = ways.into_iter().filter(|(can, _)| *can).map(|(_, method)| method).collect();
    grants.choices.pick(wish.way, &ways)
}

/// systemd reads the file and hands a copy over.
fn hand_over(wish: &Wish, grants: &mut Grants) {
    let name = wish.path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let mut name = safe_name(&String::from_utf8_lossy(name));
    while grants.credentials.get(&name).is_some_and(|present| present.path != *wish.path) {
        name.push('_');
    }
    let why =
        Why::new(wish.id, "systemd reads it as root and hands a copy over, which only this service sees");
    grants.advise(
        wish.id,
        format!(
            "have the program read {} from $CREDENTIALS_DIRECTORY/{name} (in the unit: %d/{name})",
            wish.path
        ),
    );
    grants.credentials.insert(name, Credential { path: wish.path.clone(), why });
}

fn is_kernel_tree(path: &RawText) -> bool {
    ["/proc", "/sys"].iter().any(|tree| is_below(path.as_bytes(), tree.as_bytes()))
}

/// Takes in what lies in a directory that the service owns: true when nothing more is to do.
fn inside_own(wish: &Wish, grants: &mut Grants) -> bool {
    let path = wish.path.as_bytes();
    if let Some(grant) = grants.directories.get_mut(wish.path) {
        grant.why.needs.insert(wish.id.to_owned());
        return true;
    }
    let owned = grants
        .directories
        .iter_mut()
        .rev()
        .find(|(directory, grant)| is_below(path, directory.as_bytes()) && grant.class != Class::Config);
    let Some((_, grant)) = owned else {
        return false;
    };
    if !grant.existed {
        grant.why.needs.insert(wish.id.to_owned());
        return true;
    }
    let class = grant.class;
    give_inside(wish, class, grants);
    true
}

/// What was there already in a directory that changes hands follows it by a line of its own, unless it is another
/// service's: nothing is done to all that is below. systemd-tmpfiles would not follow a way from the user to another
/// owner, so that neither an ACL entry nor another group does here.
fn give_inside(wish: &Wish, class: Class, grants: &mut Grants) {
    let inode = wish.inode();
    if let Some(owner) = inode.and_then(|inode| foreign_owner(wish.path, inode, grants)) {
        return refuse_foreign(wish, wish.path, &owner, grants);
    }
    let Some(inode) = inode
        .filter(|inode| inode.uid != grants.account.run_uid || inode.mode >> 6 & wish.bits() != wish.bits())
    else {
        let reason = "who owns it is not known, and its directory changes hands";
        return grants.refuse(wish.id, reason, "trace it again with --record calls");
    };
    let why = Why::new(wish.id, "its directory changes owner, and it follows; its group stays");
    note_owner(wish.path, Some(inode), &why, grants);
    let (mode, group) = (inode.mode & 0o7777 | wish.bits() << 6, kept_group(inode, grants));
    match inode.file_type {
        FileType::Directory => {
            let grant = Directory { class, mode, group, existed: true, why };
            grants.directories.insert(wish.path.clone(), grant);
        }
        FileType::File if mode & 0o6111 == 0 => {
            let mode = Some(mode);
            let file = File { kind: FileKind::Regular, mode, group, existed: true, why };
            merge_file(wish.path, file, grants);
        }
        _ => {
            let reason = "it is no plain file, and its directory changes hands";
            grants.refuse(wish.id, reason, "let it belong to the user by hand");
        }
    }
}

fn give(wish: &Wish, place: Place, grants: &mut Grants) {
    let path = wish.path;
    let class = match place {
        Place::System(why) => {
            let hint = "change the program's configuration so that it leaves it alone";
            return grants.refuse(wish.id, format!("{path} is not the service's: {why}"), hint);
        }
        _ if is_at_root(path) && !wish.is_directory() => {
            let reason = format!("{path} lies in the root directory, where others look for files to obey");
            return grants.refuse(wish.id, reason, "have the program use a directory of its own");
        }
        Place::Shared(_) => {
            let reason = format!("{path} is shared with the rest of the system and is never made writable");
            let hint =
                format!("have the program use a directory of its own, for example /var/lib/{}", grants.name);
            return grants.refuse(wish.id, reason, hint);
        }
        Place::Private(class) => class,
    };
    let inode = wish.inode();
    if let Some(owner) = inode.and_then(|inode| foreign_owner(path, inode, grants)) {
        return refuse_foreign(wish, path, &owner, grants);
    }
    // Its directory refused first, so that its own owner was not seen.
    if inode.is_none() && !grants.world.is_named(own_name(path)) {
        let hint = "trace it again with what else is written in place, or give it to the user by hand";
        return grants.refuse(wish.id, "whose it is was not seen, so it does not change hands", hint);
    }
    if inode.is_some_and(|inode| inode.file_type == FileType::File && inode.mode & 0o6111 != 0) {
        let hint = "change the program's configuration so that it leaves the file alone";
        return grants.refuse(wish.id, "it is a program, which others run", hint);
    }
    if class == Class::Config && !wish.has(Access::Own) {
        let why = Why::new(wish.id, "the user alone may write it; its owner and mode stay");
        return grants.acl(path, wish.bits(), why);
    }
    let why = Why::new(wish.id, "the user becomes its owner; its group stays");
    note_owner(path, inode, &why, grants);
    if let Some(inode) = inode.filter(|inode| inode.file_type == FileType::Directory) {
        let (mode, group) = (inode.mode & 0o7777 | wish.bits() << 6, kept_group(inode, grants));
        grants.directories.insert(path.clone(), Directory { class, mode, group, existed: true, why });
        return;
    }
    let regular = wish.file_type == FileType::File || inode.is_some_and(|i| i.file_type == FileType::File);
    let kind = if regular { FileKind::Regular } else { FileKind::Existing };
    let mode = inode.map(|inode| inode.mode & 0o777 | wish.bits() << 6);
    let group = inode.and_then(|inode| kept_group(inode, grants));
    merge_file(path, File { kind, mode, group, existed: true, why }, grants);
}

fn merge_file(path: &RawText, file: File, grants: &mut Grants) {
    match grants.files.get_mut(path) {
        Some(present) => present.why.also(file.why),
        None => {
            grants.files.insert(path.clone(), file);
        }
    }
}

fn verbs(bits: u32) -> String {
    let words = [(4, "read"), (2, "write"), (1, "pass through or run")];
    let words: Vec<&str> = words.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, word)| *word).collect();
    if words.is_empty() { "use".into() } else { words.join(" and ") }
}
