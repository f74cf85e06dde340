//! Equal calls are told once and then counted here: most programs do the same again and again.
//!
//! Each processor has a table of what it told last. A call that stands there is counted; one that does not takes the
//! place of another, and its record brings what became of that one. Calls are compared word by word, never by a hash alone,
//! and only where all that tells them apart is in their registers and in one absolute path: no descriptor or
//! working directory, whose name may change, no capability consulted, nothing refused.

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_probe_read_user_str};
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;

use nrtrace_ebpf::layout::Mark;
use nrtrace_ebpf::record::{FOLDS, Former};
use nrtrace_ebpf::table::{Folding, NONE};

use crate::call;
use crate::kernel;
use crate::maps;
use crate::text::{self, Scratch};

/// What tells a call apart but for its path: see [`Call::new`].
const FACTS: usize = 13;
/// Words of a path. A longer one is told each time.
const PATH: usize = 16;
/// `O_PATH`: what such a descriptor leads to is followed.
const O_PATH: u64 = 0o10_000_000;
/// `O_CREAT` and `__O_TMPFILE`: with one of them the mode counts.
const MAKES: u64 = 0o20_000_100;
/// Spreads what a place is chosen by (2^64 divided by the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A call that was told.
#[repr(C)]
pub struct Told {
    facts: [u64; FACTS],
    path: [u64; PATH],
}

/// The call is to be told.
pub const TELL: u64 = 0;
/// It was told, and has been counted.
pub const COUNTED: u64 = 1;

/// Looks whether the call whose record is begun in `scratch` was told already. If not, and if it may be folded, it takes a
/// place, which its record tells.
#[inline(never)]
pub fn fold(scratch: *mut Scratch, mark: *const Mark, row: *const Folding, address: u64) -> u64 {
    let Some(turn) = maps::turn() else { return TELL };
    if turn.open == 0 {
        return TELL;
    }
    let mut path = MaybeUninit::<[u64; PATH]>::uninit();
    // SAFETY: all of the array is written, and the helper writes at most its size.
    let (path, read) = unsafe {
        kernel::clear(path.as_mut_ptr());
        let read =
            bpf_probe_read_user_str(path.as_mut_ptr().cast(), (PATH * 8) as u32, address as *const c_void);
        (path.assume_init_ref(), read)
    };
    if read <= 1 || read >= (PATH * 8) as i64 || path[0] as u8 != b'/' {
        return TELL;
    }
    let record = text::call(scratch);
    // SAFETY: the record's fixed part is filled in, the mark and the row are those of the call.
    let (record, mark, row) = unsafe { (&mut *record, &*mark, &*row) };
    let ids = u64::from(record.head.fsuid) | u64::from(record.head.fsgid) << 32;
    // A task that acts as somebody else than before is told of.
    if mark.told != ids || mark.told_ns != record.head.mnt_ns {
        return TELL;
    }
    let mut facts = MaybeUninit::<[u64; FACTS]>::uninit();
    // SAFETY: all of the array is written.
    let facts = unsafe {
        kernel::clear(facts.as_mut_ptr());
        facts.assume_init_mut()
    };
    let ending = if record.ret < 0 { record.ret.wrapping_neg() as u64 & 0xffff } else { 0 };
    let name = (&raw const record.head.comm).cast::<u64>();
    facts[0] = mark.life;
    facts[1] = ids;
    facts[2] = u64::from(record.head.mnt_ns) | u64::from(record.head.net_ns) << 32;
    // SAFETY: the name is 16 bytes, and starts at a multiple of 8.
    unsafe {
        facts[3] = *name;
        facts[4] = *name.add(1);
    }
    facts[5] = u64::from(record.head.pid) | u64::from(record.nr as u32) << 32;
    facts[6] = ending | u64::from(record.head.flags) << 16 | u64::from(turn.number) << 32;
    for index in 0..6 {
        if row.telling & 1 << index != 0 {
            facts[7 + index] = record.args[index];
        }
    }
    if row.flags != NONE {
        let flags = call::arg(&raw const record.args, row.flags);
        if flags & O_PATH != 0 {
            return TELL;
        }
        // The mode comes after the flags, as in `open` and `openat`.
        if flags & MAKES == 0 {
            if row.flags == 1 {
                facts[9] = 0;
            } else {
                facts[10] = 0;
            }
        }
    }
    look(record, facts, path)
}

#[inline(always)]
fn look(record: &mut nrtrace_ebpf::CallRecord, facts: &[u64; FACTS], path: &[u64; PATH]) -> u64 {
    let mut mixed = 0u64;
    for word in facts {
        mixed = mixed.rotate_left(7) ^ word;
    }
    for word in path {
        mixed = mixed.rotate_left(7) ^ word;
    }
    let index = (mixed.wrapping_mul(SPREAD) >> 32) as u32 & (FOLDS as u32 - 1);
    let (Some(told), Some(tallies)) = (maps::told(index), maps::tallies()) else { return TELL };
    // SAFETY: both belong to this processor, and to this program until it ends; the index is below their number.
    let (told, tally) = unsafe { (&mut *told, &mut *tallies.add(index as usize)) };
    let mut differ = 0;
    for (one, other) in told.facts.iter().zip(facts) {
        differ |= one ^ other;
    }
    for (one, other) in told.path.iter().zip(path) {
        differ |= one ^ other;
    }
    if differ == 0 {
        tally.count += 1;
        tally.last = kernel::now();
        return COUNTED;
    }
    // SAFETY: the helper has no preconditions.
    let place = unsafe { bpf_get_smp_processor_id() } * FOLDS as u32 + index;
    record.former = Former { place: place + 1, serial: 0, count: tally.count, last: tally.last };
    // In this order: who reads the number first and then the count never takes the former's for the new one's.
    // SAFETY: plain words of memory that belongs to this processor.
    unsafe {
        ptr::write_volatile(&raw mut tally.count, 0);
        ptr::write_volatile(&raw mut tally.serial, tally.serial + 1);
    }
    record.former.serial = tally.serial as u32;
    told.facts = *facts;
    told.path = *path;
    TELL
}

/// The record at that place was lost: the next such call is told.
#[inline(always)]
pub fn forget(place: u32) {
    if let Some(told) = maps::told(place.wrapping_sub(1) & (FOLDS as u32 - 1)) {
        // SAFETY: it belongs to this processor; no process has the number zero.
        unsafe { (*told).facts[5] = 0 };
    }
}
