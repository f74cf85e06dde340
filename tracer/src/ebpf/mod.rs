//! The eBPF backend: loads the probe, marks the tree, delivers records.
//!
//! ```text
//! /sys/kernel/btf/vmlinux ─▶ btf, layout ─┐
//!            table of system calls ─▶ table ─┼─▶ probe ─▶ kernel
//!             nrtrace-probe*.bpf.o (committed) ─┘     ◀── records
//! ```
//!
//! The probe is a committed object, and another one for kernels that lack what the first one takes (before Linux 5.17);
//! `cargo xtask build-ebpf` makes both from the package `nrtrace-ebpf`, whose `src/probe/main.rs` tells how they work. Loading it takes BTF, CAP_BPF and CAP_PERFMON. What it can attach to is
//! found by trying, not from the kernel's version.

mod accounting;
mod attach;
mod btf;
mod error;
mod folding;
mod layout;
mod lent;
mod load;
mod marks;
mod names;
mod probe;
mod ring;
mod support;
pub(crate) mod sys;
mod table;

pub use error::Error;
pub use lent::{Kept, Lent, Numbers};
pub use probe::{Hooks, Lost, Options, Probe};
pub use support::{Feature, support};
