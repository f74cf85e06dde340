//! Brings the checks of a call together, and the call's result to them.

use std::collections::HashMap;

use nrtrace_ebpf::record::{FLAG_COMPAT, Head};
use nrtrace_profiles::event::{Check, Record};

use super::decode::{Operation, StoredOperation};

/// Checks of one call that are kept.
const CHECKS: usize = 64;

/// A call whose checks are seen and whose end is not.
#[derive(Debug)]
pub struct Pending {
    /// The call.
    pub operation: StoredOperation,
    /// Its checks, in order.
    pub checks: Vec<Check>,
    /// When the last of them was seen.
    last: u64,
}

/// What a call's end brought together.
#[derive(Debug, Default)]
pub struct Paired {
    /// The checks of this very call.
    pub own: Option<Pending>,
    /// Checks of an earlier call whose end was not seen.
    pub orphan: Option<Pending>,
}

/// Threads with checks whose call has not ended.
#[derive(Debug)]
pub struct Pairing {
    record: Record,
    threads: HashMap<u32, Pending>,
    /// The memory of the last one concluded.
    spare: Vec<u8>,
}

impl Pairing {
    /// With [`Record::Calls`] checks wait for their call's end; with [`Record::Needs`] for no more checks.
    pub fn new(record: Record) -> Self {
        Self { record, threads: HashMap::new(), spare: Vec::new() }
    }

    /// Takes a check. What it ends is handed back.
    pub fn check(&mut self, operation: &Operation<'_>, check: Check) -> Option<Pending> {
        let tid = operation.head.tid;
        if let Some(pending) = self.threads.get_mut(&tid)
            && is_same(&pending.operation.get(), operation, self.record)
        {
            pending.last = operation.head.time;
            // A path through one refusing directory asks the same several times.
            if pending.checks.len() < CHECKS && pending.checks.last() != Some(&check) {
                pending.checks.push(check);
            }
            return None;
        }
        let stored = StoredOperation::new(operation, std::mem::take(&mut self.spare));
        let pending = Pending { operation: stored, checks: vec![check], last: operation.head.time };
        self.threads.insert(tid, pending)
    }

    /// Takes a call's end.
    pub fn call(&mut self, operation: &Operation<'_>) -> Paired {
        if self.threads.is_empty() {
            return Paired::default();
        }
        match self.threads.remove(&operation.head.tid) {
            Some(own) if is_same(&own.operation.get(), operation, Record::Calls) => {
                Paired { own: Some(own), orphan: None }
            }
            orphan => Paired { own: None, orphan },
        }
    }

    /// `head`'s thread runs a new program: it took the leader's number, and all other threads are gone.
    pub fn exec(&mut self, head: &Head) -> Vec<Pending> {
        if self.threads.is_empty() {
            return Vec::new();
        }
        let of_process = |pending: &Pending| pending.operation.get().head.pid == head.pid;
        let mut ended: Vec<Pending> =
            self.threads.extract_if(|_, pending| of_process(pending)).map(|(_, pending)| pending).collect();
        let own = ended.iter().position(|pending| is_exec(&pending.operation.get()));
        if let Some(own) = own {
            self.threads.insert(head.tid, ended.swap_remove(own));
        }
        ended
    }

    /// Thread `tid` has ended.
    pub fn exit(&mut self, tid: u32) -> Option<Pending> {
        self.threads.remove(&tid)
    }

    /// What has waited long enough: with [`Record::Needs`] since before `before`.
    pub fn overdue(&mut self, before: u64) -> Vec<Pending> {
        if self.record == Record::Calls || self.threads.is_empty() {
            return Vec::new();
        }
        self.threads.extract_if(|_, pending| pending.last < before).map(|(_, pending)| pending).collect()
    }

    /// All that is left.
    pub fn finish(&mut self) -> Vec<Pending> {
        let mut rest: Vec<Pending> = self.threads.drain().map(|(_, pending)| pending).collect();
        rest.sort_by_key(|pending| pending.last);
        rest
    }

    /// Takes back the memory of what was concluded.
    pub fn reuse(&mut self, pending: Pending) {
        self.spare = pending.operation.into_buffer();
    }
}

fn is_same(one: &Operation<'_>, other: &Operation<'_>, record: Record) -> bool {
    let compat = |operation: &Operation<'_>| operation.head.flags & FLAG_COMPAT;
    let number = one.nr == other.nr && compat(one) == compat(other);
    // The arguments of a successful execve are gone with the registers of the old program.
    let args = one.args == other.args || is_exec(one);
    // Without results, only the path tells calls from the same place in the program apart.
    let paths = record == Record::Calls || one.strings.path() == other.strings.path();
    number && args && paths
}

/// Whether the call runs another program.
pub fn is_exec(operation: &Operation<'_>) -> bool {
    let calls: [i64; 2] = if operation.head.flags & FLAG_COMPAT != 0 {
        [11, 358]
    } else {
        [libc::SYS_execve, libc::SYS_execveat]
    };
    calls.contains(&operation.nr.into())
}
