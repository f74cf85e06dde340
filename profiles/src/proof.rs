//! What trials have proved: runs of the program as its user, in a sandbox, with what a profile grants and nothing else.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::Greeting;
use crate::text::Seconds;

/// What a program does with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read a file, or list a directory.
    Read,
    /// Write a file; for a directory: make, rename and remove entries whose names are of no interest
    /// themselves, such as temporary files renamed at once.
    Write,
    /// Append to a file.
    Append,
    /// Execute a file.
    Execute,
    /// Pass through a directory.
    Search,
    /// Make it, which takes write access to its directory.
    Create,
    /// Remove it, which takes write access to its directory.
    Delete,
    /// Be its owner: change its mode, its times or its group.
    Own,
}

impl Access {
    /// What it takes of a file's mode: 4 read, 2 write, 1 execute or search; 0 where the mode does not decide.
    pub fn bit(self) -> u32 {
        match self {
            Self::Read => 4,
            Self::Write | Self::Append => 2,
            Self::Execute | Self::Search => 1,
            Self::Create | Self::Delete | Self::Own => 0,
        }
    }

    /// What all of these take.
    pub fn bits<'a>(all: impl IntoIterator<Item = &'a Self>) -> u32 {
        all.into_iter().fold(0, |bits, access| bits | access.bit())
    }
}

/// What trials have shown of one requirement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Proof {
    /// What they come to.
    pub finding: Finding,
    /// Trials without it in which the program did not live.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub failed: u32,
    /// Trials without it in which the program lived.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub lived: u32,
    /// How the program ended without it, in a few words; may hold text of the program's own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub without: Option<String>,
    /// Ids of needs that were taken away together with it, as one grant serves them all: which of them the program cannot
    /// do without is not told.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub together: BTreeSet<String>,
    /// For a path or a device: what was refused of a need that is otherwise granted, while the program lived.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub tolerated: BTreeSet<Access>,
}

impl Proof {
    /// What trials of two runs show together: the stronger finding. Two accounts of the same trials stay one.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self {
            finding: self.finding.max(other.finding),
            failed: self.failed.max(other.failed),
            lived: self.lived.max(other.lived),
            without: self.without.max(other.without),
            together: self.together.into_iter().chain(other.together).collect(),
            tolerated: self.tolerated.intersection(&other.tolerated).copied().collect(),
        }
    }

    /// What they come to, in words, for reports. It may hold text from the tracee.
    pub fn words(&self) -> String {
        let others: Vec<&str> = self.together.iter().map(String::as_str).collect();
        match (self.finding, others.as_slice()) {
            (Finding::Removal, [other]) => format!("granted together with {other}; removed both, it ends"),
            (Finding::Removal, [first, rest @ ..]) => {
                format!("granted together with {first} and {} more; removed all, it ends", rest.len())
            }
            _ => self.finding.words().to_owned(),
        }
    }
}

/// What trials of one requirement come to; later ones outweigh earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// It is not granted, and the program lives.
    Tolerated,
    /// Granted, with all the others, it was enough; it was not tried without.
    Granted,
    /// No refusal told of it: the program did not live, and with it, it does.
    Tried,
    /// Without it the program does not live: required, proved by removal.
    Removal,
}

impl Finding {
    /// In words, for reports.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Granted => "granted in the proof",
            Self::Tried => "tried: it lives with it",
            Self::Removal => "required: proved by removal",
            Self::Tolerated => "tolerated",
        }
    }
}

/// What trials have shown of a profile as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileProof {
    /// Whether the program lives with what the profile grants: it was ready, was exercised, and still lived in the end.
    pub lives: bool,
    /// Whether each grant was tried by removal, so that none can be left out.
    pub minimal: bool,
    /// How readiness was judged, in words; absent where nothing but its life was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub readiness: Option<String>,
    /// The workload it was exercised with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exercise: Option<String>,
    /// How it answered a client in each trial, as in the run before.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub greetings: Vec<Greeting>,
    /// How long it had to live on after that.
    pub settled: Seconds,
    /// Trials made.
    pub trials: u32,
    /// How long they took, with the run before them where there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub took: Option<Seconds>,
    /// Trials with everything granted that failed all the same: more than zero for a program that is flaky.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub flaked: u32,
    /// Directives of the unit that take away what the program does without, beyond those that every unit holds: it lived
    /// with all of them.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub hardening: BTreeSet<String>,
    /// The image whose containers the trials were; absent where they were made in a sandbox of the machine.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<TriedImage>,
    /// What could not be applied in the sandbox, in words.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub not_applied: Vec<String>,
}

/// An image whose containers, or pods, trials were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TriedImage {
    /// Its name.
    pub name: String,
    /// Whether it held what the lines of `Containerfile` say; else it was as it is.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub built: bool,
    /// The namespace of the cluster in which pods of it were trials; else they were containers of podman's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub namespace: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
