//! Files: from descriptors to locations, and from locations to paths.

use core::ffi::c_void;

use nrtrace_ebpf::layout::Field;
use nrtrace_ebpf::{FLAG_DEEP, FLAG_TRUNCATED, InodeRecord, PATH_MAX};

use crate::kernel::{Task, load, load_at, offset, read, read_at};
use crate::loops;
use crate::text::{self, Scratch};

/// Steps a walk takes at most: a path can have half as many components as bytes, and some mounts.
pub const STEPS: u32 = PATH_MAX as u32 / 2 + 64;

/// A directory entry on a mount (`struct path`).
#[derive(Clone, Copy)]
pub struct Location {
    /// Address of its `struct vfsmount`, zero if unknown.
    pub mnt: u64,
    /// Address of its `struct dentry`.
    pub dentry: u64,
}

impl Location {
    /// The `struct path` at an address.
    #[inline(always)]
    pub fn at(address: u64) -> Self {
        Self { mnt: read(address, Field::PathMnt), dentry: read(address, Field::PathDentry) }
    }

    /// The task's working directory.
    #[inline(always)]
    pub fn working_directory(task: Task) -> Self {
        Self::at(load::<u64>(task, Field::TaskFs).wrapping_add(offset(Field::FsPwd)))
    }

    /// The task's root directory.
    #[inline(always)]
    pub fn root(task: Task) -> Self {
        let fs: *const c_void = load(task, Field::TaskFs);
        let root = offset(Field::FsRoot);
        Self {
            mnt: load_at(fs, root + offset(Field::PathMnt)),
            dentry: load_at(fs, root + offset(Field::PathDentry)),
        }
    }

    /// Where an open file was found.
    #[inline(always)]
    pub fn of_file(file: u64) -> Self {
        Self::at(file.wrapping_add(offset(Field::FilePath)))
    }
}

/// Address of the task's open file `fd`, zero when it is none.
#[inline(always)]
pub fn file(task: Task, fd: i32) -> u64 {
    let table: u64 = read(load(task, Field::TaskFiles), Field::FilesFdt);
    let most: u32 = read(table, Field::FdtMaxFds);
    if fd < 0 || fd as u32 >= most {
        return 0;
    }
    let files: u64 = read(table, Field::FdtFd);
    read_at(files.wrapping_add(u64::from(fd as u32) * 8))
}

/// A walk in progress; kept in scratch memory, see [`Scratch`].
#[repr(C)]
pub struct Walk {
    mnt: u64,
    dentry: u64,
    /// Root of `mnt`.
    root: u64,
    /// Bytes of strings before this one.
    start: u64,
    /// What there is to say of the path.
    flags: u64,
}

/// Appends the path of a location to the strings, leaf first, up to the root of the mount namespace; returns the flags
/// to set.
///
/// As `prepend_path` of the kernel, without its locks: a rename in the very moment may mix two paths.
#[inline(always)]
pub fn walk(scratch: *mut Scratch, location: Location) -> u16 {
    let start = text::length(scratch);
    let walk = text::walk(scratch);
    walk.mnt = location.mnt;
    walk.dentry = location.dentry;
    walk.root = read(location.mnt, Field::VfsmountRoot);
    walk.start = start;
    walk.flags = u64::from(FLAG_DEEP);
    loops::walk(scratch);
    walk.flags as u16
}

const CONTINUE: i64 = 0;
const STOP: i64 = 1;

/// Takes one step of a walk; whether it was the last.
#[inline(always)]
pub fn step(scratch: *mut Scratch) -> i64 {
    let walk = text::walk(scratch);
    if walk.dentry == walk.root {
        let mount = walk.mnt.wrapping_sub(offset(Field::MountMnt));
        let parent: u64 = read(mount, Field::MountParent);
        if parent == mount || parent == 0 {
            walk.flags = u64::from(top(mount));
            return STOP;
        }
        walk.dentry = read(mount, Field::MountMountpoint);
        walk.mnt = parent.wrapping_add(offset(Field::MountMnt));
        walk.root = read(walk.mnt, Field::VfsmountRoot);
        return CONTINUE;
    }
    let parent: u64 = read(walk.dentry, Field::DentryParent);
    if parent == walk.dentry || parent == 0 {
        return STOP;
    }
    let length: u32 = read(walk.dentry, Field::DentryNameLen);
    let name: u64 = read(walk.dentry, Field::DentryName);
    let so_far = text::length(scratch).wrapping_sub(walk.start);
    if so_far > PATH_MAX as u64 || !text::push_name(scratch, so_far != 0, name, length) {
        walk.flags = u64::from(FLAG_TRUNCATED);
        return STOP;
    }
    walk.dentry = parent;
    CONTINUE
}

/// Flags for a walk that ended at the root of `mount`, which is mounted nowhere: the root of a namespace, or a mount
/// that is the kernel's own (pipes, sockets) or was detached.
#[inline(always)]
fn top(mount: u64) -> u16 {
    let namespace: u64 = read(mount, Field::MountNs);
    // `MNT_NS_INTERNAL` is an error pointer: an address of the last page.
    if namespace == 0 || namespace >= 0u64.wrapping_sub(4096) { FLAG_DEEP } else { 0 }
}

/// Facts of the inode at an address.
#[inline(always)]
pub fn inode(address: u64) -> InodeRecord {
    let sb: u64 = read(address, Field::InodeSb);
    InodeRecord {
        ino: read(address, Field::InodeIno),
        dev: read(sb, Field::SuperDev),
        rdev: read(address, Field::InodeRdev),
        mode: u32::from(read::<u16>(address, Field::InodeMode)),
        uid: read(address, Field::InodeUid),
        gid: read(address, Field::InodeGid),
        pad: 0,
    }
}
