//! A record being put together: its fixed part, and the strings behind it.

use core::ffi::c_void;
use core::hint::black_box;
use core::ptr;

use aya_ebpf::helpers::generated::{
    bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user, bpf_probe_read_user_str,
};
use nrtrace_ebpf::layout::{HASH_SEED, hash_byte};
use nrtrace_ebpf::table::STRUCTURE_MAX;
use nrtrace_ebpf::{CallRecord, FLAG_TRUNCATED, FLAG_UNREADABLE, Head, PATH_MAX, STRINGS};

use crate::call::Call;
use crate::gather::Plan;
use crate::kernel;
use crate::loops;
use crate::maps::{self, Slot};
use crate::path::{self, Location, Walk};

/// Room for the fixed part of any record.
const FIXED: usize = 384;
/// A string may start below this offset (a power of two)…
const STARTS: usize = 16 * 1024;
/// …and is read in one piece of at most this length.
const PIECE: usize = PATH_MAX + 9;

/// Scratch memory for a record, one for each processor and [`Slot`]: no stack is large enough.
///
/// What the verifier reads back from a map is an unknown number to it. So that all paths through a program look alike
/// after they have met, and are proved once and not once for each, what they decide is kept here, not in registers.
#[repr(C)]
pub struct Scratch {
    /// What strings to gather.
    pub plan: Plan,
    /// The walk in progress.
    walk: Walk,
    /// When the fill of the ring buffer was last looked at.
    looked: u64,
    /// Hash of the word in progress, and whether one was known; see [`has_word`].
    hash: u64,
    known: u64,
    /// Number, entry and result of a call; see [`keep`].
    call: [u64; 3],
    /// Bytes of strings so far.
    length: u64,
    /// `FLAG_` bits that the strings bring.
    flags: u16,
    /// The [`Slot`] it is.
    slot: u16,
    /// Lengths of the strings.
    strings: [u16; STRINGS],
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
            (*scratch).slot = slot as u16;
            (*scratch).plan.what = 0;
            (*scratch).length = 0;
            (*scratch).flags = 0;
            kernel::clear(&raw mut (*scratch).strings);
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

    /// What strings to gather.
    #[inline(always)]
    pub fn plan(&self) -> &'static mut Plan {
        // SAFETY: scratch memory belongs to this program until it ends.
        unsafe { &mut (*self.scratch).plan }
    }

    /// Gathers the strings and sends the record; false when it was lost.
    #[inline(always)]
    pub fn send(self) -> bool {
        let scratch = self.scratch;
        crate::gather::gather(scratch);
        let head = self.head();
        // SAFETY: scratch memory belongs to this program until it ends.
        unsafe {
            head.flags |= ptr::read_volatile(&raw const (*scratch).flags);
            head.strings = ptr::read_volatile(&raw const (*scratch).strings);
        }
        let size = length(scratch) + size_of::<R>() as u64;
        if size <= (FIXED + STARTS) as u64 {
            return self.output(size);
        }
        maps::count_lost(self.slot, 1);
        false
    }

    /// Sends the record with a C string of the kernel as its only one.
    #[inline(always)]
    pub fn send_name(self, index: usize, address: u64) {
        kernel_string(self.scratch, index, address);
        let head = self.head();
        // SAFETY: scratch memory belongs to this program until it ends.
        unsafe { head.strings = ptr::read_volatile(&raw const (*self.scratch).strings) };
        let size = length(self.scratch) + size_of::<R>() as u64;
        if size <= (FIXED + STARTS) as u64 {
            let _counted = self.output(size);
        }
    }

    /// Sends the record without strings.
    #[inline(always)]
    pub fn send_bare(self) {
        let _counted = self.output(size_of::<R>() as u64);
    }

    #[inline(always)]
    fn output(&self, size: u64) -> bool {
        // SAFETY: scratch memory belongs to this program until it ends.
        let looked = unsafe { &mut (*self.scratch).looked };
        maps::output(self.slot, self.fixed.cast(), size, self.head().time, looked)
    }

    /// Where it is put together.
    #[inline(always)]
    pub fn scratch(&self) -> *mut Scratch {
        self.scratch
    }
}

/// The fixed part of the call's record that is put together there.
#[inline(always)]
pub fn call(scratch: *mut Scratch) -> *mut CallRecord {
    // SAFETY: scratch memory belongs to this program until it ends.
    unsafe { (&raw mut (*scratch).bytes).cast::<u8>().add(FIXED - size_of::<CallRecord>()).cast() }
}

/// Keeps what was looked at of a call, so that whatever that has shown, the verifier goes on from one state.
#[inline(always)]
pub fn keep(scratch: *mut Scratch, call: Call, ret: i64) {
    // SAFETY: scratch memory belongs to the program until it ends.
    unsafe {
        let entry = u64::from(call.compat) | u64::from(call.packed) << 1;
        ptr::write_volatile(&raw mut (*scratch).call, [call.nr as u64, entry, ret as u64]);
    }
}

/// The call and its result, as kept; `call` tells where its registers are.
#[inline(always)]
pub fn kept(scratch: *mut Scratch, call: Call) -> (Call, i64) {
    // SAFETY: scratch memory belongs to the program until it ends.
    let [nr, entry, ret] = unsafe { ptr::read_volatile(&raw const (*scratch).call) };
    (Call { nr: nr as i32, compat: entry & 1 != 0, packed: entry & 2 != 0, ..call }, ret as i64)
}

/// Which scratch memory it is.
#[cfg(feature = "portable")]
#[inline(always)]
pub fn slot(scratch: *mut Scratch) -> u32 {
    // SAFETY: scratch memory belongs to the program until it ends.
    u32::from(unsafe { ptr::read_volatile(&raw const (*scratch).slot) })
}

/// The walk in progress.
#[inline(always)]
pub fn walk(scratch: *mut Scratch) -> &'static mut Walk {
    // SAFETY: scratch memory belongs to the program until it ends.
    unsafe { &mut (*scratch).walk }
}

/// Sets flags of the record.
#[inline(always)]
pub fn flag(scratch: *mut Scratch, flags: u16) {
    // SAFETY: scratch memory belongs to the program until it ends.
    unsafe { (*scratch).flags |= flags };
}

/// Bytes of strings so far.
#[inline(always)]
pub fn length(scratch: *mut Scratch) -> u64 {
    // SAFETY: scratch memory belongs to the program until it ends.
    unsafe { ptr::read_volatile(&raw const (*scratch).length) }
}

/// Where the next string starts; `None` when there is no room for one.
#[inline(always)]
fn end(scratch: *mut Scratch) -> Option<*mut u8> {
    let length = length(scratch);
    if length >= STARTS as u64 {
        flag(scratch, FLAG_TRUNCATED);
        return None;
    }
    let length = black_box(length) & (STARTS as u64 - 1);
    // SAFETY: scratch memory belongs to the program until it ends; the mask keeps the offset in it.
    Some(unsafe { (&raw mut (*scratch).bytes).cast::<u8>().add(FIXED + length as usize) })
}

/// Makes string `index`, the last one so far, longer by what was just written behind it.
#[inline(always)]
fn lengthen(scratch: *mut Scratch, index: usize, by: u64) {
    // SAFETY: scratch memory belongs to the program until it ends; `index` is a constant below `STRINGS`.
    unsafe {
        (*scratch).length += by;
        (*scratch).strings[index] += by as u16;
    }
}

/// Adds the C string at an address of the process as string `index`; returns its first byte, its terminator for an
/// empty one.
#[inline(always)]
pub fn user_string(scratch: *mut Scratch, index: usize, address: u64) -> Option<u8> {
    let to = end(scratch)?;
    // SAFETY: `end` leaves room for a piece.
    let read = unsafe { bpf_probe_read_user_str(to.cast(), PATH_MAX as u32 + 2, address as *const c_void) };
    if read == 0 {
        // An empty string, of which older kernels do not count the terminator (`strncpy_from_user_nofault`).
        return Some(0);
    }
    close(scratch, index, read)?;
    // SAFETY: the string was read to that place, and has its terminator at least.
    Some(unsafe { *to })
}

/// Adds the C string at an address of the kernel as string `index`.
#[inline(always)]
pub fn kernel_string(scratch: *mut Scratch, index: usize, address: u64) {
    if let Some(to) = end(scratch) {
        // SAFETY: `end` leaves room for a piece.
        let read =
            unsafe { bpf_probe_read_kernel_str(to.cast(), PATH_MAX as u32 + 2, address as *const c_void) };
        close(scratch, index, read);
    }
}

/// Ends string `index`, of which `read` bytes with its terminator were read.
#[inline(always)]
fn close(scratch: *mut Scratch, index: usize, read: i64) -> Option<()> {
    if read <= 0 {
        flag(scratch, FLAG_UNREADABLE);
        return None;
    }
    let mut length = read as u64 - 1;
    if length > PATH_MAX as u64 {
        flag(scratch, FLAG_TRUNCATED);
        length = PATH_MAX as u64;
    }
    lengthen(scratch, index, length);
    Some(())
}

/// Most bytes that [`user_bytes`] takes at once.
pub const BYTES_MAX: u64 = 511;

/// Appends bytes at an address of the process to string `index`, the last one so far.
#[inline(always)]
pub fn user_bytes(scratch: *mut Scratch, index: usize, address: u64, length: u64) {
    let Some(to) = end(scratch) else { return };
    let length = black_box(length) & BYTES_MAX;
    // SAFETY: `end` leaves room for a piece.
    if unsafe { bpf_probe_read_user(to.cast(), length as u32, address as *const c_void) } == 0 {
        lengthen(scratch, index, length);
    }
}

/// Adds as much as can be read of a structure at an address of the process as string `index`: a small one may end where
/// memory does.
#[inline(always)]
pub fn user_structure(scratch: *mut Scratch, index: usize, address: u64) {
    let Some(to) = end(scratch) else { return };
    let take = |length: u32| {
        // SAFETY: `end` leaves room for a piece.
        let read = unsafe { bpf_probe_read_user(to.cast(), length, address as *const c_void) } == 0;
        if read {
            lengthen(scratch, index, u64::from(length));
        }
        read
    };
    let _ = take(STRUCTURE_MAX as u32) || take(16) || take(8) || take(4);
}

/// Adds the path of `location`, leaf first, as string `index`; returns its length.
#[inline(always)]
pub fn location(scratch: *mut Scratch, index: usize, location: Location) -> u64 {
    let before = length(scratch);
    let flags = path::walk(scratch, location);
    flag(scratch, flags);
    let added = length(scratch).wrapping_sub(before);
    // SAFETY: scratch memory belongs to the program until it ends; `index` is a constant below `STRINGS`.
    unsafe { (*scratch).strings[index] = added as u16 };
    added
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

/// Reads arguments of a process, at most [`PATH_MAX`] bytes, to the start of the strings; how many there are.
#[inline(always)]
pub fn arguments(scratch: *mut Scratch, address: u64, length: u64) -> u64 {
    let length = black_box(if length > PATH_MAX as u64 { PATH_MAX as u64 } else { length }) & PATH_MAX as u64;
    // SAFETY: scratch memory belongs to the program until it ends, and holds a piece.
    let failed = unsafe {
        let to = (&raw mut (*scratch).bytes).cast::<u8>().add(FIXED);
        bpf_probe_read_user(to.cast(), length as u32, address as *const c_void)
    };
    if failed == 0 { length } else { 0 }
}

/// Reads a C string of the kernel to the start of the strings; its length.
#[inline(always)]
pub fn name(scratch: *mut Scratch, address: u64) -> u64 {
    // SAFETY: scratch memory belongs to the program until it ends, and holds a piece.
    let read = unsafe {
        let to = (&raw mut (*scratch).bytes).cast::<u8>().add(FIXED);
        bpf_probe_read_kernel_str(to.cast(), PATH_MAX as u32, address as *const c_void)
    };
    if read <= 0 { 0 } else { read as u64 }
}

/// Whether one of the first `length` bytes' words, between slashes (if they separate) and zeros, is one that is looked
/// for.
#[inline(always)]
pub fn has_word(scratch: *mut Scratch, length: u64, slashes: bool) -> bool {
    // SAFETY: scratch memory belongs to the program until it ends.
    unsafe {
        (*scratch).slot = Slot::Process as u16;
        (*scratch).hash = HASH_SEED;
        (*scratch).known = 0;
    }
    let count = if length > PATH_MAX as u64 { PATH_MAX as u64 } else { length } as u32;
    if slashes {
        loops::component(scratch, count);
    } else {
        loops::argument(scratch, count);
    }
    // SAFETY: as above.
    unsafe { ptr::read_volatile(&raw const (*scratch).known) != 0 }
}

/// Takes the byte at `index` to the word in progress; stops at one that is known.
#[inline(always)]
pub fn word(scratch: *mut Scratch, index: u32, separator: u8) -> i64 {
    let at = FIXED + (black_box(index) & PATH_MAX as u32) as usize;
    // SAFETY: scratch memory belongs to the program until it ends, and the mask keeps the offset in it.
    let byte = unsafe { *(&raw const (*scratch).bytes).cast::<u8>().add(at) };
    // SAFETY: as above.
    let hash = unsafe { &mut (*scratch).hash };
    if byte != 0 && byte != separator {
        *hash = hash_byte(*hash, byte);
        return 0;
    }
    let found = *hash;
    *hash = HASH_SEED;
    let Some(aim) = maps::aim() else { return 1 };
    for word in aim.words {
        if word != 0 && word == found {
            // SAFETY: as above.
            unsafe { (*scratch).known = 1 };
            return 1;
        }
    }
    0
}
