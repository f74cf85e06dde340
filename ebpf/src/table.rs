//! The table of system calls: one row says where a call's path, file descriptor or socket address is.
//!
//! The tracer resolves each row's name to a number for the native table and for the 32-bit one, and
//! loads the rows into the probe's map; the probe reads them. Adding a call is adding a row.

/// Where a system call's operands are. Argument indexes count from 0; [`NONE`] where there is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operands {
    /// Index of the path argument.
    pub path: u8,
    /// Index of the directory file descriptor that a relative path starts from; also the descriptor itself
    /// for calls without a path (`fchmod`) or with an empty one (`AT_EMPTY_PATH`).
    pub dirfd: u8,
    /// Index of the second path.
    pub path2: u8,
    /// Index of the second path's directory file descriptor.
    pub dirfd2: u8,
    /// Index of a socket address; its length is the next argument.
    pub address: u8,
    /// Index of a buffer whose start is recorded as data: what is written, its length the next argument, with
    /// [`WHEN_TELLING`]; else a structure, of which at most [`STRUCTURE_MAX`] bytes are taken.
    pub data: u8,
    /// A set of `WHEN_` bits: when the call is worth a record although no capability was consulted.
    pub when: u8,
    /// A set of `TRAIT_` bits: what else the probe must know of the call.
    pub traits: u8,
}

/// No such argument.
pub const NONE: u8 = 0xff;
/// Record the call when it succeeds.
pub const WHEN_OK: u8 = 1 << 0;
/// Record the call when it fails.
pub const WHEN_FAILED: u8 = 1 << 1;
/// Record only on file descriptor 2 (`write`: what the program says on standard error) or on a file of procfs
/// (most of what can be written there is below `/proc/sys`), and when it is refused. The descriptor is the first argument.
pub const WHEN_TELLING: u8 = 1 << 2;
/// Record the call when it fails with `EPERM`, `EACCES` or `EROFS`.
pub const WHEN_REFUSED: u8 = 1 << 3;

/// The call runs another program.
pub const TRAIT_EXEC: u8 = 1 << 0;
/// The call accounts for memory, which consults CAP_SYS_ADMIN for no privilege.
pub const TRAIT_ACCOUNTS: u8 = 1 << 1;
/// As [`TRAIT_ACCOUNTS`], unless the first argument has a flag that makes a namespace.
pub const TRAIT_CLONE: u8 = 1 << 2;
/// As [`TRAIT_CLONE`], with the flags at the start of what the first argument points to.
pub const TRAIT_CLONE3: u8 = 1 << 3;
/// [`Operands::dirfd`] is a socket.
pub const TRAIT_SOCKET: u8 = 1 << 4;
/// Record only on a Unix socket.
pub const TRAIT_UNIX: u8 = 1 << 5;
/// [`Operands::data`] is an array of buffers (`struct iovec`).
pub const TRAIT_IOVEC: u8 = 1 << 6;
/// [`Operands::path2`] is text, not looked up as a path by this call.
pub const TRAIT_TEXT2: u8 = 1 << 7;

/// Most bytes of a structure that are recorded: enough for `struct rlimit`, `struct open_how`, `struct sched_param`, and
/// the priority of `struct sched_attr`.
pub const STRUCTURE_MAX: usize = 24;

/// Numbers of system calls the probe has room for, in each table.
pub const CALLS: usize = 512;

impl Operands {
    /// No operands, and never worth a record by itself.
    pub const NONE: Self = Self {
        path: NONE,
        dirfd: NONE,
        path2: NONE,
        dirfd2: NONE,
        address: NONE,
        data: NONE,
        when: 0,
        traits: 0,
    };

    /// Whether this is a row of the table, and not the zeros the probe finds where there is none.
    #[inline(always)]
    pub const fn is_row(&self) -> bool {
        self.when != 0 || self.traits != 0
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Name of the system call, as in the kernel's tables.
    pub name: &'static str,
    /// Where its operands are.
    pub operands: Operands,
}

const BOTH: u8 = WHEN_OK | WHEN_FAILED;
const FAILED: u8 = WHEN_FAILED;
const REFUSED: u8 = WHEN_REFUSED;

macro_rules! rows {
    ($($name:literal $when:ident $($field:ident = $value:expr),*;)*) => {
        /// The table. Names that an architecture does not have are left out there.
        pub const ROWS: &[Row] = &[
            $(Row { name: $name, operands: Operands { when: $when, $($field: $value,)* ..Operands::NONE } }),*
        ];
    };
}

const NEVER: u8 = 0;
const TELLING: u8 = WHEN_TELLING;

rows! {
    // Open and create.
    "open" BOTH path = 0;
    "openat" BOTH dirfd = 0, path = 1;
    "openat2" BOTH dirfd = 0, path = 1, data = 2;
    "creat" BOTH path = 0;
    "mkdir" BOTH path = 0;
    "mkdirat" BOTH dirfd = 0, path = 1;
    "mknod" BOTH path = 0;
    "mknodat" BOTH dirfd = 0, path = 1;
    "symlink" BOTH path = 1, path2 = 0, traits = TRAIT_TEXT2;
    "symlinkat" BOTH dirfd = 1, path = 2, path2 = 0, traits = TRAIT_TEXT2;
    "link" BOTH path = 0, path2 = 1;
    "linkat" BOTH dirfd = 0, path = 1, dirfd2 = 2, path2 = 3;
    "rename" BOTH path = 0, path2 = 1;
    "renameat" BOTH dirfd = 0, path = 1, dirfd2 = 2, path2 = 3;
    "renameat2" BOTH dirfd = 0, path = 1, dirfd2 = 2, path2 = 3;
    "unlink" BOTH path = 0;
    "unlinkat" BOTH dirfd = 0, path = 1;
    "rmdir" BOTH path = 0;
    // Attributes.
    "chmod" BOTH path = 0;
    "fchmod" BOTH dirfd = 0;
    "fchmodat" BOTH dirfd = 0, path = 1;
    "fchmodat2" BOTH dirfd = 0, path = 1;
    "chown" BOTH path = 0;
    "chown32" BOTH path = 0;
    "lchown" BOTH path = 0;
    "lchown32" BOTH path = 0;
    "fchown" BOTH dirfd = 0;
    "fchown32" BOTH dirfd = 0;
    "fchownat" BOTH dirfd = 0, path = 1;
    "utime" BOTH path = 0;
    "utimes" BOTH path = 0;
    "futimesat" BOTH dirfd = 0, path = 1;
    "utimensat" BOTH dirfd = 0, path = 1;
    "utimensat_time64" BOTH dirfd = 0, path = 1;
    "truncate" BOTH path = 0;
    "truncate64" BOTH path = 0;
    "ftruncate" FAILED dirfd = 0;
    "ftruncate64" FAILED dirfd = 0;
    "fallocate" REFUSED dirfd = 0, traits = TRAIT_ACCOUNTS;
    "setxattr" BOTH path = 0;
    "lsetxattr" BOTH path = 0;
    "fsetxattr" BOTH dirfd = 0;
    "setxattrat" BOTH dirfd = 0, path = 1;
    "removexattr" BOTH path = 0;
    "lremovexattr" BOTH path = 0;
    "fremovexattr" BOTH dirfd = 0;
    "removexattrat" BOTH dirfd = 0, path = 1;
    "file_setattr" BOTH dirfd = 0, path = 1;
    // Looking.
    "access" BOTH path = 0;
    "faccessat" BOTH dirfd = 0, path = 1;
    "faccessat2" BOTH dirfd = 0, path = 1;
    "stat" BOTH path = 0;
    "stat64" BOTH path = 0;
    "lstat" BOTH path = 0;
    "lstat64" BOTH path = 0;
    "newfstatat" BOTH dirfd = 0, path = 1;
    "fstatat64" BOTH dirfd = 0, path = 1;
    "statx" BOTH dirfd = 0, path = 1;
    "statfs" REFUSED path = 0;
    "statfs64" REFUSED path = 0;
    "readlink" REFUSED path = 0;
    "readlinkat" REFUSED dirfd = 0, path = 1;
    "getxattr" REFUSED path = 0;
    "lgetxattr" REFUSED path = 0;
    "fgetxattr" REFUSED dirfd = 0;
    "listxattr" REFUSED path = 0;
    "llistxattr" REFUSED path = 0;
    "inotify_add_watch" FAILED path = 1;
    "fanotify_init" BOTH;
    "fanotify_mark" FAILED;
    "name_to_handle_at" FAILED dirfd = 0, path = 1;
    "open_by_handle_at" BOTH;
    "chdir" BOTH path = 0;
    "fchdir" BOTH dirfd = 0;
    "chroot" BOTH path = 0;
    // Programs and processes.
    "execve" BOTH path = 0, traits = TRAIT_EXEC;
    "execveat" BOTH dirfd = 0, path = 1, traits = TRAIT_EXEC;
    "fork" FAILED traits = TRAIT_ACCOUNTS;
    "vfork" FAILED traits = TRAIT_ACCOUNTS;
    "clone" FAILED traits = TRAIT_CLONE;
    "clone3" FAILED traits = TRAIT_CLONE3;
    "kill" REFUSED;
    "tkill" REFUSED;
    "tgkill" REFUSED;
    "rt_sigqueueinfo" REFUSED;
    "rt_tgsigqueueinfo" REFUSED;
    "pidfd_send_signal" REFUSED;
    "pidfd_getfd" REFUSED;
    "ptrace" FAILED;
    "process_vm_readv" REFUSED;
    "process_vm_writev" REFUSED;
    "kcmp" REFUSED;
    // Memory.
    "mmap" REFUSED traits = TRAIT_ACCOUNTS;
    "mmap2" REFUSED traits = TRAIT_ACCOUNTS;
    "munmap" NEVER traits = TRAIT_ACCOUNTS;
    "mremap" NEVER traits = TRAIT_ACCOUNTS;
    "mprotect" REFUSED traits = TRAIT_ACCOUNTS;
    "pkey_mprotect" REFUSED traits = TRAIT_ACCOUNTS;
    "brk" NEVER traits = TRAIT_ACCOUNTS;
    "mlock" BOTH;
    "mlock2" BOTH;
    "mlockall" BOTH;
    "migrate_pages" REFUSED;
    "move_pages" REFUSED;
    // Sockets.
    "socket" BOTH;
    "bind" BOTH dirfd = 0, address = 1, traits = TRAIT_SOCKET;
    "listen" BOTH dirfd = 0, traits = TRAIT_SOCKET;
    "connect" BOTH dirfd = 0, address = 1, traits = TRAIT_SOCKET | TRAIT_UNIX;
    "sendto" REFUSED;
    "sendmsg" REFUSED;
    "setsockopt" REFUSED;
    // Identity.
    "setuid" BOTH;
    "setuid32" BOTH;
    "setgid" BOTH;
    "setgid32" BOTH;
    "setreuid" BOTH;
    "setreuid32" BOTH;
    "setregid" BOTH;
    "setregid32" BOTH;
    "setresuid" BOTH;
    "setresuid32" BOTH;
    "setresgid" BOTH;
    "setresgid32" BOTH;
    "setfsuid" BOTH;
    "setfsuid32" BOTH;
    "setfsgid" BOTH;
    "setfsgid32" BOTH;
    "setgroups" BOTH;
    "setgroups32" BOTH;
    "capset" BOTH;
    "prctl" REFUSED;
    "seccomp" BOTH;
    // Mounts and namespaces.
    "mount" BOTH path = 1, path2 = 0, traits = TRAIT_TEXT2;
    "umount" BOTH path = 0;
    "umount2" BOTH path = 0;
    "pivot_root" BOTH path = 0, path2 = 1;
    "open_tree" BOTH dirfd = 0, path = 1;
    "open_tree_attr" BOTH dirfd = 0, path = 1;
    "move_mount" BOTH dirfd = 0, path = 1, dirfd2 = 2, path2 = 3;
    "mount_setattr" BOTH dirfd = 0, path = 1;
    "fsopen" BOTH;
    "fspick" BOTH dirfd = 0, path = 1;
    "fsconfig" FAILED;
    "fsmount" BOTH;
    "statmount" REFUSED;
    "listmount" REFUSED;
    "unshare" BOTH;
    "setns" BOTH;
    "sethostname" BOTH;
    "setdomainname" BOTH;
    "quotactl" FAILED path = 1;
    "quotactl_fd" FAILED dirfd = 0;
    "swapon" BOTH path = 0;
    "swapoff" BOTH path = 0;
    // Limits and priorities.
    "setrlimit" BOTH data = 1;
    "prlimit64" FAILED data = 2;
    "setpriority" BOTH;
    "nice" BOTH;
    "sched_setparam" BOTH data = 1;
    "sched_setscheduler" BOTH data = 2;
    "sched_setattr" BOTH data = 1;
    "sched_setaffinity" BOTH;
    "ioprio_set" BOTH;
    // The kernel at large.
    "ioctl" REFUSED dirfd = 0;
    "fcntl" REFUSED dirfd = 0;
    "fcntl64" REFUSED dirfd = 0;
    "keyctl" FAILED;
    "add_key" FAILED;
    "request_key" FAILED;
    "bpf" BOTH;
    "perf_event_open" BOTH;
    "io_uring_setup" FAILED;
    "io_uring_register" REFUSED;
    "userfaultfd" FAILED;
    "init_module" BOTH;
    "finit_module" BOTH dirfd = 0;
    "delete_module" BOTH;
    "kexec_load" BOTH;
    "kexec_file_load" BOTH;
    "reboot" BOTH;
    "syslog" BOTH;
    "settimeofday" BOTH;
    "stime" BOTH;
    "clock_settime" BOTH;
    "clock_settime64" BOTH;
    "adjtimex" FAILED;
    "clock_adjtime" FAILED;
    "clock_adjtime64" FAILED;
    "acct" BOTH path = 0;
    "iopl" BOTH;
    "ioperm" BOTH;
    "vhangup" BOTH;
    "msgget" REFUSED;
    "msgctl" REFUSED;
    "semget" REFUSED;
    "semctl" REFUSED;
    "shmget" REFUSED;
    "shmat" REFUSED;
    "shmctl" REFUSED;
    "mq_open" REFUSED;
    // What the program says, and what it sets below /proc/sys.
    "write" TELLING dirfd = 0, data = 1;
    "pwrite64" TELLING dirfd = 0, data = 1;
    "writev" TELLING dirfd = 0, data = 1, traits = TRAIT_IOVEC;
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_rows_distinguishable_from_none() {
        let mut names = BTreeSet::new();
        for row in ROWS {
            assert!(names.insert(row.name), "{} is there twice", row.name);
            assert!(row.operands.is_row(), "{} is never recorded and has no trait", row.name);
        }
    }

    #[test]
    fn telling_calls_have_the_descriptor_first() {
        let telling = ROWS.iter().filter(|row| row.operands.when & WHEN_TELLING != 0);
        assert!(telling.clone().count() > 0 && telling.clone().all(|row| row.operands.dirfd == 0));
    }

    #[test]
    fn argument_indexes_are_within_six() {
        for row in ROWS {
            let Operands { path, dirfd, path2, dirfd2, address, data, .. } = row.operands;
            for index in [path, dirfd, path2, dirfd2] {
                assert!(index == NONE || index < 6, "{}: argument {index}", row.name);
            }
            for index in [address, data] {
                assert!(index == NONE || index < 5, "{}: a length follows argument {index}", row.name);
            }
        }
    }
}
