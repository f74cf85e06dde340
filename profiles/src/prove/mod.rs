//! Proving a profile by trials: what can be left out ([`atoms()`], [`search`]), what can be taken away beyond that
//! ([`harden()`]), what a trial says ([`judge`]), and how that gets into the profile ([`conclude`]).
//!
//! Pure: who makes the trials hands in their outcomes.

pub mod atoms;
pub mod conclude;
mod harden;
pub mod judge;
pub mod search;
pub mod suspects;
pub mod users;
pub mod ways;

pub use atoms::{Atom, atoms, without};
pub use harden::{Hardened, Lives, harden};
pub use judge::{Trial, refused};
pub use search::{Bench, SearchResult, Tried, minimize};
