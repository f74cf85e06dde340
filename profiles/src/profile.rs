//! The profile: what a run showed, as data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Capability;
use crate::RawText;
use crate::accesses::Accesses;
use crate::container::Container;
use crate::event::{
    Attached, Backend, Exit, FileType, Greeting, Identity, Mode, Obstacle, Phase, Protocol, Record,
};
use crate::knowledge::Fact;
use crate::proof::ProfileProof;
use crate::requirement::{Requirement, Seconds};
use crate::text;
use crate::unit::OfUnit;
use crate::version::{Format, ReadError};

/// [`Profile::schema`] of the profiles this version writes.
pub const SCHEMA: &str = "nrtrace/profile/v1";

/// The file `profile.json`. Version 1 is the first.
pub const FORMAT: Format =
    Format { name: "profile", schema: SCHEMA, upgrades: &[], max_bytes: 32 << 20, max_values: 2_000_000 };

/// What a run showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// [`SCHEMA`].
    pub schema: String,
    /// The name everything generated goes under: the program's, made safe for file and unit names.
    pub name: String,
    /// The command, as given.
    pub command: Vec<RawText>,
    /// The executable, resolved.
    pub executable: Option<RawText>,
    /// Whom the program ran as, or is judged for.
    pub identity: Identity,
    /// About the run.
    pub run: Run,
    /// The systemd unit that starts the program, where the run was made from one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unit: Option<OfUnit>,
    /// The container the program ran in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<Container>,
    /// What the program needs and the user lacks, ordered by kind and subject.
    pub requirements: Vec<Requirement>,
    /// Every address bound, privileged or not.
    pub listens: Vec<Listen>,
    /// Where the program wrote by the user's own rights, which a read-only file system would take away. Not known when
    /// calls were not recorded.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub writes: Vec<Written>,
    /// Directories of needs in which others than the user have programs: they are not given away.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub programs: Vec<RawText>,
    /// What was refused or checked and could not be placed.
    pub unexplained: Vec<Unexplained>,
    /// Set when the program ended by itself with an error and no refusal explains it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gave_up: Option<GaveUp>,
    /// What trials in a sandbox have shown of the profile as a whole.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proof: Option<ProfileProof>,
    /// Plain remarks for the reader.
    pub notes: Vec<String>,
    /// What is known of these needs from knowledge files.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub knowledge: Vec<Fact>,
    /// The runs that this was merged from, as they were; empty for a profile of one run.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub runs: Vec<Profile>,
    /// What was done with the files under the paths of `--paths`, refused or not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accesses: Option<Accesses>,
}

/// About the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// What tells this run from every other: a UUID of version 7. Empty in profiles that were made without one.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub id: String,
    /// How the program ran.
    pub mode: Mode,
    /// What watched it.
    pub backend: Backend,
    /// How much was recorded.
    pub record: Record,
    /// The kernel's release.
    pub kernel: String,
    /// Records that could not be delivered.
    pub lost: u64,
    /// Paths that could not be made absolute.
    pub unresolved: u64,
    /// Accesses that could not be judged for the user, in a run with other rights than the user's.
    #[serde(skip_serializing_if = "crate::event::is_zero", default)]
    pub unjudged: u64,
    /// False when records were lost, accesses not judged, or the program was cut off: there may be needs that are not
    /// listed.
    pub complete: bool,
    /// How the program ended.
    pub exit: Exit,
    /// The last lines on standard error of one that failed or was never ready.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub said: Vec<RawText>,
    /// Whether the first process ended with success and left others behind: it turned itself into a daemon.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub daemon: bool,
    /// How long the recording took.
    pub duration: Seconds,
    /// When the program was ready, and from when on nothing privileged happened; where readiness was waited for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timeline: Option<Timeline>,
    /// How it answered clients that came at the end of a run that was to be proved; trials have to answer so, too.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub greetings: Vec<Greeting>,
    /// The working directory the program started in.
    pub cwd: RawText,
    /// Variables that can redirect files, as the program had them.
    pub environment: Vec<(RawText, RawText)>,
    /// Variables that the program was given by `--env`; the artefacts set them too.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub given: Vec<(RawText, RawText)>,
    /// Capabilities the program could not be given.
    pub missing_capabilities: Vec<Capability>,
    /// First port that needs no privilege, in the network namespace of the run.
    pub unprivileged_port_start: u16,
    /// What was attached to, when the program ran already or was started by somebody else.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attached: Option<Attached>,
}

impl Run {
    /// How it failed, in words that follow "it": by itself, or since it was never ready; nothing where it did not.
    pub fn failure(&self) -> Option<String> {
        match self.exit {
            Exit::Exited { status } if status != 0 => Some(format!("exited with status {status}")),
            Exit::Signaled { signal } => Some(format!("was ended by signal {signal}")),
            _ if self.timeline.is_some_and(|timeline| timeline.ready.is_none()) => {
                Some("was never ready".into())
            }
            _ => None,
        }
    }

    /// Why the record is not complete, in words; nothing where it is.
    pub fn shortfall(&self) -> Option<String> {
        let counts = [(self.lost, "records lost"), (self.unjudged, "accesses not judged")];
        let short: Vec<String> = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        match (self.complete, short.is_empty()) {
            (true, _) => None,
            (false, true) => Some("the program was cut off".to_owned()),
            (false, false) => Some(short.join(", ")),
        }
    }
}

/// The phases of a run whose readiness was waited for, in seconds from the program's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// When it was ready; absent when it never was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ready: Option<Seconds>,
    /// When the workload that exercises it had ended with success.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exercised: Option<Seconds>,
    /// When it was told to stop; absent when it ended by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stopping: Option<Seconds>,
    /// The last call, before it was told to stop, that takes more rights than its user has.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_privileged: Option<Seconds>,
    /// It said itself that it was ready, as in sd_notify(3).
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub notified: bool,
}

impl Timeline {
    /// How long after readiness the last privileged call came; zero when there was none after it.
    pub fn privileged_after_ready(&self) -> Option<Seconds> {
        let ready = self.ready?;
        Some(Seconds(self.last_privileged.unwrap_or_default().0.saturating_sub(ready.0)))
    }

    /// How long the program was then watched, after readiness, without a privileged call; `end` is the recording's.
    pub fn quiet(&self, end: Seconds) -> Option<Seconds> {
        let since = self.ready?.0.max(self.last_privileged.unwrap_or_default().0);
        Some(Seconds(self.stopping.unwrap_or(end).0.saturating_sub(since)))
    }
}

/// An address bound.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Listen {
    /// The protocol.
    pub protocol: Protocol,
    /// The address; for a Unix socket its path, or `@name`.
    pub address: RawText,
    /// The port, where the protocol has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
    /// Names of the processes that bound it.
    pub processes: Vec<RawText>,
}

/// A place where the program wrote without needing more than the user's own rights.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Written {
    /// The directory in which it made, renamed or removed entries, or the file that it wrote in place.
    pub path: RawText,
    /// Which of the two it is.
    #[serde(rename = "type")]
    pub file_type: FileType,
    /// Whether the run made it.
    pub made: bool,
}

/// Something that could not be placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unexplained {
    /// The system call.
    pub call: String,
    /// The process.
    pub process: RawText,
    /// What it was about, as text.
    pub object: RawText,
    /// The capability consulted, if one was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub capability: Option<Capability>,
    /// How the call ended, as in [`Evidence::outcomes`](crate::requirement::Evidence::outcomes).
    pub outcome: String,
    /// Kernel functions on the stack, innermost first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub frames: Vec<String>,
    /// What refused it, where that is known and no matter of owner and mode: what mends it is no grant.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub obstacle: Option<Obstacle>,
    /// How many times.
    pub count: u64,
    /// When first.
    pub phase: Phase,
}

/// The program ended by itself and no refusal of the kernel explains it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GaveUp {
    /// How it ended.
    pub exit: Exit,
    /// Its last lines on standard error.
    pub stderr: Vec<RawText>,
    /// What it looked at just before, most recent last.
    pub looked_at: Vec<LookedAt>,
}

/// A file a program looked at before it gave up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LookedAt {
    /// The system call.
    pub call: String,
    /// The file.
    pub path: RawText,
    /// How the call ended.
    pub outcome: String,
    /// The file's owner, group and mode, where known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inode: Option<crate::event::Inode>,
}

impl Profile {
    /// The profile as indented JSON with a closing line end: the text of `profile.json`.
    pub fn to_json(&self) -> String {
        text::indented_json(self)
    }

    /// Reads what [`Profile::to_json`] wrote, in this version or an older one.
    ///
    /// # Errors
    /// When the text is no profile, or of an unknown version.
    pub fn from_json(text: &str) -> Result<Self, ReadError> {
        FORMAT.read(text)
    }
}
