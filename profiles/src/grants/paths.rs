//! Grants for paths: ownership made beforehand, groups, ACL entries.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

use super::groups::{name_of, usable};
use super::names::flaw;
use super::open::{close_ways, open};
use super::place::{Class, Place, is_at_root, is_below, own_name};
use super::tally::{Tally, Wish, by_directory};
use super::{Directory, File, FileKind, Grants, Method, Setting, Why};
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

pub(super) const MEMBERS: &str = "its members have the access already";

/// Plans for all needs of paths together, since several needs of one directory are met as one.
pub(super) fn plan(required: &[&Requirement], grants: &mut Grants) {
    let mut wishes = Vec::new();
    let user = grants.account.run_uid;
    for wish in required.iter().filter_map(|requirement| Wish::of(requirement, user)) {
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
    close_ways(grants);
}

/// Settles what a directory as a whole is to be; true when that meets every change in and to it.
fn decide(directory: &RawText, tally: &Tally, grants: &mut Grants) -> bool {
    let changes = !tally.changes.is_empty() || !tally.on_itself.is_empty();
    let ids = tally.changes.iter().chain(&tally.on_itself).map(|wish| wish.id);
    if !changes || cover(directory, ids, grants) {
        return changes;
    }
    let Place::Private(class) = grants.world.place(directory) else {
        return false;
    };
    if grants.world.is_common(directory) {
        return false;
    }
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
    // Where something in it refused first, whose the directory is was not seen.
    let is_known =
        inode.is_some() || tally.is_leftover(directory) || grants.world.is_named(own_name(directory));
    let ways = [
        (group.is_some(), Method::Group),
        (!whole, Method::Make),
        (is_known, Method::Own),
        (inode.is_some() && !owns && !sticky, Method::Acl),
    ];
    let ways: Vec<Method> = ways.into_iter().filter(|(can, _)| *can).map(|(_, method)| method).collect();
    let tried = tally.changes.iter().chain(&tally.on_itself).find_map(|wish| wish.way);
    match (grants.choices.pick(tried, &ways), group) {
        (Some(Method::Group), Some(group)) => {
            write.iter().for_each(|wish| grants.join(&group, Why::new(wish.id, MEMBERS)));
        }
        (Some(Method::Make), _) => return false,
        (Some(Method::Acl), _) => {
            let reason = "the user alone may make and remove entries in it; its owner and mode stay";
            tally.all().for_each(|wish| grants.acl(directory, 7, Why::new(wish.id, reason)));
        }
        (None, _) => {
            let hint = "trace it again with what else is written there, or give it to the user by hand";
            let reason = format!("whose {directory} is was not seen, so it does not change hands");
            write.iter().for_each(|wish| grants.refuse(wish.id, reason.clone(), hint));
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
    let existed = !tally.is_leftover(directory);
    let directory_grant = Directory { class, mode, group, existed, why };
    grants.directories.insert(directory.clone(), directory_grant);
}

/// The group an existing file keeps; `None` when it is the user's own.
pub(super) fn kept_group(inode: &Inode, grants: &Grants) -> Option<String> {
    let name = if inode.gid == 0 { "root".into() } else { name_of(inode) };
    (grants.account.gid != Some(inode.gid) && name != grants.account.group).then_some(name)
}

/// Whether a directory is one that the service makes or owns, or in one it makes.
fn covered(path: &RawText, directory: &RawText, grant: &Directory) -> bool {
    let below = is_below(path.as_bytes(), directory.as_bytes());
    (below && !grant.existed) || path == directory
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
pub(super) fn foreign_owner(path: &RawText, inode: &Inode, grants: &Grants) -> Option<String> {
    let owner = inode.user.clone().unwrap_or_else(|| inode.uid.to_string());
    let free = inode.uid == 0 || inode.uid == grants.account.run_uid;
    let ours = grants.world.is_own_user(&owner) || grants.world.is_named(own_name(path));
    (!free && !ours).then_some(owner)
}

pub(super) fn refuse_foreign(wish: &Wish, path: &RawText, owner: &str, grants: &mut Grants) {
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

pub(super) fn note_owner(path: &RawText, inode: Option<&Inode>, why: &Why, grants: &mut Grants) {
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
    if make_further_in(wish, grants) {
        return;
    }
    if let Some((reason, hint)) = cannot_make(wish, &holder, grants) {
        grants.refuse(wish.id, reason, hint);
        return;
    }
    let class = grants.world.class_in(wish.path);
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
                free.insert(Directory { class, mode: 0o700, group: None, existed: false, why });
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

/// An image may lack what every machine has: there, the directory is made that the program really wants.
fn make_further_in(wish: &Wish, grants: &mut Grants) -> bool {
    if grants.world.setting == Setting::Host || !grants.world.is_common(wish.path) {
        return false;
    }
    let made = wish.evidence.calls.iter().all(|call| call.starts_with("mkdir"));
    let below = |path: &&RawText| is_below(path.as_bytes(), wish.path.as_bytes()) && flaw(path).is_none();
    let wanted = wish.evidence.objects.iter().filter(below);
    let wanted = wanted.map(|path| if made { path.clone() } else { super::place::parent(path) });
    let wanted: BTreeSet<RawText> = wanted.filter(|path| !grants.world.is_common(path)).collect();
    for path in &wanted {
        let class = grants.world.class_in(path);
        let why = Why::new(wish.id, format!("made beforehand, as {} is not there", wish.path));
        let made = Directory { class, mode: 0o700, group: None, existed: false, why: why.clone() };
        grants.directories.entry(path.clone()).or_insert(made).why.also(why);
    }
    !wanted.is_empty()
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
    if let Place::System(why) = grants.world.place(wish.path) {
        return refusal(
            format!("{} is not the service's: {why}", wish.path),
            "change the program's configuration",
        );
    }
    if is_at_root(wish.path) && !is_made_as_directory(wish) && !wish.pattern {
        let reason = format!("{} lies in the root directory, where others look for files to obey", wish.path);
        return refusal(reason, "have the program use a directory of its own");
    }
    if grants.world.is_common(wish.path) && !wish.pattern {
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

/// Whether an object is made, given or inside what is made or owned.
pub(super) fn is_given(path: &RawText, grants: &Grants) -> bool {
    grants.files.contains_key(path) || grants.directories.contains_key(path) || is_below_owned(path, grants)
}
