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
mod row;
mod rows;
#[cfg(test)]
mod tests;
mod want;

use nrtrace_ebpf::table::Operands;

use crate::event::Call;

pub use consults::{Condition, Consulted};
pub use coverage::coverage;
pub use operation::{
    File, Flags, Identity, IdentityOperation, Kernel, Limit, Memory, Mount, Operation, Removed, Socket, Task,
    Timed,
};
pub use row::{Link, Row};
pub use rows::ROWS;
pub use want::{Attribute, NoMemory, Part, Pointed, Times, Victim, Want};

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

/// Whether the 32-bit call of a row takes ids of 16 bits: then another one, named after theirs, takes those of 32.
pub fn has_narrow_ids(row: &Row) -> bool {
    find(&format!("{}32", row.name)).is_some()
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
