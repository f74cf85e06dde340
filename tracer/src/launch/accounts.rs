//! Users and groups of this machine, through the C library's name service; those in `/etc/passwd` and `/etc/group` alone
//! where nrtrace is linked statically.

use std::collections::BTreeSet;
use std::fs;

use nix::unistd::{Gid, Group, Uid, User};

use super::proc_status::Status;

/// Settles where users and groups are looked up. To be called before any other thread is there.
///
/// A program that is linked statically to glibc would load the name services of whatever glibc it finds; the one for
/// files is part of it (glibc 2.34).
pub fn settle() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    {
        unsafe extern "C" {
            fn __nss_configure_lookup(
                database: *const libc::c_char,
                services: *const libc::c_char,
            ) -> libc::c_int;
        }
        for database in [c"passwd", c"group"] {
            // SAFETY: both are C strings that live for ever, and no other thread looks anything up meanwhile.
            unsafe { __nss_configure_lookup(database.as_ptr(), c"files".as_ptr()) };
        }
    }
}

/// The user of that name. A name service that does not answer counts as "no such user".
pub(super) fn user_by_name(name: &str) -> Option<User> {
    User::from_name(name).ok().flatten()
}

/// The user of that number.
pub(super) fn user_by_uid(uid: u32) -> Option<User> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten()
}

/// The group of that name.
pub(super) fn group_by_name(name: &str) -> Option<Group> {
    Group::from_name(name).ok().flatten()
}

/// The group of that number.
pub(super) fn group_by_gid(gid: u32) -> Option<Group> {
    Group::from_gid(Gid::from_raw(gid)).ok().flatten()
}

/// Every user and group id that a running process has, of whatever kind.
pub(super) fn ids_in_use() -> BTreeSet<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(Status::read)
        .flat_map(|status| status.uids.into_iter().chain(status.gids).chain(status.groups))
        .collect()
}
