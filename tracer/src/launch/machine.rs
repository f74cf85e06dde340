//! Calls by which a program with capabilities changes the machine from inside a sandbox. They are answered there in the
//! kernel's place, or refused, and recorded as what consults the capability.

use libc::sock_filter;
use nrtrace_profiles::Capability;
use nrtrace_profiles::calls::{File, Kernel, Mount, Operation, ROWS};

use super::identity_filter::load_argument;
use crate::seccomp::{self, and, if_equal, ret};

/// What becomes of a call whose caller has the capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
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

/// `BPF_PROG_LOAD` (bpf(2)).
const LOADS_PROGRAM: &[u32] = &[5];
/// Clearing the log, and what the console shows (syslog(2)).
const CHANGES_LOG: &[u32] = &[5, 6, 7, 8];

/// What becomes of calls that do this, if they change the machine.
pub(crate) fn way(does: Operation) -> Option<Way> {
    Some(match does {
        Operation::File(File::MakeNode(mode)) => Way::Node(mode.into()),
        Operation::File(File::OpenHandle) => Way::Refused,
        Operation::Mount(mount) => match mount {
            Mount::Mount => Way::Mount,
            Mount::Context | Mount::SetAttributes | Mount::OpenTreeSet => Way::Unknown,
            Mount::Unmount
            | Mount::Pivot
            | Mount::OpenTree
            | Mount::Move
            | Mount::Configure
            | Mount::Finish
            | Mount::List => return None,
        },
        Operation::Kernel(kernel) => match kernel {
            Kernel::SetClock
            | Kernel::Module
            | Kernel::Reboot
            | Kernel::Kexec
            | Kernel::Accounting
            | Kernel::SwapOn
            | Kernel::SwapOff
            | Kernel::Hangup
            | Kernel::Log => Way::Answered,
            Kernel::AdjustClock(structure) => Way::Clock(structure.into()),
            Kernel::Ports | Kernel::Quota | Kernel::QuotaOf | Kernel::Bpf => Way::Refused,
            Kernel::NameHost
            | Kernel::Perf
            | Kernel::Ring
            | Kernel::RegisterRing
            | Kernel::EnterRing
            | Kernel::Descriptor
            | Kernel::Timer
            | Kernel::PageFaults
            | Kernel::Keys
            | Kernel::Control
            | Kernel::Ipc
            | Kernel::ControlIpc
            | Kernel::MessageQueue
            | Kernel::WatchFiles
            | Kernel::MarkFiles => return None,
        },
        _ => return None,
    })
}

/// Values of the first argument that are caught; all where there are none.
fn first(does: Operation) -> &'static [u32] {
    match does {
        Operation::Kernel(Kernel::Bpf) => LOADS_PROGRAM,
        Operation::Kernel(Kernel::Log) => CHANGES_LOG,
        _ => &[],
    }
}

/// What it consults, as what is answered in the kernel's place is told.
pub(super) fn capability(does: Operation) -> Option<Capability> {
    does.consults().first().map(|consulted| consulted.capability)
}

/// The numbers of all calls of one table, with what the filter does about each. The names of the 32-bit table are those
/// of i386.
pub(super) fn blocks(compat: bool, action: u32) -> Vec<(u32, Vec<sock_filter>)> {
    let known = !compat || cfg!(target_arch = "x86_64");
    let rows = ROWS.iter().filter(|row| known && way(row.operation).is_some());
    rows.filter_map(|row| {
        let number = if compat { seccomp::compat(row.name) } else { seccomp::native(row.name) };
        Some((number?, block(row.operation, action)?))
    })
    .collect()
}

fn block(does: Operation, action: u32) -> Option<Vec<sock_filter>> {
    let pass = ret(libc::SECCOMP_RET_ALLOW);
    if let Way::Node(mode) = way(does)? {
        let kind = [load_argument(mode), and(libc::S_IFMT)];
        let told = [if_equal(libc::S_IFBLK, 1, 0), if_equal(libc::S_IFCHR, 0, 1), ret(action), pass];
        return Some(kind.into_iter().chain(told).collect());
    }
    let first = first(does);
    if first.is_empty() {
        return Some(vec![ret(action)]);
    }
    let mut block = vec![load_argument(0)];
    let left = (1..=first.len()).rev();
    block.extend(first.iter().zip(left).map(|(value, left)| if_equal(*value, left as u8, 0)));
    block.extend([pass, ret(action)]);
    Some(block)
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
    fn what_is_answered_has_a_capability_to_be_told_by() {
        let answered: Vec<_> = ROWS.iter().filter(|row| way(row.operation).is_some()).collect();
        assert!(answered.len() > 20);
        for row in answered {
            assert!(capability(row.operation).is_some(), "{}", row.name);
        }
    }
}
