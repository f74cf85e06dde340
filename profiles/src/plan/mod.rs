//! The least arrangement of users, groups, owners and modes for several components that share files.
//!
//! From what each component does with files ([`Accesses`](crate::accesses::Accesses)) comes a user for each, a group for each set of components that
//! share, and owner, group and mode of every file and directory, so that the kernel grants each component what it does and
//! nobody more. Pure: [`plan()`] takes values and gives values, [`emit`] writes them.

pub mod emit;
mod ids;
mod matrix;
mod model;
mod names;
mod settle;
mod solve;
mod today;

pub use model::{
    Arrangement, Component, Entry, Excess, Group, GroupOf, Grouping, Options, Owner, Owners, PlanError,
    Public, Reader, Remark, Surplus, User,
};

/// Makes the arrangement. Total but for the ids: what cannot be arranged is in [`Arrangement::conflicts`].
///
/// # Errors
/// When ids run out, or one is given twice.
pub fn plan(components: &[Component], options: &Options) -> Result<Arrangement, PlanError> {
    let matrix = matrix::Matrix::of(components, options);
    let mut settled = settle::settle(&matrix, components, options);
    let (users, groups) = ids::assign(components, &settled, options)?;
    settled.conflicts.extend(matrix.cannot_pass(components));
    settled.conflicts.sort();
    settled.conflicts.dedup();
    Ok(Arrangement {
        components: components.iter().map(|component| component.name.clone()).collect(),
        capabilities: components.iter().map(|component| component.capabilities.clone()).collect(),
        executes: components.iter().map(|component| component.executes.clone()).collect(),
        today: today::excess(&matrix, components, options),
        users,
        groups,
        entries: settled.entries,
        conflicts: settled.conflicts,
        surplus: settled.surplus,
        notes: settled.notes,
    })
}
