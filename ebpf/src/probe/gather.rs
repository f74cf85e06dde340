//! The strings of a record: first the programs say what is wanted, then one function gathers it all.
//!
//! The two steps keep the proof that the verifier makes small: whatever a program has decided, the second step starts
//! from one state.

use core::ptr;

use nrtrace_ebpf::{FLAG_FD_ONLY, STR_BASE, STR_BASE2, STR_DATA, STR_PATH, STR_PATH2, STR_ROOT};

use crate::kernel;
use crate::marks;
use crate::path::{self, Location};
use crate::text::{self, Scratch};

/// The path of [`Plan::path`].
pub const PATH: u32 = 1 << 0;
/// Where it starts from, [`Plan::dirfd`], unless it is absolute.
pub const BASE: u32 = 1 << 1;
/// The process's root directory.
pub const ROOT: u32 = 1 << 2;
/// The second path, [`Plan::path2`].
pub const PATH2: u32 = 1 << 3;
/// Where that starts from, [`Plan::dirfd2`], unless it is absolute.
pub const BASE2: u32 = 1 << 4;
/// [`Plan::location`], in place of the second path.
pub const COMPONENT: u32 = 1 << 5;
/// The [`Plan::data_length`] bytes at [`Plan::data`].
pub const DATA: u32 = 1 << 6;
/// The buffers that the `struct iovec`s at [`Plan::data`] describe.
pub const BUFFERS: u32 = 1 << 7;
/// [`Plan::location`] as data, and the kernel's string at [`Plan::path`] as path.
pub const PROGRAM: u32 = 1 << 8;
/// [`Plan::location`] as data, beside two paths.
pub const COMPONENT_BESIDE: u32 = 1 << 9;

/// The structure at [`Plan::data`].
pub const STRUCTURE: u32 = 1 << 10;

/// The working directory, as a directory descriptor.
pub const AT_FDCWD: i32 = -100;

/// What strings a record is to have.
#[repr(C)]
pub struct Plan {
    /// A set of the constants above.
    pub what: u32,
    /// Directory descriptor of the path.
    pub dirfd: i32,
    /// Directory descriptor of the second path.
    pub dirfd2: i32,
    /// Length of the data, at most [`text::BYTES_MAX`]; for buffers, how many there are.
    pub data_length: u32,
    /// Address of the path.
    pub path: u64,
    /// Address of the second path.
    pub path2: u64,
    /// Address of the data.
    pub data: u64,
    /// A file.
    pub location: Location,
}

/// Whether `what` is still wanted; read again from memory each time, see [`Scratch`].
#[inline(always)]
fn wants(scratch: *mut Scratch, what: u32) -> bool {
    // SAFETY: scratch memory belongs to the program until it ends.
    unsafe { ptr::read_volatile(&raw const (*scratch).plan.what) & what != 0 }
}

/// Gathers the strings that the plan asks for.
#[inline(never)]
pub fn gather(scratch: *mut Scratch) -> u64 {
    // SAFETY: scratch memory belongs to the program until it ends, and only this function uses it meanwhile.
    let plan = unsafe { &(*scratch).plan };
    if wants(scratch, PROGRAM) {
        text::kernel_string(scratch, STR_PATH, plan.path);
        text::location(scratch, STR_DATA, plan.location);
        return 0;
    }
    if wants(scratch, PATH) {
        user_path(scratch, STR_PATH, plan.path, BASE);
    }
    if wants(scratch, BASE) {
        directory(scratch, STR_BASE, plan.dirfd);
    }
    if wants(scratch, ROOT) {
        root(scratch);
    }
    if wants(scratch, PATH2) {
        user_path(scratch, STR_PATH2, plan.path2, BASE2);
    }
    if wants(scratch, BASE2) {
        directory(scratch, STR_BASE2, plan.dirfd2);
    }
    if wants(scratch, COMPONENT) {
        text::location(scratch, STR_PATH2, plan.location);
    }
    if wants(scratch, COMPONENT_BESIDE) {
        text::location(scratch, STR_DATA, plan.location);
    }
    if wants(scratch, DATA) {
        text::user_bytes(scratch, STR_DATA, plan.data, u64::from(plan.data_length));
    }
    if wants(scratch, STRUCTURE) {
        text::user_structure(scratch, STR_DATA, plan.data);
    }
    if wants(scratch, BUFFERS) {
        buffers(scratch, plan.data, plan.data_length);
    }
    0
}

/// Adds a path of the process; an absolute one needs no `base`.
#[inline(always)]
fn user_path(scratch: *mut Scratch, index: usize, address: u64, base: u32) {
    if address == 0 {
        return text::flag(scratch, FLAG_FD_ONLY);
    }
    match text::user_string(scratch, index, address) {
        // SAFETY: scratch memory belongs to the program until it ends.
        Some(b'/') => unsafe { (*scratch).plan.what &= !base },
        Some(0) => text::flag(scratch, FLAG_FD_ONLY),
        _ => {}
    }
}

/// Adds the path of a directory descriptor.
#[inline(always)]
fn directory(scratch: *mut Scratch, index: usize, dirfd: i32) {
    let task = kernel::current();
    let location = if dirfd == AT_FDCWD {
        Location::working_directory(task)
    } else {
        Location::of_file(path::file(task, dirfd))
    };
    text::location(scratch, index, location);
}

/// Adds the process's root directory, and notes if it is the mount namespace's own.
#[inline(always)]
fn root(scratch: *mut Scratch) {
    let task = kernel::current();
    let root = Location::root(task);
    if text::location(scratch, STR_ROOT, root) == 0
        && let Some(mark) = marks::mark(task)
    {
        mark.root_mnt = root.mnt;
        mark.root_dentry = root.dentry;
    }
}

/// Adds the start of what `count` buffers hold. What matters comes in one or two (musl puts what was buffered first,
/// and the new text second).
#[inline(always)]
fn buffers(scratch: *mut Scratch, vector: u64, count: u32) {
    for index in 0..2 {
        if index < count
            && let Some([start, length]) = text::user_pair(vector.wrapping_add(u64::from(index) * 16))
        {
            let length = if length > text::BYTES_MAX { text::BYTES_MAX } else { length };
            text::user_bytes(scratch, STR_DATA, start, length);
        }
    }
}
