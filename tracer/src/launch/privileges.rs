//! The capabilities nrtrace itself holds, and can therefore pass on.

use std::path::Path;
use std::{fs, io};

use nrtrace_profiles::Capability;

use super::Error;
use crate::status::Status;

/// Without these no permissive run can be prepared.
const NEEDED: [Capability; 3] = [Capability::SETUID, Capability::SETGID, Capability::SETPCAP];

/// The last capability Linux 5.8 knows, for a kernel that does not tell.
const LAST_KNOWN: u8 = 40;

/// Capability sets of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// One bit for each capability that can be made ambient in a child.
    pub given: u64,
    /// Number of the kernel's last capability.
    pub last: u8,
}

impl Privileges {
    /// Reads those of the calling process.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn of_self() -> Result<Self, Error> {
        let path = "/proc/thread-self/status";
        let missing = || Error::system("reading", path, io::Error::from(io::ErrorKind::NotFound));
        let status = Status::of("thread-self").ok_or_else(missing)?;
        let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok();
        let last = last.and_then(|text| text.trim().parse().ok()).unwrap_or(LAST_KNOWN);
        // A capability outside the bounding set cannot become inheritable, so neither ambient (cap_capset in
        // security/commoncap.c).
        Ok(Self { given: status.capabilities("CapPrm") & status.capabilities("CapBnd"), last })
    }

    /// The capabilities of this kernel that a child cannot be given.
    pub fn missing(&self) -> Vec<Capability> {
        (0..=self.last).filter(|number| self.given >> number & 1 == 0).map(Capability::from_number).collect()
    }

    /// Whether a child can be given this capability.
    pub fn holds(&self, capability: Capability) -> bool {
        self.given >> capability.number() & 1 == 1
    }

    /// Whether a program can be started as another user.
    pub fn can_change_user(&self) -> bool {
        [Capability::SETUID, Capability::SETGID].into_iter().all(|one| self.holds(one))
    }

    /// Fails when a permissive run cannot be prepared with what is held.
    ///
    /// # Errors
    /// [`Error::NotPrivileged`], naming what is missing.
    pub fn require_permissive(&self) -> Result<(), Error> {
        let missing = NEEDED.iter().filter(|capability| !self.holds(**capability));
        let missing: Vec<String> = missing.map(ToString::to_string).collect();
        if missing.is_empty() { Ok(()) } else { Err(Error::NotPrivileged { missing: missing.join(", ") }) }
    }
}

/// What in the file itself replaces the capabilities given to the program: file capabilities and set-id bits clear the
/// ambient set at execve(2), see capabilities(7).
pub fn note_on_executable(program: &Path) -> Option<String> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;

    let mode = program.metadata().map(|metadata| metadata.mode()).unwrap_or(0);
    let path = std::ffi::CString::new(program.as_os_str().as_bytes()).ok()?;
    // SAFETY: both strings are NUL-terminated; a null buffer of size 0 asks for the value's length alone.
    let length =
        unsafe { libc::getxattr(path.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0) };
    let what = match (length > 0, mode & 0o4000 != 0, mode & 0o2010 == 0o2010) {
        (true, ..) => "carries file capabilities",
        (_, true, _) => "has the set-user-ID bit",
        (_, _, true) => "has the set-group-ID bit",
        _ => return None,
    };
    Some(format!(
        "{} {what}, which at its start replaces the ambient capabilities of the run: what it was refused without \
         them is a real refusal",
        program.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_missing_is_named() {
        let privileges = Privileges { given: !(1 << 24) & ((1 << 41) - 1), last: 40 };
        assert_eq!(privileges.missing(), [Capability::SYS_RESOURCE]);
        assert!(privileges.require_permissive().is_ok());
        let none = Privileges { given: 0, last: 40 };
        assert_eq!(none.missing().len(), 41);
        let message = none.require_permissive().unwrap_err().to_string();
        assert!(message.contains("CAP_SETUID, CAP_SETGID, CAP_SETPCAP") && message.contains("--enforce"));
    }

    #[test]
    fn set_id_bits_are_noted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        std::fs::write(&path, "").unwrap();
        for (mode, expected) in
            [(0o755, None), (0o4755, Some("set-user-ID")), (0o2755, Some("set-group-ID")), (0o2644, None)]
        {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let note = note_on_executable(&path);
            assert_eq!(note.is_some(), expected.is_some(), "{mode:o}");
            assert!(note.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
    }
}
