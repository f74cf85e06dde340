//! What a program is in that nrtrace did not start.

use std::collections::BTreeMap;

use nrtrace_profiles::container::{IdRange, inside};
use nrtrace_profiles::event::{Credentials, Identity};

/// The surroundings of a program that ran already.
#[derive(Clone, Debug, Default)]
pub struct Within {
    /// Whom it is judged for, with the ids that the host sees.
    pub on_host: Option<Identity>,
    /// Inode number of its user namespace; 0 for the host's, or when it is not known.
    pub user_ns: u32,
    /// How that maps user ids.
    pub uid_map: Vec<IdRange>,
    /// How that maps group ids.
    pub gid_map: Vec<IdRange>,
    /// Names of users, where they are not this machine's.
    pub users: Option<BTreeMap<u32, String>>,
    /// Names of groups, where they are not this machine's.
    pub groups: Option<BTreeMap<u32, String>>,
    /// Whether processes that are not root are judged by their real refusals.
    pub own_refusals: bool,
    /// Whether it ran already, so that what it has made is its own affair.
    pub attached: bool,
}

impl Within {
    /// Whether its user namespace is that one; of a program that has one, it may be unknown which.
    pub fn is_in(&self, user_ns: u32) -> bool {
        user_ns == self.user_ns || (self.user_ns == 0 && !self.uid_map.is_empty())
    }

    /// A user id as the program sees it; one that its user namespace does not have stays as it is.
    pub fn uid(&self, uid: u32) -> u32 {
        inside(&self.uid_map, uid).unwrap_or(uid)
    }

    /// The same of a group id.
    pub fn gid(&self, gid: u32) -> u32 {
        inside(&self.gid_map, gid).unwrap_or(gid)
    }

    /// Credentials as the program sees them.
    pub fn credentials(&self, uid: u32, gid: u32) -> Credentials {
        Credentials { uid: self.uid(uid), gid: self.gid(gid) }
    }

    /// Whether what refuses a caller with these ids is real, although the program as a whole is judged by the oracle.
    pub fn is_really_refused(&self, caller: Credentials) -> bool {
        self.own_refusals && caller.uid != 0
    }
}
