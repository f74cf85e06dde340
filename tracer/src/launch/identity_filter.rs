//! The seccomp filter that catches changes of identity and gifts of ownership, see seccomp(2).

use libc::{sock_filter, sock_fprog};

use super::machine;
use crate::seccomp::arch::{COMPAT, NATIVE, VARIANT_BIT};
use crate::seccomp::{ARCH, ARGUMENTS, NUMBER, and, if_equal, load, ret, skip};

/// What becomes of the program's changes of identity (`setuid` and its kind, `chown` to somebody else).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum IdentityPolicy {
    /// Answer with success, do nothing, record it: the run goes on being about the same user.
    #[default]
    Keep,
    /// Let the kernel do it: all later checks are about the new user.
    Switch,
    /// Refuse with EPERM, as in production, and record it.
    Deny,
    /// As [`Keep`](Self::Keep), and `getuid` and `geteuid` are answered with root's number, `capset` with success.
    Root,
}

/// What a call changes, and where its operands are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// User ids, one in each of the first arguments.
    Uids(usize),
    /// Group ids, one in each of the first arguments.
    Gids(usize),
    /// The filesystem user id; the call returns the previous one and never fails.
    FsUid,
    /// The filesystem group id, likewise.
    FsGid,
    /// A count and a list of groups.
    Groups,
    /// A path, an owner and a group; whether a symbolic link at the end is followed.
    PathOwner {
        /// Whether it is.
        follow: bool,
    },
    /// A file descriptor, an owner and a group.
    FdOwner,
    /// A directory's descriptor, a path, an owner, a group and flags.
    AtOwner,
    /// Something of the machine.
    Machine(&'static machine::Row),
}

impl Takes {
    /// Index of the argument that holds the new owner, the group being the next, for a gift of ownership.
    pub(super) fn owner_index(self) -> Option<usize> {
        match self {
            Self::PathOwner { .. } | Self::FdOwner => Some(1),
            Self::AtOwner => Some(2),
            Self::Uids(_) | Self::Gids(_) | Self::FsUid | Self::FsGid | Self::Groups | Self::Machine(_) => {
                None
            }
        }
    }
}

/// One call: its name, its number in the native table (if it is there), its numbers in the 32-bit table with 16-bit
/// and with 32-bit ids, and what it takes.
struct Row {
    /// The name in the native table.
    name: &'static str,
    native: Option<libc::c_long>,
    narrow: Option<u32>,
    wide: Option<u32>,
    /// What it changes.
    takes: Takes,
}

const fn row(
    name: &'static str,
    native: Option<libc::c_long>,
    narrow: Option<u32>,
    wide: Option<u32>,
    takes: Takes,
) -> Row {
    Row { name, native, narrow, wide, takes }
}

#[cfg(target_arch = "x86_64")]
mod arch {
    pub(super) const CHOWN: Option<libc::c_long> = Some(libc::SYS_chown);
    pub(super) const LCHOWN: Option<libc::c_long> = Some(libc::SYS_lchown);
    pub(super) const COMPAT_FCHOWNAT: u32 = 298;
}

#[cfg(target_arch = "aarch64")]
mod arch {
    pub(super) const CHOWN: Option<libc::c_long> = None;
    pub(super) const LCHOWN: Option<libc::c_long> = None;
    pub(super) const COMPAT_FCHOWNAT: u32 = 325;
}

/// What returns 0 to root alone: the number in the native table, and those in the 32-bit table.
const ASKS: [(libc::c_long, &[u32]); 3] =
    [(libc::SYS_getuid, &[24, 199]), (libc::SYS_geteuid, &[49, 201]), (libc::SYS_capset, &[185])];

// The 32-bit numbers are those of arch/x86/entry/syscalls/syscall_32.tbl; ARM's table has the same but for fchownat.
const ROWS: [Row; 13] = [
    row("setuid", Some(libc::SYS_setuid), Some(23), Some(213), Takes::Uids(1)),
    row("setgid", Some(libc::SYS_setgid), Some(46), Some(214), Takes::Gids(1)),
    row("setreuid", Some(libc::SYS_setreuid), Some(70), Some(203), Takes::Uids(2)),
    row("setregid", Some(libc::SYS_setregid), Some(71), Some(204), Takes::Gids(2)),
    row("setresuid", Some(libc::SYS_setresuid), Some(164), Some(208), Takes::Uids(3)),
    row("setresgid", Some(libc::SYS_setresgid), Some(170), Some(210), Takes::Gids(3)),
    row("setfsuid", Some(libc::SYS_setfsuid), Some(138), Some(215), Takes::FsUid),
    row("setfsgid", Some(libc::SYS_setfsgid), Some(139), Some(216), Takes::FsGid),
    row("setgroups", Some(libc::SYS_setgroups), Some(81), Some(206), Takes::Groups),
    row("chown", arch::CHOWN, Some(182), Some(212), Takes::PathOwner { follow: true }),
    row("lchown", arch::LCHOWN, Some(16), Some(198), Takes::PathOwner { follow: false }),
    row("fchown", Some(libc::SYS_fchown), Some(95), Some(207), Takes::FdOwner),
    row("fchownat", Some(libc::SYS_fchownat), None, Some(arch::COMPAT_FCHOWNAT), Takes::AtOwner),
];

/// A caught call: its name, what it takes, and whether its ids have 16 bits only.
pub(super) fn lookup(audit_arch: u32, nr: i32) -> Option<(&'static str, Takes, bool)> {
    let nr = nr as u32 & if is_native(audit_arch) { !VARIANT_BIT } else { !0 };
    let changes = ROWS.iter().find_map(|row| match nr {
        _ if is_native(audit_arch) => {
            (row.native == Some(libc::c_long::from(nr as i32))).then_some((row.name, row.takes, false))
        }
        _ if row.narrow == Some(nr) => Some((row.name, row.takes, true)),
        _ if row.wide == Some(nr) => Some((row.name, row.takes, false)),
        _ => None,
    });
    changes.or_else(|| {
        let row = machine::lookup(!is_native(audit_arch), nr)?;
        Some((row.name, Takes::Machine(row), false))
    })
}

/// Whether it is the native table.
pub(super) fn is_native(audit_arch: u32) -> bool {
    audit_arch == NATIVE
}

/// Loads the low half of an argument.
pub(super) fn load_argument(index: usize) -> sock_filter {
    load(ARGUMENTS + 8 * index as u32)
}

/// What a filter catches, and what it does about it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Caught {
    /// Changes of identity, and gifts that are not to this user and group.
    pub identity: Option<(u32, u32, u32)>,
    /// Calls that change the machine.
    pub machine: Option<u32>,
    /// Whether it is told that it is root.
    pub is_root: bool,
}

/// A filter that answers the calls of the tables with the action given for each and lets all others pass. Gifts to the user
/// itself pass as well: the kernel may judge those.
pub(super) fn program(caught: Caught) -> Vec<sock_filter> {
    let rows = if caught.identity.is_some() { &ROWS[..] } else { &[] };
    let (uid, gid, action) = caught.identity.unwrap_or_default();
    let block = |takes: Takes, narrow: bool| match takes.owner_index() {
        None => vec![ret(action)],
        Some(index) => gift_block(index as u32, uid, gid, narrow, action),
    };
    let machine = |compat| caught.machine.map(|action| machine::blocks(compat, action)).unwrap_or_default();
    let mut native: Vec<_> =
        rows.iter().filter_map(|row| Some((row.native? as u32, block(row.takes, false)))).collect();
    native.extend(machine(false));
    let narrow = rows.iter().filter_map(|row| Some((row.narrow?, block(row.takes, true))));
    let mut compat: Vec<_> =
        narrow.chain(rows.iter().filter_map(|row| Some((row.wide?, block(row.takes, false))))).collect();
    compat.extend(machine(true));
    // The errno 0 has the call return 0.
    let root = || vec![ret(libc::SECCOMP_RET_ERRNO)];
    for (asks, others) in ASKS.iter().filter(|_| caught.is_root) {
        native.push((*asks as u32, root()));
        compat.extend(others.iter().map(|nr| (*nr, root())));
    }
    let mut filter = vec![load(ARCH)];
    for (arch, mask, calls) in [(NATIVE, !VARIANT_BIT, native), (COMPAT, !0, compat)] {
        let mut section = vec![load(NUMBER), and(mask)];
        for (nr, block) in calls {
            section.extend([if_equal(nr, 1, 0), skip(block.len())]);
            section.extend(block);
        }
        section.push(ret(libc::SECCOMP_RET_ALLOW));
        filter.extend([if_equal(arch, 1, 0), skip(section.len())]);
        filter.extend(section);
    }
    filter.push(ret(libc::SECCOMP_RET_ALLOW));
    filter
}

fn gift_block(index: u32, uid: u32, gid: u32, narrow: bool, action: u32) -> Vec<sock_filter> {
    let bits = if narrow { 0xffff } else { u32::MAX };
    let (owner, group) = (ARGUMENTS + 8 * index, ARGUMENTS + 8 * (index + 1));
    vec![
        load(owner),
        and(bits),
        if_equal(bits, 1, 0),
        if_equal(uid, 0, 5),
        load(group),
        and(bits),
        if_equal(bits, 1, 0),
        if_equal(gid, 0, 1),
        ret(libc::SECCOMP_RET_ALLOW),
        ret(action),
    ]
}

/// `filter` as the kernel takes it; valid while `filter` is.
pub(super) fn as_program(filter: &mut [sock_filter]) -> sock_fprog {
    sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::answer;

    const OWN: Caught = Caught { identity: Some((61184, 61185, CAUGHT)), machine: None, is_root: false };
    const CAUGHT: u32 = libc::SECCOMP_RET_USER_NOTIF;
    const PASSED: u32 = libc::SECCOMP_RET_ALLOW;

    #[test]
    fn each_call_of_the_table_is_caught_and_no_other() {
        let filter = program(Caught { machine: Some(CAUGHT), ..OWN });
        assert!(filter.len() < 4096);
        let always = |takes| match takes {
            Takes::Machine(row) => !matches!(row.name, "mknod" | "mknodat" | "bpf" | "syslog"),
            _ => true,
        };
        for audit_arch in [NATIVE, COMPAT] {
            for nr in 0..600 {
                let caught = lookup(audit_arch, nr).is_some_and(|(_, takes, _)| always(takes));
                let expected = if caught { CAUGHT } else { PASSED };
                assert_eq!(answer(&filter, audit_arch, nr as u32, [0; 4]), expected, "{audit_arch:x} {nr}");
            }
        }
        assert_eq!(answer(&filter, 0xdead, libc::SYS_setuid as u32, [0; 4]), PASSED);
        let variant = libc::SYS_setuid as u32 | VARIANT_BIT;
        assert_eq!(answer(&filter, NATIVE, variant, [0; 4]), CAUGHT);
    }

    #[test]
    fn of_some_calls_the_arguments_tell() {
        let filter = program(Caught { machine: Some(CAUGHT), ..Caught::default() });
        let cases = [
            (libc::SYS_mknodat, [3, 9, libc::S_IFBLK | 0o600, 0x801], CAUGHT),
            (libc::SYS_mknodat, [3, 9, libc::S_IFCHR | 0o600, 0x103], CAUGHT),
            (libc::SYS_mknodat, [3, 9, libc::S_IFIFO | 0o600, 0], PASSED),
            (libc::SYS_bpf, [5, 0, 0, 0], CAUGHT),
            (libc::SYS_bpf, [0, 0, 0, 0], PASSED),
            (libc::SYS_syslog, [5, 0, 0, 0], CAUGHT),
            (libc::SYS_syslog, [8, 0, 0, 0], CAUGHT),
            (libc::SYS_syslog, [3, 0, 0, 0], PASSED),
            (libc::SYS_setuid, [33, 0, 0, 0], PASSED),
        ];
        for (nr, args, expected) in cases {
            assert_eq!(answer(&filter, NATIVE, nr as u32, args), expected, "{nr} {args:?}");
        }
    }

    #[test]
    fn who_asks_is_told_that_it_is_root() {
        for (is_root, expected) in [(true, libc::SECCOMP_RET_ERRNO), (false, PASSED)] {
            let filter = program(Caught { is_root, ..OWN });
            let calls = [
                (NATIVE, libc::SYS_getuid as u32),
                (NATIVE, libc::SYS_geteuid as u32),
                (NATIVE, libc::SYS_capset as u32),
                (COMPAT, 24),
                (COMPAT, 49),
                (COMPAT, 199),
                (COMPAT, 201),
            ];
            for (arch, nr) in calls {
                assert_eq!(answer(&filter, arch, nr, [0; 4]), expected, "{arch:x} {nr}");
            }
            assert_eq!(answer(&filter, NATIVE, libc::SYS_getgid as u32, [0; 4]), PASSED);
        }
    }

    #[test]
    fn gifts_to_oneself_pass() {
        let filter = program(OWN);
        let unchanged = u32::MAX;
        let cases = [
            (61184, 61185, PASSED),
            (unchanged, unchanged, PASSED),
            (61184, unchanged, PASSED),
            (unchanged, 61185, PASSED),
            (0, 61185, CAUGHT),
            (61184, 0, CAUGHT),
            (unchanged, 61184, CAUGHT),
        ];
        for (uid, gid, expected) in cases {
            let fchown = answer(&filter, NATIVE, libc::SYS_fchown as u32, [3, uid, gid, 0]);
            let fchownat = answer(&filter, NATIVE, libc::SYS_fchownat as u32, [3, 9, uid, gid]);
            let narrow = answer(&filter, COMPAT, 182, [9, uid, gid, 0]);
            let wide = answer(&filter, COMPAT, 212, [9, uid, gid, 0]);
            assert_eq!([fchown, fchownat, narrow, wide], [expected; 4], "{uid} {gid}");
        }
        assert_eq!(answer(&filter, COMPAT, 182, [9, 0xffff, 0xffff, 0]), PASSED);
        assert_eq!(answer(&filter, COMPAT, 212, [9, 0xffff, 0xffff, 0]), CAUGHT);
    }
}
