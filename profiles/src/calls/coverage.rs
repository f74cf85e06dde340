//! The page that tells what each call is understood to need.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::consults::Condition;
use super::operation::{
    File, Flags, Identity, Kernel, Limit, Memory, Mount, Operation, Removed, Socket, Task,
};
use super::row::Row;
use super::rows::ROWS;

const HEAD: &str = "\
# What calls are understood to need

Made by `cargo xtask docs` from the table of calls (`profiles/src/calls/`), by which both backends, the classifier and `nrtrace replay`
read a call. Beside what is listed, every call on a path takes search permission on the directories on its way.

With eBPF the kernel is the judge: whatever capability it consults is seen, in these calls and in all others. What is listed here is
how nrtrace reads such a check, what it foretells with ptrace and `--as-root`, and what it derives when a recording is judged for
another user.

";

const FOOT: &str = "
## Not covered

| | |
|---|---|
| calls that are not listed | with eBPF, the capability that they consult; with ptrace, nothing |
| what `io_uring` does in a program's place | with eBPF, the capability, and the path of an open; otherwise the run is *incomplete*; with ptrace it is *incomplete* once a ring was made |
| requests of `ioctl`, `fcntl`, `prctl`, `keyctl` and `bpf`, socket options and netlink messages that are not named above | the same |
| x32 calls, the 32-bit `ipc`, and what its `socketcall` receives | the same |
";

/// The page, as Markdown.
pub fn coverage() -> String {
    let mut out = HEAD.to_owned();
    out.push_str("| calls | what they do | what they need |\n|---|---|---|\n");
    let mut told = BTreeSet::new();
    for row in ROWS {
        let entry = (row.operation.does(), needs(row));
        if told.insert(entry.clone()) {
            let alike = ROWS.iter().filter(|other| (other.operation.does(), needs(other)) == entry);
            let names: Vec<String> = alike.map(|row| format!("`{}`", row.name)).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(out, "| {} | {} | {} |", names.join(", "), entry.0, entry.1);
        }
    }
    out.push_str(FOOT);
    out
}

fn needs(row: &Row) -> String {
    let files = row.operation.of_files().filter(|_| row.is_judged()).map(str::to_owned);
    let capabilities = row.operation.consults().iter().map(|consulted| match consulted.when.words() {
        "" => consulted.capability.to_string(),
        when => format!("{} {when}", consulted.capability),
    });
    let parts: Vec<String> = files.into_iter().chain(capabilities).collect();
    match (parts.is_empty(), row.operation.unforetold()) {
        (false, _) => parts.join("; "),
        (true, Some(why)) => format!("not foretold: {why}"),
        (true, None) => "nothing beyond the open descriptor".to_owned(),
    }
}

impl Condition {
    /// In words, to stand behind the capability.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Always => "",
            Self::PrivilegedPort => "for a port below `net.ipv4.ip_unprivileged_port_start`",
            Self::RawSocket => "for raw and packet sockets",
            Self::AdminOption => "for `SO_DEBUG`, `SO_RCVBUFFORCE`, `SO_SNDBUFFORCE`",
            Self::RawOption => {
                "for `SO_MARK`, `IP_TRANSPARENT`, `IPV6_TRANSPARENT`, `SO_PRIORITY` beyond 6, and `SO_BINDTODEVICE` once more"
            }
            Self::Device => "for a device",
            Self::Copies => "for a copy",
            Self::NewNamespace => "for namespaces, but one of users",
            Self::DropsBounds => "for the bounding set and securebits",
            Self::Adjusts => "to change it",
            Self::RestrictedLog => "where `kernel.dmesg_restrict` is set, and to change it",
            Self::RealTimeInput => "for the real-time class",
            Self::LowersNice => "below what `RLIMIT_NICE` allows",
            Self::RealTime => "for a real-time policy beyond `RLIMIT_RTPRIO`",
            Self::AboveLockLimit => "beyond `RLIMIT_MEMLOCK`",
            Self::RaisesHardLimit => "to raise a hard limit",
            Self::OtherUser => "for a process of another user",
            Self::OthersThread => "for a thread of another user",
            Self::OtherProcess => "for a process with other ids, or one that may not be dumped",
            Self::SetsMemoryMap => "for `PR_SET_MM`",
            Self::OthersLease => "for `F_SETLEASE` on a file of another user",
            Self::LargePipe => "for `F_SETPIPE_SZ` beyond `fs.pipe-max-size`",
            Self::NetworkRequest => {
                "for `TUNSETIFF`, and what changes an interface or a route (netdevice(7))"
            }
            Self::ImmutableFlag => "for `FS_IOC_SETFLAGS` with another `FS_IMMUTABLE_FL` or `FS_APPEND_FL`",
            Self::TerminalInput => {
                "for `TIOCSTI`, where `dev.tty.legacy_tiocsti` forbids it or the terminal is another one"
            }
            Self::AlarmClock => "for a clock that wakes the machine",
            Self::FaultsOfKernel => {
                "for faults of the kernel, where `vm.unprivileged_userfaultfd` is not set"
            }
            Self::WatchesOthers => {
                "for the kernel or a processor, as `kernel.perf_event_paranoid` has it, and for processes of others"
            }
            Self::OtherId => "for an id that is not its own",
            Self::FileCapabilities => "for `security.capability`",
            Self::AdminAttribute => "for `trusted.*`, and for `security.*` unless it is only read",
            Self::NetworkParameter => "below `/proc/sys/net`, for what the mode gives nobody but the owner",
        }
    }
}

impl Operation {
    /// In words.
    pub const fn does(self) -> &'static str {
        match self {
            Self::File(file) => file.does(),
            Self::Socket(socket) => match socket {
                Socket::Make => "make a socket",
                Socket::Bind => "give a socket an address",
                Socket::Listen => "wait for connections",
                Socket::Connect => "connect",
                Socket::Send => "send",
                Socket::SetOption => "set an option of a socket",
            },
            Self::Identity(identity) => match identity {
                Identity::Users(_) | Identity::FileUser => "take a user id",
                Identity::Groups(_) | Identity::FileGroup => "take a group id",
                Identity::Supplementary => "take supplementary groups",
                Identity::Capabilities => "take or drop capabilities",
                Identity::Process => "change attributes of the process",
                Identity::Filter => "filter system calls",
            },
            Self::Task(task) => match task {
                Task::Fork | Task::Clone | Task::CloneBy => "make a task",
                Task::Signal(_) | Task::SignalBy => "signal",
                Task::Inspect(_) | Task::InspectBy | Task::Trace => "look into another process",
                Task::Unshare => "make namespaces",
                Task::EnterNamespace => "enter a namespace",
            },
            Self::Memory(memory) => match memory {
                Memory::Map => "map memory",
                Memory::Resize => "change what is mapped",
                Memory::Lock | Memory::LockAll => "lock memory",
                Memory::Move => "move pages",
            },
            Self::Mount(_) => "mount",
            Self::Limit(limit) => match limit {
                Limit::Own | Limit::OfProcess => "set a resource limit",
                Limit::Priority | Limit::Nice => "set the nice value",
                Limit::Parameter | Limit::Scheduler | Limit::Attributes => "set policy and priority",
                Limit::Affinity => "choose processors",
                Limit::InputOutput => "set the priority of input and output",
            },
            Self::Kernel(kernel) => kernel.does(),
            Self::Write => "write",
            Self::Other => "anything else",
        }
    }

    /// What it takes of files.
    const fn of_files(self) -> Option<&'static str> {
        Some(match self {
            Self::File(file) => return file.needs(),
            Self::Socket(Socket::Bind) => "write on the directory, for a path",
            Self::Socket(Socket::Connect) => "write on the socket, for a path",
            Self::Socket(Socket::Send) => "write on the socket, for a path (not foretold)",
            Self::Mount(_) => return None,
            Self::Kernel(Kernel::Accounting) => "write on the file",
            Self::Kernel(Kernel::SwapOn) => "read and write on the file",
            _ => return None,
        })
    }

    /// Why nothing can be foretold of it: neither files nor a capability are known to decide.
    pub const fn unforetold(self) -> Option<&'static str> {
        Some(match self {
            Self::Socket(Socket::Listen) | Self::Write => return None,
            Self::Socket(Socket::Send) => "the address is often in memory, and sends are many",
            Self::Identity(Identity::Capabilities) => "dropping what one has takes nothing",
            Self::Identity(Identity::Filter) => "`no_new_privs` takes the need away",
            Self::Task(Task::Fork) => "a limit of processes decides",
            Self::Memory(Memory::Map | Memory::Resize) => "limits decide, and calls are many",
            Self::Mount(Mount::Configure | Mount::List) => {
                "decided when the context was made, or by the mount's owner"
            }
            Self::Kernel(kernel) => match kernel {
                Kernel::Ring | Kernel::RegisterRing => "limits and sysctls decide",
                Kernel::EnterRing => "what the ring does is in memory",
                Kernel::Keys => "each key has permissions of its own",
                Kernel::Ipc | Kernel::ControlIpc | Kernel::MessageQueue => {
                    "each object has permissions of its own"
                }
                Kernel::MarkFiles => "decided when the group was made",
                _ => return None,
            },
            Self::File(_)
            | Self::Socket(_)
            | Self::Identity(_)
            | Self::Task(_)
            | Self::Memory(_)
            | Self::Mount(_)
            | Self::Limit(_)
            | Self::Other => return None,
        })
    }
}

impl File {
    const fn does(self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::MakeDirectory(_) => "make a directory",
            Self::MakeNode(_) => "make a file or node",
            Self::MakeLink => "make a symbolic link",
            Self::Link => "give another name",
            Self::Rename => "rename",
            Self::Remove(Removed::File) => "remove a file",
            Self::Remove(Removed::Directory) => "remove a directory",
            Self::Remove(Removed::ByFlag(_)) => "remove a file or directory",
            Self::Mode(_) => "set the mode",
            Self::Flags => "set flags of the inode",
            Self::Give(_) => "set owner and group",
            Self::Times(_) => "set times",
            Self::Truncate => "set the length",
            Self::Allocate => "make room",
            Self::SetAttribute(_) | Self::RemoveAttribute(_) => "change an extended attribute",
            Self::GetAttribute(_) => "read an extended attribute",
            Self::ListAttributes => "list extended attributes",
            Self::Access(_) => "ask for access",
            Self::Look => "look",
            Self::Watch => "watch",
            Self::OpenHandle => "open by handle",
            Self::Enter => "change the working directory",
            Self::ChangeRoot => "change the root directory",
            Self::Execute => "run",
        }
    }

    const fn needs(self) -> Option<&'static str> {
        Some(match self {
            Self::Open(Flags::Argument(_) | Flags::Structure) => {
                "read or write on the file, as its flags say; write on the directory where it is made"
            }
            Self::Open(Flags::Fixed(_)) => "write on the file, or on the directory where it is made",
            Self::MakeDirectory(_) | Self::MakeNode(_) | Self::MakeLink => "write on the directory",
            Self::Link => {
                "write on the new directory; the file's owner, or read and write on it (`fs.protected_hardlinks`)"
            }
            Self::Rename | Self::Remove(_) => {
                "write on each directory; in a sticky one, to own the directory or the file"
            }
            Self::Mode(_) | Self::Flags => "to own the file",
            Self::Give(_) => "to own the file, and the ids to be its own; else CAP_CHOWN",
            Self::Times(_) => "to own the file, or, for now, write on it",
            Self::Truncate => "write on the file",
            Self::SetAttribute(_) | Self::RemoveAttribute(_) => {
                "write on the file for `user.*`, to own it for an ACL"
            }
            Self::GetAttribute(_) => "read on the file for `user.*`",
            Self::Access(_) => "what it asks for",
            Self::Look | Self::ListAttributes => "search on the way",
            Self::Watch => "read on the file",
            Self::Enter | Self::ChangeRoot => "search on the directory",
            Self::Execute => "execute on the file, and on its interpreter",
            Self::Allocate | Self::OpenHandle => return None,
        })
    }
}

impl Kernel {
    const fn does(self) -> &'static str {
        match self {
            Self::SetClock => "set the clock",
            Self::AdjustClock(_) => "read or set the clock",
            Self::Module => "load and unload modules",
            Self::Reboot => "restart the machine",
            Self::Kexec => "load another kernel",
            Self::Log => "read or change the kernel's log",
            Self::Accounting => "turn accounting on",
            Self::SwapOn | Self::SwapOff => "swap",
            Self::Quota | Self::QuotaOf => "quotas",
            Self::Ports => "open input and output ports",
            Self::Hangup => "hang up the terminal",
            Self::NameHost => "name the host",
            Self::Bpf => "work with BPF",
            Self::Perf => "watch performance",
            Self::Ring | Self::RegisterRing => "make a ring for calls",
            Self::EnterRing => "have a ring's calls made",
            Self::PageFaults => "handle page faults",
            Self::Keys => "work with keys",
            Self::Control => "control a device or file",
            Self::Descriptor => "control a descriptor",
            Self::Timer => "make a timer",
            Self::Ipc | Self::ControlIpc => "System V IPC",
            Self::MessageQueue => "open a message queue",
            Self::WatchFiles | Self::MarkFiles => "watch file systems",
        }
    }
}
