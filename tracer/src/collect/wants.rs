//! What calls want of the files they name, as questions for the access oracle.

use nrtrace_profiles::calls::{File, Kernel, Operation, Row, Want};
use nrtrace_profiles::event::{Event, PathObject};

/// A file, and what is wanted of it.
pub struct WantedFile<'a> {
    /// The file.
    pub object: &'a PathObject,
    /// What is wanted.
    pub want: Want,
    /// Whether a symbolic link at its end is followed.
    pub follow: bool,
    /// Whether nothing but the file decides on the call; else there are rules that the oracle does not know.
    pub exact: bool,
}

/// What `event`, a call of this row, wants; nothing for a call that is about no file.
pub fn wants<'a>(event: &'a Event, row: &Row) -> Vec<WantedFile<'a>> {
    let follow = row.follows(&row.in_place(&event.call.args, &event.call.structure));
    let exact = is_exact(row.operation);
    let wants = event.call.wants().into_iter().flatten();
    wants
        .filter_map(|(part, want)| Some(WantedFile { object: part.of(&event.object)?, want, follow, exact }))
        .collect()
}

/// Attributes and hard links have rules of their own; so have the calls that take privileges beyond files.
fn is_exact(operation: Operation) -> bool {
    match operation {
        Operation::File(file) => !matches!(
            file,
            File::SetAttribute(_)
                | File::RemoveAttribute(_)
                | File::GetAttribute(_)
                | File::ListAttributes
                | File::Link
                | File::Give(_)
                | File::ChangeRoot
        ),
        Operation::Mount(_)
        | Operation::Kernel(Kernel::SwapOn | Kernel::SwapOff | Kernel::Accounting | Kernel::Quota) => false,
        _ => true,
    }
}
