//! What calls do with files, in the oracle's terms.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;

use nrtrace_ebpf::table::{NONE, Row, WHEN_FAILED, WHEN_OK, WHEN_TELLING};

use crate::oracle::{Victim, Want};
use crate::ptrace::CallAtEntry;

/// What a call does with its paths. Numbers are indexes of arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Opens, with the flags in this argument.
    Open(usize),
    /// `openat2`, whose flags are in memory.
    OpenHow,
    /// Opens with these flags.
    OpenWith(i32),
    /// Makes a directory.
    MakeDirectory,
    /// Makes another entry.
    Make,
    /// Gives a file another name.
    Link,
    /// Renames.
    Rename,
    /// Removes a file.
    Unlink,
    /// `unlinkat`.
    UnlinkAt,
    /// Removes a directory.
    RemoveDirectory,
    /// Does what is the owner's right.
    Own,
    /// Gives the file to the owner in this argument and the group in the next.
    Give(usize),
    /// Sets times, to now when this argument is a null pointer.
    Times(usize),
    /// Cuts a file by name.
    Truncate,
    /// Sets or removes an attribute, whose name is in this argument.
    Attribute(usize),
    /// `access`, with the bits in this argument.
    Access(usize),
    /// Reads the directory for changes.
    Watch,
    /// Takes it as working or root directory.
    Enter,
    /// Runs it.
    Execute,
    /// Connects to a Unix socket.
    Connect,
    /// Makes a Unix socket.
    Bind,
    /// Looks at it, or does something for which a capability is asked anyway.
    Reach,
}

/// Calls with equal deeds.
const TABLE: &[(&[&str], Deed)] = &[
    (&["open"], Deed::Open(1)),
    (&["openat"], Deed::Open(2)),
    (&["openat2"], Deed::OpenHow),
    (&["creat"], Deed::OpenWith(libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC)),
    (&["acct"], Deed::OpenWith(libc::O_WRONLY | libc::O_APPEND)),
    (&["swapon"], Deed::OpenWith(libc::O_RDWR)),
    (&["mkdir", "mkdirat"], Deed::MakeDirectory),
    (&["mknod", "mknodat", "symlink", "symlinkat"], Deed::Make),
    (&["link", "linkat"], Deed::Link),
    (&["rename", "renameat", "renameat2"], Deed::Rename),
    (&["unlink"], Deed::Unlink),
    (&["unlinkat"], Deed::UnlinkAt),
    (&["rmdir"], Deed::RemoveDirectory),
    (&["chmod", "fchmod", "fchmodat", "fchmodat2", "file_setattr"], Deed::Own),
    (&["chown", "chown32", "lchown", "lchown32", "fchown", "fchown32"], Deed::Give(1)),
    (&["fchownat"], Deed::Give(2)),
    (&["utime", "utimes"], Deed::Times(1)),
    (&["futimesat", "utimensat", "utimensat_time64"], Deed::Times(2)),
    (&["truncate", "truncate64"], Deed::Truncate),
    (
        &["setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"],
        Deed::Attribute(1),
    ),
    (&["setxattrat", "removexattrat"], Deed::Attribute(3)),
    (&["access"], Deed::Access(1)),
    (&["faccessat", "faccessat2"], Deed::Access(2)),
    (&["inotify_add_watch"], Deed::Watch),
    (&["chdir", "fchdir", "chroot"], Deed::Enter),
    (&["execve", "execveat"], Deed::Execute),
    (&["connect"], Deed::Connect),
    (&["bind"], Deed::Bind),
    (&["stat", "stat64", "lstat", "lstat64", "newfstatat", "fstatat64", "statx"], Deed::Reach),
    (&["statfs", "statfs64", "readlink", "readlinkat", "getxattr", "lgetxattr"], Deed::Reach),
    (&["listxattr", "llistxattr", "name_to_handle_at"], Deed::Reach),
    (&["mount", "umount", "umount2", "pivot_root", "open_tree", "open_tree_attr"], Deed::Reach),
    (&["move_mount", "mount_setattr", "fspick", "quotactl", "swapoff"], Deed::Reach),
];

/// The deeds, by call.
#[derive(Debug)]
pub struct Deeds(HashMap<&'static str, Deed>);

impl Default for Deeds {
    fn default() -> Self {
        Self(TABLE.iter().flat_map(|&(names, deed)| names.iter().map(move |name| (*name, deed))).collect())
    }
}

impl Deeds {
    /// The deed of a call.
    pub fn get(&self, call: &str) -> Option<Deed> {
        self.0.get(call).copied()
    }
}

/// Whether the result of a call that cannot be foretold is worth a stop: memory, signals and the copying of data are
/// too frequent for that.
pub fn is_worth_its_result(row: &Row) -> bool {
    const FREQUENT: &[&str] = &["fork", "vfork", "ftruncate", "ftruncate64"];
    row.operands.when & (WHEN_OK | WHEN_FAILED | WHEN_TELLING) != 0 && !FREQUENT.contains(&row.name)
}

/// Which of a call's paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first.
    First,
    /// The second.
    Second,
    /// The one in a socket address.
    Address,
}

impl Place {
    /// The path as passed, empty for a call on a descriptor; `None` when it could not be read or there is none.
    pub fn path<'a>(self, call: &CallAtEntry<'a>) -> Option<&'a [u8]> {
        match self {
            Self::First if call.path.is_none() && call.operands.dirfd != NONE => {
                let given = call.args.get(usize::from(call.operands.path)).copied().unwrap_or(0);
                (given == 0).then_some(&[])
            }
            Self::First => call.path,
            Self::Second => call.path2,
            Self::Address => socket_path(call.address?),
        }
    }

    /// Where a relative path starts.
    pub fn start(self, call: &CallAtEntry<'_>) -> io::Result<OwnedFd> {
        match self {
            Self::First => call.base(),
            Self::Second => call.base2(),
            Self::Address => call.cwd(),
        }
    }
}

/// The path in a `sockaddr_un`: not in one without a name, nor in one of the abstract namespace (unix(7)).
fn socket_path(address: &[u8]) -> Option<&[u8]> {
    let (family, path) = address.split_first_chunk()?;
    let path = path.split(|byte| *byte == 0).next()?;
    (i32::from(u16::from_ne_bytes(*family)) == libc::AF_UNIX && !path.is_empty()).then_some(path)
}

impl Deed {
    /// What the oracle is to be asked, in the kernel's order.
    pub fn wants(self, call: &CallAtEntry<'_>) -> [Option<(Place, Want)>; 2] {
        let first = |want| [Some((Place::First, want)), None];
        let both = |one, other| [Some((Place::First, one)), Some((Place::Second, other))];
        let argument = |index: usize| call.args[index] as i32;
        match self {
            Self::Open(index) => first(Want::Open(argument(index))),
            Self::OpenHow => call
                .read::<8>(call.args[2])
                .map_or([None; 2], |how| first(Want::Open(u64::from_ne_bytes(how) as i32))),
            Self::OpenWith(flags) if call.path.is_some() => first(Want::Open(flags)),
            Self::MakeDirectory => first(Want::Create { directory: true }),
            Self::Make => first(Want::Create { directory: false }),
            Self::Link => both(Want::Link, Want::Create { directory: false }),
            Self::Rename => both(Want::Delete(Victim::Any), Want::Replace(Victim::Any)),
            Self::Unlink => first(Want::Delete(Victim::File)),
            Self::UnlinkAt if argument(2) & libc::AT_REMOVEDIR != 0 => first(Want::Delete(Victim::Directory)),
            Self::UnlinkAt => first(Want::Delete(Victim::File)),
            Self::RemoveDirectory => first(Want::Delete(Victim::Directory)),
            Self::Own | Self::Give(_) => first(Want::Own),
            Self::Times(index) if call.args[index] == 0 => first(Want::Touch),
            Self::Times(index) => times(call, index).map_or([None; 2], first),
            Self::Truncate => first(Want::Truncate),
            Self::Attribute(index) => attribute(call, index).map_or([None; 2], first),
            Self::Access(index) => first(Want::Access(argument(index))),
            Self::Watch => first(Want::Access(libc::R_OK)),
            Self::Enter => first(Want::Search),
            Self::Execute => first(Want::Execute),
            Self::Connect => [Some((Place::Address, Want::Connect)), None].filter_unix(call),
            Self::Bind => [Some((Place::Address, Want::Create { directory: false })), None].filter_unix(call),
            // A descriptor's own file is reached already.
            Self::Reach if call.path.is_some_and(|path| !path.is_empty()) => first(Want::Reach),
            Self::Reach | Self::OpenWith(_) => [None; 2],
        }
    }

    /// The owner and group that the call gives a file to.
    pub fn gift(self, call: &CallAtEntry<'_>) -> Option<(u32, u32)> {
        let Self::Give(index) = self else { return None };
        Some((call.args[index] as u32, call.args[index + 1] as u32))
    }

    /// Whether the call changes nothing, so that what comes of it is known once nothing stands against it.
    pub fn only_looks(self, call: &CallAtEntry<'_>) -> bool {
        /// These file systems have rules of their own, which the oracle cannot be relied upon to know.
        const SPECIAL: [&[u8]; 2] = [b"/proc/", b"/sys/"];
        const CHANGES: i32 =
            libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_TMPFILE & !libc::O_DIRECTORY;
        let special = call.path.is_some_and(|path| SPECIAL.iter().any(|start| path.starts_with(start)));
        let looks = match self {
            Self::Open(index) => call.args[index] as i32 & CHANGES == libc::O_RDONLY,
            other => matches!(other, Self::Access(_) | Self::Watch | Self::Reach | Self::Enter),
        };
        looks && !special
    }
}

/// Asks nothing where the address has no path.
trait FilterUnix {
    fn filter_unix(self, call: &CallAtEntry<'_>) -> Self;
}

impl FilterUnix for [Option<(Place, Want)>; 2] {
    fn filter_unix(self, call: &CallAtEntry<'_>) -> Self {
        if Place::Address.path(call).is_some() { self } else { [None; 2] }
    }
}

/// Times given in memory: both may mean now, or nothing (utimensat(2)).
fn times(call: &CallAtEntry<'_>, index: usize) -> Option<Want> {
    if call.compat || call.name != "utimensat" {
        return Some(Want::Own);
    }
    let bytes = call.read::<32>(call.args[index])?;
    let word = |at: usize| i64::from_ne_bytes(std::array::from_fn(|byte| bytes[at + byte]));
    match (word(8), word(24)) {
        (libc::UTIME_NOW, libc::UTIME_NOW) => Some(Want::Touch),
        (libc::UTIME_OMIT, libc::UTIME_OMIT) => None,
        _ => Some(Want::Own),
    }
}

/// `user.` attributes take write access, ACLs the owner; the others are a matter of capabilities (xattr(7)).
fn attribute(call: &CallAtEntry<'_>, index: usize) -> Option<Want> {
    let name = call.read::<12>(call.args[index])?;
    match &name {
        name if name.starts_with(b"user.") => Some(Want::Access(libc::W_OK)),
        b"system.posix" => Some(Want::Own),
        _ => Some(Want::Reach),
    }
}
