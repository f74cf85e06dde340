//! What stands against a call besides the capabilities that were consulted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::RawText;

/// What stands against a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Obstacle {
    /// What kind of thing it is.
    pub cause: Cause,
    /// The file that refuses, or the mount point for what is a matter of the mount.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<RawText>,
}

/// What refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Owner, group, mode or ACL; and what nobody can tell from it: a security module's refusal, when nrtrace
    /// itself has no CAP_DAC_OVERRIDE.
    Permission,
    /// Somebody else owns it.
    NotOwner,
    /// Its directory is sticky, and neither it nor the directory is the user's.
    Sticky,
    /// It is immutable.
    Immutable,
    /// It is append-only.
    AppendOnly,
    /// Its mount, or the filesystem, is read-only.
    ReadOnlyMount,
    /// Its mount does not allow execution.
    NoExec,
    /// Its mount does not allow devices.
    NoDev,
    /// `fs.protected_symlinks`: a link of somebody else in a sticky directory that all can write to.
    ProtectedSymlink,
    /// `fs.protected_hardlinks`: a file the user neither owns nor may read and write.
    ProtectedHardlink,
    /// `fs.protected_regular`, `fs.protected_fifos`: opened with `O_CREAT` in a sticky directory of others.
    ProtectedFile,
    /// It belongs to another process: a link below `/proc/PID`.
    OtherProcess,
    /// Something that refuses privileged processes too: a security module, a device cgroup, an owner that the
    /// user namespace of the mount does not know.
    Policy,
    /// A seccomp filter of the process.
    Seccomp,
}

impl Cause {
    /// What it is and what mends it, for people.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Permission => "its owner and mode refuse everybody, root too: change the mode",
            Self::NotOwner => "somebody else owns it",
            Self::Sticky => "its directory is sticky, and neither is the user's",
            Self::Immutable => "it is immutable: chattr -i takes that away, no owner or mode does",
            Self::AppendOnly => "it is append-only: chattr -a takes that away, no owner or mode does",
            Self::ReadOnlyMount => {
                "the file system there is read-only: it takes a writable mount, not another owner"
            }
            Self::NoExec => {
                "the file system there is mounted noexec: it takes another mount option, not another mode"
            }
            Self::NoDev => {
                "the file system there is mounted nodev: it takes another mount option, not another owner"
            }
            Self::ProtectedSymlink => {
                "somebody else's symbolic link in a sticky directory is not followed (sysctl fs.protected_symlinks)"
            }
            Self::ProtectedHardlink => {
                "files that the user neither owns nor may read and write are not linked (sysctl fs.protected_hardlinks)"
            }
            Self::ProtectedFile => {
                "somebody else's file in a sticky directory is not opened with O_CREAT (sysctls fs.protected_regular \
                 and fs.protected_fifos)"
            }
            Self::OtherProcess => "it belongs to another process",
            Self::Policy => {
                "owner, mode and mount allow it: a security module (AppArmor, SELinux, Landlock) or a device cgroup \
                 refuses; its policy has to change"
            }
            Self::Seccomp => {
                "the process has a seccomp filter, and nothing else is known to refuse this: the filter has to change \
                 (SystemCallFilter= in a unit, seccompProfile in Kubernetes, or the program's own)"
            }
        }
    }
}
