//! Reading the kernel's structures at offsets that the tracer has looked up.
//!
//! Two ways lead to a member. [`load`] reads through a pointer whose type the verifier knows (the current task and
//! what hangs on it): one instruction, and a fault reads as zero. [`read`] asks the kernel to copy from any address:
//! a few nanoseconds more, and what must serve for untyped pointers.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;

#[cfg(feature = "portable")]
use aya_ebpf::helpers::generated::bpf_get_current_task;
#[cfg(not(feature = "portable"))]
use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_kernel};
use nrtrace_ebpf::layout::{ABSENT, FIELDS, Field, Registers};

/// Offsets of the members, by [`Field`].
#[unsafe(no_mangle)]
static LAYOUT: [u32; FIELDS] = [ABSENT; FIELDS];

/// Where the registers of a call are.
#[unsafe(no_mangle)]
pub static REGISTERS: Registers = Registers {
    number: 0,
    args: [0; 6],
    compat_args: [0; 6],
    compat_word: 0,
    compat_mask: 0,
    function: [0; 4],
    result: 0,
};

/// Whether what already runs is to be traced, and not only what descends from a marked task.
#[unsafe(no_mangle)]
static ATTACHING: u32 = 0;

/// The current task, as a pointer whose type the verifier knows.
pub type Task = *const c_void;

/// The task that runs.
#[cfg(not(feature = "portable"))]
#[inline(always)]
pub fn current() -> Task {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task_btf() }.cast_const().cast()
}

/// The task that runs; its type is not known to the verifier before Linux 5.11.
#[cfg(feature = "portable")]
#[inline(always)]
pub fn current() -> Task {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task() as Task }
}

/// `CLOCK_MONOTONIC`, in nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Writes zeros to an array, word by word: for one of some words the compiler would call a function that writes bytes.
///
/// # Safety
/// The array may be written to.
#[inline(always)]
pub unsafe fn clear<T: Copy + Default, const N: usize>(array: *mut [T; N]) {
    for index in 0..N {
        // SAFETY: the caller's.
        unsafe { ptr::write_volatile(array.cast::<T>().add(index), T::default()) };
    }
}

/// Whether tasks without a mark may belong to what is traced; a constant for the verifier, which leaves out what is
/// never reached.
#[inline(always)]
pub fn attaching() -> bool {
    // SAFETY: the loader writes the constant before the program is loaded.
    unsafe { ptr::read_volatile(&raw const ATTACHING) != 0 }
}

/// Offset of `field`, a constant for the verifier.
#[inline(always)]
pub fn offset(field: Field) -> u64 {
    // SAFETY: the loader writes the array before the program is loaded, hence the volatile read of a constant;
    // `Field` indexes within it.
    u64::from(unsafe { ptr::read_volatile((&raw const LAYOUT).cast::<u32>().add(field as usize)) })
}

/// Whether this kernel has `field`.
#[inline(always)]
pub fn has(field: Field) -> bool {
    offset(field) != u64::from(ABSENT)
}

/// Reads one of the offsets of [`Registers`].
macro_rules! registers {
    ($($member:tt)+) => {{
        let address = &raw const $crate::kernel::REGISTERS.$($member)+;
        // SAFETY: the loader writes the constant before the program is loaded.
        u64::from(unsafe { ::core::ptr::read_volatile(address) })
    }};
}
pub(crate) use registers;

/// Reads the value `offset` bytes into what `base` points to, which need not be typed for the verifier.
#[cfg(feature = "portable")]
#[inline(always)]
pub fn load_at<T: Copy>(base: *const c_void, offset: u64) -> T {
    read_at((base as u64).wrapping_add(offset))
}

/// Reads the value `offset` bytes into what `base` points to; `base` must be typed for the verifier.
#[cfg(not(feature = "portable"))]
#[inline(always)]
pub fn load_at<T: Copy>(base: *const c_void, offset: u64) -> T {
    // SAFETY: the verifier only accepts typed pointers here, and the kernel turns a fault into zero.
    unsafe { ptr::read_volatile(base.cast::<u8>().add(offset as usize).cast::<T>()) }
}

/// Reads `field` of the structure that `base` points to; `base` must be typed for the verifier.
#[inline(always)]
pub fn load<T: Copy>(base: *const c_void, field: Field) -> T {
    load_at(base, offset(field))
}

/// The address in `field` of a structure whose type the verifier knows. To be told the type of what a trusted pointer leads
/// to, the verifier looks for several names among all of the kernel's, which takes a millisecond each time: most of what
/// loading took.
#[inline(always)]
pub fn pointer(base: *const c_void, field: Field) -> u64 {
    read(base as u64, field)
}

/// Copies a value from any kernel address; zero when it cannot be read.
#[inline(always)]
pub fn read_at<T: Copy>(address: u64) -> T {
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: the helper writes all of `value`, zeros included when the address is bad.
    unsafe {
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const c_void);
        value.assume_init()
    }
}

/// Copies some words from any kernel address; zeros when they cannot be read.
#[inline(always)]
pub fn read_words<const N: usize>(address: u64) -> [u64; N] {
    let mut words = MaybeUninit::<[u64; N]>::uninit();
    // SAFETY: all of the words are written.
    unsafe {
        clear(words.as_mut_ptr());
        bpf_probe_read_kernel(words.as_mut_ptr().cast(), (N * 8) as u32, address as *const c_void);
        words.assume_init()
    }
}

/// Copies `field` of the structure at any kernel address; zero when it cannot be read.
#[inline(always)]
pub fn read<T: Copy>(base: u64, field: Field) -> T {
    read_at(base.wrapping_add(offset(field)))
}
