//! Flags of calls, as x86 and the architectures that took over its numbers have them.

#![expect(missing_docs, reason = "they are named as in the headers of the kernel")]

/// `AT_SYMLINK_NOFOLLOW`, `AT_REMOVEDIR` and `AT_SYMLINK_FOLLOW` of `include/uapi/linux/fcntl.h`.
pub const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
pub const AT_REMOVEDIR: u64 = 0x200;
pub const AT_SYMLINK_FOLLOW: u64 = 0x400;

/// Flags of open(2).
pub const O_WRONLY: u64 = 0o1;
pub const O_RDWR: u64 = 0o2;
/// Makes the file where there is none.
pub const O_CREAT: u64 = 0o100;
pub const O_TRUNC: u64 = 0o1000;
pub const O_APPEND: u64 = 0o2000;
#[cfg(not(target_arch = "aarch64"))]
pub const O_NOFOLLOW: u64 = 0o400_000;
#[cfg(target_arch = "aarch64")]
pub const O_NOFOLLOW: u64 = 0o100_000;
/// `O_TMPFILE` without `O_DIRECTORY`.
pub const O_TMPFILE: u64 = 0o20_000_000;
/// `creat`.
pub const CREATES: u64 = O_WRONLY | O_CREAT | O_TRUNC;

/// How a path is looked up, of openat2(2).
pub const RESOLVE_IN_ROOT: u64 = 0x10;

/// `R_OK` and `W_OK` of access(2).
pub const R_OK: i32 = 4;
pub const W_OK: i32 = 2;

/// All `CLONE_NEW*` flags as one mask, without `CLONE_NEWTIME`, which clone(2) takes as part of the exit signal.
pub const CLONE_NEW: u64 = 0x7e02_0000;

/// Options of sockets at their levels (socket(7), ip(7), ipv6(7)).
pub const SOL_SOCKET: u32 = 1;
pub const SO_DEBUG: u32 = 1;
pub const SO_PRIORITY: u32 = 12;
pub const SO_BINDTODEVICE: u32 = 25;
pub const SO_SNDBUFFORCE: u32 = 32;
pub const SO_RCVBUFFORCE: u32 = 33;
pub const SO_MARK: u32 = 36;
/// `IP_TRANSPARENT` and `IPV6_TRANSPARENT`.
pub const TRANSPARENT: [(u32, u32); 2] = [(0, 19), (41, 75)];
/// The numbers of those that a capability is consulted for, whatever their level.
pub const PRIVILEGED_OPTIONS: &[u32] =
    &[SO_DEBUG, SO_PRIORITY, 19, SO_BINDTODEVICE, SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_MARK, 75];

/// `TIOCSTI` of ioctl_tty(2).
pub const TERMINAL_INPUT: u32 = 0x5412;
/// `FS_IOC_SETFLAGS` of ioctl_iflags(2), for programs of 64 and of 32 bits.
pub const SET_INODE_FLAGS: [u32; 2] = [0x4008_6602, 0x4004_6602];
/// Requests of netdevice(7) that change an interface or a route, and `TUNSETIFF`.
pub const NETWORK_REQUESTS: &[u32] =
    &[0x890b, 0x890c, 0x8914, 0x8916, 0x8918, 0x891a, 0x891c, 0x8922, 0x8923, 0x8924, 0x4004_54ca];
/// All of these.
pub const PRIVILEGED_REQUESTS: &[u32] = &[
    TERMINAL_INPUT,
    SET_INODE_FLAGS[0],
    SET_INODE_FLAGS[1],
    0x890b,
    0x890c,
    0x8914,
    0x8916,
    0x8918,
    0x891a,
    0x891c,
    0x8922,
    0x8923,
    0x8924,
    0x4004_54ca,
];

/// Whether these `modes` of a `struct timex` change nothing. adjtime(3) has a bit of its own, and one with which it only
/// reads (`timekeeping_validate_timex`).
pub const fn only_reads_clock(modes: u32) -> bool {
    const ADJ_ADJTIME: u32 = 0x8000;
    const ADJ_OFFSET_READONLY: u32 = 0x2000;
    modes == 0 || modes & (ADJ_ADJTIME | ADJ_OFFSET_READONLY) == ADJ_ADJTIME | ADJ_OFFSET_READONLY
}
