//! nrtrace in a root directory that is not its mount namespace's, as chroot(8) gives it: the kernel tells paths from the
//! namespace's root, but all that nrtrace and its user see begins at their own.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir, getcwd};

use super::decode::{Observation, Operation};
use super::paths::leaf_first;
use super::tree::own_namespace;

/// Steps up that lead out of any directory: a path has at most half as many components as bytes.
const UP: usize = libc::PATH_MAX as usize / 2;
/// Steps up that fit in a path.
const UP_AT_ONCE: usize = libc::PATH_MAX as usize / 4;

/// The root directory that paths are told from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Top {
    /// Its path in the mount namespace, leaf first; empty for the namespace's own root.
    path: Vec<u8>,
    mnt_ns: u32,
}

impl Top {
    /// This process's root directory. One that cannot be placed, for want of `CAP_SYS_CHROOT`, counts as the namespace's.
    pub fn own() -> Self {
        static OWN: OnceLock<Top> = OnceLock::new();
        // The root of one thread alone is changed, and it ends at once.
        let place = || std::thread::spawn(place_root).join().ok().flatten().unwrap_or_default();
        OWN.get_or_init(|| Self { path: place(), mnt_ns: own_namespace() }).clone()
    }

    /// The observation, with its paths told from here.
    pub fn within<'a>(&self, observation: Observation<'a>) -> Observation<'a> {
        if self.path.is_empty() {
            return observation;
        }
        match observation {
            Observation::Check(operation, mut check) if operation.head.mnt_ns == self.mnt_ns => {
                if let Some((_, path)) = &mut check.component {
                    *path = self.below(path);
                }
                Observation::Check(self.operation(operation), check)
            }
            Observation::Call(operation, ret) if operation.head.mnt_ns == self.mnt_ns => {
                Observation::Call(self.operation(operation), ret)
            }
            Observation::Exec { head, path, exe } if head.mnt_ns == self.mnt_ns => {
                Observation::Exec { head, path, exe: self.below(exe) }
            }
            other => other,
        }
    }

    fn operation<'a>(&self, operation: Operation<'a>) -> Operation<'a> {
        Operation { strings: operation.strings.with_places(|path| self.below(path)), ..operation }
    }

    /// A leaf-first path, without what it has in common with this one; one that lies elsewhere stays as it is.
    fn below<'a>(&self, path: &'a [u8]) -> &'a [u8] {
        match path.strip_suffix(self.path.as_slice()) {
            Some(b"") => b"",
            Some(rest) => rest.strip_suffix(b"/").unwrap_or(path),
            None => path,
        }
    }
}

/// The path of this thread's root directory in the mount namespace, leaf first. Leaves the thread with the namespace's
/// root.
fn place_root() -> Option<Vec<u8>> {
    unshare(CloneFlags::CLONE_FS).ok()?;
    let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    // With its root elsewhere, the way up from the former one ends at the namespace's alone.
    chroot("/proc").ok()?;
    fchdir(&root).ok()?;
    for _ in 0..UP / UP_AT_ONCE {
        chdir(Path::new(&"../".repeat(UP_AT_ONCE))).ok()?;
    }
    chroot(".").ok()?;
    fchdir(&root).ok()?;
    told(&getcwd().ok()?)
}

/// As records tell it. `None` for what is no absolute path: a root that no mount shows any more.
fn told(path: &Path) -> Option<Vec<u8>> {
    path.is_absolute().then(|| leaf_first(path.as_os_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_is_told_from_there() {
        let top = Top { path: told(Path::new("/srv/tree")).unwrap(), mnt_ns: 0 };
        assert_eq!(top.path, b"tree/srv");
        for (told, seen) in [
            ("tree/srv", ""),
            ("passwd/etc/tree/srv", "passwd/etc"),
            ("passwd/etc", "passwd/etc"),
            ("x/subtree/srv", "x/subtree/srv"),
            ("", ""),
        ] {
            assert_eq!(top.below(told.as_bytes()), seen.as_bytes(), "{told}");
        }
        assert_eq!(told(Path::new("/")), Some(Vec::new()));
        assert_eq!(told(Path::new("(unreachable)/x")), None);
    }
}
