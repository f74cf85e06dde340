//! Changes of user, group and owner.

use super::paths::is_given;
use crate::RawText;
use crate::calls::{ROWS, native_name};
use crate::grants::{Act, Grants, Method, Way};
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
    if requirement.way == Some(Method::Unit) {
        grants.take(&requirement.id, answer(operation));
        return;
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
        (IdentityOperation::SetUser | IdentityOperation::SetGroup, None) if to_root(ids) => {
            format!("{user} cannot become root: most programs go on without; where one does not, look for an option")
        }
        _ => format!("it runs as {user} from the start: remove the option or directive that names another user or group"),
    };
    grants.take(&requirement.id, Way::setting(advice));
}

/// The calls of an operation, by their native names.
fn calls(operation: IdentityOperation) -> impl Iterator<Item = &'static str> {
    let rows = ROWS.iter().filter(move |row| row.operation.identity() == Some(operation));
    rows.map(|row| row.name).filter(|name| native_name(name) == *name)
}

/// The unit answers the calls in the kernel's place: nothing changes, and the program is told that it did.
fn answer(operation: IdentityOperation) -> Way {
    let list: Vec<String> = calls(operation).map(|call| format!("{call}:0")).collect();
    let act = Act::Directive("SystemCallFilter".into(), format!("~{}", list.join(" ")));
    Way::new(act, "is answered with success and not done, as the program ends when it is refused")
}

/// Whether these ids, of which those that stay are left out, are root's alone.
fn to_root(ids: &[u32]) -> bool {
    let mut new = ids.iter().filter(|id| **id != u32::MAX).peekable();
    new.peek().is_some() && new.all(|id| *id == 0)
}
