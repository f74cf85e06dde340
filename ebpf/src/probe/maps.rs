//! What the programs keep, and how records leave the kernel.

use core::ffi::c_void;
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use core::ptr;

use aya_ebpf::bindings::{
    BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP,
    BPF_RB_NO_WAKEUP, bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE,
};
use aya_ebpf::btf_maps::{Array, PerCpuArray, RingBuf};
use aya_ebpf::helpers::generated::{bpf_ringbuf_output, bpf_ringbuf_query, bpf_task_storage_get};
use aya_ebpf::macros::btf_map;
use nrtrace_ebpf::layout::{Aim, Mark, Turn};
use nrtrace_ebpf::record::{FOLDS, Tally};
use nrtrace_ebpf::table::{CALLS, Entry, Operands};

use crate::fold::Told;
use crate::kernel::Task;
use crate::text::Scratch;

/// A map of a value for each task (`BPF_MAP_TYPE_TASK_STORAGE`): found without a search, gone with the task.
///
/// The fields are never read; their types tell the loader what map to make.
#[repr(C)]
pub struct TaskStorage<T> {
    r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: nothing reads the fields, and the kernel synchronises access to the map.
unsafe impl<T> Sync for TaskStorage<T> {}

impl<T> TaskStorage<T> {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }
}

/// The traced tasks.
#[btf_map]
static MARKS: TaskStorage<Mark> = TaskStorage::new();

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

/// The mark of `task`, if it has one.
#[inline(always)]
pub fn mark(task: Task) -> Option<&'static mut Mark> {
    // SAFETY: the map and the task are valid; the value lives as long as the program runs.
    unsafe {
        bpf_task_storage_get((&raw const MARKS).cast_mut().cast(), task.cast_mut().cast(), ptr::null_mut(), 0)
            .cast::<Mark>()
            .as_mut()
    }
}

/// What is attached to.
#[inline(always)]
pub fn aim() -> Option<&'static mut Aim> {
    // SAFETY: the map has the one element; the kernel and the tracer write whole words of it.
    AIM.get_ptr_mut(0).and_then(|aim| unsafe { aim.as_mut() })
}

/// Marks `task`, unless it has a mark already; the mark it has now, none when there is no memory for it.
#[inline(always)]
pub fn set_mark(task: Task, mut value: Mark) -> Option<&'static mut Mark> {
    let map = (&raw const MARKS).cast_mut().cast::<c_void>();
    // SAFETY: as in `mark`; the kernel copies the value.
    unsafe {
        bpf_task_storage_get(
            map,
            task.cast_mut().cast(),
            (&raw mut value).cast(),
            u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE),
        )
        .cast::<Mark>()
        .as_mut()
    }
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
    SCRATCH.get_ptr_mut(slot as u32)
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
