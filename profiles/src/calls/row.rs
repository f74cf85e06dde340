//! A row of the table: what is said of one call.

use nrtrace_ebpf::table::{NONE, Operands};

use super::flags::{O_CREAT, O_NOFOLLOW, O_TMPFILE};
use super::operation::{File, Flags, Operation};

/// Whether the last component of a path is followed when it is a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Always.
    Followed,
    /// Never: the call is about the name itself.
    Kept,
    /// Unless this argument has one of these bits.
    KeptWith(u8, u64),
    /// Only when this argument has one of these bits.
    FollowedWith(u8, u64),
    /// By the flags that it is opened with.
    ByOpening,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Name of the system call, as in the kernel's tables.
    pub name: &'static str,
    /// Where its operands are, for the probe.
    pub operands: Operands,
    /// What it does.
    pub operation: Operation,
    /// How a symbolic link at the end of its path is treated.
    pub link: Link,
    /// The arguments that tell calls apart (flags, modes, ids), as bits; not pointers, sizes and descriptors.
    pub telling: u8,
    /// The values of an argument with which alone it consults a capability; with all where there are none.
    pub only: Option<(u8, &'static [u32])>,
    /// Whether it is too frequent to stop for its result alone.
    pub frequent: bool,
}

impl Row {
    /// Whether a call with these arguments ([`Row::in_place`]) follows a symbolic link in the last component.
    pub fn follows(&self, args: &[u64; 6]) -> bool {
        const O_CREAT_EXCL: u64 = 0o300;
        match self.link {
            Link::Followed => true,
            Link::Kept => false,
            Link::KeptWith(index, bits) => args[usize::from(index)] & bits == 0,
            Link::FollowedWith(index, bits) => args[usize::from(index)] & bits != 0,
            Link::ByOpening => self
                .operation
                .opened_with(args)
                .is_none_or(|flags| flags & O_NOFOLLOW == 0 && flags & O_CREAT_EXCL != O_CREAT_EXCL),
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
        if let Operation::File(File::Open(Flags::Argument(index))) = self.operation {
            // Without O_CREAT or O_TMPFILE the mode is whatever the register held.
            if args[usize::from(index)] & (O_CREAT | O_TMPFILE) == 0 {
                kept[usize::from(index) + 1] = 0;
            }
        }
        kept
    }

    /// The arguments, with flags and mode where a call has them that is passed them in no structure.
    pub fn in_place(&self, args: &[u64; 6], structure: &[u64]) -> [u64; 6] {
        self.operation.in_place(args, structure)
    }

    /// Whether something is wanted of files, so that it can be foretold.
    pub fn is_judged(&self) -> bool {
        let Operands { path, address, dirfd, .. } = self.operands;
        // What was opened is no longer asked for, but for what the inode's owner alone may do.
        let of_inode = matches!(
            self.operation,
            Operation::File(
                File::Mode(_)
                    | File::Give(_)
                    | File::SetAttribute(_)
                    | File::RemoveAttribute(_)
                    | File::Enter
            )
        );
        path != NONE || address != NONE || (dirfd != NONE && of_inode)
    }

    /// Whether the call is about a descriptor alone.
    pub fn is_on_descriptor(&self) -> bool {
        self.operands.path == NONE && self.operands.dirfd != NONE
    }
}
