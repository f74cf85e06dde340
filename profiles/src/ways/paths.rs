//! Needs for paths, which are met together: what is done with a directory settles what is in it.

use std::collections::BTreeSet;

use super::names::flaw;
use super::owners::{as_it_is, cover};
use super::tally::{Tally, Wish, by_directory};
use super::{close, directory, make, open};
use crate::RawText;
use crate::grants::{Act, Grants, Way};
use crate::requirement::{Access, Requirement};

/// Plans for all needs of paths together, since several needs of one directory are met as one.
pub(super) fn plan(required: &[&Requirement], grants: &mut Grants) {
    let mut wishes = Vec::new();
    let user = grants.account.run_uid;
    for wish in required.iter().filter_map(|requirement| Wish::of(requirement, user)) {
        if let Some(flaw) = flaw(wish.path) {
            grants.take(wish.id, Way::refuse(flaw, "trace it again; if this stays, name the path by hand"));
        } else if wish.access.is_empty() && !wish.pattern {
            let reason = "what the program does with it is not known";
            grants.take(wish.id, Way::refuse(reason, "trace it again with --record calls"));
        } else {
            wishes.push(wish);
        }
    }
    let mut met: BTreeSet<&str> = BTreeSet::new();
    for (directory, tally) in by_directory(&wishes) {
        if settles(&directory, &tally, grants) {
            met.extend(tally.writes().map(|wish| wish.id));
        }
    }
    for wish in wishes.iter().filter(|wish| wish.changes_parent() && !met.contains(wish.id)) {
        make::make(wish, grants);
    }
    for wish in &wishes {
        let only_made =
            wish.has(Access::Create) || wish.pattern || (wish.bits() == 0 && !wish.has(Access::Own));
        let settled = wish.changes_itself() && met.contains(wish.id);
        if !only_made && !settled {
            open::open(wish, grants);
        }
    }
    settle_types(grants);
    close::unreachable(grants);
}

/// Settles what a directory as a whole is to be; true when that meets every change in and to it.
fn settles(path: &RawText, tally: &Tally, grants: &mut Grants) -> bool {
    let changes = tally.writes().next().is_some();
    if !changes || cover(path, tally.writes().map(|wish| wish.id), grants) {
        return changes;
    }
    directory::settle(path, tally, grants)
}

/// What one need takes for a file and another for a directory is a directory, since something is in it.
fn settle_types(grants: &mut Grants) {
    let both: Vec<RawText> =
        grants.files.keys().filter(|path| grants.directories.contains_key(*path)).cloned().collect();
    for path in both {
        let (Some(file), Some(directory)) = (grants.files.remove(&path), grants.directories.get(&path))
        else {
            continue;
        };
        let way = as_it_is(&path, directory);
        for need in &file.why.needs {
            grants.replace(need, |act| matches!(act, Act::File(lost, _) if *lost == path), way.clone());
        }
    }
}
