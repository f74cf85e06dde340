//! Fixed-layout records.

/// How many strings a record can carry.
pub const STRINGS: usize = 6;

/// Index into [`Head::strings`]: the path as the process passed it (not necessarily absolute); of [`KIND_EXEC`] the
/// path that was run, a script's own, and as execve(2) was given it.
pub const STR_PATH: usize = 0;
/// The directory a relative [`STR_PATH`] starts from (working directory or dirfd), or, for a call on a file
/// descriptor, the file itself. Walked from the dentry upwards: *leaf first*, components separated by `/`,
/// no leading or trailing `/`; empty for the root of the mount namespace.
pub const STR_BASE: usize = 1;
/// The process's root directory, leaf first as [`STR_BASE`]; empty unless the process has changed its root.
pub const STR_ROOT: usize = 2;
/// In a [`CallRecord`], the second path of `rename`, `link` and `symlink` (for `symlink` and `symlinkat`,
/// [`STR_PATH`] is the link's name and this is its target text). In a [`CheckRecord`], the component that
/// refused, leaf first as [`STR_BASE`], when [`FLAG_COMPONENT`] is set and [`FLAG_TWO_PATHS`] is not.
pub const STR_PATH2: usize = 3;
/// The directory a relative second path starts from, leaf first.
pub const STR_BASE2: usize = 4;
/// Other bytes: a socket address (`bind`, `connect`), the text written to standard error, the value written to
/// a file below `/proc/sys`, the start of a structure (`struct rlimit`, `struct open_how`), the executable's absolute path
/// leaf first ([`KIND_EXEC`]), the component that refused
/// ([`FLAG_TWO_PATHS`]).
pub const STR_DATA: usize = 5;

/// Longest [`STR_PATH`] and [`STR_PATH2`] in bytes (`PATH_MAX` without its terminator).
pub const PATH_MAX: usize = 4095;

/// [`Head::kind`]: a capability was consulted; a [`CheckRecord`].
pub const KIND_CHECK: u16 = 1;
/// [`Head::kind`]: a system call of interest has returned; a [`CallRecord`].
pub const KIND_CALL: u16 = 2;
/// [`Head::kind`]: the current task made a new one; a [`ProcessRecord`] about the child.
pub const KIND_FORK: u16 = 3;
/// [`Head::kind`]: the current task runs a new program; a [`ProcessRecord`].
pub const KIND_EXEC: u16 = 4;
/// [`Head::kind`]: the current task has ended; a [`ProcessRecord`].
pub const KIND_EXIT: u16 = 5;
/// [`Head::kind`]: a task has joined the control group that is waited for, whose path is [`STR_PATH`]; a
/// [`ProcessRecord`] about whoever moved it.
pub const KIND_JOIN: u16 = 6;

/// [`Head::flags`]: a string was longer than its field and was cut.
pub const FLAG_TRUNCATED: u16 = 1 << 0;
/// [`Head::flags`]: a string could not be read (page not present); its length is zero.
pub const FLAG_UNREADABLE: u16 = 1 << 1;
/// [`Head::flags`]: a walk did not reach the root of the mount namespace: the file is a pipe, a socket or the like, its
/// mount was detached, or the mount could not be known (the `fexit` way). What there is of the path is given.
pub const FLAG_DEEP: u16 = 1 << 2;
/// [`Head::flags`]: the call came through the 32-bit entry; `nr` is a number of that table.
pub const FLAG_COMPAT: u16 = 1 << 3;
/// [`Head::flags`]: [`CheckRecord::component`] is valid.
pub const FLAG_COMPONENT: u16 = 1 << 4;
/// [`Head::flags`]: the credentials checked are not the task's own (overlayfs acts as its mounter).
pub const FLAG_FOREIGN_CRED: u16 = 1 << 5;
/// [`Head::flags`]: [`CheckRecord::opts`] is known (the `fexit` path); it is not on the tracepoint.
pub const FLAG_OPTS: u16 = 1 << 6;
/// [`Head::flags`]: the path's text is [`STR_BASE`] alone (a call on a file descriptor, or an empty path).
pub const FLAG_FD_ONLY: u16 = 1 << 7;
/// [`Head::flags`]: [`CallRecord::socket`] or [`CheckRecord::socket`] is valid.
pub const FLAG_SOCKET: u16 = 1 << 8;
/// [`Head::flags`]: at least one check was recorded during this call.
pub const FLAG_CHECKED: u16 = 1 << 9;
/// [`Head::flags`]: an access oracle predicted this check; the kernel was not seen to make it, so there is no stack.
pub const FLAG_PREDICTED: u16 = 1 << 10;
/// [`Head::flags`]: the call was seen at its entry alone; [`CallRecord::ret`] is not known and reads 0.
pub const FLAG_NO_RESULT: u16 = 1 << 11;
/// [`Head::flags`] of a [`CheckRecord`]: the call has two paths, so [`STR_PATH2`] is the second one as in a
/// [`CallRecord`], and the component that refused is [`STR_DATA`].
pub const FLAG_TWO_PATHS: u16 = 1 << 12;

/// `CAP_OPT_NOAUDIT` of `include/linux/security.h`: the kernel would not audit a refusal.
pub const CAP_OPT_NOAUDIT: u32 = 1 << 1;

/// [`CheckRecord::opts`] of a predicted check: passing through a directory.
pub const ASKED_SEARCH: u32 = 1;
/// Likewise: access to the file itself.
pub const ASKED_FILE: u32 = 2;
/// Likewise: making a name in a directory.
pub const ASKED_CREATE: u32 = 3;
/// Likewise: removing a name from a directory.
pub const ASKED_DELETE: u32 = 4;
/// Likewise: making an entry without a name in the directory that is the object (`O_TMPFILE`).
pub const ASKED_ENTRY: u32 = 5;
/// Likewise: removing what is somebody else's from a sticky directory.
pub const ASKED_STICKY: u32 = 6;
/// Likewise: anything else; the capability and the call tell.
pub const ASKED_OTHER: u32 = 7;

/// What every record starts with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// One of the `KIND_` values.
    pub kind: u16,
    /// A set of `FLAG_` bits.
    pub flags: u16,
    /// Length of each string behind the fixed part, in bytes.
    pub strings: [u16; STRINGS],
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub time: u64,
    /// Process (thread group), numbered as in the tracer's pid namespace.
    pub pid: u32,
    /// Thread, numbered as in the tracer's pid namespace.
    pub tid: u32,
    /// Filesystem user id of the task, in the initial user namespace.
    pub fsuid: u32,
    /// Filesystem group id of the task, in the initial user namespace.
    pub fsgid: u32,
    /// Inode number of the task's mount namespace (`readlink /proc/PID/ns/mnt`).
    pub mnt_ns: u32,
    /// Inode number of the task's network namespace.
    pub net_ns: u32,
    /// `task_struct.comm`, NUL-padded.
    pub comm: [u8; 16],
}

/// An inode the kernel was judging.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InodeRecord {
    /// Inode number.
    pub ino: u64,
    /// Device of the filesystem, as the kernel encodes it (`super_block.s_dev`).
    pub dev: u32,
    /// Device number of a device node, as the kernel encodes it (`inode.i_rdev`).
    pub rdev: u32,
    /// Type and mode bits (`inode.i_mode`).
    pub mode: u32,
    /// Owner, in the initial user namespace.
    pub uid: u32,
    /// Group, in the initial user namespace.
    pub gid: u32,
    /// Explicit padding.
    pub pad: u32,
}

/// How many return addresses of the kernel stack a check carries at most.
pub const STACK_MAX: usize = 24;

/// The kernel consulted a capability.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckRecord {
    /// Common part.
    pub head: Head,
    /// System call number; negative outside a system call (page fault, interrupt).
    pub nr: i32,
    /// Number of the capability.
    pub cap: u32,
    /// What the check answered: 0 granted, else a negative errno.
    pub ret: i32,
    /// `CAP_OPT_` bits, valid with [`FLAG_OPTS`]; with [`FLAG_PREDICTED`] one of the `ASKED_` values.
    pub opts: u32,
    /// Inode number of the user namespace the capability was asked for.
    pub user_ns: u32,
    /// Valid entries of `stack`.
    pub stack_len: u32,
    /// Arguments of the system call.
    pub args: [u64; 6],
    /// The inode that refused, valid with [`FLAG_COMPONENT`]; its path is [`STR_PATH2`].
    pub component: InodeRecord,
    /// The socket of `bind` and `connect`, valid with [`FLAG_SOCKET`]; the address is [`STR_DATA`].
    pub socket: SocketRecord,
    /// Return addresses, innermost first.
    pub stack: [u64; STACK_MAX],
}

/// The socket a call was about, read when the call returned.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketRecord {
    /// Address family (`AF_*`).
    pub family: u16,
    /// Socket type (`SOCK_*`).
    pub ty: u16,
    /// Protocol (`IPPROTO_*`).
    pub protocol: u16,
    /// Local port in host byte order after the call (the one the kernel chose when 0 was asked for).
    pub port: u16,
}

/// Calls that a processor remembers to have told; a power of two.
pub const FOLDS: usize = 256;

/// Equal calls are told once and then counted in the kernel. The call of this record takes a place there, and this is what
/// became of the one that had it before.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Former {
    /// The place, counted from one; zero for a call that is not counted.
    pub place: u32,
    /// How many calls have had the place by now, this one included.
    pub serial: u32,
    /// How often the former one was made again.
    pub count: u64,
    /// When it was last.
    pub last: u64,
}

/// How often the call was made again that has a place now; one for each of the [`FOLDS`] places of a processor.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// As [`Former::serial`].
    pub serial: u64,
    /// How often.
    pub count: u64,
    /// When it was last.
    pub last: u64,
}

/// A system call of interest has returned.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallRecord {
    /// Common part.
    pub head: Head,
    /// System call number.
    pub nr: i32,
    /// The file the path led to is not looked at here; explicit padding.
    pub pad: u32,
    /// Result: a negative errno on failure.
    pub ret: i64,
    /// Arguments of the system call.
    pub args: [u64; 6],
    /// The socket, valid with [`FLAG_SOCKET`].
    pub socket: SocketRecord,
    /// What became of an earlier call.
    pub former: Former,
}

/// A task was made, runs a new program, or has ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessRecord {
    /// Common part; for [`KIND_FORK`] about the parent.
    pub head: Head,
    /// For [`KIND_FORK`] the child's thread group, numbered as in the tracer's pid namespace; for [`KIND_JOIN`] that of
    /// the task that joins.
    pub child_pid: u32,
    /// For [`KIND_FORK`] the child's thread id, for [`KIND_JOIN`] that of the task that joins.
    pub child_tid: u32,
    /// For [`KIND_EXIT`] the wait status (`task_struct.exit_code`).
    pub exit_code: u32,
    /// For [`KIND_EXIT`] 1 when it was the thread group's last thread.
    pub last_thread: u32,
    /// For [`KIND_EXEC`] the effective capabilities of the program, as bits.
    pub capabilities: u64,
}

const _: () = assert!(size_of::<Head>() == 64);
const _: () = assert!(size_of::<InodeRecord>() == 32);
const _: () = assert!(size_of::<CheckRecord>() == 64 + 24 + 48 + 32 + 8 + 8 * STACK_MAX);
const _: () = assert!(size_of::<CallRecord>() == 64 + 16 + 48 + 8 + 24);
const _: () = assert!(size_of::<ProcessRecord>() == 64 + 24);

/// Reads a record's fixed part from the start of `bytes`, or `None` when they are too few.
///
/// `T` must be one of this module's record types: plain integers without padding, for which every
/// pattern of bytes is valid.
pub fn read<T: Record>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: the length was checked, the read may be unaligned, and `Record` promises that any bytes are valid.
    Some(unsafe { core::ptr::read_unaligned(bytes.as_ptr().cast::<T>()) })
}

/// A record type that may be read from any bytes of its size.
///
/// # Safety
/// Implementors consist of integers only, without padding.
pub unsafe trait Record: Copy {}
// SAFETY: integers only, without padding, as the size assertions above show.
unsafe impl Record for Head {}
// SAFETY: as above.
unsafe impl Record for CheckRecord {}
// SAFETY: as above.
unsafe impl Record for CallRecord {}
// SAFETY: as above.
unsafe impl Record for ProcessRecord {}
