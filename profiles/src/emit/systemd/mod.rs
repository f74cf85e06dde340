//! Units of systemd: a drop-in for a service, a whole service unit, a socket unit.

pub mod hardening;
mod sandbox;
mod service;
mod socket;
mod whole;

pub(super) use service::{can_allow, can_load, emit as dropin, name_of, variables};
pub(super) use socket::emit as socket;
pub(super) use whole::emit as unit;
