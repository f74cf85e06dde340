//! What is made beforehand in a directory that is not given away.

use std::collections::BTreeSet;

use super::names::flaw;
use super::owners::{cover, elsewhere, foreign_owner};
use super::tally::Wish;
use crate::RawText;
use crate::calls;
use crate::event::FileType;
use crate::grants::{Act, Directory, File, FileKind, Grants, Way, Why};
use crate::place::{Class, Setting, Whose, is_at_root, is_below, parent};
use crate::requirement::Access;

/// Makes one object beforehand in a directory that is not given away.
pub(super) fn make(wish: &Wish, grants: &mut Grants) {
    let holder = wish.holder();
    if cover(&holder, [wish.id], grants) || make_further_in(wish, grants) {
        return;
    }
    let way = cannot_make(wish, &holder, grants).unwrap_or_else(|| beforehand(wish, &holder, grants));
    grants.take(wish.id, way);
}

fn beforehand(wish: &Wish, holder: &RawText, grants: &Grants) -> Way {
    let class = grants.world.class_in(wish.path);
    let removed =
        if wish.has(Access::Delete) { "; the service cannot remove it, which rarely matters" } else { "" };
    let because = format!("made beforehand, as {holder} stays closed{removed}");
    let act = if is_made_as_directory(wish) {
        Act::Directory(wish.path.clone(), new_directory(class))
    } else {
        let kind = if wish.file_type == FileType::Fifo { FileKind::Fifo } else { FileKind::Regular };
        let mode = Some(new_file_mode(wish.path, class));
        Act::File(wish.path.clone(), File { kind, mode, group: None, existed: false, why: Why::default() })
    };
    Way::new(act, because)
}

/// A directory for the service alone.
pub(super) fn new_directory(class: Class) -> Directory {
    Directory { class, mode: 0o700, group: None, existed: false, why: Why::default() }
}

/// An image may lack what every machine has: there, the directory is made that the program really wants.
fn make_further_in(wish: &Wish, grants: &mut Grants) -> bool {
    if grants.world.setting == Setting::Host || !grants.world.is_common(wish.path) {
        return false;
    }
    let made = wish.evidence.calls.iter().all(|call| calls::makes_directory(call));
    let below = |path: &&RawText| is_below(path.as_bytes(), wish.path.as_bytes()) && flaw(path).is_none();
    let wanted = wish.evidence.objects.iter().filter(below);
    let wanted = wanted.map(|path| if made { path.clone() } else { parent(path) });
    let wanted: BTreeSet<RawText> = wanted.filter(|path| !grants.world.is_common(path)).collect();
    for path in &wanted {
        let act = Act::Directory(path.clone(), new_directory(grants.world.class_in(path)));
        grants.take(wish.id, Way::new(act, format!("made beforehand, as {} is not there", wish.path)));
    }
    !wanted.is_empty()
}

fn is_made_as_directory(wish: &Wish) -> bool {
    let by_call = || wish.evidence.calls.iter().any(|call| calls::makes_directory(call));
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

/// Why something cannot be made beforehand, if it cannot.
fn cannot_make(wish: &Wish, holder: &RawText, grants: &Grants) -> Option<Way> {
    let path = wish.path;
    let own_directory = "have the program use a directory of its own";
    if let Whose::System(why) = grants.world.place(path) {
        let reason = format!("{path} is not the service's: {why}");
        return Some(Way::refuse(reason, "change the program's configuration"));
    }
    if is_at_root(path) && !is_made_as_directory(wish) && !wish.pattern {
        let reason = format!("{path} lies in the root directory, where others look for files to obey");
        return Some(Way::refuse(reason, own_directory));
    }
    if grants.world.is_common(path) && !wish.pattern {
        let reason = format!("{path} is the system's own directory and is given to no single service");
        let hint = "make it as root; the service then needs a directory of its own in it";
        return Some(Way::refuse(reason, hint));
    }
    if let Some(owner) = wish.inode_of(holder).and_then(|inode| foreign_owner(holder, inode, grants)) {
        let reason = format!("{holder} belongs to the user {owner}, not to this service");
        return Some(Way::refuse(reason, elsewhere(&owner, grants)));
    }
    let name = &grants.name;
    if wish.pattern {
        let reason =
            format!("the name differs from run to run, and {holder} is shared and is never made writable");
        let hint = format!("use the option or variable that moves it, for example to /run/{name}/");
        return Some(Way::refuse(reason, hint));
    }
    if !wish.has(Access::Create) {
        let reason = format!("removing it takes write access to {holder}, which is shared");
        let hint = "most programs live without it; else have it put into a directory of its own";
        return Some(Way::refuse(reason, hint));
    }
    let moved = format!("configure another path for it, for example in /run/{name}/");
    if wish.replaces() {
        let reason = format!("it is put in place by a rename or link, which takes write access to {holder}");
        return Some(Way::refuse(reason, moved));
    }
    match wish.file_type {
        FileType::File | FileType::Directory | FileType::Fifo | FileType::Unknown => None,
        FileType::Socket => {
            let reason = format!(
                "a socket cannot be made beforehand, and {holder} is shared and is never made writable"
            );
            Some(Way::refuse(reason, moved))
        }
        FileType::Symlink => {
            Some(Way::refuse(format!("the link is made anew each time, and {holder} is shared"), moved))
        }
        FileType::CharDevice | FileType::BlockDevice => {
            Some(Way::refuse("only root makes device nodes", "have the node made by udev or by tmpfiles.d"))
        }
    }
}
