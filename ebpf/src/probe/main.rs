//! The eBPF programs.
//!
//! ```text
//! task_newtask ──── hands the mark to children and threads
//! sched_process_exec, sched_process_exit
//! cap_capable ───── one record for each capability consulted
//! sys_exit ──────── one record for each call of interest (only with `--record calls`)
//! ```
//!
//! Tasks are told by a mark in task storage: the tracer sets the first one through a pidfd, before the program runs,
//! and children inherit it before they first run. No process ids are compared, so a pid namespace does not matter. A
//! task without mark costs one look-up.
//!
//! Everything is read inside the call itself, so that what it was about is still there: the registers hold number
//! and arguments, the path has been faulted in by the kernel, descriptors are open. Paths relative to a directory
//! carry that directory's path, walked up from its entry. `current->nameidata`, the state of a path walk in
//! progress, names the very component that is being judged.
//!
//! Kernels from 6.14 on have a tracepoint in `cap_capable`. On older ones the function itself is watched (`fexit`),
//! and `capable_wrt_inode_uidgid` (`fentry`) tells the inode; both are in the module `functions` and loaded only
//! where the tracepoint is missing.
#![no_std]
#![no_main]
// The prebuilt `core` of this target has no atomic types; the machine can add to a word at once.
#![allow(internal_features, reason = "see above")]
#![feature(core_intrinsics)]

mod aim;
mod call;
mod calls;
mod check;
mod fold;
mod functions;
mod gather;
mod head;
mod kernel;
mod kprobes;
mod loops;
mod maps;
mod marks;
mod names;
mod path;
#[cfg(feature = "portable")]
mod places;
mod process;
mod text;

/// The kernel lends some helpers only to programs under a licence compatible with the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: `cargo xtask build-ebpf` fails on a call to the function it names.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn nrtrace_probe_must_not_panic() -> !;
    }
    // SAFETY: the function does not exist, so a probe that could come here is never built.
    unsafe { nrtrace_probe_must_not_panic() }
}
