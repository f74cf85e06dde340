//! What happened: the values every backend hands to the classifier.

mod accounts;
mod end;
mod mode;
mod obstacle;

use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::container::Container;
use crate::{Capability, RawText};

pub use accounts::Accounts;
pub(crate) use end::is_zero;
pub use end::{Exit, Greeting, Milestones, TraceEnd};
pub use mode::mode_allows;
pub use obstacle::{Cause, Obstacle};

/// A finished recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trace {
    /// How and on what the recording was made.
    pub run: RunFacts,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// How it ended.
    pub end: TraceEnd,
}

/// How a recording was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunFacts {
    /// What tells this run from every other: a UUID of version 7. The same in every copy of the recording and in
    /// all profiles made from it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub id: String,
    /// The command, as given.
    pub command: Vec<RawText>,
    /// The identity the program ran as, or is judged for.
    pub identity: Identity,
    /// How the program ran.
    pub mode: Mode,
    /// What watched it.
    pub backend: Backend,
    /// How much was recorded.
    pub record: Record,
    /// The kernel's release, as in uname(2).
    pub kernel: String,
    /// The working directory the program started in.
    pub cwd: RawText,
    /// Variables of the program's environment that can redirect files (`TMPDIR`, `XDG_*`, `HOME`).
    pub environment: Vec<(RawText, RawText)>,
    /// Variables that it was given by whoever asked for the run.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub given: Vec<(RawText, RawText)>,
    /// Capabilities that nrtrace could not give the program because it lacks them itself: checks of these were
    /// real denials.
    pub missing_capabilities: Vec<Capability>,
    /// First port that needs no privilege, in the network namespace of the run.
    pub unprivileged_port_start: u16,
    /// Patterns of the files whose accesses are wanted, refused or not.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub paths: Vec<RawText>,
    /// Set when the program ran already, or was started by somebody else.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attached: Option<Attached>,
    /// The container the program runs in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<Container>,
}

/// What was attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attached {
    /// What it is, for people: `process 4711`, `unit nginx.service`, `container web`.
    pub target: String,
    /// Whether it was waited for, so that its start was seen.
    pub from_start: bool,
    /// Whether processes that are not root are judged by their real refusals; else everything is judged for the
    /// identity, as root's doings are.
    pub own_refusals: bool,
}

impl Attached {
    /// The option that names the user in another run like this one: `attach` has another than `run`.
    pub fn user_option(attached: Option<&Self>) -> &'static str {
        if attached.is_some() { "--target-user" } else { "--as" }
    }
}

/// Whom the program runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Identity {
    /// Name: the user's, or one made from the program's name when the user does not exist.
    pub user: String,
    /// Name of the primary group.
    pub group: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Whether the user exists on this machine already.
    pub exists: bool,
}

/// How the program ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// As the target user with all capabilities ambient: nothing is refused, each check is seen.
    Permissive,
    /// With the user's rights alone: refusals are real.
    Enforced,
    /// With its own credentials; an oracle judges for the target user.
    Observation,
}

/// What watched the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// eBPF programs.
    Ebpf,
    /// ptrace(2) with a seccomp filter.
    Ptrace,
}

/// How much was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// Capability checks alone: outcomes are unknown, and so are refusals without a check.
    Needs,
    /// Checks, and the system calls of interest with their results.
    Calls,
}

/// When in the life of the service.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Before it was watched: what it held open when that began, which its start must have opened.
    Before,
    /// Before it was ready; everything, where readiness is not known.
    #[default]
    Startup,
    /// While it served.
    Steady,
    /// After it was told to stop.
    Shutdown,
}

/// One call of the tree, or several equal ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Position in the recording, from 0.
    pub seq: u64,
    /// Nanoseconds since the program was started.
    pub time: u64,
    /// How many equal calls this stands for.
    pub count: u64,
    /// Time of the last of them.
    pub last: u64,
    /// Who called.
    pub process: Process,
    /// As whom.
    pub credentials: Credentials,
    /// When in the life of the service.
    pub phase: Phase,
    /// What was called.
    pub call: Call,
    /// On what.
    pub object: Object,
    /// With what result.
    pub outcome: Outcome,
    /// The capabilities consulted on the way, in order.
    pub checks: Vec<Check>,
    /// What refused it, where no capability was consulted and the kernel's state afterwards tells.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub obstacle: Option<Obstacle>,
}

/// The calling thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// Thread group.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// The kernel's short name of the thread (`comm`).
    pub name: RawText,
    /// The executable, where known.
    pub exe: Option<RawText>,
    /// The processes of the tree that it descends from, outermost first; those that are nearest, when there are more
    /// than [`Process::ANCESTORS`].
    #[serde(skip_serializing_if = "<[_]>::is_empty", default)]
    pub ancestors: Arc<[Ancestor]>,
}

impl Process {
    /// How many ancestors are kept.
    pub const ANCESTORS: usize = 16;
}

/// A process as it was when it made another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ancestor {
    /// Thread group.
    pub pid: u32,
    /// The kernel's short name of the thread (`comm`).
    pub name: RawText,
    /// The executable, where known.
    pub exe: Option<RawText>,
}

/// The ids that the kernel judges file access by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Credentials {
    /// Filesystem user id.
    pub uid: u32,
    /// Filesystem group id.
    pub gid: u32,
}

/// A system call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Call {
    /// Its name in the kernel's table; `page-fault` for what is no call.
    pub name: Arc<str>,
    /// Its arguments, as numbers.
    pub args: [u64; 6],
    /// The start of what it wrote, where that tells something (a value below `/proc/sys`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data: Option<RawText>,
    /// What stands in a structure that it points to, where that tells something: flags and mode of `openat2`, soft and
    /// hard limit of `setrlimit` and `prlimit64` ([`u64::MAX`] for none), the priority of `sched_setparam` and
    /// `sched_setscheduler`, policy and priority of `sched_setattr`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub structure: Vec<u64>,
}

/// What a call was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Object {
    /// Nothing beyond the arguments.
    Nothing,
    /// A file.
    Path(PathObject),
    /// Two files: `rename`, `link`. For `symlink`, `from` is the link and `to` the text it holds, as given.
    TwoPaths {
        /// The existing name.
        from: Box<PathObject>,
        /// The new name.
        to: Box<PathObject>,
    },
    /// A socket and the address it is bound or connected to.
    Socket(SocketObject),
    /// Ids a process wanted to take: of `setuid` and its kind (user ids, group ids or groups, by the call).
    Ids {
        /// The ids, in the order of the arguments; [`u32::MAX`] for "unchanged".
        ids: Vec<u32>,
    },
    /// A program whose file changes the rights of whoever executes it, by capabilities or by set-id bits.
    Program {
        /// The executable: of a script its interpreter. Mode, owner and group tell of the set-id bits.
        path: PathObject,
        /// The capabilities that the file gives, without which the kernel refuses to execute it: those of its permitted
        /// set, where it has the effective bit (`cap_bprm_creds_from_file`).
        capabilities: BTreeSet<Capability>,
    },
    /// A file that was to be given to another owner.
    Gift {
        /// The file.
        path: PathObject,
        /// New owner; [`u32::MAX`] for unchanged.
        uid: u32,
        /// New group; [`u32::MAX`] for unchanged.
        gid: u32,
    },
}

/// A file, by the several names it goes under.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathObject {
    /// As the process passed it.
    pub given: RawText,
    /// Absolute, as seen from the process's root directory.
    pub seen: RawText,
    /// Absolute in the mount namespace of the process, with `.` and `..` removed and symbolic links of its
    /// directories followed.
    pub path: RawText,
    /// The directory that holds it, when it could be looked at.
    pub parent: Option<Box<Inode>>,
    /// What is there, when it could be looked at.
    pub inode: Option<Box<Inode>>,
    /// Whether the path could be made absolute; if not, `seen` and `path` hold what is known of it.
    pub resolved: bool,
}

/// Facts of an inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inode {
    /// What it is.
    pub file_type: FileType,
    /// Permission bits, with set-id and sticky bits (`mode & 0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Name of the owner, where it has one on this machine.
    pub user: Option<String>,
    /// Group.
    pub gid: u32,
    /// Name of the group, where it has one on this machine.
    pub group: Option<String>,
    /// Device number of a device node, major and minor.
    pub device: Option<(u32, u32)>,
}

/// Type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A Unix socket.
    Socket,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// Not known.
    Unknown,
}

/// A socket and an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SocketObject {
    /// What the address belongs to.
    pub protocol: Protocol,
    /// The address as text (`0.0.0.0`, `::`, `[abstract]` names with a leading `@`), where it is one.
    pub address: RawText,
    /// The port, where the protocol has one.
    pub port: Option<u16>,
    /// For a Unix socket in the file system, the file.
    pub path: Option<PathObject>,
}

/// Protocol of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// A raw IP socket.
    Raw,
    /// Unix domain.
    Unix,
    /// Netlink.
    Netlink,
    /// `AF_PACKET`.
    Packet,
    /// Another, or not known.
    Other,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Outcome {
    /// It succeeded.
    Success {
        /// Its result.
        value: i64,
    },
    /// It failed.
    Failure {
        /// The errno, positive.
        errno: i32,
    },
    /// nrtrace answered in the kernel's place with success, and nothing was done.
    Answered,
    /// The recording does not tell (`--record needs`).
    Unknown,
}

/// The kernel consulted a capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// Which.
    pub capability: Capability,
    /// Whether the process has it.
    pub granted: bool,
    /// Functions of the kernel stack, innermost first; empty where the kernel hides its symbols.
    pub frames: Arc<[Arc<str>]>,
    /// The file the kernel was judging, where it is known, with its path in the mount namespace.
    pub component: Option<Component>,
    /// The credentials judged were not the task's own (overlayfs acts as its mounter).
    pub foreign: bool,
    /// The kernel says that it would not audit a refusal: the call goes on either way.
    pub not_audited: bool,
    /// The capability was asked for in a user namespace other than the initial one.
    pub child_namespace: bool,
    /// What would have been asked, where an access oracle foretold the check instead of the kernel being seen to make
    /// it; such a check has no frames.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub predicted: Option<Asked>,
}

impl Check {
    /// Whether it was seen to be about what somebody else owns, which a sticky directory is to let go of. Compilers inline
    /// `__check_sticky` (on Linux 5.10 already): its callers ask for ownership in no other case.
    pub fn is_sticky(&self) -> bool {
        const LETS_GO: [&str; 6] =
            ["__check_sticky", "may_delete", "may_delete_dentry", "vfs_unlink", "vfs_rmdir", "vfs_rename"];
        // Where the function that asks is watched, it is on the stack twice, and something of the probe's between.
        let asks = self.frames.iter().rposition(|frame| **frame == *"capable_wrt_inode_uidgid");
        let caller = self.frames.get(asks.map_or(0, |asks| asks + 1));
        self.capability == Capability::FOWNER && caller.is_some_and(|caller| LETS_GO.contains(&&**caller))
    }
}

/// What a predicted check is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// Passing through a directory on the way.
    Search,
    /// Access to the file itself.
    File,
    /// Making a name in a directory.
    Create,
    /// Removing a name from a directory.
    Delete,
    /// Making an entry without a name in the directory that is the object (`O_TMPFILE`).
    Entry,
    /// Removing or renaming what somebody else owns in a sticky directory.
    Sticky,
    /// Anything else; the capability and the call tell.
    Other,
}

/// A file the kernel judged on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Component {
    /// Absolute path in the mount namespace.
    pub path: RawText,
    /// What it is.
    pub inode: Inode,
}
