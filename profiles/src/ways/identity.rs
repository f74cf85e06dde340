//! Changes of user, group and owner.

use super::paths::is_given;
use crate::RawText;
use crate::grants::{Grants, Way};
use crate::requirement::{IdentityOperation, Requirement};

/// Meets a change of identity: by none, since the service starts as its user.
pub(super) fn meet(
    requirement: &Requirement,
    operation: IdentityOperation,
    ids: &[u32],
    path: Option<&RawText>,
    grants: &mut Grants,
) {
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

/// Whether these ids, of which those that stay are left out, are root's alone.
fn to_root(ids: &[u32]) -> bool {
    let mut new = ids.iter().filter(|id| **id != u32::MAX).peekable();
    new.peek().is_some() && new.all(|id| *id == 0)
}
