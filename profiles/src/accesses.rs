//! What a program does with files, refused or not: the material of [`plan`](crate::plan).

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::RawText;
use crate::event::{FileType, Inode};
use crate::requirement::Access;

/// What a run did with the files under some paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accesses {
    /// The patterns of `--paths`.
    pub paths: BTreeSet<RawText>,
    /// Different accesses that were left out because there were too many.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub dropped: u64,
    /// What was done with each file, ordered by path.
    pub files: Vec<FileAccess>,
}

/// What a run did with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileAccess {
    /// Absolute, in the mount namespace of the process.
    pub path: RawText,
    /// What is there.
    #[serde(rename = "type")]
    pub file_type: FileType,
    /// What was done with it; nothing, when it was only looked at, which takes to pass through the directories on the
    /// way. `read` on a directory lists it, `write` on a socket connects to it, and `create` of a socket binds it.
    pub access: BTreeSet<Access>,
    /// Its owner and mode, where they were seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inode: Option<Inode>,
}

impl Accesses {
    /// Different files that are kept.
    pub const MOST: usize = 20_000;
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
