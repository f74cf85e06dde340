//! The records that nrtrace's eBPF programs write into the ring buffer, shared by both sides.
//!
//! Every record starts with a [`Head`]; its `kind` says which fixed part follows. After the fixed part
//! come the bytes of up to [`STRINGS`] strings, back to back and without terminators, in the order and with
//! the lengths of [`Head::strings`]. All integers are in the byte order of the machine, and all padding is
//! explicit, so that both sides may read a record as plain bytes.
#![no_std]

pub mod layout;
pub mod record;
pub mod table;

pub use record::*;
