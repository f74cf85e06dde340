//! Loops over more steps than the verifier should prove one by one.
//!
//! From Linux 5.17 on, `bpf_loop` runs a callback, which is proved once. Where there is none, the step is a function that
//! anybody might call: the verifier proves such a one by itself, and the loop around it is a few instructions. It takes
//! numbers alone, so scratch memory is found by its [`Slot`](crate::maps::Slot).

pub use way::{argument, component, walk};

#[cfg(not(feature = "portable"))]
mod way {
    use core::ffi::c_void;

    use aya_ebpf::helpers::generated::bpf_loop;

    use crate::text::Scratch;
    use crate::{path, text};

    type Step = extern "C" fn(u32, *mut *mut Scratch) -> i64;

    #[inline(always)]
    fn each(count: u32, step: Step, scratch: *mut Scratch) {
        let mut context = scratch;
        // SAFETY: the callback gets the address of `context`, which lives until the loop ends.
        unsafe { bpf_loop(count, step as *mut c_void, (&raw mut context).cast(), 0) };
    }

    /// Steps of [`path::step`].
    #[inline(always)]
    pub fn walk(scratch: *mut Scratch) {
        extern "C" fn step(_: u32, context: *mut *mut Scratch) -> i64 {
            // SAFETY: `each` passes a pointer to the scratch memory.
            path::step(unsafe { *context })
        }
        each(path::STEPS, step, scratch);
    }

    /// Steps of [`text::word`], between slashes.
    #[inline(always)]
    pub fn component(scratch: *mut Scratch, count: u32) {
        extern "C" fn step(index: u32, context: *mut *mut Scratch) -> i64 {
            // SAFETY: as above.
            text::word(unsafe { *context }, index, b'/')
        }
        each(count, step, scratch);
    }

    /// Steps of [`text::word`], between zeros alone.
    #[inline(always)]
    pub fn argument(scratch: *mut Scratch, count: u32) {
        extern "C" fn step(index: u32, context: *mut *mut Scratch) -> i64 {
            // SAFETY: as above.
            text::word(unsafe { *context }, index, 0)
        }
        each(count, step, scratch);
    }
}

#[cfg(feature = "portable")]
mod way {
    use core::hint::black_box;

    use nrtrace_ebpf::PATH_MAX;

    use crate::text::{Scratch, slot};
    use crate::{maps, path, text};

    const STOP: i64 = 1;

    /// One step of [`walk`].
    #[unsafe(no_mangle)]
    #[inline(never)]
    pub extern "C" fn walk_step(slot: u32) -> i64 {
        maps::scratch_at(slot).map_or(STOP, path::step)
    }

    /// All of them.
    #[unsafe(no_mangle)]
    #[inline(never)]
    pub extern "C" fn walk_steps(slot: u32) -> i64 {
        for _ in 0..path::STEPS {
            if walk_step(slot) != 0 {
                break;
            }
        }
        0
    }

    /// Steps of [`path::step`].
    #[inline(always)]
    pub fn walk(scratch: *mut Scratch) {
        black_box(walk_steps(slot(scratch)));
    }

    /// One step of [`component`] and [`argument`].
    #[unsafe(no_mangle)]
    #[inline(never)]
    pub extern "C" fn word_step(index: u32, separator: u32, slot: u32) -> i64 {
        maps::scratch_at(slot).map_or(STOP, |scratch| text::word(scratch, index, separator as u8))
    }

    /// All of them.
    #[unsafe(no_mangle)]
    #[inline(never)]
    pub extern "C" fn word_steps(count: u32, separator: u32, slot: u32) -> i64 {
        for index in 0..PATH_MAX as u32 {
            // Two bounds: if the compiler made one of them, the verifier would see none.
            if black_box(index) >= count || word_step(index, separator, slot) != 0 {
                break;
            }
        }
        0
    }

    /// Steps of [`text::word`], between slashes.
    #[inline(always)]
    pub fn component(scratch: *mut Scratch, count: u32) {
        black_box(word_steps(count, u32::from(b'/'), slot(scratch)));
    }

    /// Steps of [`text::word`], between zeros alone.
    #[inline(always)]
    pub fn argument(scratch: *mut Scratch, count: u32) {
        black_box(word_steps(count, 0, slot(scratch)));
    }
}
