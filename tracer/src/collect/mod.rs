//! From records to events: symbols, paths, pairing of checks with calls, folding of equal events.
//!
//! ```text
//! bytes ─decode─▶ Observation ─pair─▶ operation, result, checks ─key, fold─▶ known: counted
//!                                                                     └────▶ new: object, component ─▶ Event
//! ```
//!
//! Most records end at the counting, which takes no system call and no allocation.

pub(crate) mod calls;
mod component;
mod decode;
mod event;
mod facts;
mod fold;
mod held;
mod identity;
mod inquiry;
mod key;
mod left;
mod magic;
mod object;
mod pair;
mod paths;
mod process;
mod program;
mod repeats;
mod sockets;
mod structure;
pub(crate) mod symbols;
mod telling;
mod top;
mod tree;
mod wants;
mod within;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use nix::time::{ClockId, clock_gettime};
use nrtrace_ebpf::record::{FLAG_NO_RESULT, Head, KIND_JOIN, read};
use nrtrace_profiles::RawText;
use nrtrace_profiles::event::{Accounts, Backend, Check, Event, Identity, Mode, Phase, Record};
use nrtrace_profiles::glob::Pattern;

pub(crate) use paths::{leaf_first, upright};

pub use tree::Trees;
pub use within::Within;

pub use decode::{Observation, Operation, RawCheck, StoredOperation, Strings, decode};

use crate::launch::IdentityCall;
use event::Builder;
use fold::{Admission, REFUSALS, Store, Worth};
pub(crate) use identity::is_identity;
use identity::{Concluded, Meeting};
use key::{Keys, Seen};
use pair::{Paired, Pairing, Pending, is_exec};
use repeats::Repeats;
use telling::StandardError;
use top::Top;

/// How long checks without results wait for more of their call, in nanoseconds.
const NEEDS_PATIENCE: u64 = 50_000_000;
/// Results that the kernel turns into a restart or into `EINTR` after its tracepoint (`ERESTARTSYS` to
/// `ERESTART_RESTARTBLOCK` of `include/linux/errno.h`).
const RESTARTS: RangeInclusive<i64> = -516..=-512;
/// Dropped calls that are kept after all when the recording ends: what the program did last.
const TAIL: usize = 32;
/// Calls about files whose accesses are wanted that are kept beyond the room for calls.
const WANTED: usize = 50_000;

/// What a collector must know beforehand.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whom the program runs as.
    pub identity: Identity,
    /// How it runs.
    pub mode: Mode,
    /// What watches it.
    pub backend: Backend,
    /// How much is recorded.
    pub record: Record,
    /// How many different calls without a check or a refusal are kept; [`Config::MAX_EVENTS`] is a good number.
    pub max_events: usize,
    /// Files whose accesses are all kept, refused or not.
    pub paths: Vec<Pattern>,
    /// What the program is in, when nrtrace did not start it.
    pub within: Within,
}

impl Config {
    /// Keeps the events of a program that is not refused anything at about 25 MiB.
    pub const MAX_EVENTS: usize = 35_000;
}

/// How far a recording has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// Calls and checks taken in.
    pub events: u64,
    /// Capability checks among them.
    pub checks: u64,
    /// Calls that ended with `EACCES`, `EPERM` or `EROFS`.
    pub refusals: u64,
    /// Processes seen, ended ones included.
    pub processes: u64,
}

/// A finished recording.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Collected {
    /// What happened, in order.
    pub events: Vec<Event>,
    /// Paths that could not be made absolute.
    pub unresolved: u64,
    /// Accesses that could not be judged for the user.
    pub unjudged: u64,
    /// Calls without a check or a refusal that were left out.
    pub dropped_calls: u64,
    /// Checks and refusals counted with others of their directory or kind, because there were too many; their own
    /// names are not kept.
    pub summarised: u64,
    /// Records that made no sense and were left out.
    pub malformed: u64,
    /// Processes seen.
    pub processes: u64,
    /// The last lines on standard error.
    pub stderr: Vec<RawText>,
    /// What the user should know about the recording.
    pub notes: Vec<String>,
    /// Remarks on what the program made and left behind, what gives rights or is obeyed first.
    pub left: Vec<String>,
    /// Names of the ids that the program wanted to take or to give files to.
    pub accounts: Accounts,
}

/// Turns observations into events.
#[derive(Debug)]
pub struct Collector {
    start: u64,
    phase: Phase,
    top: Top,
    builder: Builder,
    keys: Keys,
    store: Store,
    pairing: Pairing,
    meeting: Meeting,
    stderr: StandardError,
    /// The last calls for which there was no room, with their results.
    tail: VecDeque<(StoredOperation, Option<i64>)>,
    counters: Counters,
    malformed: u64,
    repeats: Repeats,
    /// Phases that have begun.
    turn: u32,
    /// The key of what was concluded last.
    concluded: Option<u64>,
    /// Calls kept beyond the room for calls.
    wanted: usize,
}

impl Collector {
    /// A collector without events.
    pub fn new(config: Config) -> Self {
        Self {
            start: 0,
            phase: Phase::default(),
            // The other backend sees what nrtrace sees.
            top: if config.backend == Backend::Ebpf { Top::own() } else { Top::default() },
            builder: Builder::new(&config),
            keys: Keys::default(),
            store: Store::new(config.max_events, REFUSALS),
            pairing: Pairing::new(config.record),
            meeting: Meeting::default(),
            stderr: StandardError::default(),
            tail: VecDeque::with_capacity(TAIL),
            counters: Counters::default(),
            malformed: 0,
            repeats: Repeats::default(),
            turn: 0,
            concluded: None,
            wanted: 0,
        }
    }

    /// The program is about to run: all times count from now on (`CLOCK_MONOTONIC`, in nanoseconds).
    pub fn started(&mut self, time: u64) {
        self.start = time;
        self.builder.count_from(time);
    }

    /// A process of the program runs already, and has opened what it holds.
    pub fn met(&mut self, facts: &crate::attach::process::Facts) {
        let pid = facts.pid as u32;
        self.builder.processes.met(pid, facts.exe.clone(), facts.mnt_ns, facts.filtered);
        let mut head = Head {
            pid,
            tid: pid,
            mnt_ns: facts.mnt_ns,
            fsuid: facts.uid,
            fsgid: facts.gid,
            time: self.start,
            ..Head::default()
        };
        head.comm.iter_mut().zip(facts.name.as_bytes()).for_each(|(to, from)| *to = *from);
        self.builder.meet(&head);
        self.program(&head);
        self.held(&head);
    }

    /// Takes one raw record of the probe. Bytes that are none are counted.
    pub fn record(&mut self, bytes: &[u8]) {
        match decode(bytes) {
            // Of use to who waits for it; one that joins by itself is part of what is recorded.
            None if read::<Head>(bytes).is_some_and(|head| head.kind == KIND_JOIN) => {}
            Some(observation) => {
                self.concluded = None;
                self.observe(self.top.within(observation));
                self.replaced(bytes);
            }
            None => self.malformed += 1,
        }
    }

    /// Takes one observation.
    pub fn observe(&mut self, observation: Observation<'_>) {
        match observation {
            Observation::Check(operation, check) => {
                self.counters.events += 1;
                self.counters.checks += 1;
                self.builder.acts(&operation.head);
                let check = self.builder.check(&operation, &check);
                if let Some(former) = self.pairing.check(&operation, check) {
                    self.conclude_pending(former);
                }
            }
            Observation::Call(operation, ret) => {
                self.counters.events += 1;
                self.builder.acts(&operation.head);
                self.call(&operation, ret);
            }
            Observation::Fork { head, pid, .. } => {
                self.builder.meet(&head);
                self.builder.processes.fork(&head, pid);
            }
            Observation::Exec { head, path, exe } => self.exec(&head, path, exe),
            Observation::Exit { head, last } => {
                if let Some(pending) = self.pairing.exit(head.tid) {
                    self.conclude_pending(pending);
                }
                if last {
                    self.builder.processes.ended(head.pid);
                    self.stderr.ended(head.pid);
                }
            }
        }
    }

    fn exec(&mut self, head: &Head, path: &[u8], exe: &[u8]) {
        for pending in self.pairing.exec(head) {
            self.conclude_pending(pending);
        }
        self.builder.exec(head, path, exe);
        self.program(head);
    }

    /// Keeps that `head`'s process runs a program, where the file of that changes rights.
    fn program(&mut self, head: &Head) {
        let Some(event) = self.builder.program(head, self.phase) else { return };
        let (key, worth) = self.keys.program(&event);
        if self.store.admit(key, worth, event.time) == Admission::New {
            self.store.add(key, worth, event);
        }
    }

    fn call(&mut self, operation: &Operation<'_>, ret: i64) {
        if RESTARTS.contains(&ret) {
            // The call was interrupted and is made again.
            return;
        }
        if self.builder.is_standard_error(operation) {
            let written = operation.strings.data();
            let accepted = usize::try_from(ret).unwrap_or(0).min(written.len());
            self.stderr.write(operation.head.pid, &written[..accepted]);
            return;
        }
        let Paired { own, orphan } = self.pairing.call(operation);
        if let Some(orphan) = orphan {
            self.conclude_pending(orphan);
        }
        // After a successful execve, its path is no longer there to be read.
        let started = if ret == 0 && is_exec(operation) { self.builder.started(operation) } else { None };
        let operation = match &started {
            Some(started) => &started.get(),
            None => operation,
        };
        let known = result(operation, ret);
        match own {
            Some(own) => {
                self.conclude(operation, known, &own.checks);
                self.pairing.reuse(own);
            }
            None if is_identity(self.builder.name(operation).1.operation) => {
                let met = self.meeting.record(&mut self.builder.calls, operation, ret);
                met.into_iter().for_each(|met| self.conclude_met(met));
            }
            None => self.conclude(operation, known, &[]),
        }
    }

    /// Takes a call that the supervisor decided on. The record of the same call may come before or after.
    pub fn identity_call(&mut self, call: IdentityCall) {
        let met = self.meeting.call(&mut self.builder.calls, call);
        met.into_iter().for_each(|met| self.conclude_met(met));
    }

    /// What is seen from now on belongs to `phase`.
    pub fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
        self.turn = self.turn.wrapping_add(1);
    }

    /// Concludes what has waited long enough. Cheap; to be called some ten times a second.
    pub fn tick(&mut self) {
        // The clock always exists; without a time, everything waits for the end.
        let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return };
        self.tick_at(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64);
    }

    fn tick_at(&mut self, now: u64) {
        for pending in self.pairing.overdue(now.saturating_sub(NEEDS_PATIENCE)) {
            self.conclude_pending(pending);
        }
        while let Some(met) = self.meeting.overdue(now) {
            self.conclude_met(met);
        }
    }

    /// How far the recording has come.
    pub fn counters(&self) -> Counters {
        Counters { processes: self.builder.processes.seen(), ..self.counters }
    }

    /// The events so far, new ones last; each may be counted on.
    pub fn events(&self) -> &[Event] {
        self.store.events()
    }

    fn conclude_pending(&mut self, pending: Pending) {
        self.conclude(&pending.operation.get(), None, &pending.checks);
        self.pairing.reuse(pending);
    }

    fn conclude_met(&mut self, met: Concluded) {
        match met {
            Concluded::Recorded((operation, ret)) => {
                let operation = operation.get();
                self.conclude(&operation, result(&operation, ret), &[]);
            }
            Concluded::Decided(call, record) => {
                let exe = self.builder.processes.get(call.pid).and_then(|known| known.exe.as_ref());
                let (key, worth) = self.keys.decided(&call, exe, self.phase);
                let time = call.time.saturating_sub(self.start);
                if self.store.admit(key, worth, time) == Admission::New {
                    let operation = record.as_ref().map(StoredOperation::get);
                    let event = self.builder.decided(*call, operation.as_ref(), self.phase);
                    self.store.add(key, worth, event);
                }
            }
        }
    }

    /// Makes an event of an operation with its result, where that is known, and checks; or counts it.
    fn conclude(&mut self, operation: &Operation<'_>, ret: Option<i64>, checks: &[Check]) {
        let row = self.builder.name(operation).1;
        let ending = ret.map_or(-1, |ret| if ret < 0 { ret.unsigned_abs() as i32 } else { 0 });
        let refused = matches!(ending, libc::EACCES | libc::EPERM | libc::EROFS);
        self.counters.refusals += u64::from(refused);
        if ending == 0 {
            self.builder.remember_bound(operation, row);
            self.builder.remember_filter(operation, row);
            self.builder.remember_opened(operation, row, ret.unwrap_or(-1));
        }
        let exe = self.builder.processes.get(operation.head.pid).and_then(|known| known.exe.as_ref());
        let seen = Seen { exe, phase: self.phase, ending, checks, row };
        let key = self.keys.event(operation, seen);
        self.concluded = Some(key);
        let judged = refused || !checks.is_empty();
        let worth = if judged { self.keys.refusal(operation, seen) } else { Worth::Call };
        let time = operation.head.time.saturating_sub(self.start);
        match self.store.admit(key, worth, time) {
            Admission::Counted => {}
            Admission::Dropped if self.keep_wanted(key, operation, ret) => {}
            Admission::Dropped => self.keep_in_tail(operation, ret),
            Admission::New => {
                let mut event = self.builder.event(operation, ret, checks, self.phase);
                self.builder.inquire(&mut event, operation);
                // What the user would have been refused is kept as refusals are.
                let foretold = worth == Worth::Call && !event.checks.is_empty();
                let seen = Seen { exe: None, phase: self.phase, ending, checks, row };
                let worth = if foretold { self.keys.refusal(operation, seen) } else { worth };
                self.store.add(key, worth, event);
            }
        }
    }

    /// Keeps a call for which there was no room all the same, when it is about a file whose accesses are wanted.
    fn keep_wanted(&mut self, key: u64, operation: &Operation<'_>, ret: Option<i64>) -> bool {
        if !self.builder.wants_any() || self.wanted >= WANTED {
            return false;
        }
        let event = self.builder.event(operation, ret, &[], self.phase);
        let wanted = self.builder.wants(&event);
        if wanted {
            self.wanted += 1;
            self.store.readmit();
            self.store.add(key, Worth::Call, event);
        }
        wanted
    }

    fn keep_in_tail(&mut self, operation: &Operation<'_>, ret: Option<i64>) {
        let oldest = if self.tail.len() < TAIL { None } else { self.tail.pop_front() };
        let buffer = oldest.map(|(operation, _)| operation.into_buffer()).unwrap_or_default();
        self.tail.push_back((StoredOperation::new(operation, buffer), ret));
    }

    /// Ends the recording.
    pub fn finish(mut self) -> Collected {
        for pending in self.pairing.finish() {
            self.conclude_pending(pending);
        }
        while let Some(met) = self.meeting.overdue(u64::MAX) {
            self.conclude_met(met);
        }
        for (operation, ret) in std::mem::take(&mut self.tail) {
            self.store.readmit();
            self.conclude(&operation.get(), ret, &[]);
        }
        let notes = self.notes();
        let (dropped_calls, summarised) = (self.store.dropped(), self.store.summarised());
        let mut events = self.store.into_events();
        self.builder.take_back(&mut events);
        self.builder.add_last_looks(&mut events);
        let left = match self.builder.within.attached {
            true => Vec::new(),
            false => self.builder.left(&events).notes(self.builder.uid()),
        };
        Collected {
            unresolved: self.builder.unresolved,
            unjudged: self.builder.unjudged(),
            dropped_calls,
            summarised,
            malformed: self.malformed,
            processes: self.builder.processes.seen(),
            stderr: self.stderr.into_lines(),
            notes,
            left,
            accounts: self.builder.accounts(&events),
            events,
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::from_iter(self.builder.hindrance());
        if self.builder.symbols.hidden() {
            notes.push(
                "the kernel hides its symbols (sysctl kernel.kptr_restrict), so what a check was about is \
                 worked out from the call alone"
                    .to_owned(),
            );
        }
        let summarised = self.store.summarised();
        if summarised > 0 {
            notes.push(format!(
                "{summarised} checks and refusals are counted without their names: there were too many different \
                 ones, mostly in one directory"
            ));
        }
        if self.malformed > 0 {
            notes.push(format!(
                "{} records could not be read; does the probe belong to this version of nrtrace?",
                self.malformed
            ));
        }
        notes
    }
}

/// The result, unless the call was seen at its entry alone.
fn result(operation: &Operation<'_>, ret: i64) -> Option<i64> {
    (operation.head.flags & FLAG_NO_RESULT == 0).then_some(ret)
}
