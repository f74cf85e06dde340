//! Makes events of operations that are new.

use std::sync::Arc;

use nrtrace_ebpf::record::{
    ASKED_CREATE, ASKED_DELETE, ASKED_ENTRY, ASKED_FILE, ASKED_SEARCH, ASKED_STICKY, CAP_OPT_NOAUDIT,
    FLAG_COMPAT, FLAG_DEEP, FLAG_FD_ONLY, FLAG_FOREIGN_CRED, FLAG_OPTS, FLAG_PREDICTED, FLAG_TRUNCATED,
    FLAG_UNREADABLE, Head, STR_PATH,
};
use nrtrace_profiles::calls::{self, File, Identity as Takes, Operation as Does, Row, Socket};
use nrtrace_profiles::event::{
    Accounts, Asked, Backend, Call, Check, Component, Credentials, Event, Identity, Object, Outcome, Phase,
    Process,
};
use nrtrace_profiles::glob::Pattern;
use nrtrace_profiles::{Capability, RawText};

use super::calls::Calls;
use super::component::ComponentSearch;
use super::decode::{Operation, RawCheck, StoredOperation, Strings};
use super::held::FLAG_HELD;
use super::inquiry::{Case, Inquiry};
use super::left::{self, Left, Touch};
use super::magic::Links;
use super::object;
use super::paths::{Paths, upright};
use super::process::{Processes, comm};
use super::sockets::Bound;
use super::structure;
use super::symbols::Symbols;
use super::tree::Trees;
use super::{Config, Within};
use crate::launch::IdentityCall;

/// Inode number of the initial user namespace (`PROC_USER_INIT_INO` of `include/linux/proc_ns.h`).
const INITIAL_USER_NS: u32 = 0xefff_fffd;
/// How many of the last files looked at get their facts.
const LAST_LOOKS: usize = 32;

/// What events are made with.
#[derive(Debug)]
pub struct Builder {
    /// Names of calls.
    pub calls: Calls,
    /// Names of kernel functions.
    pub symbols: Symbols,
    /// The processes.
    pub processes: Processes,
    /// Paths that could not be made absolute.
    pub unresolved: u64,
    pub(super) paths: Paths,
    bound: Bound,
    links: Links,
    pub(super) start: u64,
    identity: Identity,
    inquiry: Inquiry,
    /// Checks come with the kernel's stack.
    stacks: bool,
    wanted: Vec<Pattern>,
    /// What the program is in.
    pub within: Within,
}

impl Builder {
    /// For a program that is started as, or judged for, the identity of `config`.
    pub fn new(config: &Config) -> Self {
        let identity = config.identity.clone();
        Self {
            calls: Calls::default(),
            symbols: Symbols::default(),
            processes: Processes::default(),
            unresolved: 0,
            paths: Paths::new(config.within.clone()),
            bound: Bound::default(),
            links: Links::default(),
            start: 0,
            inquiry: Inquiry::new(identity.clone(), config.within.clone(), config.mode),
            stacks: config.backend == Backend::Ebpf,
            identity,
            wanted: config.paths.clone(),
            within: config.within.clone(),
        }
    }

    /// Whom the program runs as.
    pub fn uid(&self) -> u32 {
        self.identity.uid
    }

    /// Times count from `time` on.
    pub fn count_from(&mut self, time: u64) {
        self.start = time;
        self.inquiry.started(time);
    }

    /// Name and row of the operation's call.
    pub fn name(&mut self, operation: &Operation<'_>) -> (Arc<str>, &'static Row) {
        self.calls.get(operation.nr, operation.head.flags & FLAG_COMPAT != 0)
    }

    /// Looks at files by those trees, too.
    pub fn keep(&mut self, trees: Trees) {
        self.paths.keep(trees);
    }

    /// Notices the task of `head` while it may still live.
    pub fn meet(&mut self, head: &Head) {
        // The program runs by now: reading symbols in a thread no longer disturbs its start.
        if self.stacks {
            self.symbols.prefetch();
        }
        self.paths.meet(head);
    }

    /// The task of `head` acts.
    pub fn acts(&mut self, head: &Head) {
        self.paths.meet(head);
        self.processes.acts(head);
    }

    /// The task of `head` runs the program `exe`, leaf first, for which it passed `path`.
    pub fn exec(&mut self, head: &Head, path: &[u8], exe: &[u8]) {
        self.meet(head);
        let whole = head.flags & (FLAG_UNREADABLE | FLAG_DEEP | FLAG_TRUNCATED) == 0 && !exe.is_empty();
        self.processes.exec(head, path, whole.then(|| RawText::new(upright(exe))));
    }

    /// The execve `operation`, which has succeeded, with the path that was passed to it.
    pub fn started(&mut self, operation: &Operation<'_>) -> Option<StoredOperation> {
        let path = self.processes.acts(&operation.head).started.take().filter(|path| !path.is_empty())?;
        let mut parts = *operation.strings.all();
        parts[STR_PATH] = &path;
        let flags = operation.head.flags & !(FLAG_FD_ONLY | FLAG_UNREADABLE);
        let head = Head { flags, ..operation.head };
        let whole = Operation { head, strings: Strings::new(parts), ..*operation };
        Some(StoredOperation::new(&whole, Vec::new()))
    }

    /// Whether `operation` writes to standard error, and not to a kernel parameter.
    pub fn is_standard_error(&mut self, operation: &Operation<'_>) -> bool {
        if operation.args[0] != 2 || operation.strings.data().is_empty() {
            return false;
        }
        self.name(operation).1.operation == Does::Write && !operation.strings.base().ends_with(b"/sys/proc")
    }

    /// Remembers what a socket was bound to, when `operation` is a `bind`.
    pub fn remember_bound(&mut self, operation: &Operation<'_>, row: &Row) {
        if operation.socket.is_none() || row.operation != Does::Socket(Socket::Bind) {
            return;
        }
        if let Object::Socket(socket) = object::of(operation, row, &mut self.paths, &self.bound) {
            self.bound.remember(operation.head.pid, operation.args[0], socket);
        }
    }

    /// Remembers what was opened only to be named by its descriptor, when `operation` is such an open.
    pub fn remember_opened(&mut self, operation: &Operation<'_>, row: &Row, fd: i64) {
        let args = row.in_place(&operation.args, &structure::numbers(operation, row.operation));
        if row.operation.opened_with(&args).is_none_or(|flags| flags as i32 & libc::O_PATH == 0) {
            return;
        }
        if let Object::Path(path) = object::of(operation, row, &mut self.paths, &self.bound)
            && path.resolved
            && let Ok(fd) = u64::try_from(fd)
        {
            self.links.opened(&operation.head, fd, &path.path);
        }
    }

    /// Remembers that a process is under a seccomp filter, when `operation` installs one.
    pub fn remember_filter(&mut self, operation: &Operation<'_>, row: &Row) {
        let filters = row.operation == Does::Identity(Takes::Filter);
        if filters && operation.args[0] == u64::from(libc::SECCOMP_SET_MODE_FILTER) {
            self.processes.acts(&operation.head).filtered = true;
        }
    }

    /// A check with its names.
    pub fn check(&mut self, operation: &Operation<'_>, raw: &RawCheck<'_>) -> Check {
        let flags = operation.head.flags;
        let frames = self.symbols.frames(raw.stack());
        let component = raw.component.map(|(inode, path)| Component {
            path: RawText::new(upright(path)),
            inode: self.paths.names().of_record(&inode),
        });
        // A pipe or a socket has no path, and half a one is none.
        let component = component.filter(|_| flags & FLAG_DEEP == 0);
        // There the file's owner is judged, but it is its directory that refuses.
        let component = component.filter(|_| !frames.iter().any(|frame| **frame == *"__check_sticky"));
        let told = flags & FLAG_OPTS != 0 && raw.opts & CAP_OPT_NOAUDIT != 0;
        Check {
            capability: Capability::from_number(u8::try_from(raw.capability).unwrap_or(u8::MAX)),
            granted: raw.ret == 0,
            not_audited: told || frames.iter().any(|frame| frame.ends_with("_noaudit")),
            frames,
            component,
            foreign: flags & FLAG_FOREIGN_CRED != 0,
            child_namespace: !matches!(raw.user_ns, 0 | INITIAL_USER_NS) && !self.within.is_in(raw.user_ns),
            predicted: (flags & FLAG_PREDICTED != 0).then(|| asked(raw.opts)),
        }
    }

    /// The event of one operation.
    pub fn event(
        &mut self,
        operation: &Operation<'_>,
        ret: Option<i64>,
        checks: &[Check],
        phase: Phase,
    ) -> Event {
        let (name, row) = self.name(operation);
        let does = row.operation;
        let structure = structure::numbers(operation, does);
        let args = row.in_place(&operation.args, &structure);
        let head = &operation.head;
        let credentials = self.within.credentials(head.fsuid, head.fsgid);
        let outcome = outcome(ret);
        let refused = matches!(outcome, Outcome::Failure { errno: libc::EACCES | libc::EPERM | libc::EROFS });
        let mut object = object::of(operation, row, &mut self.paths, &self.bound);
        if does.is(File::ChangeRoot) && ret == Some(0) {
            object::take_root(&mut object, operation);
        }
        self.count_unresolved(&mut object, does);
        let mut checks = checks.to_vec();
        let exe = self.processes.get(head.pid).and_then(|known| known.exe.as_ref());
        self.links.follow(head, exe, does, &mut object, &checks);
        // Where nothing was found, what is there of the way tells what was missing.
        let missed =
            outcome == Outcome::Failure { errno: libc::ENOENT } && (does.creates(&args) || does.makes_new());
        let wanted = !self.wanted.is_empty() && self.is_wanted(&object, does);
        if refused || missed || wanted || !checks.is_empty() {
            for path in object::paths_mut(&mut object, does) {
                self.paths.add_facts(path, head.mnt_ns, head.time);
            }
            let judge = ComponentSearch {
                identity: &self.identity,
                credentials,
                mnt_ns: head.mnt_ns,
                now: head.time,
                does,
                args: &args,
            };
            judge.add_components(&mut self.paths, &object, &mut checks);
        }
        if outcome == (Outcome::Failure { errno: libc::EPERM }) && does.is(File::Execute) {
            self.refused_program(&mut object, head.mnt_ns);
        }
        let written = (does == Does::Write).then(|| RawText::from(operation.strings.data()));
        let time = head.time.saturating_sub(self.start);
        Event {
            seq: 0,
            time,
            count: 1,
            last: time,
            process: self.process(head.pid, head.tid, RawText::from(comm(head))),
            credentials,
            phase,
            call: Call {
                name,
                args: operation.args,
                data: written.filter(|data| !data.as_bytes().is_empty()),
                structure,
            },
            object,
            outcome,
            checks,
            obstacle: None,
        }
    }

    fn is_wanted(&self, object: &Object, does: Does) -> bool {
        object::paths(object, does).any(|path| {
            [&path.path, &path.seen]
                .iter()
                .any(|path| self.wanted.iter().any(|pattern| pattern.covers(path.as_bytes())))
        })
    }

    /// Whether accesses to some files are wanted, refused or not.
    pub fn wants_any(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Whether the event is about one of those files.
    pub fn wants(&self, event: &Event) -> bool {
        self.is_wanted(&event.object, event.call.operation())
    }

    /// Finds what refused a new event of `operation`, or what the user would have been refused.
    pub fn inquire(&mut self, event: &mut Event, operation: &Operation<'_>) {
        let head = &operation.head;
        let row = self.name(operation).1;
        let known = self.processes.get(head.pid);
        let case = Case {
            row,
            mnt_ns: head.mnt_ns,
            base: &upright(operation.strings.base()),
            filtered: known.is_some_and(|known| known.filtered),
            foretold: !self.stacks && head.flags & FLAG_HELD == 0,
        };
        let checked = !event.checks.is_empty();
        self.inquiry.inquire(event, &case, &mut self.paths);
        if !checked && !event.checks.is_empty() {
            for path in object::paths_mut(&mut event.object, row.operation) {
                self.paths.add_facts(path, head.mnt_ns, head.time);
            }
        }
    }

    /// Whether the oracle is asked what the user would have been refused of what the task of `head` does.
    pub fn foretells_for(&self, head: &Head) -> bool {
        self.inquiry.judges(self.within.credentials(head.fsuid, head.fsgid))
    }

    /// Takes back what was foretold too early.
    pub fn take_back(&self, events: &mut [Event]) {
        self.inquiry.take_back(events);
    }

    /// Accesses that could not be judged for the user.
    pub fn unjudged(&self) -> u64 {
        self.inquiry.unjudged
    }

    /// Why nothing could be judged for the user.
    pub fn hindrance(&self) -> Option<String> {
        self.inquiry.hindrance()
    }

    /// The event of a call that the supervisor decided on; `operation` is the record of it, where there is one.
    pub fn decided(&mut self, call: IdentityCall, operation: Option<&Operation<'_>>, phase: Phase) -> Event {
        let IdentityCall { pid, tid, comm, time, name, args, mut object, outcome, consulted } = call;
        let row = calls::row(name);
        if let Object::Gift { path, .. } = &mut object {
            // The supervisor looked while the thread waited for it; the record is told afterwards.
            let told = operation.filter(|_| !path.resolved);
            let told = told.map(|told| object::of(told, row, &mut self.paths, &self.bound));
            if let Some(Object::Path(told)) = told {
                *path = told;
            }
            let mnt_ns = self.processes.get(pid).map(|known| known.mnt_ns).filter(|_| path.parent.is_none());
            mnt_ns.into_iter().for_each(|mnt_ns| self.paths.add_facts(path, mnt_ns, time));
        }
        if let (Some(told), Object::Nothing) = (operation.filter(|_| consulted.is_some()), &object) {
            object = object::of(told, row, &mut self.paths, &self.bound);
        }
        self.count_unresolved(&mut object, row.operation);
        let known = self.processes.get(pid).and_then(|known| known.credentials);
        let known = known.map(|known| self.within.credentials(known.uid, known.gid));
        let time = time.saturating_sub(self.start);
        Event {
            seq: 0,
            time,
            count: 1,
            last: time,
            process: self.process(pid, tid, comm),
            credentials: known.unwrap_or(Credentials { uid: self.identity.uid, gid: self.identity.gid }),
            phase,
            call: Call { name: name.into(), args, data: None, structure: Vec::new() },
            object,
            outcome,
            checks: consulted
                .map(|(capability, granted)| answered(capability, granted))
                .into_iter()
                .collect(),
            obstacle: None,
        }
    }

    /// The names of the ids that the calls asked for.
    pub fn accounts(&mut self, events: &[Event]) -> Accounts {
        self.paths.names().accounts(events)
    }

    pub(super) fn process(&self, pid: u32, tid: u32, name: RawText) -> Process {
        let known = self.processes.get(pid);
        let exe = known.and_then(|known| known.exe.clone());
        let ancestors = known.map(|known| Arc::clone(&known.ancestors)).unwrap_or_default();
        Process { pid, tid, name, exe, ancestors }
    }

    fn count_unresolved(&mut self, object: &mut Object, does: Does) {
        self.unresolved += object::paths_mut(object, does).filter(|path| !path.resolved).count() as u64;
    }

    /// What `events` made or changed that is still there.
    pub fn left(&self, events: &[Event]) -> Left {
        let mut left = Left::default();
        for event in events {
            let Some((object, touch)) = left::touched(event) else { continue };
            let path = &object.path;
            let known = self.processes.get(event.process.pid);
            let Some(tree) = known.and_then(|known| self.paths.tree(known.mnt_ns)) else { continue };
            let is_own = |uid: u32| touch == Touch::Made && !self.identity.exists && uid == self.identity.uid;
            let Some(times) = tree.times(path.as_bytes()) else { continue };
            let what = match self.inquiry.is_since_start(times.changed) {
                true => left::power(path, touch, tree.facts(path.as_bytes()).as_ref()),
                false => Vec::new(),
            };
            if !what.is_empty() {
                left.powers.entry(path.clone()).or_default().extend(what);
            } else if tree.look(path.as_bytes()).is_some_and(|found| is_own(found.stat.st_uid)) {
                left.made.insert(path.clone());
            }
        }
        left
    }

    /// Adds what is at the last paths looked at, for a program that gives up on what it found there.
    pub fn add_last_looks(&mut self, events: &mut [Event]) {
        let mut order: Vec<usize> =
            (0..events.len()).filter(|index| matches!(events[*index].object, Object::Path(_))).collect();
        order.sort_unstable_by_key(|index| std::cmp::Reverse(events[*index].last));
        for index in order.into_iter().take(LAST_LOOKS) {
            let event = &mut events[index];
            let Some(mnt_ns) = self.processes.get(event.process.pid).map(|known| known.mnt_ns) else {
                continue;
            };
            if let Object::Path(path) = &mut event.object
                && path.parent.is_none()
            {
                self.paths.add_facts(path, mnt_ns, event.last + self.start);
            }
        }
    }
}

/// The check that the kernel would have made.
fn answered(capability: Capability, granted: bool) -> Check {
    Check {
        capability,
        granted,
        frames: Vec::new().into(),
        component: None,
        foreign: false,
        not_audited: false,
        child_namespace: false,
        predicted: Some(Asked::Other),
    }
}

fn asked(code: u32) -> Asked {
    match code {
        ASKED_SEARCH => Asked::Search,
        ASKED_FILE => Asked::File,
        ASKED_CREATE => Asked::Create,
        ASKED_DELETE => Asked::Delete,
        ASKED_ENTRY => Asked::Entry,
        ASKED_STICKY => Asked::Sticky,
        _ => Asked::Other,
    }
}

fn outcome(ret: Option<i64>) -> Outcome {
    match ret {
        None => Outcome::Unknown,
        Some(value @ 0..) => Outcome::Success { value },
        // Errnos are below 4096 (include/linux/err.h).
        Some(errno) => Outcome::Failure { errno: errno.unsigned_abs() as i32 },
    }
}
