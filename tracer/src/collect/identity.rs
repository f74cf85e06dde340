//! Calls that were answered in the kernel's place, and the records of the same calls.
//!
//! The supervisor that answers them tells what was wanted; the probe sees the same calls return. Whichever comes
//! first waits for the other, so that each call is one event.

use std::collections::VecDeque;

use nrtrace_ebpf::record::FLAG_COMPAT;
use nrtrace_profiles::calls::{self, File, Operation as Does};

use super::calls::Calls;
use super::decode::{Operation, StoredOperation};
use crate::launch::{IdentityCall, machine};

/// How long one side waits for the other, in nanoseconds.
const PATIENCE: u64 = 1_000_000_000;
/// How many of one side wait.
const WAITING: usize = 1024;

/// Whether the supervisor may have decided on such a call.
pub fn is_identity(operation: Does) -> bool {
    operation.ids().is_some()
        || matches!(operation, Does::File(File::Give(_)))
        || machine::way(operation).is_some()
}

/// A call's record that waits, with its result.
pub type Recorded = (StoredOperation, i64);

/// The two sides.
#[derive(Debug, Default)]
pub struct Meeting {
    calls: VecDeque<IdentityCall>,
    records: VecDeque<Recorded>,
}

/// What is to be concluded.
#[derive(Debug)]
pub enum Concluded {
    /// A decided call, with its record where that was seen.
    Decided(Box<IdentityCall>, Option<StoredOperation>),
    /// A record that nobody decided on: the kernel did.
    Recorded(Recorded),
}

impl Meeting {
    /// Takes the supervisor's side.
    pub fn call(&mut self, names: &mut Calls, call: IdentityCall) -> Option<Concluded> {
        let found = self.records.iter().position(|(record, _)| is_same(names, &call, &record.get()));
        if let Some((record, _)) = found.and_then(|index| self.records.remove(index)) {
            return Some(Concluded::Decided(call.into(), Some(record)));
        }
        self.calls.push_back(call);
        let oldest = (self.calls.len() > WAITING).then(|| self.calls.pop_front()).flatten();
        oldest.map(|call| Concluded::Decided(call.into(), None))
    }

    /// Takes the probe's side.
    pub fn record(&mut self, names: &mut Calls, operation: &Operation<'_>, ret: i64) -> Option<Concluded> {
        let found = self.calls.iter().position(|call| is_same(names, call, operation));
        let stored = StoredOperation::new(operation, Vec::new());
        if let Some(call) = found.and_then(|index| self.calls.remove(index)) {
            return Some(Concluded::Decided(call.into(), Some(stored)));
        }
        self.records.push_back((stored, ret));
        let oldest = (self.records.len() > WAITING).then(|| self.records.pop_front()).flatten();
        oldest.map(Concluded::Recorded)
    }

    /// One that has waited long enough at time `now`.
    pub fn overdue(&mut self, now: u64) -> Option<Concluded> {
        let is_old = |time: u64| time.saturating_add(PATIENCE) < now;
        if self.records.front().is_some_and(|(record, _)| is_old(record.get().head.time)) {
            return self.records.pop_front().map(Concluded::Recorded);
        }
        if self.calls.front().is_some_and(|call| is_old(call.time)) {
            return self.calls.pop_front().map(|call| Concluded::Decided(call.into(), None));
        }
        None
    }
}

fn is_same(names: &mut Calls, call: &IdentityCall, operation: &Operation<'_>) -> bool {
    let telling = |args: &[u64; 6]| calls::row(call.name).telling_args(args).map(|arg| arg as u32);
    call.tid == operation.head.tid
        && telling(&call.args) == telling(&operation.args)
        && calls::native_name(&names.get(operation.nr, operation.head.flags & FLAG_COMPAT != 0).0)
            == call.name
}
