//! What happened: the values every backend hands to the classifier.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Capability, RawText};

/// A finished recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// How and on what the recording was made.
    pub run: RunFacts,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// How it ended.
    pub end: TraceEnd,
}

/// How a recording was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
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
    /// Capabilities that nrtrace could not give the program because it lacks them itself: checks of these were
    /// real denials.
    pub missing_capabilities: Vec<Capability>,
    /// First port that needs no privilege, in the network namespace of the run.
    pub unprivileged_port_start: u16,
}

/// Whom the program runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// eBPF programs.
    Ebpf,
    /// ptrace(2) with a seccomp filter.
    Ptrace,
}

/// How much was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// Capability checks alone: outcomes are unknown, and so are refusals without a check.
    Needs,
    /// Checks, and the system calls of interest with their results.
    Calls,
}

/// How a recording ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEnd {
    /// Records that could not be delivered.
    pub lost: u64,
    /// Paths that could not be made absolute.
    pub unresolved: u64,
    /// Successful calls left out because the recording had grown too large. Checks and refusals never are.
    pub dropped_calls: u64,
    /// How the program ended.
    pub exit: Exit,
    /// Nanoseconds from the program's start to the end of the recording.
    pub duration: u64,
    /// The last lines the program wrote on standard error.
    pub stderr: Vec<RawText>,
    /// Things worth telling the user about the recording itself.
    pub notes: Vec<String>,
}

/// How the program ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum Exit {
    /// It was still running when the recording ended.
    #[default]
    Running,
    /// It exited by itself.
    Exited {
        /// Exit status.
        status: i32,
    },
    /// A signal that nrtrace did not send ended it.
    Signaled {
        /// Signal number.
        signal: i32,
    },
    /// nrtrace stopped it: `--for` had passed, or the user asked.
    Stopped {
        /// Exit status, if it then exited by itself.
        status: Option<i32>,
    },
}

/// When in the life of the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Before it was ready; everything, where readiness is not known.
    #[default]
    Startup,
    /// While it served.
    Steady,
    /// After it was told to stop.
    Shutdown,
}

/// One call of the tree, or several equal ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Thread group.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// The kernel's short name of the thread (`comm`).
    pub name: RawText,
    /// The executable, where known.
    pub exe: Option<RawText>,
}

/// The ids that the kernel judges file access by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// Filesystem user id.
    pub uid: u32,
    /// Filesystem group id.
    pub gid: u32,
}

/// A system call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its name in the kernel's table; `page-fault` for what is no call.
    pub name: Arc<str>,
    /// Its arguments, as numbers.
    pub args: [u64; 6],
    /// The start of what it wrote, where that tells something (a value below `/proc/sys`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data: Option<RawText>,
}

/// What a call was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathObject {
    /// As the process passed it.
    pub given: RawText,
    /// Absolute, as seen from the process's root directory.
    pub seen: RawText,
    /// Absolute in the mount namespace of the process, with `.` and `..` removed and symbolic links of its
    /// directories followed.
    pub path: RawText,
    /// The directory that holds it, when it could be looked at.
    pub parent: Option<Inode>,
    /// What is there, when it could be looked at.
    pub inode: Option<Inode>,
    /// Whether the path could be made absolute; if not, `seen` and `path` hold what is known of it.
    pub resolved: bool,
}

/// Facts of an inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// What a predicted check is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Absolute path in the mount namespace.
    pub path: RawText,
    /// What it is.
    pub inode: Inode,
}

/// What stands against a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Obstacle {
    /// What kind of thing it is.
    pub cause: Cause,
    /// The file that refuses, or the mount point for what is a matter of the mount.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<RawText>,
}

/// What refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Owner, group, mode or ACL; and what nobody can tell from it: a security module's refusal, when nrtrace
    /// itself has no CAP_DAC_OVERRIDE.
    Permission,
    /// Somebody else owns it.
    NotOwner,
    /// Its directory is sticky, and neither it nor the directory is the user's.
    Sticky,
    /// It is immutable.
    Immutable,
    /// It is append-only.
    AppendOnly,
    /// Its mount, or the filesystem, is read-only.
    ReadOnlyMount,
    /// Its mount does not allow execution.
    NoExec,
    /// Its mount does not allow devices.
    NoDev,
    /// `fs.protected_symlinks`: a link of somebody else in a sticky directory that all can write to.
    ProtectedSymlink,
    /// `fs.protected_hardlinks`: a file the user neither owns nor may read and write.
    ProtectedHardlink,
    /// `fs.protected_regular`, `fs.protected_fifos`: opened with `O_CREAT` in a sticky directory of others.
    ProtectedFile,
    /// It belongs to another process: a link below `/proc/PID`.
    OtherProcess,
    /// Something that refuses privileged processes too: a security module, a device cgroup, an owner that the
    /// user namespace of the mount does not know.
    Policy,
    /// A seccomp filter of the process.
    Seccomp,
}

impl Cause {
    /// What it is and what mends it, for people.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Permission => "its owner and mode refuse everybody, root too: change the mode",
            Self::NotOwner => "somebody else owns it",
            Self::Sticky => "its directory is sticky, and neither is the user's",
            Self::Immutable => "it is immutable: chattr -i takes that away, no owner or mode does",
            Self::AppendOnly => "it is append-only: chattr -a takes that away, no owner or mode does",
            Self::ReadOnlyMount => {
                "the file system there is read-only: it takes a writable mount, not another owner"
            }
            Self::NoExec => {
                "the file system there is mounted noexec: it takes another mount option, not another mode"
            }
            Self::NoDev => {
                "the file system there is mounted nodev: it takes another mount option, not another owner"
            }
            Self::ProtectedSymlink => {
                "somebody else's symbolic link in a sticky directory is not followed (sysctl fs.protected_symlinks)"
            }
            Self::ProtectedHardlink => {
                "files that the user neither owns nor may read and write are not linked (sysctl fs.protected_hardlinks)"
            }
            Self::ProtectedFile => {
                "somebody else's file in a sticky directory is not opened with O_CREAT (sysctls fs.protected_regular \
                 and fs.protected_fifos)"
            }
            Self::OtherProcess => "it belongs to another process",
            Self::Policy => {
                "owner, mode and mount allow it: a security module (AppArmor, SELinux, Landlock) or a device cgroup \
                 refuses; its policy has to change"
            }
            Self::Seccomp => {
                "the process has a seccomp filter, and nothing else is known to refuse this: the filter has to change \
                 (SystemCallFilter= in a unit, seccompProfile in Kubernetes, or the program's own)"
            }
        }
    }
}
