//! End-to-end tests of nrtrace: a throw-away machine ([`sandbox`]), what is known by hand about real services
//! ([`truth`]), the comparison with what a run reports ([`compare`]), and the proof that what the run wrote is enough
//! ([`mod@unit`]).
//!
//! Everything here needs root. A test that cannot have what it needs fails; none is skipped.

pub mod compare;
pub mod compose;
pub mod enter;
pub mod kep2568;
pub mod page;
pub mod podman;
pub mod readers;
pub mod record;
pub mod sandbox;
pub mod scenario;
pub mod service;
pub mod setup;
pub mod truth;
pub mod unit;
