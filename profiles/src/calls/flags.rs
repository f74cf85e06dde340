//! Flags of calls, as x86 and the architectures that took over its numbers have them.

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

/// `R_OK` and `W_OK` of access(2).
pub const R_OK: i32 = 4;
pub const W_OK: i32 = 2;

/// All `CLONE_NEW*` flags as one mask, without `CLONE_NEWTIME`, which clone(2) takes as part of the exit signal.
pub const CLONE_NEW: u64 = 0x7e02_0000;
