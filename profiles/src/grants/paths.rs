//! Grants for paths: ownership made beforehand, groups, ACL entries.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

use super::account::safe_name;
use super::groups::{Usable, is_dangerous, name_of, usable};
use super::place::{Class, Place, class_in, flaw, is_below, is_common, is_related, own_name, place};
use super::tally::{Tally, Wish, by_directory};
use super::{Credential, Directory, File, FileKind, Grants, Method, Why};
use crate::RawText;
use crate::event::{FileType, Inode};
use crate::requirement::{Access, Requirement};

/// What one need takes for a file and another for a directory is a directory, since something is in it.
fn settle_types(grants: &mut Grants) {
    for (path, directory) in &mut grants.directories {
        if let Some(file) = grants.files.remove(path) {
            directory.why.also(file.why);
        }
    }
}

const MEMBERS: &str = "its members have the access already";

/// Plans for all needs of paths together, since several needs of one directory are met as one.
pub(super) fn plan(required: &[&Requirement], grants: &mut Grants) {
    let mut wishes = Vec::new();
    for wish in required.iter().filter_map(|requirement| Wish::of(requirement)) {
        match flaw(wish.path) {
            Some(flaw) => {
                grants.refuse(wish.id, flaw, "trace it again; if this stays, name the path by hand")
            }
            None if wish.access.is_empty() && !wish.pattern => {
                grants.refuse(
                    wish.id,
                    "what the program does with it is not known",
                    "trace it again with --record calls",
                );
            }
            None => wishes.push(wish),
        }
    }
    let mut met: BTreeSet<&str> = BTreeSet::new();
    for (directory, tally) in by_directory(&wishes) {
        if decide(&directory, &tally, grants) {
            met.extend(tally.changes.iter().chain(&tally.on_itself).map(|wish| wish.id));
        }
    }
    for wish in wishes.iter().filter(|wish| wish.changes_parent() && !met.contains(wish.id)) {
        make(wish, grants);
    }
    for wish in &wishes {
        let only_made =
            wish.has(Access::Create) || wish.pattern || (wish.bits() == 0 && !wish.has(Access::Own));
        let settled = wish.changes_itself() && met.contains(wish.id);
        if !only_made && !settled {
            open(wish, grants);
        }
    }
    settle_types(grants);
}

/// Settles what a directory as a whole is to be; true when that meets every change in and to it.
fn decide(directory: &RawText, tally: &Tally, grants: &mut Grants) -> bool {
    let changes = !tally.changes.is_empty() || !tally.on_itself.is_empty();
    let ids = tally.changes.iter().chain(&tally.on_itself).map(|wish| wish.id);
    if !changes || cover(directory, ids, grants) {
        return changes;
    }
    let Place::Private(class) = place(directory, &grants.name) else {
        return false;
    };
    let inode = tally.inode(directory);
    let write: Vec<&Wish> = tally.changes.iter().chain(&tally.on_itself).collect();
    if let Some(owner) = inode.and_then(|inode| foreign_owner(directory, inode, grants)) {
        for wish in write {
            refuse_foreign(wish, directory, &owner, grants);
        }
        return true;
    }
    let owns = tally.on_itself.iter().any(|wish| wish.has(Access::Own));
    let sticky = inode.is_some_and(|inode| inode.mode & 0o1000 != 0);
    let group = inode.and_then(|inode| usable(inode, 3)).filter(|g| !owns && !sticky && g.caution.is_none());
    // Below a directory that changes owner, systemd-tmpfiles would not follow one that does not.
    let whole = tally.needs_the_directory(inode) || is_below_owned(directory, grants);
    let ways = [
        (group.is_some(), Method::Group),
        (!whole, Method::Make),
        (true, Method::Own),
        (inode.is_some() && !owns && !sticky, Method::Acl),
    ];
    let ways: Vec<Method> = ways.into_iter().filter(|(can, _)| *can).map(|(_, method)| method).collect();
    match (grants.choices.pick(&ways), group) {
        (Some(Method::Group), Some(group)) => {
            write.iter().for_each(|wish| grants.join(&group, Why::new(wish.id, MEMBERS)));
        }
        (Some(Method::Make), _) => return false,
        (Some(Method::Acl), _) => {
            let reason = "the user alone may make and remove entries in it; its owner and mode stay";
            tally.all().for_each(|wish| grants.acl(directory, 7, Why::new(wish.id, reason)));
        }
        _ => own(directory, class, inode, tally, grants),
    }
    true
}

fn own(directory: &RawText, class: Class, inode: Option<&Inode>, tally: &Tally, grants: &mut Grants) {
    let reason = match (tally.changes.len(), tally.on_itself.is_empty()) {
        (1, true) => "the service makes and removes entries in it",
        (_, true) => "the service makes several entries in it",
        _ => "the service writes in it or changes its mode",
    };
    let why = Why { needs: tally.all().map(|wish| wish.id.to_owned()).collect(), reason: reason.into() };
    note_owner(directory, inode, &why, grants);
    // What is there keeps its mode and group: others may rely on them.
    let mode = inode.map_or(0o750, |inode| inode.mode & 0o7777 | 0o700);
    let group = inode.and_then(|inode| kept_group(inode, grants));
    let directory_grant = Directory { class, mode, group, contents: false, existed: true, why };
    grants.directories.insert(directory.clone(), directory_grant);
}

/// The group an existing file keeps; `None` when it is the user's own.
fn kept_group(inode: &Inode, grants: &Grants) -> Option<String> {
    let name = if inode.gid == 0 { "root".into() } else { name_of(inode) };
    (grants.account.gid != Some(inode.gid) && name != grants.account.group).then_some(name)
}

/// Whether a directory is one that the service makes or owns, or in one it makes.
fn covered(path: &RawText, directory: &RawText, grant: &Directory) -> bool {
    let below = is_below(path.as_bytes(), directory.as_bytes());
    (below && (grant.contents || !grant.existed)) || path == directory
}

/// Adds needs in or of a directory to the grant that covers it; false when none does.
fn cover<'a>(path: &RawText, ids: impl Iterator<Item = &'a str>, grants: &mut Grants) -> bool {
    let grant = grants.directories.iter_mut().find(|(directory, grant)| covered(path, directory, grant));
    let Some((_, grant)) = grant else {
        return false;
    };
    grant.why.needs.extend(ids.map(str::to_owned));
    true
}

fn is_below_owned(path: &RawText, grants: &Grants) -> bool {
    grants.directories.keys().any(|directory| is_below(path.as_bytes(), directory.as_bytes()))
}

/// The owner of what belongs to a user of another service.
fn foreign_owner(path: &RawText, inode: &Inode, grants: &Grants) -> Option<String> {
    let owner = inode.user.clone().unwrap_or_else(|| inode.uid.to_string());
    let ours = |word: &[u8]| is_related(word, &grants.name) || is_related(word, &grants.account.user);
    let free = inode.uid == 0 || inode.uid == grants.account.run_uid || owner == grants.account.user;
    (!free && !ours(owner.as_bytes()) && !ours(own_name(path))).then_some(owner)
}

fn refuse_foreign(wish: &Wish, path: &RawText, owner: &str, grants: &mut Grants) {
    let reason = format!("{path} belongs to the user {owner}, whose service would lose it");
    let hint = elsewhere(owner, grants);
    grants.refuse(wish.id, reason, hint);
    let present = grants.present_owners.entry(owner.to_owned()).or_default();
    present.paths.insert(path.clone());
    present.needs.insert(wish.id.to_owned());
}

fn elsewhere(owner: &str, grants: &Grants) -> String {
    let option = grants.user_option;
    format!("run the program as {owner} ({option} {owner}), or have it use a directory of its own")
}

fn note_owner(path: &RawText, inode: Option<&Inode>, why: &Why, grants: &mut Grants) {
    let Some(user) =
        inode.filter(|i| i.uid != 0 && i.uid != grants.account.run_uid).and_then(|i| i.user.clone())
    else {
        return;
    };
    let owner = grants.present_owners.entry(user).or_default();
    owner.paths.insert(path.clone());
    owner.needs.extend(why.needs.iter().cloned());
}

/// Makes one object beforehand in a directory that is not given away.
fn make(wish: &Wish, grants: &mut Grants) {
    let holder = wish.holder();
    if cover(&holder, std::iter::once(wish.id), grants) {
        return;
    }
    if let Some((reason, hint)) = cannot_make(wish, &holder, grants) {
        grants.refuse(wish.id, reason, hint);
        return;
    }
    let class = class_in(wish.path, &grants.name);
    let made = if wish.has(Access::Delete) {
        format!(
            "made beforehand, as {holder} stays closed; the service cannot remove it, which rarely matters"
        )
    } else {
        format!("made beforehand, as {holder} stays closed")
    };
    let why = Why::new(wish.id, made);
    if is_made_as_directory(wish) {
        match grants.directories.entry(wish.path.clone()) {
            Entry::Occupied(mut planned) => planned.get_mut().why.also(why),
            Entry::Vacant(free) => {
                free.insert(Directory {
                    class,
                    mode: 0o700,
                    group: None,
                    contents: false,
                    existed: false,
                    why,
                });
            }
        }
        return;
    }
    let kind = if wish.file_type == FileType::Fifo { FileKind::Fifo } else { FileKind::Regular };
    let mode = Some(new_file_mode(wish.path, class));
    match grants.files.entry(wish.path.clone()) {
        Entry::Occupied(mut planned) => planned.get_mut().why.also(why),
        Entry::Vacant(free) => {
            free.insert(File { kind, mode, group: None, existed: false, why });
        }
    }
}

fn is_made_as_directory(wish: &Wish) -> bool {
    let calls = &wish.evidence.calls;
    let by_call = || calls.iter().any(|c| c.starts_with("mkdir"));
    wish.file_type == FileType::Directory || (wish.file_type == FileType::Unknown && by_call())
}

/// The strictest mode that serves: logs and pid files are read by the group.
fn new_file_mode(path: &RawText, class: Class) -> u32 {
    match class {
        Class::Logs => 0o640,
        Class::Runtime if path.as_bytes().ends_with(b".pid") => 0o640,
        _ => 0o600,
    }
}

fn cannot_make(wish: &Wish, holder: &RawText, grants: &Grants) -> Option<(String, String)> {
    let name = &grants.name;
    let refusal = |reason: String, hint: &str| Some((reason, hint.to_owned()));
    if let Place::System(why) = place(wish.path, name) {
        return refusal(
            format!("{} is the system's: {why}", wish.path),
            "change the program's configuration",
        );
    }
    if is_common(wish.path) && !wish.pattern {
        let reason = format!("{} is the system's own directory and is given to no single service", wish.path);
        return refusal(reason, "make it as root; the service then needs a directory of its own in it");
    }
    if let Some(owner) = wish.inode_of(holder).and_then(|inode| foreign_owner(holder, inode, grants)) {
        let hint = elsewhere(&owner, grants);
        return Some((format!("{holder} belongs to the user {owner}, not to this service"), hint));
    }
    if wish.pattern {
        let reason =
            format!("the name differs from run to run, and {holder} is shared and is never made writable");
        let hint = format!("use the option or variable that moves it, for example to /run/{name}/");
        return Some((reason, hint));
    }
    if !wish.has(Access::Create) {
        let reason = format!("removing it takes write access to {holder}, which is shared");
        return refusal(
            reason,
            "most programs live without it; else have it put into a directory of its own",
        );
    }
    let moved = format!("configure another path for it, for example in /run/{name}/");
    if wish.replaces() {
        let reason = format!("it is put in place by a rename or link, which takes write access to {holder}");
        return Some((reason, moved));
    }
    match wish.file_type {
        FileType::File | FileType::Directory | FileType::Fifo | FileType::Unknown => None,
        FileType::Socket => Some((
            format!("a socket cannot be made beforehand, and {holder} is shared and is never made writable"),
            moved,
        )),
        FileType::Symlink => {
            Some((format!("the link is made anew each time, and {holder} is shared"), moved))
        }
        FileType::CharDevice | FileType::BlockDevice => {
            refusal("only root makes device nodes".into(), "have the node made by udev or by tmpfiles.d")
        }
    }
}

/// Opens something that is there already.
fn open(wish: &Wish, grants: &mut Grants) {
    if inside_own(wish, grants) {
        return;
    }
    let bits = wish.bits();
    let writes = bits & 2 != 0 || wish.has(Access::Own);
    let inode = wish.inode();
    let group = inode.and_then(|inode| usable(inode, bits));
    // No group makes an owner; and none that opens much else is joined only to write.
    let fits = |group: &Usable| !wish.has(Access::Own) && (!writes || group.caution.is_none());
    let place = place(wish.path, &grants.name);
    let group = group.filter(fits);
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
    } else if matches!(place, Place::System(_)) && is_kernel_tree(wish.path) {
        grants.refuse(wish.id, "the kernel keeps it for root", "do without it, or have a helper read it");
    } else {
        // A script is read by its interpreter, and a directory that is listed is also passed through.
        let with = if bits & 5 != 0 && wish.is_directory() { 1 } else { 0 };
        grants.acl(
            wish.path,
            bits | with,
            Why::new(wish.id, format!("the user alone may {} it", verbs(bits))),
        );
    }
}

/// How to open what is there: the preferred way of those that can be; none stands for what is usual.
fn ways_to_open(wish: &Wish, place: Place, group: bool, grants: &Grants) -> Option<Method> {
    let writes = wish.bits() & 2 != 0 || wish.has(Access::Own);
    let private = matches!(place, Place::Private(class) if class != Class::Config)
        && wish.file_type != FileType::Socket
        && wish.inode().is_none_or(|inode| {
            foreign_owner(wish.path, inode, grants).is_none() && inode.mode & 0o6000 == 0
        });
    let is_secret = wish.bits() == 4 && wish.file_type == FileType::File && !is_kernel_tree(wish.path);
    let ways = [
        (group, Method::Group),
        (private && writes, Method::Own),
        (!wish.has(Access::Own) && (private || !writes), Method::Acl),
        (private && !writes, Method::Own),
        (is_secret, Method::Credential),
    ];
    let ways: Vec<Method> = ways.into_iter().filter(|(can, _)| *can).map(|(_, method)| method).collect();
    grants.choices.pick(&ways)
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
    grant.why.needs.insert(wish.id.to_owned());
    grant.contents |= grant.existed;
    // What its owner cannot use either needs another mode too, as a line of its own.
    if let Some(inode) = wish.inode().filter(|inode| inode.mode >> 6 & wish.bits() != wish.bits()) {
        let why = Why::new(wish.id, "its owner could not use it either");
        let kind = if wish.file_type == FileType::File { FileKind::Regular } else { FileKind::Existing };
        let group = kept_group(inode, grants);
        let mode = Some(inode.mode & 0o777 | wish.bits() << 6);
        merge_file(wish.path, File { kind, mode, group, existed: true, why }, grants);
    }
    true
}

fn give(wish: &Wish, place: Place, grants: &mut Grants) {
    let path = wish.path;
    let class = match place {
        Place::System(why) => {
            let hint = "change the program's configuration so that it leaves it alone";
            return grants.refuse(wish.id, format!("{path} is the system's: {why}"), hint);
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
    if inode.is_some_and(|inode| !wish.is_directory() && inode.mode & 0o6000 != 0) {
        let hint = "change the program's configuration so that it leaves the file alone";
        return grants.refuse(wish.id, "it is a set-user-ID or set-group-ID program", hint);
    }
    if class == Class::Config && !wish.has(Access::Own) {
        let why = Why::new(wish.id, "the user alone may write it; its owner and mode stay");
        return grants.acl(path, wish.bits(), why);
    }
    let why = Why::new(wish.id, "the user becomes its owner; its group stays");
    note_owner(path, inode, &why, grants);
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

/// Whether an object is made, given or inside what is made or owned.
pub(super) fn is_given(path: &RawText, grants: &Grants) -> bool {
    grants.files.contains_key(path) || grants.directories.contains_key(path) || is_below_owned(path, grants)
}
