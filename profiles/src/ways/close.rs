//! Ways that are taken back, once it is known what all of them together come to.

use crate::RawText;
use crate::grants::{Acl, Act, FileKind, Grants, Way, Why};
use crate::place::{is_below, is_home, parent};
use crate::profile::Profile;

/// Takes back what could not be put in place: below a directory that changes hands, systemd-tmpfiles follows no way from
/// the user to what is somebody else's.
pub(super) fn unreachable(grants: &mut Grants) {
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
    let mut lost: Vec<(RawText, Why)> = Vec::new();
    let entries = grants.acls.iter().filter(|(path, _)| !reaches(path, true, grants));
    lost.extend(entries.map(|(path, acl)| (path.clone(), acl.why.clone())));
    let files = grants.files.iter().filter(|(path, file)| {
        !reaches(path, matches!(file.kind, FileKind::Existing | FileKind::Attribute), grants)
    });
    lost.extend(files.map(|(path, file)| (path.clone(), file.why.clone())));
    let directories = grants.directories.iter().filter(|(path, _)| !reaches(path, false, grants));
    lost.extend(directories.map(|(path, directory)| (path.clone(), directory.why.clone())));
    for (path, why) in lost {
        take_back(&path, &why, grants, || {
            let reason = format!(
                "the way to {path} leads through a directory that changes hands, and what lies between does not"
            );
            Way::refuse(reason, "have the program use a directory of its own")
        });
    }
}

/// Takes back the way into homes, root's and those of other users, and into other directories, where nothing behind it is
/// granted.
pub(super) fn homes(profile: &Profile, grants: &mut Grants) {
    let inside = |home: &RawText, path: &RawText| is_below(path.as_bytes(), home.as_bytes());
    let empty = |home: &RawText| {
        let granted = grants.acls.iter().filter(|(_, acl)| acl.bits != 1).map(|(path, _)| path);
        !granted.chain(grants.files.keys()).chain(grants.directories.keys()).any(|path| inside(home, path))
    };
    // What is looked for behind it is refused, all of it.
    let in_vain = |path: &RawText| {
        let start = format!("path:{path}/");
        let mut behind = grants.ways.keys().filter(|need| need.starts_with(&start)).peekable();
        behind.peek().is_some() && behind.all(|need| grants.is_refused(need))
    };
    let passes = |(path, acl): &(&RawText, &Acl)| {
        acl.bits == 1 && ((is_home(path, &grants.world) && empty(path)) || in_vain(path))
    };
    let closed: Vec<(RawText, Why)> =
        grants.acls.iter().filter(passes).map(|(path, acl)| (path.clone(), acl.why.clone())).collect();
    for (path, mut why) in closed {
        why.needs.retain(|id| profile.requirements.iter().any(|need| need.id == *id));
        take_back(&path, &why, grants, || {
            let reason = format!("nothing in {path} is granted");
            Way::refuse(reason, "have what the program needs there in a directory of its own")
        });
    }
}

/// Takes back what is done to one path.
fn take_back(path: &RawText, why: &Why, grants: &mut Grants, refusal: impl Fn() -> Way) {
    grants.acls.remove(path);
    grants.files.remove(path);
    grants.directories.remove(path);
    let is_it = |act: &Act| match act {
        Act::Acl(lost, _) | Act::File(lost, _) | Act::Directory(lost, _) => lost == path,
        _ => false,
    };
    for need in &why.needs {
        grants.replace(need, is_it, refusal());
    }
}
