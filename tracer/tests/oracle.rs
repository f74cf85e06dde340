//! The access oracle against the kernel.
//!
//! Everything here makes files of several owners and needs root.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

#[path = "oracle/cases.rs"]
mod cases;
#[path = "oracle/mounts.rs"]
mod mounts;
#[path = "oracle/process.rs"]
mod process;
#[path = "oracle/property.rs"]
mod property;
#[path = "oracle/world.rs"]
mod world;
