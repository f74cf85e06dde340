//! Which capabilities a call takes by what it is, not by the files it is about: capabilities(7), and the kernel's own
//! checks.

use super::{File, Flags, Identity, Kernel, Limit, Memory, Mount, Operation, Socket, Task};
use crate::Capability;

/// When a call consults a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// In each case.
    Always,
    /// The port is below the first unprivileged one.
    PrivilegedPort,
    /// It is a raw or a packet socket.
    RawSocket,
    /// It is an option that administers the network.
    AdminOption,
    /// It is `IP_TRANSPARENT`.
    TransparentOption,
    /// The node is that of a device.
    Device,
    /// The mount is copied.
    Copies,
    /// A namespace is made that is none of users.
    NewNamespace,
    /// The bounding set or securebits are changed.
    DropsBounds,
    /// The clock is changed.
    Adjusts,
    /// The log is read where that is restricted, or changed.
    RestrictedLog,
    /// The class is that of real time.
    RealTimeInput,
    /// The nice value is lowered below the limit.
    LowersNice,
    /// The policy is one of real time, above the limit.
    RealTime,
    /// More memory is locked than the limit allows.
    AboveLockLimit,
    /// The hard limit is raised.
    RaisesHardLimit,
    /// The process is another user's.
    OtherUser,
    /// The id is not the caller's own.
    OtherId,
    /// The attribute holds file capabilities.
    FileCapabilities,
    /// The attribute is one of `trusted.`.
    TrustedAttribute,
    /// A parameter of the network is opened for writing.
    NetworkParameter,
}

/// A capability that a call consults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consulted {
    /// Which.
    pub capability: Capability,
    /// When.
    pub when: Condition,
}

const fn when(capability: Capability, when: Condition) -> Consulted {
    Consulted { capability, when }
}

const fn always(capability: Capability) -> Consulted {
    when(capability, Condition::Always)
}

/// CAP_SYS_PACCT and CAP_SYS_TTY_CONFIG.
const SYS_PACCT: Capability = Capability::from_number(20);
const SYS_TTY_CONFIG: Capability = Capability::from_number(26);

impl Operation {
    /// What it consults, in the kernel's order: the first whose condition holds is asked for.
    pub const fn consults(self) -> &'static [Consulted] {
        match self {
            Self::File(file) => of_files(file),
            Self::Socket(Socket::Bind) => {
                const { &[when(Capability::NET_BIND_SERVICE, Condition::PrivilegedPort)] }
            }
            Self::Socket(Socket::Make) => const { &[when(Capability::NET_RAW, Condition::RawSocket)] },
            Self::Socket(Socket::SetOption) => {
                const {
                    &[
                        when(Capability::NET_ADMIN, Condition::AdminOption),
                        when(Capability::NET_RAW, Condition::TransparentOption),
                    ]
                }
            }
            Self::Identity(identity) => of_identity(identity),
            Self::Task(task) => of_tasks(task),
            Self::Memory(Memory::Lock | Memory::LockAll) => {
                const { &[when(Capability::IPC_LOCK, Condition::AboveLockLimit)] }
            }
            Self::Mount(mount) => of_mounts(mount),
            Self::Limit(limit) => of_limits(limit),
            Self::Kernel(kernel) => of_kernel(kernel),
            Self::Socket(Socket::Listen | Socket::Connect | Socket::Send)
            | Self::Memory(Memory::Map | Memory::Resize | Memory::Move)
            | Self::Write
            | Self::Other => &[],
        }
    }
}

const fn of_files(file: File) -> &'static [Consulted] {
    match file {
        File::MakeNode(_) => const { &[when(Capability::MKNOD, Condition::Device)] },
        File::SetAttribute(_) => {
            const {
                &[
                    when(Capability::SETFCAP, Condition::FileCapabilities),
                    when(Capability::SYS_ADMIN, Condition::TrustedAttribute),
                ]
            }
        }
        File::Open(Flags::Argument(_) | Flags::Structure) => {
            const { &[when(Capability::NET_ADMIN, Condition::NetworkParameter)] }
        }
        File::OpenHandle => const { &[always(Capability::DAC_READ_SEARCH)] },
        File::ChangeRoot => const { &[always(Capability::SYS_CHROOT)] },
        File::Open(Flags::Fixed(_))
        | File::MakeDirectory(_)
        | File::MakeLink
        | File::Link
        | File::Rename
        | File::Remove(_)
        | File::Mode(_)
        | File::Flags
        | File::Give(_)
        | File::Times(_)
        | File::Truncate
        | File::Allocate
        | File::RemoveAttribute(_)
        | File::GetAttribute(_)
        | File::ListAttributes
        | File::Access(_)
        | File::Look
        | File::Watch
        | File::Enter
        | File::Execute => &[],
    }
}

const fn of_identity(identity: Identity) -> &'static [Consulted] {
    match identity {
        Identity::Users(_) | Identity::FileUser => const { &[when(Capability::SETUID, Condition::OtherId)] },
        Identity::Groups(_) | Identity::FileGroup => {
            const { &[when(Capability::SETGID, Condition::OtherId)] }
        }
        Identity::Supplementary => const { &[always(Capability::SETGID)] },
        Identity::Process => const { &[when(Capability::SETPCAP, Condition::DropsBounds)] },
        Identity::Capabilities | Identity::Filter => &[],
    }
}

const fn of_tasks(task: Task) -> &'static [Consulted] {
    match task {
        Task::Clone | Task::CloneBy | Task::Unshare => {
            const { &[when(Capability::SYS_ADMIN, Condition::NewNamespace)] }
        }
        Task::EnterNamespace => const { &[always(Capability::SYS_ADMIN)] },
        Task::Signal(_) | Task::SignalBy => const { &[when(Capability::KILL, Condition::OtherUser)] },
        Task::Fork | Task::Inspect => &[],
    }
}

const fn of_mounts(mount: Mount) -> &'static [Consulted] {
    match mount {
        Mount::OpenTree | Mount::OpenTreeSet => const { &[when(Capability::SYS_ADMIN, Condition::Copies)] },
        Mount::Mount
        | Mount::Unmount
        | Mount::Pivot
        | Mount::Move
        | Mount::SetAttributes
        | Mount::Context
        | Mount::Finish => const { &[always(Capability::SYS_ADMIN)] },
        Mount::Configure | Mount::List => &[],
    }
}

const fn of_limits(limit: Limit) -> &'static [Consulted] {
    match limit {
        Limit::Own | Limit::OfProcess => {
            const { &[when(Capability::SYS_RESOURCE, Condition::RaisesHardLimit)] }
        }
        Limit::Priority | Limit::Nice => const { &[when(Capability::SYS_NICE, Condition::LowersNice)] },
        Limit::Parameter | Limit::Scheduler | Limit::Attributes => {
            const { &[when(Capability::SYS_NICE, Condition::RealTime)] }
        }
        Limit::InputOutput => const { &[when(Capability::SYS_ADMIN, Condition::RealTimeInput)] },
        Limit::Affinity => &[],
    }
}

const fn of_kernel(kernel: Kernel) -> &'static [Consulted] {
    match kernel {
        Kernel::SetClock => const { &[always(Capability::SYS_TIME)] },
        Kernel::AdjustClock(_) => const { &[when(Capability::SYS_TIME, Condition::Adjusts)] },
        Kernel::Module => const { &[always(Capability::SYS_MODULE)] },
        Kernel::Reboot | Kernel::Kexec => const { &[always(Capability::SYS_BOOT)] },
        Kernel::Log => const { &[when(Capability::SYSLOG, Condition::RestrictedLog)] },
        Kernel::Accounting => const { &[always(SYS_PACCT)] },
        Kernel::SwapOn
        | Kernel::SwapOff
        | Kernel::Quota
        | Kernel::QuotaOf
        | Kernel::NameHost
        | Kernel::WatchFiles => const { &[always(Capability::SYS_ADMIN)] },
        Kernel::Ports => const { &[always(Capability::SYS_RAWIO)] },
        Kernel::Hangup => const { &[always(SYS_TTY_CONFIG)] },
        Kernel::Bpf => const { &[always(Capability::BPF)] },
        Kernel::Perf => const { &[always(Capability::PERFMON)] },
        Kernel::Ring
        | Kernel::RegisterRing
        | Kernel::PageFaults
        | Kernel::Keys
        | Kernel::Control
        | Kernel::Ipc
        | Kernel::ControlIpc
        | Kernel::MessageQueue
        | Kernel::MarkFiles => &[],
    }
}
