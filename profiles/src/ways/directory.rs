//! What a directory as a whole is to be, where the service makes, removes or writes several things in it.

use super::groups;
use super::owners::{foreign_owner, is_below_owned, kept_group, note_owner, refuse_foreign};
use super::tally::Tally;
use crate::RawText;
use crate::event::Inode;
use crate::grants::{Acl, Act, Directory, Grants, Method, Way, Why};
use crate::place::{Class, Whose, own_name};
use crate::requirement::Access;

/// Takes a way that meets every change in and to a directory; false where what is in it is made one by one.
pub(super) fn settle(directory: &RawText, tally: &Tally, grants: &mut Grants) -> bool {
    let Whose::Private(class) = grants.world.place(directory) else {
        return false;
    };
    if grants.world.is_common(directory) {
        return false;
    }
    let inode = tally.inode(directory);
    if let Some(owner) = inode.and_then(|inode| foreign_owner(directory, inode, grants)) {
        for wish in tally.writes() {
            refuse_foreign(wish, directory, &owner, grants);
        }
        return true;
    }
    // Below a directory that changes owner, systemd-tmpfiles would not follow one that does not.
    let whole = tally.needs_the_directory(inode) || is_below_owned(directory, grants);
    let ways = ways(directory, class, tally, grants);
    let mut methods: Vec<Method> = ways.iter().filter_map(|way| way.act.method()).collect();
    if !whole {
        let first = usize::from(methods.first() == Some(&Method::Group));
        methods.insert(first, Method::Make);
    }
    let tried = tally.writes().find_map(|wish| wish.way);
    match grants.choices.pick(tried, &methods) {
        Some(Method::Make) => {
            tally.writes().for_each(|wish| grants.offer(wish.id, ways.clone()));
            return false;
        }
        Some(Method::Group) => {
            grants.choose(tally.writes().map(|wish| wish.id), Some(Method::Group), ways);
        }
        Some(method) => {
            grants.choose(tally.all().map(|wish| wish.id), Some(method), ways);
            if method == Method::Own {
                note_owner(directory, inode, tally.all().map(|wish| wish.id), grants);
            }
        }
        None => {
            let reason = format!("whose {directory} is was not seen, so it does not change hands");
            let hint = "trace it again with what else is written there, or give it to the user by hand";
            grants.choose(tally.writes().map(|wish| wish.id), None, [Way::refuse(reason, hint)]);
        }
    }
    true
}

/// The ways to change what is in a directory, least first.
fn ways(directory: &RawText, class: Class, tally: &Tally, grants: &Grants) -> Vec<Way> {
    let inode = tally.inode(directory);
    let owns = tally.on_itself.iter().any(|wish| wish.has(Access::Own));
    let sticky = inode.is_some_and(|inode| inode.mode & 0o1000 != 0);
    let stays = inode.filter(|_| !owns && !sticky);
    let cautious = |way: &Way| matches!(&way.act, Act::Join(_, group) if group.caution.is_some());
    let join = stays.and_then(|inode| groups::join(inode, 3, grants)).filter(|way| !cautious(way));
    // Where something in it refused first, whose the directory is was not seen.
    let is_known =
        inode.is_some() || tally.is_leftover(directory) || grants.world.is_named(own_name(directory));
    let own = is_known.then(|| own(directory, class, inode, tally, grants));
    let entry = stays.map(|_| {
        let acl = Acl { bits: 7, ..Acl::default() };
        let because = "the user alone may make and remove entries in it; its owner and mode stay";
        Way::new(Act::Acl(directory.clone(), acl), because)
    });
    join.into_iter().chain(own).chain(entry).collect()
}

fn own(directory: &RawText, class: Class, inode: Option<&Inode>, tally: &Tally, grants: &Grants) -> Way {
    let because = match (tally.changes.len(), tally.on_itself.is_empty()) {
        (1, true) => "the service makes and removes entries in it",
        (_, true) => "the service makes several entries in it",
        _ => "the service writes in it or changes its mode",
    };
    // What is there keeps its mode and group: others may rely on them.
    let mode = inode.map_or(0o750, |inode| inode.mode & 0o7777 | 0o700);
    let group = inode.and_then(|inode| kept_group(inode, grants));
    let existed = !tally.is_leftover(directory);
    Way::new(
        Act::Directory(directory.clone(), Directory { class, mode, group, existed, why: Why::default() }),
        because,
    )
}
