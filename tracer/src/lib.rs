//! All contact with the kernel.
//!
//! ```text
//! launch ──pidfd──▶ ebpf (probe) ──records──▶ collect ──▶ Event
//!    └── identity supervisor (seccomp) ─────────▲
//! ```

pub mod collect;
pub mod ebpf;
pub mod launch;
pub mod ptrace;
