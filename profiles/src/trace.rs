//! Recordings as files: what `nrtrace run --save-trace` writes and `nrtrace replay` reads.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::RawText;
use crate::event::Trace;
use crate::text;
use crate::version::{Format, ReadError};

/// [`SavedTrace::schema`] of the recordings this version writes.
pub const SCHEMA: &str = "nrtrace/trace/v1";

/// The file that `run --save-trace` writes. Version 1 is the first.
pub const FORMAT: Format =
    Format { name: "recording", schema: SCHEMA, upgrades: &[], max_bytes: 512 << 20, max_values: 16_000_000 };

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

impl SavedTrace {
    /// The recording as JSON on one line.
    pub fn to_json(&self) -> String {
        text::json(self) + "\n"
    }

    /// Reads what [`SavedTrace::to_json`] wrote, in this version or an older one.
    ///
    /// # Errors
    /// When the text is no recording, or of an unknown version.
    pub fn from_json(text: &str) -> Result<Self, ReadError> {
        FORMAT.read(text)
    }
}
