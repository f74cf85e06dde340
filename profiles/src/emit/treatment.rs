//! What is done about a need, in a word.

use schemars::JsonSchema;
use serde::Serialize;

/// What is done about a need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Verdict")]
pub enum Treatment {
    /// It is granted.
    Granted,
    /// It is granted, but a file for systemd cannot hold it: not before some version, or not at all.
    Partly,
    /// Something in the program's own configuration is to be changed.
    Advice,
    /// It is not granted, and the program lives.
    Optional,
    /// It is granted once a trial without it has failed.
    Withheld,
    /// It cannot be granted safely.
    Unmet,
}
