//! The pure middle of nrtrace: what was seen ([`event`]), what it means ([`mod@classify`]), what is needed
//! ([`requirement`], [`profile`]), how it can be granted ([`ways`], [`grants`]), and the files that grant it ([`emit`]).
//!
//! Nothing here does input or output or knows a kernel interface; values go in and values come out.

pub mod accesses;
pub mod calls;
pub mod capability;
pub mod changes;
pub mod check;
pub mod classify;
pub mod container;
pub mod describe;
pub mod diff;
pub mod edit;
pub mod emit;
pub mod event;
pub mod explain;
pub mod glob;
pub mod grants;
mod interpreter;
pub mod knowledge;
pub mod merge;
pub mod method;
pub(crate) mod paths;
pub mod place;
pub mod plan;
pub mod profile;
pub mod proof;
pub mod prove;
pub mod requirement;
pub mod schema;
pub mod text;
pub mod trace;
pub mod unit;
pub mod version;
pub mod ways;

pub use capability::Capability;
pub use text::RawText;
