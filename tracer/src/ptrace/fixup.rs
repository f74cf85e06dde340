//! Keeps a tracee from making children that nobody traces.
//!
//! Such a child would carry the seccomp filter and have no tracer, so the kernel would answer `ENOSYS` to all calls
//! of interest. The flag is taken out of clone(2)'s arguments for the duration of the call.

use super::calls::CLONE_SEEN;
use super::tracee::{Died, Stopped};

const UNTRACED: u64 = libc::CLONE_UNTRACED as u64;

/// What was changed, to be put back in the parent and in the child.
#[derive(Clone, Copy, Debug)]
pub enum Fixup {
    /// The first argument of clone(2), of a native or a 32-bit call.
    Register {
        /// Whether the call was a 32-bit one.
        compat: bool,
        /// Its value.
        value: u64,
    },
    /// The flags of clone3(2).
    Memory {
        /// Where they are.
        address: u64,
        /// Their value.
        value: u64,
    },
}

impl Fixup {
    /// Takes `CLONE_UNTRACED` out of the call that `stopped` is about to make. Returns whether the child gets new
    /// namespaces, and what must be undone.
    ///
    /// # Errors
    /// [`Died`] when the tracee is gone.
    pub fn apply(stopped: &Stopped, in_memory: bool, args: &[u64; 6]) -> Result<(bool, Option<Self>), Died> {
        let address = args[0];
        let flags = if in_memory {
            let mut bytes = [0u8; 8];
            match stopped.read_memory(address, &mut bytes) {
                Ok(8) => u64::from_ne_bytes(bytes),
                // The kernel will not be able to read them either.
                _ => return Ok((false, None)),
            }
        } else {
            address
        };
        let namespaces = flags & u64::from(CLONE_SEEN) & !UNTRACED != 0;
        if flags & UNTRACED == 0 {
            return Ok((namespaces, None));
        }
        let (fixup, changed) = if in_memory {
            (Self::Memory { address, value: flags }, Self::Memory { address, value: flags & !UNTRACED })
        } else {
            let compat = stopped.syscall()?.arch == crate::seccomp::arch::COMPAT;
            (Self::Register { compat, value: flags }, Self::Register { compat, value: flags & !UNTRACED })
        };
        changed.set(stopped)?;
        Ok((namespaces, Some(fixup)))
    }

    /// Puts the value back.
    ///
    /// # Errors
    /// [`Died`] when the tracee is gone.
    pub fn undo(&self, stopped: &Stopped) -> Result<(), Died> {
        self.set(stopped)
    }

    fn set(&self, stopped: &Stopped) -> Result<(), Died> {
        match *self {
            Self::Register { compat, value } => stopped.set_first_argument(compat, value),
            // Read-only flags stay as they are: the child goes its way untraced.
            Self::Memory { address, value } => {
                let _ = stopped.write_memory(address, &value.to_ne_bytes());
                Ok(())
            }
        }
    }
}
