//! Users and groups of this machine, through the C library's name service.

use std::collections::BTreeSet;
use std::fs;

use nix::unistd::{Gid, Group, Uid, User};

use super::proc_status::Status;

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
