//! The BPF system calls that `aya` has no functions for: on task storage, and on programs that another process has loaded.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nrtrace_ebpf::layout::Mark;

/// `BPF_MAP_LOOKUP_ELEM` of `enum bpf_cmd`.
const MAP_LOOKUP_ELEM: libc::c_int = 1;
/// `BPF_MAP_UPDATE_ELEM` of `enum bpf_cmd`.
const MAP_UPDATE_ELEM: libc::c_int = 2;

/// `BPF_RAW_TRACEPOINT_OPEN` of `enum bpf_cmd`.
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;

/// The part of `union bpf_attr` for `BPF_RAW_TRACEPOINT_OPEN`.
#[repr(C)]
struct TracepointAttr {
    /// None: the program knows what it is for.
    name: u64,
    program: u32,
    pad: u32,
}

/// Attaches a program to what it was loaded for: a tracepoint, or a function. It is detached when the descriptor is
/// closed.
///
/// # Errors
/// As bpf(2).
pub fn attach(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let attr = TracepointAttr { name: 0, program: program.as_raw_fd() as u32, pad: 0 };
    // SAFETY: the attribute has the kernel's layout and lives until the call returns.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, RAW_TRACEPOINT_OPEN, &raw const attr, size_of::<TracepointAttr>())
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The part of `union bpf_attr` for `BPF_MAP_*_ELEM`.
#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `BPF_NOEXIST`: only where there is none yet.
const NO_EXIST: u64 = 1;

/// Stores `mark` for the task behind `pidfd` in the task storage map `map`, unless it has one.
///
/// # Errors
/// As bpf(2): the task has a mark already (`EEXIST`), is gone (`ESRCH`), or there is no memory.
pub fn set_mark(map: BorrowedFd<'_>, pidfd: BorrowedFd<'_>, mark: &Mark) -> io::Result<()> {
    let key: libc::c_int = pidfd.as_raw_fd();
    let attr = ElementAttr {
        map_fd: map.as_raw_fd() as u32,
        pad: 0,
        key: (&raw const key) as u64,
        value: std::ptr::from_ref(mark) as u64,
        flags: NO_EXIST,
    };
    // SAFETY: the attribute has the kernel's layout; key and value live until the call returns, and have the sizes
    // the map was made with.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, MAP_UPDATE_ELEM, &raw const attr, size_of::<ElementAttr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether the task behind `pidfd` has a mark in the task storage map `map`.
pub fn has_mark(map: BorrowedFd<'_>, pidfd: BorrowedFd<'_>) -> bool {
    let key: libc::c_int = pidfd.as_raw_fd();
    let mut mark = Mark::default();
    let attr = ElementAttr {
        map_fd: map.as_raw_fd() as u32,
        pad: 0,
        key: (&raw const key) as u64,
        value: (&raw mut mark) as u64,
        flags: 0,
    };
    // SAFETY: the attribute has the kernel's layout; key and value live until the call returns, and have the sizes
    // the map was made with, so that the kernel writes a whole mark.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, MAP_LOOKUP_ELEM, &raw const attr, size_of::<ElementAttr>()) };
    result == 0
}
