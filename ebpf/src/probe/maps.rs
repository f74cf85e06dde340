//! What the programs keep, and how records leave the kernel.

use core::ffi::c_void;

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::btf_maps::{Array, PerCpuArray, RingBuf};
use aya_ebpf::helpers::generated::{bpf_ringbuf_output, bpf_ringbuf_query};
use aya_ebpf::macros::btf_map;
use nrtrace_ebpf::layout::Aim;
use nrtrace_ebpf::table::{CALLS, Operands};

use crate::text::Scratch;

/// The records; the loader sets its size.
#[btf_map]
static RECORDS: RingBuf<u8, 0x0100_0000> = RingBuf::new();

/// Operands of the native system calls, by number.
#[btf_map]
static NATIVE: Array<Operands, { CALLS }> = Array::new();

/// Operands of the 32-bit system calls, by number.
#[btf_map]
static COMPAT: Array<Operands, { CALLS }> = Array::new();

/// Where records are put together, by [`Slot`].
#[btf_map]
static SCRATCH: PerCpuArray<Scratch, 3> = PerCpuArray::new();

/// What is attached to.
#[btf_map]
static AIM: Array<Aim, 1> = Array::new();

/// Records that did not fit into the ring buffer, by [`Slot`].
#[btf_map]
static LOST: PerCpuArray<u64, 3> = PerCpuArray::new();

/// Amount of undelivered data, in bytes, from which on the reader is woken.
const WAKE_ABOVE: u64 = 512 * 1024;

/// How often a processor looks at it, in nanoseconds.
const LOOK_EVERY: u64 = 1_000_000;

/// Programs of different slots can nest (an interrupt may ask for a capability), those of one cannot.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Slot {
    /// Checks.
    Check = 0,
    /// System calls.
    Call = 1,
    /// Forks, execs and exits.
    Process = 2,
}

/// What is attached to.
#[inline(always)]
pub fn aim() -> Option<&'static mut Aim> {
    // SAFETY: the map has the one element; the kernel and the tracer write whole words of it.
    AIM.get_ptr_mut(0).and_then(|aim| unsafe { aim.as_mut() })
}

/// The table's row for a call.
#[inline(always)]
pub fn operands(nr: i32, compat: bool) -> Option<&'static Operands> {
    let row = if compat { COMPAT.get(nr as u32) } else { NATIVE.get(nr as u32) }?;
    row.is_row().then_some(row)
}

/// The current processor's scratch memory of `slot`.
#[inline(always)]
pub fn scratch(slot: Slot) -> Option<*mut Scratch> {
    scratch_at(slot as u32)
}

/// The same by number.
#[inline(always)]
pub fn scratch_at(slot: u32) -> Option<*mut Scratch> {
    SCRATCH.get_ptr_mut(slot)
}

/// Counts a lost record.
#[inline(always)]
pub fn count_lost(slot: Slot) {
    if let Some(count) = LOST.get_ptr_mut(slot as u32) {
        // SAFETY: the pointer is the current processor's own counter.
        unsafe { *count += 1 };
    }
}

/// Puts a record of `size` bytes at `data`, made at `now`, into the ring buffer.
///
/// Waking the reader for each record would cost more than all the rest: it looks by itself now and then, and is woken
/// when much has gathered. `looked` is when this processor last looked at how much has.
#[inline(always)]
pub fn output(slot: Slot, data: *mut c_void, size: u64, now: u64, looked: &mut u64) {
    let map = (&raw const RECORDS).cast_mut().cast::<c_void>();
    let mut wake = BPF_RB_NO_WAKEUP;
    if now.wrapping_sub(*looked) > LOOK_EVERY {
        *looked = now;
        // SAFETY: the helper only asks.
        if unsafe { bpf_ringbuf_query(map, u64::from(BPF_RB_AVAIL_DATA)) } > WAKE_ABOVE {
            wake = BPF_RB_FORCE_WAKEUP;
        }
    }
    // SAFETY: the verifier checks `data` and `size`.
    if unsafe { bpf_ringbuf_output(map, data, size, u64::from(wake)) } != 0 {
        count_lost(slot);
    }
}
