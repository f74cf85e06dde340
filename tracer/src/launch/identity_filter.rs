//! The seccomp filter that catches changes of identity and gifts of ownership, see seccomp(2).

use std::sync::LazyLock;

use libc::{sock_filter, sock_fprog};
use nrtrace_ebpf::table::{NONE, Operands};
use nrtrace_profiles::Capability;
use nrtrace_profiles::calls::{self, File, Identity, Link, Operation, ROWS, Row};

use super::machine::{self, Way};
use crate::seccomp::arch::{COMPAT, NATIVE, VARIANT_BIT};
use crate::seccomp::{self, ARCH, ARGUMENTS, NUMBER, and, if_equal, load, ret, skip};

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
    /// As [`Keep`](Self::Keep), but `getuid` and `geteuid` are answered with root's number, `capset` with success, and files
    /// are given away: some programs look whether they were. For runs whose files are thrown away.
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
    /// Something of the machine: what becomes of it, and what it consults.
    Machine(Way, Capability),
}

impl Takes {
    /// Index of the argument that holds the new owner, the group being the next, for a gift of ownership.
    pub(super) fn owner_index(self) -> Option<usize> {
        match self {
            Self::PathOwner { .. } | Self::FdOwner => Some(1),
            Self::AtOwner => Some(2),
            Self::Uids(_) | Self::Gids(_) | Self::FsUid | Self::FsGid | Self::Groups | Self::Machine(..) => {
                None
            }
        }
    }
}

/// A call that may be caught.
#[derive(Clone, Copy, Debug)]
struct Known {
    number: u32,
    /// The name in the native table: the i386 table has some calls twice, with ids of 16 and of 32 bits.
    name: &'static str,
    takes: Takes,
    /// Its ids have 16 bits.
    narrow: bool,
}

fn takes(row: &Row) -> Option<Takes> {
    Some(match row.operation {
        Operation::Identity(identity) => match identity {
            Identity::Users(count) => Takes::Uids(count.into()),
            Identity::Groups(count) => Takes::Gids(count.into()),
            Identity::FileUser => Takes::FsUid,
            Identity::FileGroup => Takes::FsGid,
            Identity::Supplementary => Takes::Groups,
            Identity::Capabilities | Identity::Process | Identity::Filter => return None,
        },
        Operation::File(File::Give(_)) => match row.operands {
            Operands { path: NONE, .. } => Takes::FdOwner,
            Operands { dirfd: NONE, .. } => Takes::PathOwner { follow: row.link == Link::Followed },
            _ => Takes::AtOwner,
        },
        does => Takes::Machine(machine::way(does)?, machine::capability(does)?),
    })
}

/// The calls of one table that change the caller's identity or give files away.
fn known(compat: bool) -> Vec<Known> {
    let known = |row: &'static Row| {
        let number = if compat { seccomp::compat(row.name) } else { seccomp::native(row.name) };
        let narrow = compat && calls::has_narrow_ids(row);
        let name = calls::native_name(row.name);
        Some(Known { number: number?, name, takes: takes(row)?, narrow })
    };
    ROWS.iter().filter_map(known).collect()
}

static KNOWN: LazyLock<[Vec<Known>; 2]> = LazyLock::new(|| [known(false), known(true)]);

/// The numbers of the calls that return 0 to root alone.
fn of_root(compat: bool) -> impl Iterator<Item = u32> {
    let number = if compat { seccomp::compat } else { seccomp::native };
    calls::ROOT_ONLY.into_iter().flat_map(move |name| [number(name), number(&format!("{name}32"))]).flatten()
}

/// A caught call: its name, what it takes, and whether its ids have 16 bits only.
pub(super) fn lookup(audit_arch: u32, nr: i32) -> Option<(&'static str, Takes, bool)> {
    let native = is_native(audit_arch);
    let nr = nr as u32 & if native { !VARIANT_BIT } else { !0 };
    let found = KNOWN[usize::from(!native)].iter().find(|known| known.number == nr)?;
    // The names of the 32-bit table are those of i386.
    let told = native || cfg!(target_arch = "x86_64") || !matches!(found.takes, Takes::Machine(..));
    told.then_some((found.name, found.takes, found.narrow))
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
    /// Whether it is told that it is root, and may give files away as root does.
    pub is_root: bool,
}

/// A filter that answers the calls of the tables with the action given for each and lets all others pass. Gifts to the user
/// itself pass as well: the kernel may judge those.
pub(super) fn program(caught: Caught) -> Vec<sock_filter> {
    let (uid, gid, action) = caught.identity.unwrap_or_default();
    let blocks = |compat: bool| {
        let of_identity = |known: &&Known| {
            let is_done = caught.is_root && known.takes.owner_index().is_some();
            caught.identity.is_some() && !is_done && !matches!(known.takes, Takes::Machine(..))
        };
        let block = |known: &Known| match known.takes.owner_index() {
            None => vec![ret(action)],
            Some(index) => gift_block(index as u32, uid, gid, known.narrow, action),
        };
        let rows = KNOWN[usize::from(compat)].iter().filter(of_identity);
        let mut blocks: Vec<_> = rows.map(|known| (known.number, block(known))).collect();
        blocks.extend(caught.machine.into_iter().flat_map(|action| machine::blocks(compat, action)));
        if caught.is_root {
            // The errno 0 has the call return 0.
            blocks.extend(of_root(compat).map(|number| (number, vec![ret(libc::SECCOMP_RET_ERRNO)])));
        }
        blocks
    };
    let mut filter = vec![load(ARCH)];
    for (arch, mask, calls) in [(NATIVE, !VARIANT_BIT, blocks(false)), (COMPAT, !0, blocks(true))] {
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
        let always = |takes| {
            !matches!(
                takes,
                Takes::Machine(Way::Node(_), _) | Takes::Machine(_, Capability::BPF | Capability::SYSLOG)
            )
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
