//! Recordings as files: what `nrtrace run --save-trace` writes and `nrtrace replay` reads.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::RawText;
use crate::event::Trace;

/// [`SavedTrace::schema`] of the recordings this version writes.
pub const SCHEMA: &str = "nrtrace/trace/v1";

/// A recording, with what is needed to make a profile of it without the program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SavedTrace {
    /// [`SCHEMA`].
    pub schema: String,
    /// The name everything generated goes under, as in [`Profile::name`](crate::profile::Profile::name).
    pub name: String,
    /// The executable, resolved.
    pub executable: Option<RawText>,
    /// What was seen.
    pub trace: Trace,
}
