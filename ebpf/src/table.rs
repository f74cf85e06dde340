//! Where the operands of system calls stand.
//!
//! The tracer resolves the name of each row of the table of calls to a number for the native table and for the 32-bit one, and
//! loads the operands into the probe's map; the probe reads them.

/// Where a system call's operands are. Argument indexes count from 0; [`NONE`] where there is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operands {
    /// Index of the path argument.
    pub path: u8,
    /// Index of the directory file descriptor that a relative path starts from; also the descriptor itself
    /// for calls without a path (`fchmod`) or with an empty one (`AT_EMPTY_PATH`).
    pub dirfd: u8,
    /// Index of the second path.
    pub path2: u8,
    /// Index of the second path's directory file descriptor.
    pub dirfd2: u8,
    /// Index of a socket address; its length is the next argument.
    pub address: u8,
    /// Index of a buffer whose start is recorded as data: what is written, its length the next argument, with
    /// [`WHEN_TELLING`]; else a structure, of which at most [`STRUCTURE_MAX`] bytes are taken.
    pub data: u8,
    /// A set of `WHEN_` bits: when the call is worth a record although no capability was consulted.
    pub when: u8,
    /// A set of `TRAIT_` bits: what else the probe must know of the call.
    pub traits: u8,
}

/// What must be known of a call for equal ones to be told once.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folding {
    /// Whether all that tells such a call apart is in its registers and its path.
    pub folds: u8,
    /// The arguments that tell it apart, as bits.
    pub telling: u8,
    /// Index of the flags of an open, behind which the mode comes.
    pub flags: u8,
    /// Index of the flags by which a look may be at a descriptor alone (`AT_EMPTY_PATH`): as fstat(2), it needs no permission.
    pub empty: u8,
    /// Explicit padding.
    pub pad: [u8; 4],
}

/// What the probe is told of a call.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where its operands are.
    pub operands: Operands,
    /// How it is folded.
    pub folding: Folding,
}

/// `socketcall` of the i386 table, by which programs of the C library make what calls on sockets they make: which, its first
/// argument says, and theirs are in memory, four bytes each, where the second one points to.
pub const SOCKETCALL: i32 = 102;

/// The number in the same table of the call that a `socketcall` makes; its own, where none of the calls on sockets that have a
/// row is meant.
#[must_use]
pub const fn in_socketcall(which: u32) -> i32 {
    match which {
        // socket; bind, connect and listen; sendto, setsockopt, sendmsg.
        1 => 359,
        2..=4 => 359 + which as i32,
        11 => 369,
        14 => 366,
        16 => 370,
        _ => SOCKETCALL,
    }
}

/// No such argument.
pub const NONE: u8 = 0xff;
/// Record the call when it succeeds.
pub const WHEN_OK: u8 = 1 << 0;
/// Record the call when it fails.
pub const WHEN_FAILED: u8 = 1 << 1;
/// Record only on file descriptor 2 (`write`: what the program says on standard error) or on a file of procfs
/// (most of what can be written there is below `/proc/sys`), and when it is refused. The descriptor is the first argument.
pub const WHEN_TELLING: u8 = 1 << 2;
/// Record the call when it fails with `EPERM`, `EACCES` or `EROFS`.
pub const WHEN_REFUSED: u8 = 1 << 3;

/// The call runs another program.
pub const TRAIT_EXEC: u8 = 1 << 0;
/// The call accounts for memory, which consults CAP_SYS_ADMIN for no privilege.
pub const TRAIT_ACCOUNTS: u8 = 1 << 1;
/// As [`TRAIT_ACCOUNTS`], unless the first argument has a flag that makes a namespace.
pub const TRAIT_CLONE: u8 = 1 << 2;
/// As [`TRAIT_CLONE`], with the flags at the start of what the first argument points to.
pub const TRAIT_CLONE3: u8 = 1 << 3;
/// [`Operands::dirfd`] is a socket.
pub const TRAIT_SOCKET: u8 = 1 << 4;
/// Record only on a Unix socket.
pub const TRAIT_UNIX: u8 = 1 << 5;
/// [`Operands::data`] is an array of buffers (`struct iovec`).
pub const TRAIT_IOVEC: u8 = 1 << 6;
/// [`Operands::path2`] is text, not looked up as a path by this call.
pub const TRAIT_TEXT2: u8 = 1 << 7;

/// Most bytes of a structure that are recorded: enough for `struct rlimit`, `struct open_how`, `struct sched_param`, and
/// the priority of `struct sched_attr`.
pub const STRUCTURE_MAX: usize = 24;

/// Numbers of system calls the probe has room for, in each table.
pub const CALLS: usize = 512;

impl Operands {
    /// No operands, and never worth a record by itself.
    pub const NONE: Self = Self {
        path: NONE,
        dirfd: NONE,
        path2: NONE,
        dirfd2: NONE,
        address: NONE,
        data: NONE,
        when: 0,
        traits: 0,
    };

    /// Whether this is a row of the table, and not the zeros the probe finds where there is none.
    #[inline(always)]
    pub const fn is_row(&self) -> bool {
        self.when != 0 || self.traits != 0
    }
}
