//! For kernels without BPF trampolines as well: the functions are watched by kprobes.
//!
//! A kprobe at the return of a function sees neither its arguments nor whose call it was: both are kept from its entry on.

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::btf_maps::HashMap;
use aya_ebpf::helpers::generated::{
    bpf_get_stack, bpf_map_delete_elem, bpf_map_lookup_elem, bpf_map_update_elem,
};
use aya_ebpf::macros::{btf_map, kprobe, kretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use nrtrace_ebpf::STACK_MAX;

use crate::aim;
use crate::check::{self, Question, Stack};
use crate::functions::{decides, inode_argument};
use crate::kernel::{self, read_at, registers};

/// Tasks that are in `cap_capable` at the same time, at most.
const ASKING: usize = 1024;

/// A question whose answer is not known yet.
#[repr(C)]
pub struct Asked {
    cred: u64,
    namespace: u64,
    cap: u32,
    opts: u32,
    /// Valid entries of `stack`.
    pub length: u64,
    /// Return addresses, innermost first.
    pub stack: [u64; STACK_MAX],
}

#[btf_map]
static ASKED: HashMap<u64, Asked, ASKING> = HashMap::new();

#[inline(always)]
fn map() -> *mut c_void {
    (&raw const ASKED).cast_mut().cast()
}

/// A register of whoever called the function, at an offset of [`nrtrace_ebpf::layout::Registers`].
#[inline(always)]
fn register(context: *mut c_void, offset: u64) -> u64 {
    read_at((context as u64).wrapping_add(offset))
}

/// `cap_capable(cred, namespace, cap, opts)` is asked.
#[kprobe]
pub fn cap_capable_asked(context: ProbeContext) -> u32 {
    let task = kernel::current();
    let context = context.as_ptr();
    if aim::mark(task).is_none() {
        return 0;
    }
    let mut asked = Asked {
        cred: register(context, registers!(function[0])),
        namespace: register(context, registers!(function[1])),
        cap: register(context, registers!(function[2])) as u32,
        opts: register(context, registers!(function[3])) as u32,
        length: 0,
        stack: [0; STACK_MAX],
    };
    if !decides(asked.cap as i32, asked.opts) {
        return 0;
    }
    // The first frame is the function itself.
    // SAFETY: the helper writes at most the size it is told.
    let size = unsafe { bpf_get_stack(context, (&raw mut asked.stack).cast(), (STACK_MAX * 8) as u32, 1) };
    asked.length = if size > 0 { size as u64 / 8 } else { 0 };
    let key = task as u64;
    // SAFETY: map, key and value are valid; the kernel copies both.
    unsafe {
        bpf_map_update_elem(map(), (&raw const key).cast_mut().cast(), (&raw mut asked).cast(), 0);
    }
    0
}

/// It has answered.
#[kretprobe]
pub fn cap_capable_answered(context: RetProbeContext) -> u32 {
    let task = kernel::current();
    let Some(mark) = aim::mark(task) else { return 0 };
    let key = task as u64;
    // SAFETY: map and key are valid; the value is this task's alone.
    let found =
        unsafe { bpf_map_lookup_elem(map(), (&raw const key).cast_mut().cast()).cast::<Asked>().as_ref() };
    let Some(asked) = found else { return 0 };
    let context = context.as_ptr();
    let question = Question {
        cred: asked.cred as *const c_void,
        namespace: asked.namespace as *const c_void,
        cap: asked.cap as i32,
        ret: register(context, registers!(result)) as i32,
        opts: Some(asked.opts),
        stack: Stack::Kept(asked),
    };
    check::consulted(task, mark, &question);
    // SAFETY: as above.
    unsafe { bpf_map_delete_elem(map(), (&raw const key).cast_mut().cast()) };
    0
}

/// `capable_wrt_inode_uidgid` is about to consult a capability for an inode.
#[kprobe]
pub fn inode_capable_asked(context: ProbeContext) -> u32 {
    if let Some(mark) = aim::mark(kernel::current()) {
        let offset = if inode_argument() == 0 { registers!(function[0]) } else { registers!(function[1]) };
        mark.inode = register(context.as_ptr(), offset);
    }
    0
}

/// The inode has been judged.
#[kretprobe]
pub fn inode_capable_answered(_: RetProbeContext) -> u32 {
    if let Some(mark) = aim::mark(kernel::current()) {
        mark.inode = 0;
    }
    0
}
