//! Places that the portable probe has to find: tasks by pidfds, and registers on stacks.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use nrtrace_ebpf::layout::Field;

use crate::kernel::{self, load, offset, read, read_at, registers};
use crate::path;

/// The answer of [`task_of`], and how far into the stack the registers are, which the tracer writes.
#[btf_map]
static PLACES: Array<u64, 2> = Array::new();

const ANSWER: u32 = 0;
const REGISTERS: u32 = 1;

/// How far into a task's stack the registers are that it has entered the kernel with.
#[inline(always)]
pub fn registers() -> u64 {
    PLACES.get(REGISTERS).copied().unwrap_or(0)
}

/// The tracer (`BPF_PROG_TEST_RUN`) asks which task its pidfd stands for: writes its address, or zero when it is gone.
///
/// Task storage takes pidfds as keys. A table by address needs the address.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp")]
pub extern "C" fn task_of(context: *const u64) -> i32 {
    // SAFETY: the tracer passes a descriptor as the first of several words.
    let fd = unsafe { *context } as i32;
    let file = path::file(kernel::current(), fd);
    let mut pid: u64 = read(file, Field::FilePrivate);
    if pid == 0 {
        // From Linux 6.9 on, a pidfd has an inode of its own.
        pid = read(read(file, Field::FileInode), Field::InodePrivate);
    }
    let first: u64 = read(pid, Field::PidTasks);
    let task = if first == 0 { 0 } else { first.wrapping_sub(offset(Field::TaskPidLinks)) };
    if let Some(answer) = PLACES.get_ptr_mut(ANSWER) {
        // SAFETY: the map has the element.
        unsafe { *answer = task };
    }
    0
}

/// The tracer asks what number its call has by registers that are so far into its stack as it says.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp")]
pub extern "C" fn number_at(context: *const u64) -> i32 {
    // SAFETY: as above.
    let distance = unsafe { *context };
    let stack: u64 = load(kernel::current(), Field::TaskStack);
    read_at::<u32>(stack.wrapping_add(distance).wrapping_add(registers!(number))) as i32
}
