//! All contact with the kernel.
//!
//! ```text
//! session ─┬─ launch ──pidfd──▶ ebpf (probe) ──records──▶ collect ──▶ Event
//!          └─ identity supervisor (seccomp) ──────────────────▲
//! ```

pub mod accounts;
pub mod acl;
pub mod apply;
pub mod attach;
pub mod backend;
pub mod changes;
pub mod collect;
pub mod course;
pub mod doctor;
pub mod ebpf;
pub mod files;
pub mod image;
pub mod launch;
pub mod limits;
mod listeners;
mod members;
pub mod oracle;
pub mod predict;
pub mod ptrace;
pub mod recording;
pub mod sandbox;
pub mod seccomp;
pub mod session;
mod status;
pub mod trial;
