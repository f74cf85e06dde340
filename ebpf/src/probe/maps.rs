//! What the programs keep, and how records leave the kernel.

use core::ffi::c_void;
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use core::ptr;

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::btf_maps::{Array, PerCpuArray, RingBuf};
use aya_ebpf::helpers::generated::{bpf_ringbuf_output, bpf_ringbuf_query};
use aya_ebpf::macros::btf_map;
use nrtrace_ebpf::layout::{Aim, Turn};
use nrtrace_ebpf::record::{FOLDS, Tally};
use nrtrace_ebpf::table::{CALLS, Entry, Operands};

use crate::fold::Told;
use crate::text::Scratch;

/// The records; the loader sets its size.
#[btf_map]
static RECORDS: RingBuf<u8, 0x0100_0000> = RingBuf::new();

/// Operands of the native system calls, by number.
#[btf_map]
static NATIVE: Array<Entry, { CALLS }> = Array::new();

/// Operands of the 32-bit system calls, by number.
#[btf_map]
static COMPAT: Array<Entry, { CALLS }> = Array::new();

/// Where records are put together, by [`Slot`].
#[btf_map]
static SCRATCH: PerCpuArray<Scratch, 3> = PerCpuArray::new();

/// What is attached to.
#[btf_map]
static AIM: Array<Aim, 1> = Array::new();

/// Records that did not fit into the ring buffer, by [`Slot`].
#[btf_map]
static LOST: PerCpuArray<u64, 3> = PerCpuArray::new();

/// How many tasks have something to be told when their call returns, whatever it was: a capability was consulted, or
/// another program runs. A task that ends within its call may be counted for ever, which costs time and nothing else.
#[btf_map]
static PENDING: Array<u64, 1> = Array::new();

/// Where the kernel asks, from within what accounts for overcommitted memory, for CAP_SYS_ADMIN; zero while that is not
/// known.
#[btf_map]
static ACCOUNTING: Array<u64, 1> = Array::new();

/// Whether equal calls are told once.
#[btf_map]
static TURN: Array<Turn, 1> = Array::new();

/// The calls that each processor has told.
#[btf_map]
static TOLD: PerCpuArray<Told, FOLDS> = PerCpuArray::new();

/// How often they were made again.
#[btf_map]
static TALLIES: PerCpuArray<[Tally; FOLDS], 1> = PerCpuArray::new();

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

/// What is known of a call.
#[inline(always)]
pub fn entry(nr: i32, compat: bool) -> Option<&'static Entry> {
    let entry = if compat { COMPAT.get(nr as u32) } else { NATIVE.get(nr as u32) }?;
    entry.operands.is_row().then_some(entry)
}

/// Its operands.
#[inline(always)]
pub fn operands(nr: i32, compat: bool) -> Option<&'static Operands> {
    entry(nr, compat).map(|entry| &entry.operands)
}

/// Whether some task has something to be told when its call returns.
#[inline(always)]
pub fn is_pending() -> bool {
    // SAFETY: the map has the one element, a word.
    PENDING.get_ptr_mut(0).is_none_or(|count| unsafe { ptr::read_volatile(count) != 0 })
}

/// One task more has.
#[inline(always)]
pub fn awaited() {
    pending(1);
}

/// One task less has.
#[inline(always)]
pub fn settled() {
    pending(u64::MAX);
}

#[inline(always)]
fn pending(by: u64) {
    if let Some(count) = PENDING.get_ptr_mut(0) {
        // SAFETY: the map has the one element, which all processors change in this way alone.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(count, by) };
    }
}

/// The return address that tells memory being accounted for.
#[inline(always)]
pub fn accounting() -> u64 {
    ACCOUNTING.get(0).copied().unwrap_or(0)
}

/// Whether equal calls are told once.
#[inline(always)]
pub fn turn() -> Option<Turn> {
    TURN.get(0).copied()
}

/// The current processor's memory of a call that it told.
#[inline(always)]
pub fn told(index: u32) -> Option<*mut Told> {
    TOLD.get_ptr_mut(index)
}

/// The current processor's counts.
#[inline(always)]
pub fn tallies() -> Option<*mut Tally> {
    TALLIES.get_ptr_mut(0).map(|tallies| tallies.cast())
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

/// Counts what was lost.
#[inline(always)]
pub fn count_lost(slot: Slot, many: u64) {
    if let Some(count) = LOST.get_ptr_mut(slot as u32) {
        // SAFETY: the pointer is the current processor's own counter.
        unsafe { *count += many };
    }
}

/// Puts a record of `size` bytes at `data`, made at `now`, into the ring buffer.
///
/// Waking the reader for each record would cost more than all the rest: it looks by itself now and then, and is woken
/// when much has gathered. False when there was no room. `looked` is when this processor last looked at how much has.
#[inline(always)]
pub fn output(slot: Slot, data: *mut c_void, size: u64, now: u64, looked: &mut u64) -> bool {
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
    let sent = unsafe { bpf_ringbuf_output(map, data, size, u64::from(wake)) } == 0;
    if !sent {
        count_lost(slot, 1);
    }
    sent
}
