//! Operations of the kernel, as a program asks for them. Numbers are indexes of arguments.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::flags::{AT_REMOVEDIR, O_CREAT};

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// With files.
    File(File),
    /// With sockets.
    Socket(Socket),
    /// With the caller's identity.
    Identity(Identity),
    /// With tasks.
    Task(Task),
    /// With memory.
    Memory(Memory),
    /// With mounts.
    Mount(Mount),
    /// With limits and priorities.
    Limit(Limit),
    /// With the kernel at large.
    Kernel(Kernel),
    /// Writes to a descriptor.
    Write,
    /// Nothing that is known here.
    Other,
}

/// Where the flags of an open are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flags {
    /// In this argument, the mode being the next.
    Argument(u8),
    /// At the start of the structure that the call points to.
    Structure,
    /// They are always these.
    Fixed(u64),
}

/// What a call removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// Anything but a directory.
    File,
    /// A directory.
    Directory,
    /// A directory when this argument has `AT_REMOVEDIR`.
    ByFlag(u8),
}

/// How a call tells times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// As seconds, or seconds and microseconds.
    Plain(u8),
    /// As two `struct timespec` of the program's words, which may say that a time is now, or kept.
    Exactly(u8),
    /// The same, always of 64 bits.
    Widely(u8),
}

impl Timed {
    /// The argument that points to them.
    pub(super) fn at(self) -> u8 {
        let (Self::Plain(at) | Self::Exactly(at) | Self::Widely(at)) = self;
        at
    }
}

/// What a call does with files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// Opens.
    Open(Flags),
    /// Makes a directory, with the mode in this argument.
    MakeDirectory(u8),
    /// Makes a node, with the mode in this argument and the device in the next.
    MakeNode(u8),
    /// Makes a symbolic link.
    MakeLink,
    /// Gives a file another name.
    Link,
    /// Renames.
    Rename,
    /// Removes a name.
    Remove(Removed),
    /// Sets the mode, which is in this argument.
    Mode(u8),
    /// Sets flags of the inode.
    Flags,
    /// Gives it to the owner in this argument and the group in the next.
    Give(u8),
    /// Sets times.
    Times(Timed),
    /// Sets the length.
    Truncate,
    /// Makes room for it.
    Allocate,
    /// Sets an extended attribute, whose name is in this argument.
    SetAttribute(u8),
    /// Removes an extended attribute, whose name is in this argument.
    RemoveAttribute(u8),
    /// Reads an extended attribute, whose name is in this argument.
    GetAttribute(u8),
    /// Lists extended attributes.
    ListAttributes,
    /// Asks whether it may be accessed so, with the bits in this argument.
    Access(u8),
    /// Looks at the inode, the file system or what a symbolic link holds.
    Look,
    /// Waits for changes of it.
    Watch,
    /// Opens it by what stands for it, without a path.
    OpenHandle,
    /// Makes it the working directory.
    Enter,
    /// Makes it the root directory.
    ChangeRoot,
    /// Runs it.
    Execute,
}

/// What a call does with sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// Makes one.
    Make,
    /// Gives it an address.
    Bind,
    /// Waits for connections.
    Listen,
    /// Connects it.
    Connect,
    /// Sends.
    Send,
    /// Sets an option.
    SetOption,
}

/// What a call does with the caller's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Takes user ids, one in each of so many arguments.
    Users(u8),
    /// Takes group ids, one in each of so many arguments.
    Groups(u8),
    /// Takes the user id for files; the call returns the previous one and never fails.
    FileUser,
    /// Takes the group id for files, likewise.
    FileGroup,
    /// Takes a list of supplementary groups.
    Supplementary,
    /// Takes capabilities.
    Capabilities,
    /// Sets an attribute of the process: securebits, the bounding set, and much that takes no privilege.
    Process,
    /// Installs a filter of system calls.
    Filter,
}

/// A change of identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IdentityOperation {
    /// `setuid`, `setreuid`, `setresuid`, `setfsuid`.
    SetUser,
    /// `setgid`, `setregid`, `setresgid`, `setfsgid`.
    SetGroup,
    /// `setgroups`.
    SetGroups,
    /// `chown` and its kind, to an owner or group that is not the user's.
    Chown,
    /// Nothing changes: the program ends unless `getuid` and `geteuid` say that it is root, and `capset` succeeds.
    BeRoot,
}

/// What a call does with tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Makes one, as it is.
    Fork,
    /// Makes one, with the flags in the first argument.
    Clone,
    /// Makes one, with the flags at the start of what the first argument points to.
    CloneBy,
    /// Signals one, with the signal in this argument.
    Signal(u8),
    /// Signals what a descriptor stands for.
    SignalBy,
    /// Looks into, or changes, the one in this argument.
    Inspect(u8),
    /// The same of what a descriptor stands for.
    InspectBy,
    /// Traces one, by a request in the first argument.
    Trace,
    /// Makes namespaces for itself, with the flags in the first argument.
    Unshare,
    /// Enters namespaces, with the kinds in the second argument.
    EnterNamespace,
}

/// What a call does with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Maps, or protects what is mapped, with the protection in the third argument.
    Map,
    /// Changes how much is mapped.
    Resize,
    /// Locks a part, whose length is in the second argument.
    Lock,
    /// Locks all of it.
    LockAll,
    /// Moves pages of the process in the first argument.
    Move,
}

/// What a call does with mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mount {
    /// Mounts, in one call.
    Mount,
    /// Unmounts.
    Unmount,
    /// Changes the root mount.
    Pivot,
    /// Opens a mount, a copy with `OPEN_TREE_CLONE` in the third argument.
    OpenTree,
    /// Opens a mount and sets its attributes.
    OpenTreeSet,
    /// Attaches or moves a mount.
    Move,
    /// Sets attributes.
    SetAttributes,
    /// Opens a file system to be configured.
    Context,
    /// Configures a file system that was opened.
    Configure,
    /// Makes a mount of what was configured.
    Finish,
    /// Lists mounts.
    List,
}

/// What a call does with limits and priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Sets a resource limit of the caller: resource and structure are the first two arguments.
    Own,
    /// Sets a resource limit of a process: process, resource and structure are the first three arguments.
    OfProcess,
    /// Sets the nice value: kind, whom and value are the first three arguments.
    Priority,
    /// Adds to the caller's nice value.
    Nice,
    /// Sets a real-time priority.
    Parameter,
    /// Sets policy and priority.
    Scheduler,
    /// Sets policy and priority by one structure.
    Attributes,
    /// Sets the processors of the thread in the first argument.
    Affinity,
    /// Sets the priority of input and output, which is the third argument.
    InputOutput,
}

/// What a call does with the kernel at large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Sets the clock.
    SetClock,
    /// Reads or sets the clock, by the structure in this argument.
    AdjustClock(u8),
    /// Loads or unloads a module.
    Module,
    /// Restarts the machine, or decides what that does.
    Reboot,
    /// Loads another kernel.
    Kexec,
    /// Reads or changes the log.
    Log,
    /// Turns accounting on or off.
    Accounting,
    /// Swaps to a file or device.
    SwapOn,
    /// No longer swaps to it.
    SwapOff,
    /// Reads or sets quotas.
    Quota,
    /// The same, of the file system of a descriptor.
    QuotaOf,
    /// Opens input and output ports.
    Ports,
    /// Hangs up the terminal.
    Hangup,
    /// Names the host.
    NameHost,
    /// Works with programs and maps of the kernel's, by the command in the first argument.
    Bpf,
    /// Watches performance.
    Perf,
    /// Makes a ring for calls.
    Ring,
    /// Registers something with a ring.
    RegisterRing,
    /// Has a ring's calls made.
    EnterRing,
    /// Handles page faults.
    PageFaults,
    /// Works with keys.
    Keys,
    /// Controls a device or a file, by the request in the second argument.
    Control,
    /// Controls a descriptor, by the command in the second argument.
    Descriptor,
    /// Makes a timer of the clock in the first argument.
    Timer,
    /// Makes or takes an object of System V IPC.
    Ipc,
    /// Controls one.
    ControlIpc,
    /// Opens a message queue.
    MessageQueue,
    /// Makes a group that watches file systems.
    WatchFiles,
    /// Marks what such a group watches.
    MarkFiles,
}

impl Operation {
    /// Whether the name is made by it, where there is none or one is replaced, whatever the flags say.
    pub fn makes_name(self) -> bool {
        matches!(
            self,
            Self::File(File::MakeDirectory(_) | File::MakeNode(_) | File::MakeLink | File::Link)
                | Self::Socket(Socket::Bind)
        )
    }

    /// Whether it makes a name of something new.
    pub fn makes_new(self) -> bool {
        self.makes_name() && !self.is(File::Link)
    }

    /// Whether it removes a name, for good or for another one.
    pub fn removes_name(self) -> bool {
        matches!(self, Self::File(File::Remove(_) | File::Rename))
    }

    /// Whether it is this one.
    pub fn is(self, file: File) -> bool {
        self == Self::File(file)
    }

    /// Whether it takes a socket's address.
    pub fn takes_address(self) -> bool {
        matches!(self, Self::Socket(Socket::Bind | Socket::Connect | Socket::Send))
    }

    /// Whether it looks its path up before it consults a capability, so that what is not there takes none.
    pub fn looks_first(self) -> bool {
        matches!(
            self,
            Self::File(_) | Self::Mount(Mount::Mount | Mount::Unmount) | Self::Kernel(Kernel::Quota)
        )
    }

    /// Whether its second path is text that is not looked up.
    pub fn has_text(self) -> bool {
        matches!(self, Self::File(File::MakeLink) | Self::Mount(Mount::Mount))
    }

    /// The flags that a file is opened with, by arguments that are in place.
    pub fn opened_with(self, args: &[u64; 6]) -> Option<u64> {
        match self {
            Self::File(File::Open(Flags::Argument(index))) => Some(args[usize::from(index)]),
            Self::File(File::Open(Flags::Structure)) => Some(args[2]),
            Self::File(File::Open(Flags::Fixed(flags))) => Some(flags),
            _ => None,
        }
    }

    /// The arguments, with the flags and the mode of a structure where openat(2) has them.
    pub fn in_place(self, args: &[u64; 6], structure: &[u64]) -> [u64; 6] {
        match (self, structure, *args) {
            (Self::File(File::Open(Flags::Structure)), [flags, mode], [dirfd, path, .., last]) => {
                [dirfd, path, *flags, *mode, 0, last]
            }
            // A pointer is no set of flags.
            (Self::File(File::Open(Flags::Structure)), _, [dirfd, path, ..]) => [dirfd, path, 0, 0, 0, 0],
            _ => *args,
        }
    }

    /// Whether a call with these arguments, in place, may make the file it names.
    pub fn creates(self, args: &[u64; 6]) -> bool {
        self.opened_with(args).is_some_and(|flags| flags & O_CREAT != 0)
    }

    /// The change of identity or of ownership that it makes.
    pub fn identity(self) -> Option<IdentityOperation> {
        Some(match self {
            Self::Identity(Identity::Users(_) | Identity::FileUser) => IdentityOperation::SetUser,
            Self::Identity(Identity::Groups(_) | Identity::FileGroup) => IdentityOperation::SetGroup,
            Self::Identity(Identity::Supplementary) => IdentityOperation::SetGroups,
            Self::File(File::Give(_)) => IdentityOperation::Chown,
            _ => return None,
        })
    }

    /// The ids that it takes, in as many arguments.
    pub fn ids(self) -> Option<usize> {
        let Self::Identity(identity) = self else { return None };
        match identity {
            Identity::Users(count) | Identity::Groups(count) => Some(count.into()),
            Identity::FileUser | Identity::FileGroup => Some(1),
            Identity::Supplementary => Some(0),
            Identity::Capabilities | Identity::Process | Identity::Filter => None,
        }
    }

    /// Index of the argument with the mode of what it makes or changes, flags of an open aside.
    pub fn mode(self) -> Option<u8> {
        match self {
            Self::File(File::MakeDirectory(mode) | File::MakeNode(mode) | File::Mode(mode)) => Some(mode),
            Self::File(File::Open(Flags::Fixed(_))) => Some(1),
            _ => None,
        }
    }

    /// Owner and group that a file is given, as the arguments have them.
    pub fn gift(self, args: &[u64; 6]) -> Option<(u32, u32)> {
        let Self::File(File::Give(owner)) = self else { return None };
        let at = usize::from(owner);
        // Ids are the low halves of the arguments.
        Some((args[at] as u32, args[at + 1] as u32))
    }
}

impl Removed {
    /// Whether a call with these arguments removes a directory.
    pub fn is_directory(self, args: &[u64; 6]) -> bool {
        match self {
            Self::File => false,
            Self::Directory => true,
            Self::ByFlag(index) => args[usize::from(index)] & AT_REMOVEDIR != 0,
        }
    }
}
