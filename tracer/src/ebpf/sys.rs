//! The BPF system calls that `aya` has no functions for: on maps of any kind, on programs that another process has loaded, and on
//! those that are made here.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `BPF_MAP_LOOKUP_ELEM` of `enum bpf_cmd`.
const MAP_LOOKUP_ELEM: libc::c_int = 1;
/// `BPF_MAP_UPDATE_ELEM` of `enum bpf_cmd`.
const MAP_UPDATE_ELEM: libc::c_int = 2;
/// `BPF_MAP_DELETE_ELEM` of `enum bpf_cmd`.
const MAP_DELETE_ELEM: libc::c_int = 3;

/// `BPF_PROG_TEST_RUN` of `enum bpf_cmd`.
const PROG_TEST_RUN: libc::c_int = 10;

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

impl ElementAttr {
    fn new<K, V>(map: BorrowedFd<'_>, key: &K, value: *const V, flags: u64) -> Self {
        let map_fd = map.as_raw_fd() as u32;
        Self { map_fd, pad: 0, key: std::ptr::from_ref(key) as u64, value: value as u64, flags }
    }
}

/// Stores a value in a map, unless there is one for the key.
///
/// # Errors
/// As bpf(2): there is one already (`EEXIST`), no room, or the key stands for nothing (of task storage: the task is gone).
///
/// # Safety
/// The map was made for keys and values of these types.
pub unsafe fn insert<K, V>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    let attr = ElementAttr::new(map, key, value, NO_EXIST);
    // SAFETY: the attribute has the kernel's layout; key and value live until the call returns, and the caller answers for
    // their sizes.
    unsafe { bpf(MAP_UPDATE_ELEM, &attr).map(drop) }
}

/// Reads a value of a map.
///
/// # Errors
/// As bpf(2): there is none (`ENOENT`).
///
/// # Safety
/// The map was made for keys and values of these types, and any bytes are a value.
pub unsafe fn lookup<K, V: Default>(map: BorrowedFd<'_>, key: &K) -> io::Result<V> {
    let mut value = V::default();
    let attr = ElementAttr::new(map, key, &raw mut value, 0);
    // SAFETY: as above; the kernel writes a whole value.
    unsafe { bpf(MAP_LOOKUP_ELEM, &attr) }.map(|_| value)
}

/// Removes a value from a map.
///
/// # Errors
/// As bpf(2): there is none (`ENOENT`).
///
/// # Safety
/// The map was made for keys of this type.
pub unsafe fn remove<K>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    let attr = ElementAttr::new(map, key, std::ptr::null::<()>(), 0);
    // SAFETY: as above; the command takes no value.
    unsafe { bpf(MAP_DELETE_ELEM, &attr).map(drop) }
}

/// The part of `union bpf_attr` for `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct RunAttr {
    program: u32,
    result: u32,
    data_in_size: u32,
    data_out_size: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size: u32,
    context_out_size: u32,
    context: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
}

/// Arguments of a program on a raw tracepoint, at most.
const ARGUMENTS: usize = 12;

/// Runs a program on a raw tracepoint once, in the calling process; what it returns.
///
/// # Errors
/// As bpf(2).
pub fn run(program: BorrowedFd<'_>, argument: u64) -> io::Result<u32> {
    let mut context = [0u64; ARGUMENTS];
    context[0] = argument;
    let mut attr = RunAttr {
        program: program.as_raw_fd() as u32,
        context_size: size_of_val(&context) as u32,
        context: context.as_ptr() as u64,
        ..RunAttr::default()
    };
    // SAFETY: the attribute has the kernel's layout, and is the kernel's to write to; the context lives until the call
    // returns, and has the size that is told.
    let done = unsafe { libc::syscall(libc::SYS_bpf, PROG_TEST_RUN, &raw mut attr, size_of::<RunAttr>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(attr.result) }
}

/// A kprobe: the function, and whether its return is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kprobe {
    /// Name of the function.
    pub function: &'static CStr,
    /// Whether its return.
    pub returns: bool,
}

/// The start of `struct perf_event_attr` (`PERF_ATTR_SIZE_VER1`).
#[repr(C)]
#[derive(Default)]
struct EventAttr {
    kind: u32,
    size: u32,
    config: u64,
    unused: [u64; 4],
    wake_up: u64,
    name: u64,
    offset: u64,
}

/// `PERF_EVENT_IOC_ENABLE` and `PERF_EVENT_IOC_SET_BPF` of `linux/perf_event.h`.
const EVENT_ENABLE: u64 = 0x2400;
const EVENT_SET_BPF: u64 = 0x4004_2408;
/// `PERF_FLAG_FD_CLOEXEC`.
const EVENT_CLOSE_ON_EXEC: u64 = 8;

/// What the kernel calls kprobes among its kinds of events.
///
/// # Errors
/// When it has none, or there is no sysfs.
pub fn kprobe_kind() -> io::Result<u32> {
    let text = std::fs::read_to_string("/sys/bus/event_source/devices/kprobe/type")?;
    text.trim().parse().map_err(io::Error::other)
}

/// Attaches a program to a function, by the kind that [`kprobe_kind`] tells. It is detached when the descriptor is closed.
///
/// # Errors
/// As perf_event_open(2): there is no such function (`ENOENT`), or nothing may be attached to it.
pub fn attach_kprobe(program: BorrowedFd<'_>, probe: Kprobe, kind: u32) -> io::Result<OwnedFd> {
    let attr = EventAttr {
        kind,
        size: size_of::<EventAttr>() as u32,
        config: u64::from(probe.returns),
        name: probe.function.as_ptr() as u64,
        ..EventAttr::default()
    };
    let any = -1i64;
    // SAFETY: the attribute has the kernel's layout and size, and its name lives on; the result is checked.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attr, any, 0, any, EVENT_CLOSE_ON_EXEC)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and belongs to nobody else.
    let event = unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) };
    for (request, argument) in [(EVENT_SET_BPF, program.as_raw_fd()), (EVENT_ENABLE, 0)] {
        // SAFETY: the requests take a number.
        if unsafe { libc::syscall(libc::SYS_ioctl, event.as_raw_fd(), request, argument) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(event)
}
