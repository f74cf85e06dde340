//! A file held open for looking at: an `O_PATH` descriptor and what statx(2) tells of it.
//!
//! `O_PATH` opens no file for real: no device is started, no pipe waits for its other end, no automount is
//! triggered on the last component, no access time changes.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nrtrace_profiles::RawText;
use nrtrace_profiles::event::{Component, Inode};
use rustix::fs::{AtFlags, StatxFlags, statx};

/// `AUTOFS_SUPER_MAGIC` of `linux/magic.h`, which the libc crate lacks.
const AUTOFS: u64 = 0x0187;
/// `ST_NOSYMFOLLOW` of statfs(2), Linux 5.10.
const ST_NOSYMFOLLOW: u64 = 0x2000;
/// Longest text of a symbolic link.
const PATH_MAX: usize = 4096;

/// A file on the way, or the one at its end.
pub(super) struct Node {
    fd: OwnedFd,
    /// Type and permission bits.
    pub mode: u32,
    /// Owner, as the mount maps it.
    pub uid: u32,
    /// Group, as the mount maps it.
    pub gid: u32,
    /// Directory entries that lead here; none for a directory that was removed.
    pub links: u32,
    /// `STATX_ATTR_` bits.
    attributes: u64,
    device: (u32, u32),
    /// Device of the filesystem, inode number, mount: equal for the same file seen through the same mount.
    place: (u32, u32, u64, u64),
    /// Below the `/proc/PID` of the process asked about, whose files belong to that process itself.
    pub own_proc: bool,
}

/// What a mount, or the whole filesystem on it, forbids.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mount {
    pub read_only: bool,
    pub no_exec: bool,
    pub no_dev: bool,
    pub no_symlinks: bool,
    pub proc: bool,
    pub automount: bool,
}

impl Node {
    /// Looks at the entry `name` of `dir`; with `follow`, at what it leads to.
    pub fn open(dir: BorrowedFd, name: &CStr, follow: bool) -> Result<Self, Errno> {
        Self::new(open_path(dir.as_raw_fd(), name, follow)?)
    }

    /// Looks at a file somebody else holds.
    pub fn same(fd: BorrowedFd) -> Result<Self, Errno> {
        Self::new(fd.try_clone_to_owned().map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))?)
    }

    /// Takes an `O_PATH` descriptor and asks for its facts.
    pub fn new(fd: OwnedFd) -> Result<Self, Errno> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat = statx(&fd, c"", flags, mask).map_err(|errno| Errno::from_raw(errno.raw_os_error()))?;
        let mount = if stat.stx_mask & StatxFlags::MNT_ID.bits() != 0 { stat.stx_mnt_id } else { 0 };
        Ok(Self {
            fd,
            mode: u32::from(stat.stx_mode),
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            links: stat.stx_nlink,
            attributes: stat.stx_attributes.bits(),
            device: (stat.stx_rdev_major, stat.stx_rdev_minor),
            place: (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino, mount),
            own_proc: false,
        })
    }

    /// The descriptor, for as long as the node lives.
    pub fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.fd)
    }

    /// What the mount it is on forbids. A question of its own, for few nodes need it.
    pub fn mount(&self) -> Result<Mount, Errno> {
        let mut statfs = MaybeUninit::<libc::statfs64>::zeroed();
        // SAFETY: the descriptor is open and `statfs` is large enough for the answer.
        Errno::result(unsafe { libc::fstatfs64(self.fd.as_raw_fd(), statfs.as_mut_ptr()) })?;
        // SAFETY: the kernel has filled it in.
        let statfs = unsafe { statfs.assume_init() };
        let (flags, magic) = (statfs.f_flags as u64, statfs.f_type as u64);
        Ok(Mount {
            read_only: flags & libc::ST_RDONLY != 0,
            no_exec: flags & libc::ST_NOEXEC != 0,
            no_dev: flags & libc::ST_NODEV != 0,
            no_symlinks: flags & ST_NOSYMFOLLOW != 0,
            proc: magic == libc::PROC_SUPER_MAGIC as u64,
            automount: magic == AUTOFS,
        })
    }

    /// Whether both are one file, seen through one mount.
    pub fn is(&self, other: &Self) -> bool {
        self.place == other.place
    }

    /// Whether both are on one filesystem.
    pub fn beside(&self, other: &Self) -> bool {
        (self.place.0, self.place.1) == (other.place.0, other.place.1)
    }

    /// Whether the filesystem is on a block device, and so neither procfs nor autofs.
    pub fn on_disk(&self) -> bool {
        self.place.0 != 0
    }

    /// Inode number.
    pub fn ino(&self) -> u64 {
        self.place.2
    }

    /// The type, as `S_IF` bits.
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    pub fn is_directory(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }

    pub fn is_symlink(&self) -> bool {
        self.kind() == libc::S_IFLNK
    }

    pub fn is_regular(&self) -> bool {
        self.kind() == libc::S_IFREG
    }

    pub fn is_device(&self) -> bool {
        matches!(self.kind(), libc::S_IFBLK | libc::S_IFCHR)
    }

    /// `chattr +i`, and what filesystems treat alike.
    pub fn is_immutable(&self) -> bool {
        self.attributes & libc::STATX_ATTR_IMMUTABLE as u64 != 0
    }

    /// `chattr +a`.
    pub fn is_append_only(&self) -> bool {
        self.attributes & libc::STATX_ATTR_APPEND as u64 != 0
    }

    /// What a symbolic link holds.
    pub fn text(&self) -> Result<Vec<u8>, Errno> {
        read_link(self.fd.as_raw_fd(), c"")
    }

    /// Its path in its mount namespace, symbolic links followed, as the kernel writes it in `/proc/self/fd`.
    pub fn path(&self) -> RawText {
        RawText::new(read_link(libc::AT_FDCWD, &descriptor(self.fd.as_raw_fd())).unwrap_or_default())
    }

    /// The facts the event model carries. Names of owners are the caller's to add.
    pub fn inode(&self) -> Inode {
        Inode::of_mode(self.mode, self.uid, self.gid, self.device)
    }

    /// Path and facts.
    pub fn component(&self) -> Component {
        Component { path: self.path(), inode: self.inode() }
    }
}

/// The name of an open descriptor in `/proc`.
pub(super) fn descriptor(fd: RawFd) -> CString {
    CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default()
}

/// Opens an entry for looking at.
pub(super) fn open_path(dir: RawFd, name: &CStr, follow: bool) -> Result<OwnedFd, Errno> {
    let flags = libc::O_PATH | libc::O_CLOEXEC | if follow { 0 } else { libc::O_NOFOLLOW };
    // SAFETY: the name is a C string; O_PATH takes no mode.
    let fd = Errno::result(unsafe { libc::openat(dir, name.as_ptr(), flags) })?;
    // SAFETY: the kernel has just given it to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the link `name` of a procfs directory is one that the kernel follows by itself, without a text
/// (`exe`, `fd/3`): openat2(2) refuses such links with `ELOOP` when told so. Before Linux 5.6 nobody can be
/// asked, and links of procfs are taken for such.
pub(super) fn is_magic_link(dir: BorrowedFd, name: &CStr) -> bool {
    let how =
        OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    matches!(openat2(dir, name, how), Err(Errno::ELOOP | Errno::ENOSYS))
}

/// The text of a symbolic link; with an empty name, of the one `dir` itself is.
fn read_link(dir: RawFd, name: &CStr) -> Result<Vec<u8>, Errno> {
    let mut text = vec![0_u8; PATH_MAX];
    // SAFETY: the name is a C string and the buffer is as large as said.
    let length = unsafe { libc::readlinkat(dir, name.as_ptr(), text.as_mut_ptr().cast(), text.len()) };
    text.truncate(Errno::result(length)? as usize);
    Ok(text)
}
