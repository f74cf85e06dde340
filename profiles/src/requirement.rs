//! What a program needs, and how that is known.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::calls::{self, File, Operation};
use crate::container::Placement;
use crate::event::{FileType, Inode, Phase, Protocol};
use crate::method::Method;
use crate::{Capability, RawText};

pub use crate::calls::IdentityOperation;
pub use crate::proof::{Access, Finding, Proof};
pub use crate::text::{Seconds, word};

/// Something a non-root user lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Requirement {
    /// Stable across runs: made from the kind and the subject of the need alone, see [`Need::id`].
    pub id: String,
    /// What is needed.
    pub need: Need,
    /// How much it matters.
    pub severity: Severity,
    /// How it is known.
    pub basis: Basis,
    /// When it was first needed.
    pub phase: Phase,
    /// What was seen.
    pub evidence: Evidence,
    /// What trials in a sandbox have shown of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proof: Option<Proof>,
    /// The way to meet it that trials chose, where it is not the one that the plan takes by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub way: Option<Method>,
}

impl Requirement {
    /// The component that refused, with its facts as far as they are known. A program is no refusal, whatever its file gives.
    pub fn refused(&self) -> Option<(&RawText, Option<&Inode>)> {
        let at = self.evidence.refused_at.as_ref().filter(|_| !matches!(self.need, Need::Exec { .. }))?;
        Some((at, self.evidence.refused_inode.as_ref()))
    }

    /// Whether it is nothing but a question, access(2), whose answer nothing followed.
    pub fn only_asked(&self) -> bool {
        let named = &self.evidence.calls;
        let asks = |call: &String| matches!(calls::operation(call), Operation::File(File::Access(_)));
        self.severity == Severity::Probe && !named.is_empty() && named.iter().all(asks)
    }
}

/// What is needed. The variants are the rows of the requirement table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Need {
    /// Access to a file or directory that the user's own permissions do not give.
    Path {
        /// Absolute path in the program's mount namespace. With `pattern`, a `*` stands for a part of a
        /// name that differs from run to run; a literal `*` or `?` is then written `[*]`, `[?]` as in glob(7).
        path: RawText,
        /// What is there or is to be made there.
        #[serde(rename = "type")]
        file_type: FileType,
        /// What the program does with it.
        access: BTreeSet<Access>,
        /// Whether `path` is a pattern.
        pattern: bool,
    },
    /// A port below the first unprivileged one of its network namespace.
    Port {
        /// TCP, UDP or SCTP.
        protocol: Protocol,
        /// The local address.
        address: String,
        /// The port.
        port: u16,
    },
    /// Executing a program whose file gives rights to whoever executes it.
    Exec {
        /// The file: of a script its interpreter.
        path: RawText,
        /// Capabilities that the file gives and insists on: whoever may not have them may not execute it.
        capabilities: BTreeSet<Capability>,
        /// The user that it runs as, by its set-user-ID bit.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        set_user: Option<u32>,
        /// The group that it runs with, by its set-group-ID bit.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        set_group: Option<u32>,
    },
    /// A capability that no other kind stands for.
    Capability {
        /// Which.
        capability: Capability,
    },
    /// Access to a device node.
    Device {
        /// The node.
        path: RawText,
        /// Character or block device.
        #[serde(rename = "type")]
        file_type: FileType,
        /// What the program does with it.
        access: BTreeSet<Access>,
    },
    /// A change of identity, or of a file's owner, which only a privileged process can make.
    Identity {
        /// Which change.
        operation: IdentityOperation,
        /// The ids asked for, in the order of the arguments; [`u32::MAX`] for "unchanged".
        ids: Vec<u32>,
        /// The file, for [`IdentityOperation::Chown`].
        #[serde(skip_serializing_if = "Option::is_none", default)]
        path: Option<RawText>,
    },
    /// Writing a kernel parameter below `/proc/sys`.
    Sysctl {
        /// Its name, as in sysctl.d(5): `net.ipv4.ip_forward`.
        name: RawText,
        /// The value written, where it is known.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        value: Option<RawText>,
    },
    /// A resource limit or a scheduling priority beyond what the user may set.
    Limit {
        /// Which.
        limit: Limit,
        /// The value asked for, where it is known; [`i64::MAX`] for no limit.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        value: Option<i64>,
    },
    /// A change to the kernel's own state that a service manager makes on a service's behalf.
    Kernel {
        /// Which.
        operation: KernelOperation,
        /// What it was about, as text: a module's file, a mount point, a cgroup.
        subject: RawText,
        /// The capability the kernel consulted.
        capability: Capability,
    },
}

/// A limit or priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// `RLIMIT_AS`
    AddressSpace,
    /// `RLIMIT_CORE`
    Core,
    /// `RLIMIT_CPU`
    Cpu,
    /// `RLIMIT_DATA`
    Data,
    /// `RLIMIT_FSIZE`
    FileSize,
    /// `RLIMIT_LOCKS`
    Locks,
    /// `RLIMIT_MEMLOCK`, raised or needed by `mlock`.
    LockedMemory,
    /// `RLIMIT_MSGQUEUE`
    MessageQueue,
    /// `RLIMIT_NICE`
    NiceCeiling,
    /// `RLIMIT_NOFILE`
    OpenFiles,
    /// `RLIMIT_NPROC`
    Processes,
    /// `RLIMIT_RSS`
    ResidentSet,
    /// `RLIMIT_RTPRIO`
    RealtimePriority,
    /// `RLIMIT_RTTIME`
    RealtimeCpu,
    /// `RLIMIT_SIGPENDING`
    PendingSignals,
    /// `RLIMIT_STACK`
    Stack,
    /// A nice value lower than the present one.
    Nice,
    /// A real-time scheduling policy or priority.
    Scheduling,
    /// `/proc/PID/oom_score_adj` lowered.
    OomScore,
}

/// A change to the kernel's own state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KernelOperation {
    /// Loads or unloads a module.
    Module,
    /// Mounts, unmounts or moves a file system.
    Mount,
    /// Makes or enters a namespace.
    Namespace,
    /// Writes below `/sys/fs/cgroup`.
    Cgroup,
    /// Changes its root directory.
    Chroot,
    /// Writes below `/sys` elsewhere.
    Sysfs,
}

/// How much a requirement matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Proved by `verify`: it is refused, and the service lives.
    Tolerated,
    /// The call would have failed anyway, or the program looks elsewhere.
    Probe,
    /// The call succeeded only thanks to the capability, or was refused and the program failed.
    Required,
}

/// How a requirement is known; later ones are stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The access oracle said so.
    Predicted,
    /// The kernel consulted a capability.
    Kernel,
    /// The kernel refused.
    Denied,
}

/// What was seen of a requirement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// How many calls.
    pub count: u64,
    /// Seconds from the program's start to the first of them.
    pub first: Seconds,
    /// Seconds from the program's start to the last of them.
    pub last: Seconds,
    /// Names of the system calls.
    pub calls: BTreeSet<String>,
    /// Names of the processes.
    pub processes: BTreeSet<RawText>,
    /// Who called, and where it comes from. At most [`Evidence::CALLERS`], and one of each further executable, of which
    /// there are at most [`Evidence::EXECUTABLES`] in all.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub callers: BTreeSet<Caller>,
    /// The component that refused: an ancestor, the parent directory, or the file itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused_at: Option<RawText>,
    /// Owner, group and mode of that component when it refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused_inode: Option<Inode>,
    /// The capabilities consulted.
    pub checks: BTreeSet<Capability>,
    /// The objects wanted, where they are not the need's own subject: what lies behind a directory that cannot be
    /// searched, temporary names in a directory, a path through symbolic links. At most [`Evidence::OBJECTS`].
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub objects: BTreeSet<RawText>,
    /// Where the need's path lies, for a program in a container.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub placement: Option<Placement>,
    /// Names of the ids that an identity need asks for, in the same order; empty where an id has none.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub names: Vec<String>,
    /// Where its path or port is written: `--pid in the command`, `/etc/lighttpd/lighttpd.conf:9`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub origins: BTreeSet<RawText>,
    /// How the calls ended: `ok`, `answered`, `unknown` or the name of an errno, each with its count.
    pub outcomes: BTreeMap<String, u64>,
}

/// A process that made a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Caller {
    /// The kernel's short name of the thread (`comm`).
    pub name: RawText,
    /// The executable, where known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub executable: Option<RawText>,
    /// Executables of the processes that it descends from, outermost first; their names where the executable is not
    /// known.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ancestors: Vec<RawText>,
}

impl Evidence {
    /// The executables of those that called, as far as they are known and kept.
    pub fn executables(&self) -> BTreeSet<&RawText> {
        self.callers.iter().filter_map(|caller| caller.executable.as_ref()).collect()
    }

    /// Leaves out callers beyond those that are kept. What is left does not depend on the order they came in, nor on
    /// how often this was done on the way.
    pub(crate) fn bound_callers(&mut self) {
        if self.callers.len() <= Self::CALLERS {
            return;
        }
        let mut executables = self.executables();
        while executables.len() > Self::EXECUTABLES {
            executables.pop_last();
        }
        let (mut kept, mut named) = (BTreeSet::new(), BTreeSet::new());
        for (place, caller) in self.callers.iter().enumerate() {
            let executable = caller.executable.as_ref().filter(|path| executables.contains(path));
            let first = executable.is_some_and(|path| named.insert(path));
            if first || place < Self::CALLERS {
                kept.insert(caller.clone());
            }
        }
        self.callers = kept;
    }

    /// How many callers are kept.
    pub const CALLERS: usize = 8;
    /// How many executables are kept, whoever else is not: each may have to be given a right of its own.
    pub const EXECUTABLES: usize = 64;
    /// How many objects are kept.
    pub const OBJECTS: usize = 16;
}

impl Need {
    /// The stable id: kind and subject, without what may differ between runs (accesses, values).
    /// `path:/run/nginx.pid`, `port:tcp:0.0.0.0:80`, `capability:CAP_SYS_TIME`.
    pub fn id(&self) -> String {
        match self {
            Self::Path { path, .. } => format!("path:{}", path.to_text()),
            Self::Port { protocol, address, port } => {
                format!("port:{}:{address}:{port}", word(protocol))
            }
            Self::Exec { path, .. } => format!("exec:{}", path.to_text()),
            Self::Capability { capability } => format!("capability:{capability}"),
            Self::Device { path, .. } => format!("device:{}", path.to_text()),
            Self::Identity { operation, ids, path } => {
                let ids: Vec<String> =
                    ids.iter().map(|id| if *id == u32::MAX { "-".into() } else { id.to_string() }).collect();
                let path = path.as_ref().map(|p| format!(":{}", p.to_text())).unwrap_or_default();
                format!("identity:{}:{}{path}", word(operation), ids.join(","))
            }
            Self::Sysctl { name, .. } => format!("sysctl:{}", name.to_text()),
            Self::Limit { limit, .. } => format!("limit:{}", word(limit)),
            Self::Kernel { operation, subject, capability } => {
                format!("kernel:{}:{capability}:{}", word(operation), subject.to_text())
            }
        }
    }

    /// The place of its kind in the order of a profile's requirements.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Path { .. } => 0,
            Self::Port { .. } => 1,
            Self::Capability { .. } => 2,
            Self::Device { .. } => 3,
            Self::Identity { .. } => 4,
            Self::Sysctl { .. } => 5,
            Self::Limit { .. } => 6,
            Self::Kernel { .. } => 7,
            Self::Exec { .. } => 8,
        }
    }
}
