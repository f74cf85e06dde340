//! Files: from descriptors to locations, and from locations to paths.

use nrtrace_ebpf::layout::Field;
use nrtrace_ebpf::{FLAG_DEEP, FLAG_TRUNCATED, InodeRecord, PATH_MAX};

use crate::kernel::{Task, load, offset, read, read_at};
use crate::text::{self, Scratch};

/// Steps a walk takes at most.
const STEPS: u32 = 96;

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
        Self::at(load::<u64>(task, Field::TaskFs).wrapping_add(offset(Field::FsRoot)))
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

/// Appends the path of `dentry` on `mnt` to the strings, leaf first, up to the root of the mount namespace; returns
/// the flags to set.
///
/// As `prepend_path` of the kernel, without its locks: a rename in the very moment may mix two paths.
#[inline(never)]
pub fn walk(scratch: *mut Scratch, mut mnt: u64, mut dentry: u64) -> u64 {
    let start = text::length(scratch);
    let mut root: u64 = read(mnt, Field::VfsmountRoot);
    for _ in 0..STEPS {
        if dentry == root {
            let mount = mnt.wrapping_sub(offset(Field::MountMnt));
            let parent: u64 = read(mount, Field::MountParent);
            if parent == mount || parent == 0 {
                return top(mount);
            }
            dentry = read(mount, Field::MountMountpoint);
            mnt = parent.wrapping_add(offset(Field::MountMnt));
            root = read(mnt, Field::VfsmountRoot);
            continue;
        }
        let parent: u64 = read(dentry, Field::DentryParent);
        if parent == dentry || parent == 0 {
            return u64::from(FLAG_DEEP);
        }
        let length: u32 = read(dentry, Field::DentryNameLen);
        let name: u64 = read(dentry, Field::DentryName);
        let so_far = text::length(scratch).wrapping_sub(start);
        if so_far > PATH_MAX as u64 || !text::push_name(scratch, so_far != 0, name, length) {
            return u64::from(FLAG_TRUNCATED);
        }
        dentry = parent;
    }
    u64::from(FLAG_DEEP)
}

/// Flags for a walk that ended at the root of `mount`, which is mounted nowhere: the root of a namespace, or a mount
/// that is the kernel's own (pipes, sockets) or was detached.
#[inline(always)]
fn top(mount: u64) -> u64 {
    let namespace: u64 = read(mount, Field::MountNs);
    // `MNT_NS_INTERNAL` is an error pointer.
    if namespace == 0 || namespace as i64 >= -4095 && (namespace as i64) < 0 {
        u64::from(FLAG_DEEP)
    } else {
        0
    }
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
