//! What the kernel consults over a refusal: the same for what is foretold and for what is asked about afterwards.

use std::collections::BTreeSet;

use nrtrace_profiles::Capability;
use nrtrace_profiles::calls::Want;
use nrtrace_profiles::event::{Asked, Cause};
use nrtrace_profiles::requirement::Access;

use super::Refusal;

impl Refusal {
    /// The capability that the kernel consults, and what it asks then; none where no capability helps.
    pub fn consulted(&self, want: Want) -> Option<(Capability, Asked)> {
        match self.cause {
            Cause::NotOwner => Some((Capability::FOWNER, Asked::Other)),
            Cause::Sticky => Some((Capability::FOWNER, Asked::Sticky)),
            Cause::ProtectedHardlink if self.access.contains(&Access::Own) => {
                Some((Capability::FOWNER, Asked::Other))
            }
            Cause::ProtectedHardlink => Some((Capability::DAC_OVERRIDE, Asked::File)),
            Cause::OtherProcess => Some((Capability::SYS_PTRACE, Asked::Other)),
            Cause::Permission => self.of_mode(want),
            _ => None,
        }
    }

    /// The same where the mode or an ACL refused (`generic_permission`).
    fn of_mode(&self, want: Want) -> Option<(Capability, Asked)> {
        const TMPFILE: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;
        let has = |one: Access| self.access.contains(&one);
        let only = |one: Access| self.access == BTreeSet::from([one]);
        let unnamed = matches!(want, Want::Open(flags) if flags & TMPFILE != 0);
        Some(match () {
            // Times set to now take ownership, or else write access: the owner's right is asked for first.
            () if want == Want::Touch && !has(Access::Search) => (Capability::FOWNER, Asked::Other),
            // Asked as if it were to be made, when it is gone by now.
            () if has(Access::Create) && matches!(want, Want::Delete(_)) => {
                (Capability::DAC_OVERRIDE, Asked::Delete)
            }
            () if has(Access::Create) && unnamed => (Capability::DAC_OVERRIDE, Asked::Entry),
            () if has(Access::Create) => (Capability::DAC_OVERRIDE, Asked::Create),
            () if has(Access::Delete) => (Capability::DAC_OVERRIDE, Asked::Delete),
            // Without any x bit no capability helps to execute a file.
            () if has(Access::Execute) && self.component.inode.mode & 0o111 == 0 => return None,
            () if only(Access::Search) => (Capability::DAC_READ_SEARCH, Asked::Search),
            () if only(Access::Read) && only_reads(want) => (Capability::DAC_READ_SEARCH, Asked::File),
            () => (Capability::DAC_OVERRIDE, Asked::File),
        })
    }
}

fn only_reads(want: Want) -> bool {
    match want {
        Want::Open(flags) => flags & (libc::O_ACCMODE | libc::O_TRUNC) == libc::O_RDONLY,
        Want::Access(bits) => bits & libc::W_OK == 0,
        _ => false,
    }
}
