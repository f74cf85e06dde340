//! The strings behind a record's fixed part.

use core::ffi::c_void;
use core::hint::black_box;

use aya_ebpf::helpers::generated::{
    bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user, bpf_probe_read_user_str,
};
use nrtrace_ebpf::{FLAG_DEEP, FLAG_TRUNCATED, FLAG_UNREADABLE, Head, PATH_MAX};

use crate::maps::{self, Slot};
use crate::path::{self, Location};

/// Room for the fixed part of any record.
const FIXED: usize = 384;
/// A string may start below this offset (a power of two)…
const STARTS: usize = 16 * 1024;
/// …and is read in one piece of at most this length.
const PIECE: usize = PATH_MAX + 9;

/// A record being put together.
#[repr(C)]
pub struct Scratch {
    /// Bytes of strings so far. Kept here, not in a register: what the verifier reads back from a map is an unknown
    /// number to it, so that all rounds of a loop look alike and need no separate proof.
    length: u64,
    /// The fixed part, which ends at [`FIXED`], then the strings.
    bytes: [u8; FIXED + STARTS + PIECE],
}

/// A record being put together, whose fixed part is an `R`.
pub struct Record<R> {
    scratch: *mut Scratch,
    slot: Slot,
    /// The fixed part, not initialised at first.
    pub fixed: *mut R,
}

impl<R> Record<R> {
    /// Starts a record in the scratch memory of `slot`.
    #[inline(always)]
    pub fn start(slot: Slot) -> Option<Self> {
        const { assert!(size_of::<R>() <= FIXED) };
        let scratch = maps::scratch(slot)?;
        // SAFETY: scratch memory belongs to this program until it ends.
        let fixed = unsafe {
            (*scratch).length = 0;
            (&raw mut (*scratch).bytes).cast::<u8>().add(FIXED - size_of::<R>()).cast::<R>()
        };
        Some(Self { scratch, slot, fixed })
    }

    /// What every record starts with.
    #[inline(always)]
    pub fn head(&self) -> &'static mut Head {
        // SAFETY: every record starts with a `Head`, an integer-only structure; the memory is this program's own.
        unsafe { &mut *self.fixed.cast::<Head>() }
    }

    /// Sends the record.
    #[inline(always)]
    pub fn send(self) {
        let size = length(self.scratch) + size_of::<R>() as u64;
        if size <= (FIXED + STARTS) as u64 {
            maps::output(self.slot, self.fixed.cast(), size);
        } else {
            maps::count_lost(self.slot);
        }
    }

    /// Where the next string starts; `None` when there is no room for one.
    #[inline(always)]
    fn end(&self) -> Option<*mut u8> {
        end(self.scratch)
    }

    /// Ends string `index`, of `length` bytes.
    #[inline(always)]
    fn close(&self, index: usize, length: u64) {
        // SAFETY: as in `start`.
        unsafe { (*self.scratch).length += length };
        self.head().strings[index] = length as u16;
    }

    /// Adds the C string at an address of the process as string `index`; returns its start.
    #[inline(always)]
    pub fn user_string(&self, index: usize, address: u64) -> Option<*const u8> {
        let Some(to) = self.end() else {
            self.head().flags |= FLAG_TRUNCATED;
            return None;
        };
        // SAFETY: `end` leaves room for a piece.
        let read =
            unsafe { bpf_probe_read_user_str(to.cast(), PATH_MAX as u32 + 2, address as *const c_void) };
        self.close_string(index, read)?;
        Some(to)
    }

    /// Adds the C string at an address of the kernel as string `index`.
    #[inline(always)]
    pub fn kernel_string(&self, index: usize, address: u64) {
        let Some(to) = self.end() else { return };
        // SAFETY: `end` leaves room for a piece.
        let read =
            unsafe { bpf_probe_read_kernel_str(to.cast(), PATH_MAX as u32 + 2, address as *const c_void) };
        self.close_string(index, read);
    }

    #[inline(always)]
    fn close_string(&self, index: usize, read: i64) -> Option<()> {
        if read <= 0 {
            self.head().flags |= FLAG_UNREADABLE;
            return None;
        }
        let mut length = read as u64 - 1;
        if length > PATH_MAX as u64 {
            self.head().flags |= FLAG_TRUNCATED;
            length = PATH_MAX as u64;
        }
        self.close(index, length);
        Some(())
    }

    /// Appends up to `MOST` bytes at an address of the process to string `index`, the last one so far. `MOST` is one
    /// less than a power of two.
    #[inline(always)]
    pub fn user_bytes<const MOST: u64>(&self, index: usize, address: u64, length: u64) {
        const { assert!((MOST + 1).is_power_of_two() && MOST < PIECE as u64) };
        let Some(to) = self.end() else { return };
        let length = if length > MOST { MOST } else { length };
        let length = black_box(length) & MOST;
        // SAFETY: `end` leaves room for a piece.
        if unsafe { bpf_probe_read_user(to.cast(), length as u32, address as *const c_void) } == 0 {
            let so_far = u64::from(self.head().strings[index]);
            self.close(index, length);
            self.head().strings[index] = (so_far + length) as u16;
        }
    }

    /// Adds the path of `location`, leaf first, as string `index`; returns its length.
    #[inline(always)]
    pub fn location(&self, index: usize, location: Location) -> u64 {
        let before = length(self.scratch);
        let flags = path::walk(self.scratch, location.mnt, location.dentry);
        self.head().flags |= flags as u16 & (FLAG_DEEP | FLAG_TRUNCATED);
        let added = length(self.scratch).wrapping_sub(before);
        self.head().strings[index] = added as u16;
        added
    }
}

/// Where the next string starts; `None` when there is no room for one.
#[inline(always)]
fn end(scratch: *mut Scratch) -> Option<*mut u8> {
    let length = length(scratch);
    if length >= STARTS as u64 {
        return None;
    }
    let length = black_box(length) & (STARTS as u64 - 1);
    // SAFETY: scratch memory belongs to the program until it ends; the mask keeps the offset in it.
    Some(unsafe { (&raw mut (*scratch).bytes).cast::<u8>().add(FIXED + length as usize) })
}

/// Bytes of strings so far.
#[inline(always)]
pub fn length(scratch: *mut Scratch) -> u64 {
    // SAFETY: scratch memory belongs to the program until it ends.
    unsafe { core::ptr::read_volatile(&raw const (*scratch).length) }
}

/// Appends a name of at most 255 bytes, after a separator if `separate`; false when there is no room.
#[inline(always)]
pub fn push_name(scratch: *mut Scratch, separate: bool, name: u64, length: u32) -> bool {
    let Some(mut to) = end(scratch) else { return false };
    let length = u64::from(black_box(length) & 0xff);
    // SAFETY: `end` leaves room for a piece.
    unsafe {
        if separate {
            *to = b'/';
            to = to.add(1);
        }
        bpf_probe_read_kernel(to.cast(), length as u32, name as *const c_void);
        (*scratch).length += length + u64::from(separate);
    }
    true
}

/// Reads two words of the process, as a `struct iovec` has.
#[inline(always)]
pub fn user_pair(address: u64) -> Option<[u64; 2]> {
    let mut pair = [0u64; 2];
    // SAFETY: the helper writes the pair.
    let failed = unsafe { bpf_probe_read_user((&raw mut pair).cast(), 16, address as *const c_void) };
    (failed == 0).then_some(pair)
}
