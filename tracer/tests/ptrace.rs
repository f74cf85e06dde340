//! The ptrace backend against the kernel: the awkward cases of tracing, each by name.
//!
//! All run as whoever runs them; `as_an_ordinary_user` runs them again without privileges when that is root.

#[path = "ptrace/calls.rs"]
mod calls;
#[path = "ptrace/harness.rs"]
mod harness;
#[path = "ptrace/privileges.rs"]
mod privileges;
#[path = "ptrace/signals.rs"]
mod signals;
#[path = "ptrace/tasks.rs"]
mod tasks;
