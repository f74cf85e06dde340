//! The BPF system calls that `aya` has no functions for: on task storage, on programs that another process has loaded, and on
//! those that are made here.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nrtrace_ebpf::layout::Mark;

/// `BPF_MAP_LOOKUP_ELEM` of `enum bpf_cmd`.
const MAP_LOOKUP_ELEM: libc::c_int = 1;
/// `BPF_MAP_UPDATE_ELEM` of `enum bpf_cmd`.
const MAP_UPDATE_ELEM: libc::c_int = 2;

/// `BPF_RAW_TRACEPOINT_OPEN` of `enum bpf_cmd`.
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;

/// bpf(2), with the part of `union bpf_attr` that the command takes.
///
/// # Errors
/// As bpf(2).
///
/// # Safety
/// The attribute has the kernel's layout, and what it leads to lives until the call returns and has the size that the kernel
/// expects there.
pub(crate) unsafe fn bpf<T>(command: libc::c_int, attr: &T) -> io::Result<libc::c_int> {
    // SAFETY: the caller answers for the attribute, which lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

/// As [`bpf`], for the commands that give a descriptor.
///
/// # Errors
/// As bpf(2).
///
/// # Safety
/// As for [`bpf`]; the command gives a descriptor.
pub(crate) unsafe fn bpf_fd<T>(command: libc::c_int, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller answers for it; the descriptor is new and belongs to nobody else.
    unsafe { bpf(command, attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

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
    // SAFETY: the attribute has the kernel's layout, and leads to nothing.
    unsafe { bpf_fd(RAW_TRACEPOINT_OPEN, &attr) }
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
    unsafe { bpf(MAP_UPDATE_ELEM, &attr).map(drop) }
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
    unsafe { bpf(MAP_LOOKUP_ELEM, &attr).is_ok() }
}
