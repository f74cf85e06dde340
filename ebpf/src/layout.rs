//! The kernel's structures as the probe sees them: one row per member it reads.
//!
//! Offsets differ between kernels and Rust has no relocations for them, so the tracer looks each member up in the
//! running kernel's BTF and hands the offsets to the probe as a read-only array, indexed by [`Field`].

/// Longest name of a function of the kernel, and of its module, with what ends it.
pub const NAME_MAX: usize = 512;

/// Offset of a member that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// A row: where a member is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name of the structure.
    pub structure: &'static str,
    /// Name of the member; `a.b` for member `b` of the structure `a`. Members of anonymous structures and unions
    /// are named as in C. Where kernels differ, the names are told apart by `|`.
    pub member: &'static str,
    /// Whether the probe can do without.
    pub optional: bool,
}

macro_rules! layout {
    ($($(#[$doc:meta])* $field:ident = $structure:literal $member:literal $($optional:ident)?;)*) => {
        /// A member the probe reads; the index of its offset.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Field { $($(#[$doc])* $field),* }

        /// The members, in the order of [`Field`].
        pub const MEMBERS: &[Member] = &[
            $(Member { structure: $structure, member: $member, optional: layout!(@ $($optional)?) }),*
        ];
    };
    (@ optional) => { true };
    (@) => { false };
}

layout! {
    /// Credentials others judge the task by.
    TaskRealCred = "task_struct" "real_cred";
    /// Short name, 16 bytes.
    TaskComm = "task_struct" "comm";
    /// Root and working directory.
    TaskFs = "task_struct" "fs";
    /// Open files.
    TaskFiles = "task_struct" "files";
    /// Namespaces.
    TaskNsproxy = "task_struct" "nsproxy";
    /// Thread id.
    TaskThreadPid = "task_struct" "thread_pid";
    /// The process that made it, or has adopted it.
    TaskParent = "task_struct" "real_parent";
    /// First thread of the process.
    TaskGroupLeader = "task_struct" "group_leader";
    /// State of the path walk in progress.
    TaskNameidata = "task_struct" "nameidata";
    /// Memory map.
    TaskMm = "task_struct" "mm";
    /// What the process's threads share.
    TaskSignal = "task_struct" "signal";
    /// Wait status.
    TaskExitCode = "task_struct" "exit_code";
    /// The kernel's stack of a task.
    TaskStack = "task_struct" "stack";
    /// A task's link in the list of those with its number.
    TaskPidLinks = "task_struct" "pid_links";
    /// The tasks with a number.
    PidTasks = "pid" "tasks";
    /// What the filesystem keeps with an inode.
    InodePrivate = "inode" "i_private";
    /// Threads of the process that still live.
    SignalLive = "signal_struct" "live";
    /// The executable.
    MmExeFile = "mm_struct" "exe_file";
    /// Where the arguments start.
    MmArgStart = "mm_struct" "arg_start";
    /// And where they end.
    MmArgEnd = "mm_struct" "arg_end";
    /// The path given to execve(2).
    BinprmFilename = "linux_binprm" "filename";
    /// Depth of the pid namespace.
    PidLevel = "pid" "level";
    /// Numbers of the process, outermost namespace first.
    PidNumbers = "pid" "numbers";
    /// Real user id.
    CredUid = "cred" "uid";
    /// User id that file access is judged by.
    CredFsuid = "cred" "fsuid";
    /// Group id that file access is judged by.
    CredFsgid = "cred" "fsgid";
    /// Effective capabilities, as bits.
    CredEffective = "cred" "cap_effective";
    /// User namespace.
    CredUserNs = "cred" "user_ns";
    /// Supplementary groups.
    CredGroupInfo = "cred" "group_info";
    /// Directory of a control group.
    CgroupNode = "cgroup" "kn";
    /// How deep it is in its hierarchy.
    CgroupLevel = "cgroup" "level";
    /// Its hierarchy.
    CgroupRoot = "cgroup" "root";
    /// Number of a hierarchy: zero for version 2.
    RootHierarchy = "cgroup_root" "hierarchy_id";
    /// Number of a directory, which is the control group's.
    NodeId = "kernfs_node" "id";
    /// Mount namespace.
    NsproxyMntNs = "nsproxy" "mnt_ns";
    /// Network namespace.
    NsproxyNetNs = "nsproxy" "net_ns";
    /// Its inode number.
    MntNsInum = "mnt_namespace" "ns.inum";
    /// Its inode number.
    NetInum = "net" "ns.inum";
    /// Its inode number.
    UserNsInum = "user_namespace" "ns.inum";
    /// Root directory.
    FsRoot = "fs_struct" "root";
    /// Working directory.
    FsPwd = "fs_struct" "pwd";
    /// Mount of a location.
    PathMnt = "path" "mnt";
    /// Directory entry of a location.
    PathDentry = "path" "dentry";
    /// Descriptor table.
    FilesFdt = "files_struct" "fdt";
    /// Its length.
    FdtMaxFds = "fdtable" "max_fds";
    /// Its files.
    FdtFd = "fdtable" "fd";
    /// Location of an open file.
    FilePath = "file" "f_path";
    /// Its inode.
    FileInode = "file" "f_inode";
    /// The socket, for one.
    FilePrivate = "file" "private_data";
    /// Directory that holds the entry.
    DentryParent = "dentry" "d_parent";
    /// Length of the entry's name.
    DentryNameLen = "dentry" "d_name.len";
    /// The entry's name.
    DentryName = "dentry" "d_name.name";
    /// What the entry names.
    DentryInode = "dentry" "d_inode";
    /// Link in the inode's list of names.
    DentryAlias = "dentry" "d_u.d_alias|d_alias";
    /// Root of a mount.
    VfsmountRoot = "vfsmount" "mnt_root";
    /// Filesystem of a mount.
    VfsmountSb = "vfsmount" "mnt_sb";
    /// The part of a mount that the rest of the kernel sees.
    MountMnt = "mount" "mnt";
    /// The mount that a mount is mounted on.
    MountParent = "mount" "mnt_parent";
    /// And where.
    MountMountpoint = "mount" "mnt_mountpoint";
    /// The namespace that a mount belongs to.
    MountNs = "mount" "mnt_ns";
    /// Where a path walk has got to.
    NameidataPath = "nameidata" "path";
    /// The inode there.
    NameidataInode = "nameidata" "inode";
    /// Type and permissions.
    InodeMode = "inode" "i_mode";
    /// Owner.
    InodeUid = "inode" "i_uid";
    /// Group.
    InodeGid = "inode" "i_gid";
    /// Number.
    InodeIno = "inode" "i_ino";
    /// Device number of a device node.
    InodeRdev = "inode" "i_rdev";
    /// Filesystem.
    InodeSb = "inode" "i_sb";
    /// Names of the inode.
    InodeDentries = "inode" "i_dentry.first" optional;
    /// Device of a filesystem.
    SuperDev = "super_block" "s_dev";
    /// Type of a filesystem.
    SuperMagic = "super_block" "s_magic";
    /// `SOCK_` type.
    SocketType = "socket" "type";
    /// Network layer's side of a socket.
    SocketSk = "socket" "sk";
    /// `AF_` family.
    SockFamily = "sock" "__sk_common.skc_family";
    /// Local port.
    SockPort = "sock" "__sk_common.skc_num";
    /// `IPPROTO_` protocol.
    SockProtocol = "sock" "sk_protocol";
}

/// How many members there are.
pub const FIELDS: usize = MEMBERS.len();

/// Where the registers of a system call are in `struct pt_regs`, and how a 32-bit call is told.
///
/// All offsets are in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// System call number.
    pub number: u32,
    /// Arguments of a native call.
    pub args: [u32; 6],
    /// Arguments of a 32-bit call.
    pub compat_args: [u32; 6],
    /// The word in `struct task_struct` that tells a 32-bit call.
    pub compat_word: u32,
    /// The bits of it that do; zero where there are no 32-bit calls.
    pub compat_mask: u32,
    /// Arguments of a function of the kernel.
    pub function: [u32; 4],
    /// Its result.
    pub result: u32,
}

/// How many words [`Registers`] has.
pub const WORDS_OF_REGISTERS: usize = 20;

/// [`Mark::state`]: the task is to be traced from its first execve(2) on.
pub const WAITING: u32 = 1;
/// [`Mark::state`]: the task is traced.
pub const TRACED: u32 = 2;

/// [`Mark::state`]: the task is to be traced from its first execve(2) in another mount namespace than
/// [`Mark::origin`] on: what a container runtime does before it runs the program is its own affair.
pub const ARMED: u32 = 3;

/// What the probe keeps for each task it traces. The tracer writes the first one; children inherit it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// [`WAITING`], [`TRACED`] or [`ARMED`].
    pub state: u32,
    /// Depth of the pid namespace that the tracer numbers processes by.
    pub level: u32,
    /// Process id there; zero until it is first needed.
    pub pid: u32,
    /// Thread id there.
    pub tid: u32,
    /// Whether a capability was consulted during the current call.
    pub checked: u32,
    /// Number of the successful execve(2) that is about to return, plus one: its registers tell nothing any more.
    pub exec: u32,
    /// The inode whose access is being judged (`capable_wrt_inode_uidgid`), zero outside.
    pub inode: u64,
    /// Mount of the last root directory seen to be the namespace's own.
    pub root_mnt: u64,
    /// Directory entry of it.
    pub root_dentry: u64,
    /// Inode number of the mount namespace that a task which is [`ARMED`] has to leave.
    pub origin: u32,
    /// Mount namespace that the task was last told to be in.
    pub told_ns: u32,
    /// Filesystem ids that it was last told to act with: the user's, and the group's above.
    pub told: u64,
    /// Tells the program that the process runs now from any other that has had its number: when it was begun.
    pub life: u64,
}

/// Whether equal calls are told once. The tracer writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Whether they are.
    pub open: u32,
    /// What was told under another number is told anew.
    pub number: u32,
}

/// How many words an [`Aim`] looks for.
pub const WORDS: usize = 12;

/// What is attached to: which tasks without a mark belong to it. The tracer writes it, and the probe what it finds out by
/// itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aim {
    /// The control group of version 2 whose tasks belong to it, those of groups below it as well; zero for none.
    pub cgroup: u64,
    /// [`hash`]es of the names that tell a control group or the arguments of a container runtime; zero for none.
    pub words: [u64; WORDS],
    /// How deep that control group is.
    pub depth: u32,
    /// [`Mark::state`] of a task that is found by its control group.
    pub found: u32,
    /// [`Mark::state`] of a task that joins a control group by name.
    pub joins: u32,
    /// Whether tasks that join a control group of one of the names belong to it.
    pub by_group: u32,
    /// Whether processes with one of the names among their arguments start it.
    pub by_argument: u32,
    /// Whether a task that makes another belongs to it when one of its ancestors does.
    pub by_ancestor: u32,
    /// Inode number of the mount namespace in which tasks found are traced at once; zero for none.
    pub mnt_ns: u32,
    /// Depth of the pid namespace that the tracer numbers processes by.
    pub level: u32,
}

/// What [`hash`] starts with.
pub const HASH_SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// The hash of what was hashed so far and one more byte (FNV-1a).
#[inline(always)]
pub const fn hash_byte(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0100_0000_01b3)
}

/// The hash by which the probe knows a name.
pub const fn hash(word: &[u8]) -> u64 {
    let mut hash = HASH_SEED;
    let mut index = 0;
    while index < word.len() {
        hash = hash_byte(hash, word[index]);
        index += 1;
    }
    hash
}

const _: () = assert!(size_of::<Registers>() == WORDS_OF_REGISTERS * 4);
const _: () = assert!(size_of::<Mark>() == 72);
const _: () = assert!(size_of::<Aim>() == 8 + 8 * WORDS + 8 * 4);
