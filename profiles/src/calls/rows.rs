//! The table of system calls. Names that an architecture does not have are left out there.

use nrtrace_ebpf::table::{
    Operands, TRAIT_ACCOUNTS, TRAIT_CLONE, TRAIT_CLONE3, TRAIT_EXEC, TRAIT_IOVEC, TRAIT_SOCKET, TRAIT_TEXT2,
    TRAIT_UNIX, WHEN_FAILED, WHEN_OK, WHEN_REFUSED, WHEN_TELLING,
};

use super::flags::{
    AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW, CREATES, PRIVILEGED_OPTIONS, PRIVILEGED_REQUESTS,
};
use super::operation::{
    File, Flags, Identity, Kernel, Limit, Memory, Mount, Operation, Removed, Socket, Task, Timed,
};
use super::row::{Link, Row};

const BOTH: u8 = WHEN_OK | WHEN_FAILED;
const FAILED: u8 = WHEN_FAILED;
const REFUSED: u8 = WHEN_REFUSED;
const NEVER: u8 = 0;
const TELLING: u8 = WHEN_TELLING;

const UMOUNT_NOFOLLOW: u64 = 8;
const IN_DONT_FOLLOW: u64 = 0x200_0000;
/// Of `include/uapi/linux/mount.h`: the source is followed.
const MOVE_MOUNT_F_SYMLINKS: u64 = 1;

/// Commands of fcntl(2), in order of its header: `F_SETLEASE`, `F_SETPIPE_SZ`.
const PRIVILEGED_COMMANDS: &[u32] = &[1024, 1031];
/// `PR_CAPBSET_DROP`, `PR_SET_SECUREBITS`, `PR_SET_MM` of prctl(2).
const PRIVILEGED_ATTRIBUTES: &[u32] = &[24, 28, 35];
/// `CLOCK_REALTIME_ALARM`, `CLOCK_BOOTTIME_ALARM`.
const ALARM_CLOCKS: &[u32] = &[8, 9];

const fn row(name: &'static str, when: u8, operation: Operation) -> Row {
    let operands = Operands { when, ..Operands::NONE };
    Row { name, operands, operation, link: Link::Followed, telling: 0, only: None, frequent: false }
}

const fn file(file: File) -> Operation {
    Operation::File(file)
}
const fn socket(socket: Socket) -> Operation {
    Operation::Socket(socket)
}
const fn identity(identity: Identity) -> Operation {
    Operation::Identity(identity)
}
const fn task(task: Task) -> Operation {
    Operation::Task(task)
}
const fn memory(memory: Memory) -> Operation {
    Operation::Memory(memory)
}
const fn mount(mount: Mount) -> Operation {
    Operation::Mount(mount)
}
const fn limit(limit: Limit) -> Operation {
    Operation::Limit(limit)
}
const fn kernel(kernel: Kernel) -> Operation {
    Operation::Kernel(kernel)
}

macro_rules! set {
    ($($name:ident($($field:ident),*);)*) => {
        $(const fn $name(mut self, $($field: u8),*) -> Self {
            $(self.operands.$field = $field;)*
            self
        })*
    };
}

/// What a row says beyond its operation. Numbers are indexes of arguments.
impl Row {
    set! {
        path(path);
        at(dirfd, path);
        descriptor(dirfd);
        second(path2);
        second_at(dirfd2, path2);
        address(address);
        data(data);
        traits(traits);
    }

    const fn link(mut self, link: Link) -> Self {
        self.link = link;
        self
    }

    /// A symbolic link is kept.
    const fn kept(self) -> Self {
        self.link(Link::Kept)
    }

    /// A symbolic link is followed, unless these flags have `AT_SYMLINK_NOFOLLOW`.
    const fn unless_nofollow(self, flags: u8) -> Self {
        self.link(Link::KeptWith(flags, AT_SYMLINK_NOFOLLOW))
    }

    /// A symbolic link is followed when these flags have `AT_SYMLINK_FOLLOW`.
    const fn when_follow(self, flags: u8) -> Self {
        self.link(Link::FollowedWith(flags, AT_SYMLINK_FOLLOW))
    }

    const fn telling(mut self, telling: u8) -> Self {
        self.telling = telling;
        self
    }

    /// Only with one of these values of this argument does it consult a capability.
    const fn only(mut self, argument: u8, values: &'static [u32]) -> Self {
        self.only = Some((argument, values));
        self
    }

    const fn frequent(mut self) -> Self {
        self.frequent = true;
        self
    }
}

/// The rows.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    // Open and create.
    row("open", BOTH, file(File::Open(Flags::Argument(1)))).path(0).link(Link::ByOpening).telling(0b110),
    row("openat", BOTH, file(File::Open(Flags::Argument(2)))).at(0, 1).link(Link::ByOpening).telling(0b1100),
    row("openat2", BOTH, file(File::Open(Flags::Structure))).at(0, 1).data(2).link(Link::ByOpening),
    row("creat", BOTH, file(File::Open(Flags::Fixed(CREATES)))).path(0).telling(0b10),
    row("mkdir", BOTH, file(File::MakeDirectory(1))).path(0).kept().telling(0b10),
    row("mkdirat", BOTH, file(File::MakeDirectory(2))).at(0, 1).kept().telling(0b100),
    row("mknod", BOTH, file(File::MakeNode(1))).path(0).kept().telling(0b110),
    row("mknodat", BOTH, file(File::MakeNode(2))).at(0, 1).kept().telling(0b1100),
    row("symlink", BOTH, file(File::MakeLink)).path(1).second(0).traits(TRAIT_TEXT2).kept(),
    row("symlinkat", BOTH, file(File::MakeLink)).at(1, 2).second(0).traits(TRAIT_TEXT2).kept(),
    row("link", BOTH, file(File::Link)).path(0).second(1).kept(),
    row("linkat", BOTH, file(File::Link)).at(0, 1).second_at(2, 3).when_follow(4).telling(0b10000),
    row("rename", BOTH, file(File::Rename)).path(0).second(1).kept(),
    row("renameat", BOTH, file(File::Rename)).at(0, 1).second_at(2, 3).kept(),
    row("renameat2", BOTH, file(File::Rename)).at(0, 1).second_at(2, 3).kept().telling(0b10000),
    row("unlink", BOTH, file(File::Remove(Removed::File))).path(0).kept(),
    row("unlinkat", BOTH, file(File::Remove(Removed::ByFlag(2)))).at(0, 1).kept().telling(0b100),
    row("rmdir", BOTH, file(File::Remove(Removed::Directory))).path(0).kept(),
    // Attributes.
    row("chmod", BOTH, file(File::Mode(1))).path(0).telling(0b10),
    row("fchmod", BOTH, file(File::Mode(1))).descriptor(0).telling(0b10),
    row("fchmodat", BOTH, file(File::Mode(2))).at(0, 1).telling(0b100),
    row("fchmodat2", BOTH, file(File::Mode(2))).at(0, 1).unless_nofollow(3).telling(0b1100),
    row("chown", BOTH, file(File::Give(1))).path(0).telling(0b110),
    row("chown32", BOTH, file(File::Give(1))).path(0).telling(0b110),
    row("lchown", BOTH, file(File::Give(1))).path(0).kept().telling(0b110),
    row("lchown32", BOTH, file(File::Give(1))).path(0).kept().telling(0b110),
    row("fchown", BOTH, file(File::Give(1))).descriptor(0).telling(0b110),
    row("fchown32", BOTH, file(File::Give(1))).descriptor(0).telling(0b110),
    row("fchownat", BOTH, file(File::Give(2))).at(0, 1).unless_nofollow(4).telling(0b11100),
    row("utime", BOTH, file(File::Times(Timed::Plain(1)))).path(0),
    row("utimes", BOTH, file(File::Times(Timed::Plain(1)))).path(0),
    row("futimesat", BOTH, file(File::Times(Timed::Plain(2)))).at(0, 1),
    row("utimensat", BOTH, file(File::Times(Timed::Exactly(2)))).at(0, 1).unless_nofollow(3).telling(0b1000),
    row("utimensat_time64", BOTH, file(File::Times(Timed::Widely(2)))).at(0, 1).unless_nofollow(3).telling(0b1000),
    row("truncate", BOTH, file(File::Truncate)).path(0),
    row("truncate64", BOTH, file(File::Truncate)).path(0),
    row("ftruncate", FAILED, file(File::Truncate)).descriptor(0).frequent(),
    row("ftruncate64", FAILED, file(File::Truncate)).descriptor(0).frequent(),
    row("fallocate", REFUSED, file(File::Allocate)).descriptor(0).traits(TRAIT_ACCOUNTS),
    row("setxattr", BOTH, file(File::SetAttribute(1))).path(0),
    row("lsetxattr", BOTH, file(File::SetAttribute(1))).path(0).kept(),
    row("fsetxattr", BOTH, file(File::SetAttribute(1))).descriptor(0),
    row("setxattrat", BOTH, file(File::SetAttribute(3))).at(0, 1).unless_nofollow(2).telling(0b100),
    row("removexattr", BOTH, file(File::RemoveAttribute(1))).path(0),
    row("lremovexattr", BOTH, file(File::RemoveAttribute(1))).path(0).kept(),
    row("fremovexattr", BOTH, file(File::RemoveAttribute(1))).descriptor(0),
    row("removexattrat", BOTH, file(File::RemoveAttribute(3))).at(0, 1).unless_nofollow(2).telling(0b100),
    row("file_setattr", BOTH, file(File::Flags)).at(0, 1).unless_nofollow(4).telling(0b10000),
    // Looking.
    row("access", BOTH, file(File::Access(1))).path(0).telling(0b10),
    row("faccessat", BOTH, file(File::Access(2))).at(0, 1).telling(0b100),
    row("faccessat2", BOTH, file(File::Access(2))).at(0, 1).unless_nofollow(3).telling(0b1100),
    row("stat", BOTH, file(File::Look)).path(0),
    row("stat64", BOTH, file(File::Look)).path(0),
    row("lstat", BOTH, file(File::Look)).path(0).kept(),
    row("lstat64", BOTH, file(File::Look)).path(0).kept(),
    row("newfstatat", BOTH, file(File::Look)).at(0, 1).unless_nofollow(3).telling(0b1000),
    row("fstatat64", BOTH, file(File::Look)).at(0, 1).unless_nofollow(3).telling(0b1000),
    row("statx", BOTH, file(File::Look)).at(0, 1).unless_nofollow(2).telling(0b100),
    row("statfs", REFUSED, file(File::Look)).path(0),
    row("statfs64", REFUSED, file(File::Look)).path(0),
    row("readlink", REFUSED, file(File::Look)).path(0).kept(),
    row("readlinkat", REFUSED, file(File::Look)).at(0, 1).kept(),
    row("getxattr", REFUSED, file(File::GetAttribute(1))).path(0),
    row("lgetxattr", REFUSED, file(File::GetAttribute(1))).path(0).kept(),
    row("fgetxattr", REFUSED, file(File::GetAttribute(1))).descriptor(0),
    row("listxattr", REFUSED, file(File::ListAttributes)).path(0),
    row("llistxattr", REFUSED, file(File::ListAttributes)).path(0).kept(),
    row("inotify_add_watch", FAILED, file(File::Watch)).path(1).link(Link::KeptWith(2, IN_DONT_FOLLOW)).telling(0b100),
    row("fanotify_init", BOTH, kernel(Kernel::WatchFiles)),
    row("fanotify_mark", FAILED, kernel(Kernel::MarkFiles)),
    row("name_to_handle_at", FAILED, file(File::Look)).at(0, 1).when_follow(4),
    row("open_by_handle_at", BOTH, file(File::OpenHandle)),
    row("chdir", BOTH, file(File::Enter)).path(0),
    row("fchdir", BOTH, file(File::Enter)).descriptor(0),
    row("chroot", BOTH, file(File::ChangeRoot)).path(0),
    // Programs and processes.
    row("execve", BOTH, file(File::Execute)).path(0).traits(TRAIT_EXEC),
    row("execveat", BOTH, file(File::Execute)).at(0, 1).traits(TRAIT_EXEC).unless_nofollow(4).telling(0b10000),
    row("fork", FAILED, task(Task::Fork)).traits(TRAIT_ACCOUNTS).frequent(),
    row("vfork", FAILED, task(Task::Fork)).traits(TRAIT_ACCOUNTS).frequent(),
    row("clone", FAILED, task(Task::Clone)).traits(TRAIT_CLONE).telling(0b1),
    row("clone3", FAILED, task(Task::CloneBy)).traits(TRAIT_CLONE3),
    row("kill", REFUSED, task(Task::Signal(1))).telling(0b10),
    row("tkill", REFUSED, task(Task::Signal(1))).telling(0b10),
    row("tgkill", REFUSED, task(Task::Signal(2))).telling(0b100),
    row("rt_sigqueueinfo", REFUSED, task(Task::Signal(1))).telling(0b10),
    row("rt_tgsigqueueinfo", REFUSED, task(Task::Signal(2))).telling(0b100),
    row("pidfd_send_signal", REFUSED, task(Task::SignalBy)).telling(0b10),
    row("pidfd_getfd", REFUSED, task(Task::InspectBy)),
    row("ptrace", FAILED, task(Task::Trace)).telling(0b1),
    row("process_vm_readv", REFUSED, task(Task::Inspect(0))),
    row("process_vm_writev", REFUSED, task(Task::Inspect(0))),
    row("kcmp", REFUSED, task(Task::Inspect(1))),
    // Memory.
    row("mmap", REFUSED, memory(Memory::Map)).traits(TRAIT_ACCOUNTS),
    row("mmap2", REFUSED, memory(Memory::Map)).traits(TRAIT_ACCOUNTS),
    row("munmap", NEVER, memory(Memory::Resize)).traits(TRAIT_ACCOUNTS),
    row("mremap", NEVER, memory(Memory::Resize)).traits(TRAIT_ACCOUNTS),
    row("mprotect", REFUSED, memory(Memory::Map)).traits(TRAIT_ACCOUNTS),
    row("pkey_mprotect", REFUSED, memory(Memory::Map)).traits(TRAIT_ACCOUNTS),
    row("brk", NEVER, memory(Memory::Resize)).traits(TRAIT_ACCOUNTS),
    row("mlock", BOTH, memory(Memory::Lock)),
    row("mlock2", BOTH, memory(Memory::Lock)).telling(0b100),
    row("mlockall", BOTH, memory(Memory::LockAll)).telling(0b1),
    row("migrate_pages", REFUSED, memory(Memory::Move)),
    row("move_pages", REFUSED, memory(Memory::Move)),
    // Sockets.
    row("socket", BOTH, socket(Socket::Make)).telling(0b111),
    row("bind", BOTH, socket(Socket::Bind)).descriptor(0).address(1).traits(TRAIT_SOCKET).kept(),
    row("listen", BOTH, socket(Socket::Listen)).descriptor(0).traits(TRAIT_SOCKET).telling(0b10),
    row("connect", BOTH, socket(Socket::Connect)).descriptor(0).address(1).traits(TRAIT_SOCKET | TRAIT_UNIX),
    row("sendto", REFUSED, socket(Socket::Send)).descriptor(0).address(4).traits(TRAIT_SOCKET),
    row("sendmsg", REFUSED, socket(Socket::Send)),
    row("setsockopt", REFUSED, socket(Socket::SetOption)).descriptor(0).telling(0b110).only(2, PRIVILEGED_OPTIONS),
    // Identity.
    row("setuid", BOTH, identity(Identity::Users(1))).telling(0b1),
    row("setuid32", BOTH, identity(Identity::Users(1))).telling(0b1),
    row("setgid", BOTH, identity(Identity::Groups(1))).telling(0b1),
    row("setgid32", BOTH, identity(Identity::Groups(1))).telling(0b1),
    row("setreuid", BOTH, identity(Identity::Users(2))).telling(0b11),
    row("setreuid32", BOTH, identity(Identity::Users(2))).telling(0b11),
    row("setregid", BOTH, identity(Identity::Groups(2))).telling(0b11),
    row("setregid32", BOTH, identity(Identity::Groups(2))).telling(0b11),
    row("setresuid", BOTH, identity(Identity::Users(3))).telling(0b111),
    row("setresuid32", BOTH, identity(Identity::Users(3))).telling(0b111),
    row("setresgid", BOTH, identity(Identity::Groups(3))).telling(0b111),
    row("setresgid32", BOTH, identity(Identity::Groups(3))).telling(0b111),
    row("setfsuid", BOTH, identity(Identity::FileUser)).telling(0b1),
    row("setfsuid32", BOTH, identity(Identity::FileUser)).telling(0b1),
    row("setfsgid", BOTH, identity(Identity::FileGroup)).telling(0b1),
    row("setfsgid32", BOTH, identity(Identity::FileGroup)).telling(0b1),
    row("setgroups", BOTH, identity(Identity::Supplementary)).telling(0b1),
    row("setgroups32", BOTH, identity(Identity::Supplementary)).telling(0b1),
    row("capset", BOTH, identity(Identity::Capabilities)),
    row("prctl", REFUSED, identity(Identity::Process)).telling(0b11).only(0, PRIVILEGED_ATTRIBUTES),
    row("seccomp", BOTH, identity(Identity::Filter)).telling(0b1),
    // Mounts and namespaces.
    row("mount", BOTH, mount(Mount::Mount)).path(1).second(0).traits(TRAIT_TEXT2).telling(0b1000),
    row("umount", BOTH, mount(Mount::Unmount)).path(0),
    row("umount2", BOTH, mount(Mount::Unmount)).path(0).link(Link::KeptWith(1, UMOUNT_NOFOLLOW)).telling(0b10),
    row("pivot_root", BOTH, mount(Mount::Pivot)).path(0).second(1),
    row("open_tree", BOTH, mount(Mount::OpenTree)).at(0, 1).unless_nofollow(2).telling(0b100),
    row("open_tree_attr", BOTH, mount(Mount::OpenTreeSet)).at(0, 1).unless_nofollow(2).telling(0b100),
    row("move_mount", BOTH, mount(Mount::Move)).at(0, 1).second_at(2, 3).link(Link::FollowedWith(4, MOVE_MOUNT_F_SYMLINKS)).telling(0b10000),
    row("mount_setattr", BOTH, mount(Mount::SetAttributes)).at(0, 1).unless_nofollow(2).telling(0b100),
    row("fsopen", BOTH, mount(Mount::Context)),
    row("fspick", BOTH, mount(Mount::Context)).at(0, 1),
    row("fsconfig", FAILED, mount(Mount::Configure)),
    row("fsmount", BOTH, mount(Mount::Finish)),
    row("statmount", REFUSED, mount(Mount::List)),
    row("listmount", REFUSED, mount(Mount::List)),
    row("unshare", BOTH, task(Task::Unshare)).telling(0b1),
    row("setns", BOTH, task(Task::EnterNamespace)).telling(0b10),
    row("sethostname", BOTH, kernel(Kernel::NameHost)),
    row("setdomainname", BOTH, kernel(Kernel::NameHost)),
    row("quotactl", FAILED, kernel(Kernel::Quota)).path(1).telling(0b1),
    row("quotactl_fd", FAILED, kernel(Kernel::QuotaOf)).descriptor(0),
    row("swapon", BOTH, kernel(Kernel::SwapOn)).path(0),
    row("swapoff", BOTH, kernel(Kernel::SwapOff)).path(0),
    // Limits and priorities.
    row("setrlimit", BOTH, limit(Limit::Own)).data(1).telling(0b1),
    row("prlimit64", FAILED, limit(Limit::OfProcess)).data(2).telling(0b10),
    row("setpriority", BOTH, limit(Limit::Priority)).telling(0b101),
    row("nice", BOTH, limit(Limit::Nice)).telling(0b1),
    row("sched_setparam", BOTH, limit(Limit::Parameter)).data(1),
    row("sched_setscheduler", BOTH, limit(Limit::Scheduler)).data(2).telling(0b10),
    row("sched_setattr", BOTH, limit(Limit::Attributes)).data(1),
    row("sched_setaffinity", BOTH, limit(Limit::Affinity)),
    row("ioprio_set", BOTH, limit(Limit::InputOutput)).telling(0b101),
    // The kernel at large.
    row("ioctl", REFUSED, kernel(Kernel::Control)).descriptor(0).telling(0b10).only(1, PRIVILEGED_REQUESTS),
    row("fcntl", REFUSED, kernel(Kernel::Descriptor)).descriptor(0).telling(0b10).only(1, PRIVILEGED_COMMANDS),
    row("fcntl64", REFUSED, kernel(Kernel::Descriptor)).descriptor(0).telling(0b10).only(1, PRIVILEGED_COMMANDS),
    row("keyctl", FAILED, kernel(Kernel::Keys)).telling(0b1),
    row("add_key", FAILED, kernel(Kernel::Keys)),
    row("request_key", FAILED, kernel(Kernel::Keys)),
    row("bpf", BOTH, kernel(Kernel::Bpf)).telling(0b1),
    row("perf_event_open", BOTH, kernel(Kernel::Perf)),
    row("io_uring_setup", BOTH, kernel(Kernel::Ring)),
    row("io_uring_enter", REFUSED, kernel(Kernel::EnterRing)),
    row("io_uring_register", REFUSED, kernel(Kernel::RegisterRing)),
    row("userfaultfd", FAILED, kernel(Kernel::PageFaults)),
    row("init_module", BOTH, kernel(Kernel::Module)),
    row("finit_module", BOTH, kernel(Kernel::Module)).descriptor(0).telling(0b100),
    row("delete_module", BOTH, kernel(Kernel::Module)).telling(0b10),
    row("kexec_load", BOTH, kernel(Kernel::Kexec)),
    row("kexec_file_load", BOTH, kernel(Kernel::Kexec)),
    row("reboot", BOTH, kernel(Kernel::Reboot)).telling(0b1),
    row("syslog", BOTH, kernel(Kernel::Log)).telling(0b1),
    row("settimeofday", BOTH, kernel(Kernel::SetClock)),
    row("stime", BOTH, kernel(Kernel::SetClock)),
    row("clock_settime", BOTH, kernel(Kernel::SetClock)).telling(0b1),
    row("clock_settime64", BOTH, kernel(Kernel::SetClock)),
    row("adjtimex", FAILED, kernel(Kernel::AdjustClock(0))),
    row("clock_adjtime", FAILED, kernel(Kernel::AdjustClock(1))),
    row("clock_adjtime64", FAILED, kernel(Kernel::AdjustClock(1))),
    row("timerfd_create", FAILED, kernel(Kernel::Timer)).telling(0b11).only(0, ALARM_CLOCKS),
    row("timer_create", FAILED, kernel(Kernel::Timer)).telling(0b1).only(0, ALARM_CLOCKS),
    row("acct", BOTH, kernel(Kernel::Accounting)).path(0),
    row("iopl", BOTH, kernel(Kernel::Ports)).telling(0b1),
    row("ioperm", BOTH, kernel(Kernel::Ports)),
    row("vhangup", BOTH, kernel(Kernel::Hangup)),
    row("msgget", REFUSED, kernel(Kernel::Ipc)),
    row("msgctl", REFUSED, kernel(Kernel::ControlIpc)),
    row("semget", REFUSED, kernel(Kernel::Ipc)),
    row("semctl", REFUSED, kernel(Kernel::ControlIpc)),
    row("shmget", REFUSED, kernel(Kernel::Ipc)),
    row("shmat", REFUSED, kernel(Kernel::Ipc)),
    row("shmctl", REFUSED, kernel(Kernel::ControlIpc)),
    row("mq_open", REFUSED, kernel(Kernel::MessageQueue)),
    // What the program says, and what it sets below /proc/sys.
    row("write", TELLING, Operation::Write).descriptor(0).data(1),
    row("pwrite64", TELLING, Operation::Write).descriptor(0).data(1),
    row("writev", TELLING, Operation::Write).descriptor(0).data(1).traits(TRAIT_IOVEC),
];
