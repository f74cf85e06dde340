//! What the tracer does with each stop.

use std::collections::{HashMap, HashSet};

use libc::{c_int, pid_t};
use nrtrace_ebpf::record::{
    FLAG_CHECKED, FLAG_NO_RESULT, KIND_EXEC, KIND_EXIT, KIND_FORK, ProcessRecord, STR_DATA, STRINGS,
};
use nrtrace_ebpf::table::{SOCKETCALL, WHEN_FAILED, WHEN_OK, WHEN_REFUSED, WHEN_TELLING, in_socketcall};

use nrtrace_profiles::calls;

use super::calls::{Change, Numbers};
use super::encode::encode;
use super::entry::{Entry, Numbered};
use super::facts::{self, TaskFacts, link};
use super::filter::MARK;
use super::fixup::Fixup;
use super::judge::{Ending, Foreteller};
use super::ring::Writer;
use super::sys::{self, SyscallInfo};
use super::tracee::{Died, Report, Resume, Stop, Stopped};
use super::{Options, Stops};

/// Results by which the kernel restarts a call: `ERESTARTSYS`, `-NOINTR`, `-NOHAND` and `-_RESTARTBLOCK` of
/// `linux/errno.h`. The restarted call stops at its entry again.
const RESTARTS: [i64; 4] = [-512, -513, -514, -516];

/// A traced task.
#[derive(Debug)]
struct Task {
    facts: TaskFacts,
    /// It runs the program, and no longer the launcher's code before execve(2).
    started: bool,
    /// The task it is making gets other namespaces than its own.
    new_namespaces: bool,
    /// What was changed in it for the duration of a call.
    fixup: Option<Fixup>,
    /// The call whose result is wanted.
    pending: Option<Box<Entry>>,
}

impl Task {
    fn resume(&self, attach: bool) -> Resume {
        if attach || self.pending.is_some() || self.fixup.is_some() {
            Resume::Syscall
        } else {
            Resume::Continue
        }
    }
}

/// All that the tracer knows.
pub struct Engine {
    options: Options,
    numbers: Numbers,
    ring: Writer,
    judge: Option<Box<dyn Foreteller>>,
    tasks: HashMap<pid_t, Task>,
    /// New tasks that stopped before the event of whoever made them was seen.
    held: HashMap<pid_t, (Stopped, Stop)>,
    /// Those of them that were let go without that event, since it may have died with the maker.
    adopted: HashSet<pid_t>,
    /// No task of the tree has changed its root directory.
    plain_root: bool,
}

impl Engine {
    /// An engine without tracees.
    pub fn new(options: Options, ring: Writer, judge: Option<Box<dyn Foreteller>>) -> Self {
        let numbers = Numbers::new(&options.rows);
        Self {
            options,
            numbers,
            ring,
            judge,
            tasks: HashMap::new(),
            held: HashMap::new(),
            adopted: HashSet::new(),
            plain_root: true,
        }
    }

    /// Seizes process `pid`, which has one thread; it does not stop.
    ///
    /// # Errors
    /// What `PTRACE_SEIZE` says: `EPERM` when it may not be traced or is traced already, `ESRCH` when it is gone.
    pub fn watch(&mut self, pid: pid_t) -> std::io::Result<()> {
        let kill = if self.options.kill_tree { libc::PTRACE_O_EXITKILL } else { 0 };
        sys::seize(pid, sys::OPTIONS | kill)?;
        let facts = TaskFacts::read(pid);
        self.plain_root &= link(pid, "root").is_some_and(|root| root.is_empty());
        self.insert(Task {
            facts,
            started: !self.options.from_exec,
            new_namespaces: false,
            fixup: None,
            pending: None,
        });
        Ok(())
    }

    /// Seizes process `pid`, which runs already, with all its threads: until a look finds none that is not traced. A thread
    /// that a traced one makes is traced from its first instruction on.
    ///
    /// # Errors
    /// What `PTRACE_SEIZE` says of a thread that is not traced yet: `EPERM`, or `ESRCH` when the process is gone.
    pub fn attach(&mut self, pid: pid_t, from_exec: bool) -> std::io::Result<()> {
        self.plain_root &= facts::has_own_view(pid);
        let mut found = false;
        loop {
            let mut news = false;
            for tid in crate::attach::process::threads(pid) {
                if self.tasks.contains_key(&tid) || self.held.contains_key(&tid) {
                    found = true;
                    continue;
                }
                match sys::seize(tid, sys::ATTACH_OPTIONS).and_then(|()| sys::interrupt(tid)) {
                    Ok(()) => (),
                    // Made by a traced thread a moment ago: its first stop is on its way.
                    Err(_) if facts::tracer(tid) == Some(std::process::id() as pid_t) => {
                        found = true;
                        continue;
                    }
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => continue,
                    Err(error) => return Err(error),
                }
                let facts = TaskFacts::read(tid);
                self.insert(Task {
                    facts,
                    started: !from_exec,
                    new_namespaces: false,
                    fixup: None,
                    pending: None,
                });
                (news, found) = (true, true);
            }
            if !news {
                break;
            }
        }
        if found { Ok(()) } else { Err(std::io::Error::from_raw_os_error(libc::ESRCH)) }
    }

    fn insert(&mut self, task: Task) {
        self.tasks.insert(task.facts.tid, task);
        self.ring.set_tasks(self.tasks.len() as u32);
    }

    /// Handles one report of wait(2).
    pub fn handle(&mut self, report: Report) {
        match report {
            Report::Ended(tid, status) => self.ended(tid, status),
            Report::Stopped(stopped, stop) => {
                if self.tasks.contains_key(&stopped.tid()) {
                    self.stopped(stopped, stop);
                } else {
                    self.held.insert(stopped.tid(), (stopped, stop));
                }
            }
        }
    }

    /// Lets a task go on; one that died meanwhile is heard of through wait(2).
    fn stopped(&mut self, stopped: Stopped, stop: Stop) {
        let _died = match stop {
            Stop::Group(_) => stopped.listen().map(drop),
            Stop::Signal(signal) => self.go_on(stopped, signal),
            Stop::Seccomp => self.seccomp(stopped),
            Stop::Syscall => self.syscall(stopped),
            Stop::Fork => self.forked(stopped),
            Stop::Exec => self.executed(stopped),
            Stop::Trap | Stop::Other => self.trapped(stopped),
        };
    }

    fn go_on(&mut self, stopped: Stopped, signal: c_int) -> Result<(), Died> {
        let attach = self.options.attach;
        let how = self.tasks.get(&stopped.tid()).map_or(Resume::Continue, |task| task.resume(attach));
        stopped.resume(how, signal).map(drop)
    }

    /// The first stop of a new task, or the end of a group-stop.
    fn trapped(&mut self, stopped: Stopped) -> Result<(), Died> {
        if let Some(task) = self.tasks.get_mut(&stopped.tid())
            && task.pending.is_none()
            && let Some(fixup) = task.fixup.take()
        {
            fixup.undo(&stopped)?;
        }
        self.go_on(stopped, 0)
    }

    /// Entry of a call for which a filter answered `SECCOMP_RET_TRACE`.
    fn seccomp(&mut self, stopped: Stopped) -> Result<(), Died> {
        let info = stopped.syscall()?;
        if info.op != sys::OP_SECCOMP || info.ret_data() != MARK {
            // As the kernel would have without this tracer: a filter of the tracee itself asked for one (seccomp(2)).
            stopped.refuse_call()?;
        } else {
            self.entered(&stopped, &info)?;
        }
        self.go_on(stopped, 0)
    }

    fn entered(&mut self, stopped: &Stopped, info: &SyscallInfo) -> Result<(), Died> {
        let compat = info.arch == crate::seccomp::arch::COMPAT;
        let (nr, args, packed) = unpacked(stopped, compat, info.entry());
        let Some(call) = self.numbers.get(compat, nr) else { return Ok(()) };
        // Where there is no filter, each call stops, and every `socketcall` where there is.
        if (self.options.attach || packed) && !call.when.holds(&args) {
            return Ok(());
        }
        let Some(task) = self.tasks.get_mut(&stopped.tid()) else { return Ok(()) };
        task.facts.refresh();
        let wanted = task.started || calls::operation(call.name).is(calls::File::Execute);
        if let Some(operands) = call.operands.filter(|_| wanted) {
            let call = Numbered { name: call.name, operands, nr, compat, args };
            let mut entry = Entry::read(stopped, &task.facts, &call, self.plain_root);
            if !entry.is_wanted() {
                return Ok(());
            }
            let mut ending = Ending::Open;
            if let Some(judge) = &mut self.judge {
                let (checks, told) = entry.judge(judge.as_mut(), self.plain_root);
                checks.iter().for_each(|check| self.ring.push(check));
                ending = told;
            }
            task.pending = conclude(&mut self.ring, self.options.stops, entry, ending);
        }
        match call.change {
            // What would be changed could not be put back by a tracer that is killed.
            Some(Change::Clone | Change::Clone3) if self.options.attach => task.new_namespaces = true,
            Some(Change::Clone | Change::Clone3) => {
                let in_memory = call.change == Some(Change::Clone3);
                (task.new_namespaces, task.fixup) = Fixup::apply(stopped, in_memory, &args)?;
            }
            Some(Change::Credentials) => task.facts.expire_credentials(),
            Some(Change::Root) => self.plain_root = false,
            Some(Change::Namespaces) => {
                self.plain_root = false;
                task.facts.expire_namespaces();
            }
            Some(Change::Name) => task.facts.expire_comm(),
            None => (),
        }
        Ok(())
    }

    /// Exit of a call whose result is wanted.
    fn syscall(&mut self, stopped: Stopped) -> Result<(), Died> {
        let info = stopped.syscall()?;
        if info.op == sys::OP_ENTRY && self.options.attach {
            self.entered(&stopped, &info)?;
        } else if info.op == sys::OP_EXIT
            && let Some(task) = self.tasks.get_mut(&stopped.tid())
        {
            if let Some(fixup) = task.fixup.take() {
                fixup.undo(&stopped)?;
            }
            let result = info.result();
            if let Some(mut entry) = task.pending.take().filter(|_| !RESTARTS.contains(&result)) {
                entry.record.ret = result;
                entry.read_socket(&task.facts);
                if calls::operation(entry.name).is(calls::File::ChangeRoot) && result == 0 {
                    // As the probe's records have it: the root that the task has when the call returns.
                    entry.read_root(stopped.tid());
                }
                if entry.operands.when & outcome(result) != 0 || entry.record.head.flags & FLAG_CHECKED != 0 {
                    self.ring.push(&entry.finish());
                }
            }
        }
        self.go_on(stopped, 0)
    }

    /// The task has made another one.
    fn forked(&mut self, stopped: Stopped) -> Result<(), Died> {
        let child = stopped.event_message()?;
        let adopted = self.adopted.remove(&child);
        // An adopted child may even be dead by now; one that is alive and unknown has got the number anew.
        let known = self.tasks.contains_key(&child) || !facts::exists(child);
        if !(adopted && known) {
            self.born(stopped.tid(), child);
        }
        if let Some((child, stop)) = self.held.remove(&child) {
            self.stopped(child, stop);
        }
        if let Some(task) = self.tasks.get_mut(&stopped.tid()) {
            task.new_namespaces = false;
            if let Some(fixup) = &task.fixup {
                fixup.undo(&stopped)?;
            }
        }
        self.go_on(stopped, 0)
    }

    fn born(&mut self, parent: pid_t, tid: pid_t) {
        let (facts, started, fixup) = match self.tasks.get(&parent) {
            Some(task) => (task.facts.child(tid, task.new_namespaces), task.started, task.fixup),
            None => (TaskFacts::read(tid), true, None),
        };
        let head = self.tasks.get(&parent).unwrap_or(&Task::unknown(parent)).facts.head(KIND_FORK);
        let mut record = ProcessRecord { head, ..ProcessRecord::default() };
        record.child_pid = facts.pid as u32;
        record.child_tid = tid as u32;
        self.ring.push(&encode(&mut record, &Default::default()));
        self.insert(Task { facts, started, new_namespaces: false, fixup, pending: None });
    }

    /// The task runs a new program; the other threads of its group are gone, and it has the leader's id.
    fn executed(&mut self, stopped: Stopped) -> Result<(), Died> {
        let former = stopped.event_message()?;
        let pid = stopped.tid();
        let mut task = self.tasks.remove(&former).unwrap_or_else(|| Task::unknown(pid));
        self.tasks.retain(|_, other| other.facts.pid != pid);
        task.facts.executed(pid);
        task.started = true;
        if let Some(entry) = &mut task.pending {
            entry.record.head.tid = pid as u32;
        }
        let mut record = ProcessRecord { head: task.facts.head(KIND_EXEC), ..ProcessRecord::default() };
        let mut strings: [Vec<u8>; STRINGS] = Default::default();
        strings[STR_DATA] = link(pid, "exe").unwrap_or_default();
        self.ring.push(&encode(&mut record, &strings));
        self.insert(task);
        self.go_on(stopped, 0)
    }

    fn ended(&mut self, tid: pid_t, status: c_int) {
        self.held.remove(&tid);
        if let Some(task) = self.tasks.remove(&tid) {
            let pid = task.facts.pid;
            let last = !self.tasks.values().any(|other| other.facts.pid == pid);
            let mut record = ProcessRecord { head: task.facts.head(KIND_EXIT), ..ProcessRecord::default() };
            record.exit_code = status as u32;
            record.last_thread = u32::from(last);
            self.ring.push(&encode(&mut record, &Default::default()));
            self.adopt(pid);
        }
        self.ring.set_tasks(self.tasks.len() as u32);
    }

    /// Lets those go whose maker has died, perhaps before the event that would have told of them: a thread of process
    /// `pid`, or one whose children have another parent by now.
    fn adopt(&mut self, pid: pid_t) {
        let origins: Vec<(pid_t, Option<pid_t>)> =
            self.held.keys().map(|tid| (*tid, facts::origin(*tid))).collect();
        for (orphan, origin) in origins {
            let maker = origin.filter(|origin| self.tasks.contains_key(origin));
            if maker.is_some() && origin != Some(pid) {
                continue;
            }
            if let Some((stopped, stop)) = self.held.remove(&orphan) {
                self.adopted.insert(orphan);
                self.born(maker.unwrap_or(pid), orphan);
                self.stopped(stopped, stop);
            }
        }
    }
}

impl Task {
    fn unknown(tid: pid_t) -> Self {
        Self { facts: TaskFacts::read(tid), started: true, new_namespaces: false, fixup: None, pending: None }
    }
}

/// A call with its arguments, and whether it came by `socketcall`, whose number is another one and whose arguments are in memory.
fn unpacked(stopped: &Stopped, compat: bool, call: (i32, [u64; 6])) -> (i32, [u64; 6], bool) {
    let (nr, args) = call;
    let inner = in_socketcall(args[0] as u32);
    if !(compat && nr == SOCKETCALL && inner != SOCKETCALL) {
        return (nr, args, false);
    }
    let mut bytes = [0; 24];
    // What cannot be read is no argument.
    let _ = stopped.read_memory(args[1], &mut bytes);
    let (words, _) = bytes.as_chunks::<4>();
    (inner, std::array::from_fn(|place| u32::from_ne_bytes(words[place]).into()), true)
}

/// Records a call as far as its entry tells; hands it back when its exit is wanted.
fn conclude(ring: &mut Writer, stops: Stops, mut entry: Entry, ending: Ending) -> Option<Box<Entry>> {
    match (stops, ending) {
        (Stops::Checks, _) => return None,
        (Stops::EntryAndExit, Ending::Open) => return Some(Box::new(entry)),
        (Stops::EntryAndExit, Ending::Fails(errno)) => entry.record.ret = -i64::from(errno),
        _ => entry.record.head.flags |= FLAG_NO_RESULT,
    }
    if stops == Stops::Entry || entry.operands.when & outcome(entry.record.ret) != 0 {
        ring.push(&entry.finish());
    }
    None
}

/// The conditions that a call with this result meets. The filter has seen to `WHEN_TELLING`.
fn outcome(result: i64) -> u8 {
    let refusals = [libc::EPERM, libc::EACCES, libc::EROFS];
    WHEN_TELLING
        | match result {
            0.. => WHEN_OK,
            errno if refusals.iter().any(|refusal| i64::from(-refusal) == errno) => {
                WHEN_FAILED | WHEN_REFUSED
            }
            _ => WHEN_FAILED,
        }
}
