//! Changes of user, group and owner.

use super::owners::is_given;
use crate::RawText;
use crate::calls::{self, ROWS};
use crate::event::FileType;
use crate::grants::{Act, Directory, File, Grants, Method, Way, Why, is_account_name};
use crate::place::parent;
use crate::requirement::{IdentityOperation, Requirement};

/// Meets a change of identity: by none, since the service starts as its user. That the unit answers the call is taken only
/// where trials chose it, since the program then believes what is not so.
pub(super) fn meet(
    requirement: &Requirement,
    operation: IdentityOperation,
    ids: &[u32],
    path: Option<&RawText>,
    grants: &mut Grants,
) {
    match (requirement.way, operation, path, ids) {
        (Some(Method::Unit), ..) => return grants.take(&requirement.id, answer(operation)),
        (Some(Method::Group), IdentityOperation::Chown, Some(path), [owner, group]) => {
            if let Some(way) = of_group(path, *owner, *group, requirement, grants) {
                return grants.take(&requirement.id, way);
            }
        }
        _ => {}
    }
    let user = &grants.account.user;
    let advice = match (operation, path) {
        (IdentityOperation::Chown, Some(path)) if is_given(path, grants) => {
            format!("it belongs to {user} beforehand, so it need not be given away: remove the directive that names another owner")
        }
        (IdentityOperation::Chown, Some(_)) => {
            format!("it cannot be given away by {user}: set its owner beforehand, or remove the directive that names another owner")
        }
        (IdentityOperation::Chown, None) => {
            "files cannot be given away: set their owner beforehand, or remove the directive that names another".into()
        }
        (IdentityOperation::BeRoot, _) => {
            "it insists on being started as root, and asks for nothing that this is needed for: look for an option with which \
             it does not"
                .into()
        }
        (IdentityOperation::SetUser | IdentityOperation::SetGroup, None) if to_root(ids) => {
            format!("{user} cannot become root: most programs go on without; where one does not, look for an option")
        }
        _ => format!("it runs as {user} from the start: remove the option or directive that names another user or group"),
    };
    grants.take(&requirement.id, Way::setting(advice));
}

/// The calls of an operation, by their native names.
fn calls(operation: IdentityOperation) -> Vec<&'static str> {
    if operation == IdentityOperation::BeRoot {
        return calls::ROOT_ONLY.to_vec();
    }
    let rows = ROWS.iter().filter(|row| row.operation.identity() == Some(operation));
    rows.map(|row| row.name).filter(|name| calls::native_name(name) == *name).collect()
}

/// The unit answers the calls in the kernel's place: nothing changes, and the program is told that it did.
fn answer(operation: IdentityOperation) -> Way {
    let list: Vec<String> = calls(operation).iter().map(|call| format!("{call}:0")).collect();
    let act = Act::Directive("SystemCallFilter".into(), format!("~{}", list.join(" ")));
    let because = match operation {
        IdentityOperation::BeRoot => {
            "it is told that it is root, as it ends when it is not; it has no more rights by that"
        }
        _ => "is answered with success and not done, as the program ends when it is refused",
    };
    Way::new(act, because)
}

/// What is made for the service beforehand belongs to the group that the program would give it to, so that nothing is left
/// to do: its members have then what the program means them to have.
fn of_group(
    path: &RawText,
    owner: u32,
    group: u32,
    requirement: &Requirement,
    grants: &Grants,
) -> Option<Way> {
    let stays = owner == u32::MAX || Some(owner) == grants.account.uid || owner == grants.account.run_uid;
    if !stays || [u32::MAX, 0].contains(&group) || grants.used.is_obeyed(group) {
        return None;
    }
    let name = requirement.evidence.names.get(1).filter(|name| is_account_name(name));
    let group = Some(name.cloned().unwrap_or_else(|| group.to_string()));
    let because = "belongs to the group beforehand that the program would give it to";
    let directory = grants.directories.get(path).filter(|made| !made.existed).cloned();
    let directory = directory.or_else(|| below_own(path, requirement, grants));
    let directory = directory.map(|made| Directory { group: group.clone(), why: Why::default(), ..made });
    let file = grants.files.get(path).filter(|made| !made.existed);
    let file = file.map(|made| File { group, why: Why::default(), ..made.clone() });
    let act = directory.map(|made| Act::Directory(path.clone(), made));
    Some(Way::new(act.or_else(|| file.map(|made| Act::File(path.clone(), made)))?, because))
}

/// A directory that the program makes in one that is its own.
fn below_own(path: &RawText, requirement: &Requirement, grants: &Grants) -> Option<Directory> {
    let (at, inode) = requirement.refused()?;
    let mode = inode.filter(|inode| at == path && inode.file_type == FileType::Directory)?.mode & 0o1777;
    let class = grants.directories.get(&parent(path))?.class;
    Some(Directory { class, mode, group: None, existed: false, why: Why::default() })
}

/// Whether these ids, of which those that stay are left out, are root's alone.
fn to_root(ids: &[u32]) -> bool {
    let mut new = ids.iter().filter(|id| **id != u32::MAX).peekable();
    new.peek().is_some() && new.all(|id| *id == 0)
}
