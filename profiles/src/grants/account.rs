//! The user that everything is granted to, under a name that every consumer accepts.

use super::act::Way;
use crate::event::Identity;

/// The user and the primary group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Name of the user; sysusers.d(5) and useradd(8) accept it.
    pub user: String,
    /// Name of the primary group.
    pub group: String,
    /// User id of a user that exists; of one that does not, the id is for `systemd-sysusers` to choose.
    pub uid: Option<u32>,
    /// Primary group id of a user that exists.
    pub gid: Option<u32>,
    /// User id of the run, for targets that take numbers only.
    pub run_uid: u32,
    /// Group id of the run.
    pub run_gid: u32,
}

impl Account {
    /// The account of an identity. A name that is no user name is replaced, and that is said.
    pub(crate) fn of(identity: &Identity, name: &str) -> (Self, Option<Way>) {
        let user = account_name(&identity.user, name);
        let group = account_name(&identity.group, &user);
        let doubt = (user != identity.user).then(|| {
            let reason =
                format!("\"{}\" is not a name a system user can have; {user} is used", identity.user);
            Way::refuse(reason, "name the user with --as")
        });
        let known = |id| identity.exists.then_some(id);
        let account = Self {
            user,
            group,
            uid: known(identity.uid),
            gid: known(identity.gid),
            run_uid: identity.uid,
            run_gid: identity.gid,
        };
        (account, doubt)
    }
}

/// Longest user name sysusers.d(5) accepts.
const LONGEST: usize = 31;

/// Whether sysusers.d(5) accepts the name.
pub(crate) fn is_account_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && name.len() <= LONGEST
}

fn account_name(wanted: &str, fallback: &str) -> String {
    if is_account_name(wanted) {
        return wanted.to_owned();
    }
    let source = if wanted.is_empty() { fallback } else { wanted };
    let mut name: String = source
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' })
        .take(LONGEST - 1)
        .collect();
    if !is_account_name(&name) {
        name.insert(0, '_');
    }
    name
}

/// A name that is safe as a file name and as the name of a unit.
pub(crate) fn safe_name(name: &str) -> String {
    let safe: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '-' })
        .take(100)
        .collect();
    match safe.trim_start_matches(['.', '-']) {
        "" => "service".into(),
        name => name.to_owned(),
    }
}
