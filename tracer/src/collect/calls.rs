//! What is known of system calls by name: how they treat their path, and which arguments tell calls apart.

use std::sync::Arc;

/// Whether the last component of a path is followed when it is a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// Always.
    Follow,
    /// Never: the call is about the name itself.
    Keep,
    /// Unless this argument has one of these bits.
    KeepWith(usize, u64),
    /// Only when this argument has one of these bits.
    FollowWith(usize, u64),
    /// By the open flags in this argument.
    Open(usize),
}

/// Which file a call's permission check is about, apart from the search of directories on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// The file itself.
    File,
    /// The directory that holds the name.
    Parent,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// How the last component is treated.
    pub last: Last,
    /// What is judged.
    pub judged: Judged,
    /// The arguments that tell calls apart (flags, modes, ids), as bits; not pointers, sizes and descriptors.
    pub telling: u8,
}

const PLAIN: Traits = Traits { last: Last::Follow, judged: Judged::File, telling: 0 };
const NOFOLLOW: u64 = libc::AT_SYMLINK_NOFOLLOW as u64;
const FOLLOW: u64 = libc::AT_SYMLINK_FOLLOW as u64;

const UMOUNT_NOFOLLOW: u64 = libc::UMOUNT_NOFOLLOW as u64;
const IN_DONT_FOLLOW: u64 = libc::IN_DONT_FOLLOW as u64;
/// Of `include/uapi/linux/mount.h`: the source is followed.
const MOVE_MOUNT_F_SYMLINKS: u64 = 1;

/// Names, treatment of the last component, what is judged, telling arguments.
const TABLE: &[(&[&str], Last, Judged, u8)] = {
    use Judged::{File, Parent};
    use Last::{Follow, FollowWith, Keep, KeepWith, Open};
    &[
        (&["open"], Open(1), File, 0b110),
        (&["openat"], Open(2), File, 0b1100),
        // With its flags in place.
        (&["openat2"], Open(2), File, 0),
        (&["creat", "access", "chmod", "fchmod"], Follow, File, 0b10),
        (&["mkdir"], Keep, Parent, 0b10),
        (&["mkdirat", "unlinkat"], Keep, Parent, 0b100),
        (&["mknod"], Keep, Parent, 0b110),
        (&["mknodat"], Keep, Parent, 0b1100),
        (&["rmdir", "unlink", "rename", "renameat", "link", "symlink", "symlinkat"], Keep, Parent, 0),
        (&["renameat2"], Keep, Parent, 0b1_0000),
        (&["linkat"], FollowWith(4, FOLLOW), Parent, 0b1_0000),
        (&["fchmodat", "faccessat"], Follow, File, 0b100),
        (&["fchmodat2", "faccessat2"], KeepWith(3, NOFOLLOW), File, 0b1100),
        (&["chown", "chown32", "fchown", "fchown32"], Follow, File, 0b110),
        (&["lchown", "lchown32"], Keep, File, 0b110),
        (&["fchownat"], KeepWith(4, NOFOLLOW), File, 0b1_1100),
        (&["utimensat", "utimensat_time64", "newfstatat", "fstatat64"], KeepWith(3, NOFOLLOW), File, 0b1000),
        (&["statx", "open_tree", "open_tree_attr"], KeepWith(2, NOFOLLOW), File, 0b100),
        (&["setxattrat", "removexattrat", "mount_setattr"], KeepWith(2, NOFOLLOW), File, 0b100),
        (&["file_setattr"], KeepWith(4, NOFOLLOW), File, 0b1_0000),
        (&["name_to_handle_at"], FollowWith(4, FOLLOW), File, 0),
        (&["move_mount"], FollowWith(4, MOVE_MOUNT_F_SYMLINKS), File, 0b1_0000),
        (&["umount2"], KeepWith(1, UMOUNT_NOFOLLOW), File, 0b10),
        (&["inotify_add_watch"], KeepWith(2, IN_DONT_FOLLOW), File, 0b100),
        (&["lsetxattr", "lgetxattr", "lremovexattr", "llistxattr"], Keep, File, 0),
        (&["lstat", "lstat64", "readlink", "readlinkat"], Keep, File, 0),
        (&["execveat"], KeepWith(4, NOFOLLOW), File, 0b1_0000),
        (&["bind"], Keep, Parent, 0),
        (
            &["listen", "ioctl", "fcntl", "fcntl64", "kill", "tkill", "setns", "delete_module"],
            Follow,
            File,
            0b10,
        ),
        (&["mount"], Follow, File, 0b1000),
        (&["tgkill", "finit_module", "mlock2"], Follow, File, 0b100),
        (&["socket", "setresuid", "setresgid", "setresuid32", "setresgid32"], Follow, File, 0b111),
        (&["setreuid", "setregid", "setreuid32", "setregid32", "prctl"], Follow, File, 0b11),
        (&["setuid", "setgid", "setfsuid", "setfsgid", "setuid32", "setgid32"], Follow, File, 1),
        (&["setgroups", "setgroups32", "unshare", "mlockall", "ptrace", "keyctl", "syslog"], Follow, File, 1),
        (
            &["bpf", "setrlimit", "reboot", "iopl", "quotactl", "clock_settime", "clone", "nice", "seccomp"],
            Follow,
            File,
            1,
        ),
        (&["prlimit64", "sched_setscheduler"], Follow, File, 0b10),
        (&["setpriority", "ioprio_set"], Follow, File, 0b101),
        (&["setsockopt"], Follow, File, 0b110),
    ]
};

/// The system calls, by number.
#[derive(Debug, Default)]
pub struct Calls {
    native: Vec<Option<(Arc<str>, Traits)>>,
    compat: Vec<Option<(Arc<str>, Traits)>>,
    page_fault: Option<(Arc<str>, Traits)>,
}

/// Numbers from here on are looked up anew each time.
const CACHED: usize = 1024;

impl Calls {
    /// Name and traits of call `nr`, of the 32-bit table when `compat`.
    pub fn get(&mut self, nr: i32, compat: bool) -> (Arc<str>, Traits) {
        let slot = match usize::try_from(nr) {
            Err(_) => &mut self.page_fault,
            Ok(index) if index < CACHED => {
                let table = if compat { &mut self.compat } else { &mut self.native };
                if table.len() <= index {
                    table.resize(index + 1, None);
                }
                &mut table[index]
            }
            Ok(_) => return describe(nr, compat),
        };
        slot.get_or_insert_with(|| describe(nr, compat)).clone()
    }
}

fn describe(nr: i32, compat: bool) -> (Arc<str>, Traits) {
    let name = match usize::try_from(nr) {
        Err(_) => Arc::from("page-fault"),
        Ok(number) => match name(number, compat) {
            Some(name) => Arc::from(name),
            None => Arc::from(format!("syscall-{number}")),
        },
    };
    let traits = traits(&name);
    (name, traits)
}

fn name(number: usize, compat: bool) -> Option<&'static str> {
    if compat {
        #[cfg(target_arch = "x86_64")]
        return syscalls::x86::Sysno::new(number).map(|call| call.name());
        #[cfg(not(target_arch = "x86_64"))]
        return None;
    }
    syscalls::Sysno::new(number).map(|call| call.name())
}

/// Traits of a call by its name; those of an unlisted one say nothing special.
pub fn traits(name: &str) -> Traits {
    let row = TABLE.iter().find(|(names, ..)| names.contains(&name));
    row.map_or(PLAIN, |&(_, last, judged, telling)| Traits { last, judged, telling })
}

impl Traits {
    /// Whether a call with these arguments follows a symbolic link in the last component.
    pub fn follows(&self, args: &[u64; 6]) -> bool {
        match self.last {
            Last::Follow => true,
            Last::Keep => false,
            Last::KeepWith(index, bits) => args[index] & bits == 0,
            Last::FollowWith(index, bits) => args[index] & bits != 0,
            Last::Open(index) => {
                let flags = args[index] as i32;
                let exclusive = libc::O_CREAT | libc::O_EXCL;
                flags & libc::O_NOFOLLOW == 0 && flags & exclusive != exclusive
            }
        }
    }

    /// Whether a call with these arguments may make the file it names.
    pub fn creates(&self, name: &str, args: &[u64; 6]) -> bool {
        match self.last {
            Last::Open(index) => args[index] as i32 & libc::O_CREAT != 0,
            _ => name == "creat",
        }
    }

    /// The arguments that tell calls apart; the others are 0.
    pub fn telling_args(&self, args: &[u64; 6]) -> [u64; 6] {
        let mut kept = [0; 6];
        for (index, (kept, arg)) in kept.iter_mut().zip(args).enumerate() {
            if self.telling & 1 << index != 0 {
                *kept = *arg;
            }
        }
        if let Last::Open(index) = self.last {
            // Without O_CREAT or O_TMPFILE the mode is whatever the register held.
            let makes = libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY);
            if args[index] as i32 & makes == 0 {
                kept[index + 1] = 0;
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_names_in_both_tables() {
        let mut calls = Calls::default();
        assert_eq!(&*calls.get(libc::SYS_mkdir as i32, false).0, "mkdir");
        assert_eq!(&*calls.get(-1, false).0, "page-fault");
        assert_eq!(&*calls.get(5000, false).0, "syscall-5000");
        assert_eq!(&*calls.get(39, true).0, "mkdir", "39 is mkdir in the i386 table");
        assert_eq!(&*calls.get(39, false).0, "getpid");
    }

    #[test]
    fn no_name_has_two_rows() {
        let names: Vec<&str> = TABLE.iter().flat_map(|row| row.0).copied().collect();
        let distinct: std::collections::BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), distinct.len());
    }

    #[test]
    fn open_flags_say_whether_a_link_is_followed() {
        let open = traits("openat");
        let with = |flags: i32| [0, 0, flags as u64, 0o640, 0, 0];
        assert!(open.follows(&with(libc::O_CREAT)));
        assert!(!open.follows(&with(libc::O_CREAT | libc::O_EXCL)));
        assert!(!open.follows(&with(libc::O_NOFOLLOW)));
        assert_eq!(open.telling_args(&with(libc::O_RDWR))[3], 0);
        assert_eq!(open.telling_args(&with(libc::O_CREAT))[3], 0o640);
    }
}
