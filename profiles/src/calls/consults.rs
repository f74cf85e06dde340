//! Which capabilities a call takes by what it is, not by the files it is about: capabilities(7), and the kernel's own
//! checks.

use super::operation::{File, Flags, Identity, Kernel, Limit, Memory, Mount, Operation, Socket, Task};
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
    /// It is an option that passes by the rules of the network.
    RawOption,
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
    /// The thread, whose priority or processors are set, is another user's.
    OthersThread,
    /// The process is one that the caller may not look into.
    OtherProcess,
    /// The id is not the caller's own.
    OtherId,
    /// The attribute holds file capabilities.
    FileCapabilities,
    /// The attribute is one of `trusted.`, or to be changed and one of `security.` that has no rule of its own.
    AdminAttribute,
    /// A parameter of the network is opened for what its mode allows nobody but its owner.
    NetworkParameter,
    /// Fields of the process's own memory map are set.
    SetsMemoryMap,
    /// The file that a lease is asked for is another user's.
    OthersLease,
    /// A pipe is to be larger than `fs.pipe-max-size`.
    LargePipe,
    /// A network interface or a route is changed, or an interface made.
    NetworkRequest,
    /// An inode is made immutable or append-only, or no longer.
    ImmutableFlag,
    /// Input is put into a terminal.
    TerminalInput,
    /// The clock is one that wakes the machine.
    AlarmClock,
    /// Page faults of the kernel are handled, too.
    FaultsOfKernel,
    /// What is watched is the kernel, a whole processor or another user's process.
    WatchesOthers,
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
/// CAP_LINUX_IMMUTABLE, CAP_LEASE and CAP_WAKE_ALARM.
const LINUX_IMMUTABLE: Capability = Capability::from_number(9);
const LEASE: Capability = Capability::from_number(28);
const WAKE_ALARM: Capability = Capability::from_number(35);

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
                        when(Capability::NET_RAW, Condition::RawOption),
                    ]
                }
            }
            Self::Identity(identity) => of_identity(identity),
            Self::Task(task) => of_tasks(task),
            Self::Memory(Memory::Lock | Memory::LockAll) => {
                const { &[when(Capability::IPC_LOCK, Condition::AboveLockLimit)] }
            }
            Self::Memory(Memory::Move) => const { &[when(Capability::SYS_PTRACE, Condition::OtherProcess)] },
            Self::Mount(mount) => of_mounts(mount),
            Self::Limit(limit) => of_limits(limit),
            Self::Kernel(kernel) => of_kernel(kernel),
            Self::Socket(Socket::Listen | Socket::Connect | Socket::Send)
            | Self::Memory(Memory::Map | Memory::Resize)
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
                    when(Capability::SYS_ADMIN, Condition::AdminAttribute),
                ]
            }
        }
        File::RemoveAttribute(_) | File::GetAttribute(_) => {
            const { &[when(Capability::SYS_ADMIN, Condition::AdminAttribute)] }
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
        Identity::Process => {
            const {
                &[
                    when(Capability::SETPCAP, Condition::DropsBounds),
                    when(Capability::SYS_RESOURCE, Condition::SetsMemoryMap),
                ]
            }
        }
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
        Task::Inspect(_) | Task::InspectBy | Task::Trace => {
            const { &[when(Capability::SYS_PTRACE, Condition::OtherProcess)] }
        }
        Task::Fork => &[],
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
        Limit::Priority | Limit::Nice => {
            const {
                &[
                    when(Capability::SYS_NICE, Condition::OthersThread),
                    when(Capability::SYS_NICE, Condition::LowersNice),
                ]
            }
        }
        Limit::Parameter | Limit::Scheduler | Limit::Attributes => {
            const {
                &[
                    when(Capability::SYS_NICE, Condition::OthersThread),
                    when(Capability::SYS_NICE, Condition::RealTime),
                ]
            }
        }
        // CAP_SYS_ADMIN does as well, and is asked for first.
        Limit::InputOutput => {
            const {
                &[
                    when(Capability::SYS_NICE, Condition::OthersThread),
                    when(Capability::SYS_NICE, Condition::RealTimeInput),
                ]
            }
        }
        Limit::Affinity => const { &[when(Capability::SYS_NICE, Condition::OthersThread)] },
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
        Kernel::Perf => const { &[when(Capability::PERFMON, Condition::WatchesOthers)] },
        Kernel::PageFaults => const { &[when(Capability::SYS_PTRACE, Condition::FaultsOfKernel)] },
        Kernel::Timer => const { &[when(WAKE_ALARM, Condition::AlarmClock)] },
        Kernel::Descriptor => {
            const { &[when(LEASE, Condition::OthersLease), when(Capability::SYS_RESOURCE, Condition::LargePipe)] }
        }
        Kernel::Control => {
            const {
                &[
                    when(Capability::NET_ADMIN, Condition::NetworkRequest),
                    when(LINUX_IMMUTABLE, Condition::ImmutableFlag),
                    when(Capability::SYS_ADMIN, Condition::TerminalInput),
                ]
            }
        }
        Kernel::Ring
        | Kernel::RegisterRing
        | Kernel::EnterRing
        | Kernel::Keys
        | Kernel::Ipc
        | Kernel::ControlIpc
        | Kernel::MessageQueue
        | Kernel::MarkFiles => &[],
    }
}
