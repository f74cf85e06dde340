//! What a program does with files, refused or not: the material of [`plan`](crate::plan).

use std::collections::{BTreeMap, BTreeSet};

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

impl Accesses {
    /// Takes in what another run of the same program did: the order of runs does not matter.
    pub fn join(&mut self, other: &Self) {
        self.paths.extend(other.paths.iter().cloned());
        self.dropped = self.dropped.max(other.dropped);
        let mut files: BTreeMap<RawText, FileAccess> =
            std::mem::take(&mut self.files).into_iter().map(|file| (file.path.clone(), file)).collect();
        for file in &other.files {
            match files.get_mut(&file.path) {
                None => {
                    files.insert(file.path.clone(), file.clone());
                }
                Some(known) => {
                    known.access.extend(file.access.iter().copied());
                    // What is not known is the last of the types.
                    known.file_type = known.file_type.min(file.file_type);
                    // One of the two, whichever way round they come.
                    known.inode =
                        [known.inode.take(), file.inode.clone()].into_iter().flatten().min_by_key(order);
                }
            }
        }
        self.files = files.into_values().collect();
    }
}

fn order(inode: &Inode) -> (u32, u32, u32) {
    (inode.uid, inode.gid, inode.mode)
}
