//! A probe for all runs of a search: loaded when the first of them is to be watched, and lent to one at a time.

use std::sync::{Mutex, MutexGuard};

use nrtrace_profiles::event::Record;

use super::Watching;
use crate::backend::Choice;
use crate::ebpf::{Kept, Numbers, Options};

/// A sandbox is in a pid namespace of its own.
const DEEPER: u32 = 1;

/// Lends what watches a program.
#[derive(Debug, Default)]
pub struct Lender {
    kept: Mutex<Shelf>,
}

/// What there is to be lent.
#[derive(Debug, Default)]
enum Shelf {
    /// Nobody has asked yet.
    #[default]
    Unasked,
    /// Nothing: it cannot be loaded here, and each run says why.
    Empty,
    /// A probe, and what it was loaded for.
    Full(Box<Kept>, Record, usize),
}

/// What is lent, until this is dropped.
pub(super) struct Loan<'a>(MutexGuard<'a, Shelf>);

impl Lender {
    /// A probe for a run, unless another run has it, or it would be another one.
    pub(super) fn lend(&self, watch: &Watching) -> Option<Loan<'_>> {
        if watch.backend == Choice::Ptrace {
            return None;
        }
        let mut shelf = self.kept.try_lock().ok()?;
        if matches!(*shelf, Shelf::Unasked) {
            let options = Options { record: watch.record, buffer: watch.buffer, attach: false };
            *shelf = Kept::load(&options)
                .map_or(Shelf::Empty, |kept| Shelf::Full(Box::new(kept), watch.record, watch.buffer));
        }
        let fits = matches!(*shelf, Shelf::Full(_, record, buffer) if (record, buffer) == (watch.record, watch.buffer));
        fits.then_some(Loan(shelf))
    }
}

impl Loan<'_> {
    /// As the sandbox inherits it.
    pub(super) fn numbers(&self) -> Option<Numbers> {
        match &*self.0 {
            Shelf::Full(kept, ..) => Some(kept.numbers(DEEPER)),
            Shelf::Unasked | Shelf::Empty => None,
        }
    }
}
