//! The ptrace backend against the kernel: the awkward cases of tracing, each by name.
//!
//! They run as root, and all but the few that do what only root can do again as an ordinary user
//! (`as_an_ordinary_user`).

#![expect(clippy::unwrap_used, reason = "a fixture that cannot go on fails its test")]

#[path = "ptrace/calls.rs"]
mod calls;
#[path = "ptrace/harness.rs"]
mod harness;
#[path = "ptrace/privileges.rs"]
mod privileges;
#[path = "ptrace/signals.rs"]
mod signals;
#[path = "ptrace/speed.rs"]
mod speed;
#[path = "ptrace/tasks.rs"]
mod tasks;
