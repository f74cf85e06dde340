//! What each system call means, said once: which operation it is, where its operands stand, whether it follows a link,
//! and which capabilities decide it ([`Operation::consults`]).
//!
//! The probe is given the [`Operands`] of each row, the tracer foretells by the [`Operation`], and the classifier reads
//! recorded calls by it. A call that does what another one does is one more row; a new [`Operation`] is flagged by the
//! compiler wherever operations are told apart. Nothing else tells calls apart by their names.

mod consults;
mod coverage;
pub mod flags;
mod operation;
mod rows;
#[cfg(test)]
mod tests;
mod want;

use nrtrace_ebpf::table::{NONE, Operands};

use crate::event::Call;
use flags::{O_CREAT, O_NOFOLLOW, O_TMPFILE};

pub use consults::{Condition, Consulted};
pub use coverage::coverage;
pub use operation::{
    File, Flags, Identity, IdentityOperation, Kernel, Limit, Memory, Mount, Operation, Removed, Socket, Task,
    Timed,
};
pub use rows::ROWS;
pub use want::{Attribute, NoMemory, Part, Pointed, Times, Victim, Want};

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

/// Indexes of the rows, ordered by name.
const ORDER: [u16; ROWS.len()] = order();

const fn order() -> [u16; ROWS.len()] {
    let mut order = [0; ROWS.len()];
    let mut count = 0;
    while count < ROWS.len() {
        let mut at = count;
        while at > 0 && precedes(ROWS[count].name, ROWS[order[at - 1] as usize].name) {
            order[at] = order[at - 1];
            at -= 1;
        }
        order[at] = count as u16;
        count += 1;
    }
    order
}

const fn precedes(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() {
        if one[at] != other[at] {
            return one[at] < other[at];
        }
        at += 1;
    }
    one.len() < other.len()
}

/// The row of a call by its name; none for a call that nothing is known of.
pub fn find(name: &str) -> Option<&'static Row> {
    let found = ORDER.binary_search_by(|index| ROWS[usize::from(*index)].name.cmp(name)).ok()?;
    ROWS.get(usize::from(ORDER[found]))
}

/// The row of a call by its name; one that says nothing for a call that nothing is known of.
pub fn row(name: &str) -> &'static Row {
    const UNKNOWN: &Row = &Row {
        name: "",
        operands: Operands::NONE,
        operation: Operation::Other,
        link: Link::Followed,
        telling: 0,
        only: None,
        frequent: false,
    };
    find(name).unwrap_or(UNKNOWN)
}

/// What a call of this name does.
pub fn operation(name: &str) -> Operation {
    row(name).operation
}

/// The native name of a call that the i386 table has twice, with ids of 16 and of 32 bits.
pub fn native_name(name: &str) -> &str {
    name.strip_suffix("32").unwrap_or(name)
}

/// The calls that return 0 to root alone, by which a program tells whether it is.
pub const ROOT_ONLY: [&str; 3] = ["getuid", "geteuid", "capset"];

/// Whether a call of this name removes a name for good.
pub fn removes(name: &str) -> bool {
    matches!(operation(name), Operation::File(File::Remove(_)))
}

/// Whether a call of this name makes a directory.
pub fn makes_directory(name: &str) -> bool {
    matches!(operation(name), Operation::File(File::MakeDirectory(_)))
}

/// Whether a call of this name opens.
pub fn opens(name: &str) -> bool {
    matches!(operation(name), Operation::File(File::Open(_)))
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

impl Call {
    /// What the call does.
    pub fn operation(&self) -> Operation {
        operation(&self.name)
    }

    /// The open flags of the call, where it opens by such.
    pub fn opened_with(&self) -> Option<u64> {
        let operation = self.operation();
        // What could not be read is no set of flags.
        let unread =
            matches!(operation, Operation::File(File::Open(Flags::Structure))) && self.structure.is_empty();
        operation.opened_with(&operation.in_place(&self.args, &self.structure)).filter(|_| !unread)
    }

    /// Whether it sets times to now, as far as its arguments tell.
    pub fn sets_times_to_now(&self) -> bool {
        matches!(self.wants(), [Some((_, Want::Touch)), _])
    }

    /// What the call wants of the files it is about, in the kernel's order.
    pub fn wants(&self) -> [Option<(Part, Want)>; 2] {
        let Some(row) = find(&self.name) else { return [None; 2] };
        if matches!(row.operation, Operation::File(File::Open(_))) && self.opened_with().is_none() {
            return [None; 2];
        }
        row.wants(&row.in_place(&self.args, &self.structure), &NoMemory)
    }
}
