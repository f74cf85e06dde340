//! Users and groups of this machine, through the C library's name service; those in `/etc/passwd` and `/etc/group` alone
//! where nrtrace is linked statically.

use nix::unistd::{Gid, Group, Uid, User};

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
pub fn user_by_name(name: &str) -> Option<User> {
    User::from_name(name).ok().flatten()
}

/// The user of that number.
pub fn user_by_uid(uid: u32) -> Option<User> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten()
}

/// The group of that name.
pub fn group_by_name(name: &str) -> Option<Group> {
    Group::from_name(name).ok().flatten()
}

/// The group of that number.
pub fn group_by_gid(gid: u32) -> Option<Group> {
    Group::from_gid(Gid::from_raw(gid)).ok().flatten()
}
