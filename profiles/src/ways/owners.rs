//! Whose a path is: what is made or owned already, and what belongs to another service.

use super::groups;
use super::tally::Wish;
use crate::RawText;
use crate::event::Inode;
use crate::grants::{Act, Directory, Grants, Refusal, Way, Why};
use crate::place::{is_below, own_name};

/// The way that is taken already, for one more need.
pub(super) fn as_it_is(path: &RawText, directory: &Directory) -> Way {
    let because = directory.why.reason.clone();
    Way::new(Act::Directory(path.clone(), Directory { why: Why::default(), ..directory.clone() }), because)
}

/// The group an existing file keeps; `None` when it is the user's own.
pub(super) fn kept_group(inode: &Inode, grants: &Grants) -> Option<String> {
    let name = if inode.gid == 0 { "root".into() } else { groups::name_of(inode) };
    (grants.account.gid != Some(inode.gid) && name != grants.account.group).then_some(name)
}

/// Whether a directory is one that the service makes or owns, or in one it makes.
fn covered(path: &RawText, directory: &RawText, grant: &Directory) -> bool {
    let below = is_below(path.as_bytes(), directory.as_bytes());
    (below && !grant.existed) || path == directory
}

/// Adds needs in or of a directory to the grant that covers it; false when none does.
pub(super) fn cover<'n>(path: &RawText, ids: impl IntoIterator<Item = &'n str>, grants: &mut Grants) -> bool {
    let grant = grants.directories.iter().find(|(directory, grant)| covered(path, directory, grant));
    let Some((directory, grant)) = grant else {
        return false;
    };
    let way = as_it_is(directory, grant);
    grants.choose(ids, None, [way]);
    true
}

pub(super) fn is_below_owned(path: &RawText, grants: &Grants) -> bool {
    grants.directories.keys().any(|directory| is_below(path.as_bytes(), directory.as_bytes()))
}

/// Whether an object is made, given or inside what is made or owned.
pub(super) fn is_given(path: &RawText, grants: &Grants) -> bool {
    grants.files.contains_key(path) || grants.directories.contains_key(path) || is_below_owned(path, grants)
}

/// The owner of what belongs to a user of another service.
pub(super) fn foreign_owner(path: &RawText, inode: &Inode, grants: &Grants) -> Option<String> {
    let owner = inode.user.clone().unwrap_or_else(|| inode.uid.to_string());
    let free = inode.uid == 0 || inode.uid == grants.account.run_uid;
    let ours = grants.world.is_own_user(&owner) || grants.world.is_named(own_name(path));
    (!free && !ours).then_some(owner)
}

/// Refuses what belongs to another service, and notes whose it is.
pub(super) fn refuse_foreign(wish: &Wish, path: &RawText, owner: &str, grants: &mut Grants) {
    let present = grants.present_owners.entry(owner.to_owned()).or_default();
    present.paths.insert(path.clone());
    present.needs.insert(wish.id.to_owned());
    grants.take(wish.id, foreign(path, owner, grants).into());
}

/// The refusal of what belongs to another service.
pub(super) fn foreign(path: &RawText, owner: &str, grants: &Grants) -> Refusal {
    let reason = format!("{path} belongs to the user {owner}, whose service would lose it");
    Refusal::new(reason, elsewhere(owner, grants))
}

pub(super) fn elsewhere(owner: &str, grants: &Grants) -> String {
    let option = grants.user_option;
    format!("run the program as {owner} ({option} {owner}), or have it use a directory of its own")
}

/// Notes whose the thing is that changes hands.
pub(super) fn note_owner<'n>(
    path: &RawText,
    inode: Option<&Inode>,
    needs: impl IntoIterator<Item = &'n str>,
    grants: &mut Grants,
) {
    let other = inode.filter(|inode| inode.uid != 0 && inode.uid != grants.account.run_uid);
    let Some(user) = other.and_then(|inode| inode.user.clone()) else { return };
    let owner = grants.present_owners.entry(user).or_default();
    owner.paths.insert(path.clone());
    owner.needs.extend(needs.into_iter().map(str::to_owned));
}
