//! Calls by which a program with capabilities changes the machine from inside a sandbox. They are answered there in the
//! kernel's place, or refused, and recorded as what consults the capability.

use libc::sock_filter;
use nrtrace_profiles::Capability;

use super::identity_filter::load_argument;
use crate::seccomp::{self, and, if_equal, ret};

/// What becomes of a call whose caller has the capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Success, and nothing is done.
    Answered,
    /// EPERM.
    Refused,
    /// ENOSYS, as before the kernel knew the call: programs fall back to one that can be told by its arguments.
    Unknown,
    /// Makes a node; the arguments that hold its mode and its device. Those of files and of what containers use are made.
    Node(usize),
    /// Reads or sets the clock by the structure in this argument: it is read.
    Clock(usize),
    /// Mounts: what has no device below it and does not speak to the kernel is mounted.
    Mount,
}

/// A call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Its name.
    pub name: &'static str,
    /// What it consults.
    pub capability: Capability,
    /// What becomes of it.
    pub way: Way,
    /// Values of its first argument that are caught; all where there are none.
    first: &'static [u32],
}

const fn row(name: &'static str, capability: Capability, way: Way) -> Row {
    Row { name, capability, way, first: &[] }
}

/// `BPF_PROG_LOAD` (bpf(2)).
const LOADS_PROGRAM: &[u32] = &[5];
/// Clearing the log, and what the console shows (syslog(2)).
const CHANGES_LOG: &[u32] = &[5, 6, 7, 8];

const ROWS: &[Row] = &[
    row("settimeofday", Capability::SYS_TIME, Way::Answered),
    row("stime", Capability::SYS_TIME, Way::Answered),
    row("clock_settime", Capability::SYS_TIME, Way::Answered),
    row("clock_settime64", Capability::SYS_TIME, Way::Answered),
    row("adjtimex", Capability::SYS_TIME, Way::Clock(0)),
    row("clock_adjtime", Capability::SYS_TIME, Way::Clock(1)),
    row("clock_adjtime64", Capability::SYS_TIME, Way::Clock(1)),
    row("init_module", Capability::SYS_MODULE, Way::Answered),
    row("finit_module", Capability::SYS_MODULE, Way::Answered),
    row("delete_module", Capability::SYS_MODULE, Way::Answered),
    row("reboot", Capability::SYS_BOOT, Way::Answered),
    row("kexec_load", Capability::SYS_BOOT, Way::Answered),
    row("kexec_file_load", Capability::SYS_BOOT, Way::Answered),
    row("iopl", Capability::SYS_RAWIO, Way::Refused),
    row("ioperm", Capability::SYS_RAWIO, Way::Refused),
    row("swapon", Capability::SYS_ADMIN, Way::Answered),
    row("swapoff", Capability::SYS_ADMIN, Way::Answered),
    // CAP_SYS_PACCT, CAP_SYS_TTY_CONFIG
    row("acct", Capability::from_number(20), Way::Answered),
    row("vhangup", Capability::from_number(26), Way::Answered),
    row("quotactl", Capability::SYS_ADMIN, Way::Refused),
    row("quotactl_fd", Capability::SYS_ADMIN, Way::Refused),
    row("open_by_handle_at", Capability::DAC_READ_SEARCH, Way::Refused),
    Row { first: LOADS_PROGRAM, ..row("bpf", Capability::BPF, Way::Refused) },
    Row { first: CHANGES_LOG, ..row("syslog", Capability::SYSLOG, Way::Answered) },
    row("mknod", Capability::MKNOD, Way::Node(1)),
    row("mknodat", Capability::MKNOD, Way::Node(2)),
    row("mount", Capability::SYS_ADMIN, Way::Mount),
    row("fsopen", Capability::SYS_ADMIN, Way::Unknown),
    row("fspick", Capability::SYS_ADMIN, Way::Unknown),
    row("mount_setattr", Capability::SYS_ADMIN, Way::Unknown),
    row("open_tree_attr", Capability::SYS_ADMIN, Way::Unknown),
];

/// Whether a call of this name may be caught.
pub(crate) fn is_listed(name: &str) -> bool {
    ROWS.iter().any(|row| row.name == name)
}

fn number(row: &Row, compat: bool) -> Option<u32> {
    match compat {
        false => seccomp::native(row.name),
        // The names are those of the i386 table.
        true => cfg!(target_arch = "x86_64").then(|| seccomp::compat(row.name)).flatten(),
    }
}

/// The row of a caught call.
pub(super) fn lookup(compat: bool, nr: u32) -> Option<&'static Row> {
    ROWS.iter().find(|row| number(row, compat) == Some(nr))
}

/// The numbers of all calls of one table, with what the filter does about each.
pub(super) fn blocks(compat: bool, action: u32) -> Vec<(u32, Vec<sock_filter>)> {
    ROWS.iter().filter_map(|row| Some((number(row, compat)?, block(row, action)))).collect()
}

fn block(row: &Row, action: u32) -> Vec<sock_filter> {
    let pass = ret(libc::SECCOMP_RET_ALLOW);
    if let Way::Node(mode) = row.way {
        let kind = [load_argument(mode), and(libc::S_IFMT)];
        let told = [if_equal(libc::S_IFBLK, 1, 0), if_equal(libc::S_IFCHR, 0, 1), ret(action), pass];
        return kind.into_iter().chain(told).collect();
    }
    if row.first.is_empty() {
        return vec![ret(action)];
    }
    let mut block = vec![load_argument(0)];
    let left = (1..=row.first.len()).rev();
    block.extend(row.first.iter().zip(left).map(|(value, left)| if_equal(*value, left as u8, 0)));
    block.extend([pass, ret(action)]);
    block
}

/// Whether a device node is one of those that every container has: null, zero, full, random, urandom, tty, ptmx, the
/// network tunnel and FUSE, each of which the kernel keeps apart by itself; or a whiteout of overlayfs, which is none.
pub(super) fn is_harmless(mode: u64, device: u64) -> bool {
    /// Major and minor number as mknod(2) takes them (`new_encode_dev`).
    const fn encoded(major: u64, minor: u64) -> u64 {
        major << 8 | minor
    }
    const KNOWN: [u64; 10] = [
        encoded(0, 0),
        encoded(1, 3),
        encoded(1, 5),
        encoded(1, 7),
        encoded(1, 8),
        encoded(1, 9),
        encoded(5, 0),
        encoded(5, 2),
        encoded(10, 200),
        encoded(10, 229),
    ];
    mode as u32 & libc::S_IFMT == libc::S_IFCHR && KNOWN.contains(&(device & 0xffff_ffff))
}

/// What may be done about a mount(2) with these flags and this type of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mounting {
    /// The kernel does it.
    Done,
    /// It would open again what the sandbox has closed: nothing is done.
    Answered,
    /// It would show what belongs to the machine.
    Refused,
}

/// `kind` is asked for where the flags do not tell.
pub(super) fn mounting(flags: u64, kind: impl FnOnce() -> Vec<u8>) -> Mounting {
    const MOVES: u64 = libc::MS_BIND
        | libc::MS_MOVE
        | libc::MS_SHARED
        | libc::MS_PRIVATE
        | libc::MS_SLAVE
        | libc::MS_UNBINDABLE;
    const OWN: [&[u8]; 9] =
        [b"tmpfs", b"ramfs", b"proc", b"devpts", b"mqueue", b"overlay", b"fuse", b"hugetlbfs", b"none"];
    const KERNEL: [&[u8]; 4] = [b"sysfs", b"cgroup", b"cgroup2", b"securityfs"];
    let closes = flags & (libc::MS_BIND | libc::MS_RDONLY) == libc::MS_BIND | libc::MS_RDONLY;
    if flags & libc::MS_REMOUNT != 0 {
        return if closes { Mounting::Done } else { Mounting::Answered };
    }
    if flags & MOVES != 0 {
        return Mounting::Done;
    }
    let kind = kind();
    let of = |known: &[&[u8]]| known.contains(&&*kind);
    match of(&OWN) || kind.starts_with(b"fuse.") || (of(&KERNEL) && flags & libc::MS_RDONLY != 0) {
        true => Mounting::Done,
        false => Mounting::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_containers_are_told_from_those_of_the_machine() {
        let char_device = u64::from(libc::S_IFCHR | 0o666);
        for (device, harmless) in
            [(0, true), (0x103, true), (0xae5, true), (0x101, false), (0x10b, false), (0x1_0000_0103, true)]
        {
            assert_eq!(is_harmless(char_device, device), harmless, "{device:x}");
        }
        assert!(!is_harmless(u64::from(libc::S_IFBLK), 0x103));
    }

    #[test]
    fn what_lies_on_a_disk_or_is_the_kernels_is_not_mounted() {
        let of = |flags, kind: &[u8]| mounting(flags, || kind.to_vec());
        assert_eq!(of(0, b"tmpfs"), Mounting::Done);
        assert_eq!(of(libc::MS_BIND, b""), Mounting::Done);
        assert_eq!(of(libc::MS_RDONLY, b"sysfs"), Mounting::Done);
        for kind in [b"ext4".as_slice(), b"devtmpfs", b"sysfs", b"cgroup2", b"debugfs", b""] {
            assert_eq!(of(0, kind), Mounting::Refused, "{kind:?}");
        }
        assert_eq!(of(libc::MS_REMOUNT | libc::MS_BIND, b""), Mounting::Answered);
        assert_eq!(of(libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY, b""), Mounting::Done);
    }

    #[test]
    fn each_name_is_in_a_table() {
        for row in ROWS {
            assert!(number(row, false).or(number(row, true)).is_some(), "{}", row.name);
        }
    }
}
