//! The table of system calls: one row says where a call's path, file descriptor or socket address is.
//!
//! The tracer resolves each row's name to a number for the native table and for the 32-bit one, and
//! loads the rows into the probe's map; the probe reads them. Adding a call is adding a row.

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
    /// Index of a buffer whose start is recorded as data; its length is the next argument.
    pub data: u8,
    /// A set of `WHEN_` bits: when the call is worth a record although no capability was consulted.
    pub when: u8,
    /// Explicit padding.
    pub pad: u8,
}

/// No such argument.
pub const NONE: u8 = 0xff;
/// Record the call when it succeeds.
pub const WHEN_OK: u8 = 1 << 0;
/// Record the call when it fails.
pub const WHEN_FAILED: u8 = 1 << 1;
/// Record only on file descriptor 2 (`write`: what the program says on standard error) or on a file below
/// `/proc/sys`.
pub const WHEN_TELLING: u8 = 1 << 2;

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Name of the system call, as in the kernel's tables.
    pub name: &'static str,
    /// Where its operands are.
    pub operands: Operands,
}
