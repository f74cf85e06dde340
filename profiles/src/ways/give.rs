//! What is there and changes hands: files and directories of the service's own.

use super::owners::{cover, foreign_owner, kept_group, note_owner, refuse_foreign};
use super::tally::Wish;
use crate::event::FileType;
use crate::grants::{Acl, Act, Directory, File, FileKind, Grants, Refusal, Way, Why};
use crate::place::{Class, Whose, is_at_root, is_below, own_name};
use crate::requirement::Access;

/// Takes in what lies in a directory that the service owns: true when nothing more is to do.
pub(super) fn inside_own(wish: &Wish, grants: &mut Grants) -> bool {
    let path = wish.path.as_bytes();
    if grants.directories.contains_key(wish.path) {
        return cover(wish.path, [wish.id], grants);
    }
    let owned = grants
        .directories
        .iter()
        .rev()
        .find(|(directory, grant)| is_below(path, directory.as_bytes()) && grant.class != Class::Config);
    let Some((directory, grant)) = owned else {
        return false;
    };
    if !grant.existed {
        let directory = directory.clone();
        return cover(&directory, [wish.id], grants);
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
        return grants.take(wish.id, Way::refuse(reason, "trace it again with --record calls"));
    };
    let follows = "its directory changes owner, and it follows; its group stays";
    let (mode, group) = (inode.mode & 0o7777 | wish.bits() << 6, kept_group(inode, grants));
    let why = Why::default();
    let act = match inode.file_type {
        FileType::Directory => {
            Act::Directory(wish.path.clone(), Directory { class, mode, group, existed: true, why })
        }
        FileType::File if mode & 0o6111 == 0 => {
            let mode = Some(mode);
            Act::File(wish.path.clone(), File { kind: FileKind::Regular, mode, group, existed: true, why })
        }
        _ => {
            let reason = "it is no plain file, and its directory changes hands";
            return grants.take(wish.id, Way::refuse(reason, "let it belong to the user by hand"));
        }
    };
    note_owner(wish.path, Some(inode), [wish.id], grants);
    grants.take(wish.id, Way::new(act, follows));
}

/// The way by which what is there comes to belong to the user, or, among configuration, to be written by it; else why
/// it does not.
pub(super) fn give(wish: &Wish, grants: &Grants) -> Result<Way, Refusal> {
    let class = changes_hands(wish, grants)?;
    let inode = wish.inode();
    if class == Class::Config && !wish.has(Access::Own) {
        let acl = Acl { bits: wish.bits(), ..Acl::default() };
        let because = "the user alone may write it; its owner and mode stay";
        return Ok(Way::new(Act::Acl(wish.path.clone(), acl), because));
    }
    let group = inode.and_then(|inode| kept_group(inode, grants));
    let why = Why::default();
    let act = match inode {
        Some(inode) if inode.file_type == FileType::Directory => {
            let mode = inode.mode & 0o7777 | wish.bits() << 6;
            Act::Directory(wish.path.clone(), Directory { class, mode, group, existed: true, why })
        }
        _ => {
            let regular = wish.file_type == FileType::File
                || inode.is_some_and(|inode| inode.file_type == FileType::File);
            let kind = if regular { FileKind::Regular } else { FileKind::Existing };
            let mode = inode.map(|inode| inode.mode & 0o777 | wish.bits() << 6);
            Act::File(wish.path.clone(), File { kind, mode, group, existed: true, why })
        }
    };
    Ok(Way::new(act, "the user becomes its owner; its group stays"))
}

/// The class of what may change hands; else why it may not.
fn changes_hands(wish: &Wish, grants: &Grants) -> Result<Class, Refusal> {
    let path = wish.path;
    let class = match grants.world.place(path) {
        Whose::System(why) => {
            let hint = "change the program's configuration so that it leaves it alone";
            return Err(Refusal::new(format!("{path} is not the service's: {why}"), hint));
        }
        _ if is_at_root(path) && !wish.is_directory() => {
            let reason = format!("{path} lies in the root directory, where others look for files to obey");
            return Err(Refusal::new(reason, "have the program use a directory of its own"));
        }
        Whose::Shared(_) => {
            let reason = format!("{path} is shared with the rest of the system and is never made writable");
            let hint =
                format!("have the program use a directory of its own, for example /var/lib/{}", grants.name);
            return Err(Refusal::new(reason, hint));
        }
        Whose::Private(class) => class,
    };
    let inode = wish.inode();
    if let Some(owner) = inode.and_then(|inode| foreign_owner(path, inode, grants)) {
        return Err(super::owners::foreign(path, &owner, grants));
    }
    // Its directory refused first, so that its own owner was not seen.
    if inode.is_none() && !grants.world.is_named(own_name(path)) {
        let hint = "trace it again with what else is written in place, or give it to the user by hand";
        return Err(Refusal::new("whose it is was not seen, so it does not change hands", hint));
    }
    if inode.is_some_and(|inode| inode.file_type == FileType::File && inode.mode & 0o6111 != 0) {
        let hint = "change the program's configuration so that it leaves the file alone";
        return Err(Refusal::new("it is a program, which others run", hint));
    }
    Ok(class)
}
