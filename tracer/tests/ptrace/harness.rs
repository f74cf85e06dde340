//! Starts a tracee as the launcher does, and collects what the backend says of it.

use std::ffi::CString;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nrtrace_ebpf::record::{
    self, CallRecord, CheckRecord, Head, KIND_CALL, KIND_CHECK, KIND_EXEC, KIND_EXIT, KIND_FORK,
    ProcessRecord, STR_BASE, STR_DATA, STR_PATH, STR_PATH2, STRINGS,
};
use nrtrace_ebpf::table::{NONE, Operands, WHEN_FAILED, WHEN_OK};
use nrtrace_profiles::calls::{self, Row};
use nrtrace_tracer::ptrace::{MakeJudge, Options, Stops, Tracer, allow_tracer, filter, install};

/// Cases run one at a time: a child forked while another thread holds a lock would wait for it for ever.
static ALONE: Mutex<()> = Mutex::new(());

/// No case takes nearly as long; one that does hangs.
const LIMIT: Duration = Duration::from_secs(60);

fn row(name: &'static str, path: u8, dirfd: u8) -> Row {
    let when = WHEN_OK | WHEN_FAILED;
    let operands = Operands { path, dirfd, when, ..Operands::NONE };
    Row { name, operands, ..*calls::row(name) }
}

/// The calls that the fixtures make.
pub fn rows() -> Vec<Row> {
    let mut rows = vec![
        row("open", 0, NONE),
        row("openat", 1, 0),
        row("mkdir", 0, NONE),
        row("unlink", 0, NONE),
        row("chmod", 0, NONE),
        row("fchmod", NONE, 0),
        row("fchmodat", 1, 0),
        row("execve", 0, NONE),
        row("execveat", 1, 0),
        row("bind", NONE, NONE),
        row("rename", 0, NONE),
        row("chroot", 0, NONE),
    ];
    for row in &mut rows {
        match row.name {
            "bind" => row.operands.address = 1,
            "rename" => row.operands.path2 = 1,
            _ => (),
        }
    }
    rows
}

/// A record, cut into its parts.
#[derive(Clone, Debug)]
pub struct Seen {
    pub head: Head,
    pub call: CallRecord,
    pub check: CheckRecord,
    pub process: ProcessRecord,
    pub strings: [String; STRINGS],
}

impl Seen {
    fn new(bytes: &[u8]) -> Self {
        let head: Head = record::read(bytes).expect("a head");
        let mut seen = Self {
            head,
            call: CallRecord::default(),
            check: CheckRecord::default(),
            process: ProcessRecord::default(),
            strings: Default::default(),
        };
        let mut rest = match head.kind {
            KIND_CALL => {
                seen.call = record::read(bytes).expect("a call");
                &bytes[size_of::<CallRecord>()..]
            }
            KIND_CHECK => {
                seen.check = record::read(bytes).expect("a check");
                &bytes[size_of::<CheckRecord>()..]
            }
            _ => {
                seen.process = record::read(bytes).expect("a process");
                &bytes[size_of::<ProcessRecord>()..]
            }
        };
        for (string, length) in seen.strings.iter_mut().zip(head.strings) {
            let (text, behind) = rest.split_at(length.into());
            *string = String::from_utf8_lossy(text).into_owned();
            rest = behind;
        }
        assert!(rest.is_empty(), "bytes behind the record's strings");
        seen
    }

    pub fn path(&self) -> &str {
        &self.strings[STR_PATH]
    }

    pub fn path2(&self) -> &str {
        &self.strings[STR_PATH2]
    }

    pub fn base(&self) -> &str {
        &self.strings[STR_BASE]
    }

    pub fn data(&self) -> &str {
        &self.strings[STR_DATA]
    }
}

/// All that was seen of a run.
#[derive(Debug)]
pub struct Trace {
    pub root: i32,
    pub status: ExitStatus,
    pub records: Vec<Seen>,
}

impl Trace {
    pub fn kind(&self, kind: u16) -> impl Iterator<Item = &Seen> {
        self.records.iter().filter(move |seen| seen.head.kind == kind)
    }

    pub fn calls_on<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Seen> {
        self.kind(KIND_CALL).filter(move |seen| seen.path() == path)
    }

    /// The only call on `path`.
    pub fn call_on<'a>(&'a self, path: &'a str) -> &'a Seen {
        let calls: Vec<&Seen> = self.calls_on(path).collect();
        assert_eq!(calls.len(), 1, "calls on {path}: {calls:#?}");
        calls[0]
    }

    /// Every task made has ended, the last thread of each group is marked, and nothing is told of strangers.
    pub fn assert_whole(&self) {
        let mut alive = std::collections::BTreeMap::from([(self.root as u32, self.root as u32)]);
        for seen in &self.records {
            match seen.head.kind {
                KIND_FORK => {
                    let known = alive.insert(seen.process.child_tid, seen.process.child_pid);
                    assert_eq!(known, None, "made twice: {seen:?}");
                }
                KIND_EXIT => {
                    let group = alive.remove(&seen.head.tid);
                    assert_eq!(group, Some(seen.head.pid), "ended without having been made: {seen:?}");
                    let last = !alive.values().any(|pid| *pid == seen.head.pid);
                    assert_eq!(seen.process.last_thread, u32::from(last), "{seen:?}");
                }
                KIND_EXEC => alive.retain(|tid, pid| *pid != seen.head.pid || *tid == seen.head.tid),
                _ => assert!(alive.contains_key(&seen.head.tid), "call of an unknown task: {seen:?}"),
            }
        }
        assert!(alive.is_empty(), "never ended: {alive:?}");
    }
}

/// Waits until no other case runs.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How to run a fixture.
pub struct Case {
    pub stops: Stops,
    pub judge: Option<MakeJudge>,
    /// Take this user id, after the filter is installed.
    pub uid: Option<u32>,
    pub from_exec: bool,
    pub rows: Vec<Row>,
}

impl Default for Case {
    fn default() -> Self {
        Self { stops: Stops::EntryAndExit, judge: None, uid: None, from_exec: false, rows: rows() }
    }
}

/// A tracee at work.
pub struct Live {
    pub tracer: Tracer,
    pub pid: i32,
    records: Vec<Seen>,
    _alone: MutexGuard<'static, ()>,
}

impl Case {
    /// Starts `body` in a new traced process, which then exits with what it returns.
    pub fn start(self, body: impl FnOnce() -> i32) -> Live {
        self.start_alone(alone(), body)
    }

    /// [`Case::start`] for who has the [`alone`] lock already.
    pub fn start_alone(self, alone: MutexGuard<'static, ()>, body: impl FnOnce() -> i32) -> Live {
        let rows = self.rows;
        let filter = filter(&rows);
        let options =
            Options { rows, stops: self.stops, from_exec: self.from_exec, kill_tree: true, attach: false };
        let mut tracer = Tracer::start(options, self.judge).expect("a tracer");
        let launcher = std::process::id() as i32;
        let (wait, go) = nix::unistd::pipe().expect("a pipe");
        // SAFETY: the C library makes allocation and threads work in a forked child.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork");
        if pid == 0 {
            allow_tracer(launcher);
            // SAFETY: plain numbers.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
            let mut byte = [0u8];
            let released = nix::unistd::read(&wait, &mut byte) == Ok(1);
            assert!(released, "never seized");
            drop((wait, go));
            let status = match install(&filter) {
                Ok(_) => {
                    if let Some(uid) = self.uid {
                        become_user(uid);
                    }
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101)
                }
                Err(_) => 102,
            };
            // SAFETY: ends the child without the destructors of the test process.
            unsafe { libc::_exit(status) }
        }
        let child = pidfd(pid);
        tracer.watch(child.as_fd()).expect("the child can be seized");
        nix::unistd::write(&go, b"x").expect("the child waits");
        Live { tracer, pid, records: Vec::new(), _alone: alone }
    }

    /// Runs `body` to its end.
    pub fn run(self, body: impl FnOnce() -> i32) -> Trace {
        self.start(body).finish()
    }

    /// Runs a program to its end.
    pub fn exec(self, command: &[&str]) -> Trace {
        let case = Self { from_exec: true, ..self };
        let command: Vec<CString> = command.iter().map(|word| CString::new(*word).unwrap()).collect();
        case.run(|| exec(&command))
    }
}

/// Replaces the program; returns only on failure.
pub fn exec(command: &[CString]) -> i32 {
    let _ = nix::unistd::execv(&command[0], command);
    127
}

/// A descriptor of process `pid`.
pub fn pidfd(pid: i32) -> OwnedFd {
    // SAFETY: plain numbers; the descriptor is new.
    unsafe { OwnedFd::from_raw_fd(libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32) }
}

fn become_user(uid: u32) {
    // SAFETY: plain numbers.
    let done = unsafe {
        libc::setgroups(0, std::ptr::null()) == 0
            && libc::setresgid(uid, uid, uid) == 0
            && libc::setresuid(uid, uid, uid) == 0
    };
    assert!(done, "cannot become user {uid}");
}

impl Live {
    /// Takes in what has come.
    pub fn look(&mut self) -> &[Seen] {
        self.tracer.drain(&mut |bytes| self.records.push(Seen::new(bytes)));
        &self.records
    }

    /// Waits until `done` says so of what was seen.
    pub fn until(&mut self, done: impl Fn(&[Seen]) -> bool) {
        let start = Instant::now();
        while !done(self.look()) {
            assert!(start.elapsed() < LIMIT, "still waiting; seen: {:#?}", self.records);
            let _ = poll(&mut [PollFd::new(self.tracer.as_fd(), PollFlags::POLLIN)], 100u8);
        }
    }

    /// What wait(2) tells the real parent next of the tracee.
    pub fn wait(&mut self, flags: i32) -> i32 {
        let start = Instant::now();
        let mut status = 0;
        loop {
            // SAFETY: `status` lives through the call.
            match unsafe { libc::waitpid(self.pid, &raw mut status, flags | libc::WNOHANG) } {
                0 => (),
                pid => {
                    assert_eq!(pid, self.pid, "wait: {}", std::io::Error::last_os_error());
                    return status;
                }
            }
            if start.elapsed() >= LIMIT {
                // SAFETY: plain numbers.
                unsafe { libc::kill(self.pid, libc::SIGKILL) };
                panic!("the tracee hangs; seen: {:#?}", self.look().last());
            }
            self.look();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for the tracee and all below it to end.
    pub fn finish(mut self) -> Trace {
        let status = self.wait(0);
        let start = Instant::now();
        while self.tracer.tasks() > 0 {
            assert!(start.elapsed() < LIMIT, "{} tasks never ended", self.tracer.tasks());
            std::thread::sleep(Duration::from_millis(1));
            self.look();
        }
        self.look();
        assert_eq!(self.tracer.lost(), 0);
        Trace { root: self.pid, status: ExitStatus::from_raw(status), records: self.records }
    }
}

/// Opens `path` for reading, by `openat`; the negative errno on failure.
pub fn open(path: &str) -> i32 {
    let path = CString::new(path).unwrap();
    // SAFETY: a valid string; the descriptor is closed at once.
    unsafe {
        let fd = libc::openat(libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY);
        if fd < 0 {
            return -std::io::Error::last_os_error().raw_os_error().unwrap_or(1);
        }
        libc::close(fd)
    }
}

/// Whether the tests run as root.
pub fn root() -> bool {
    nix::unistd::geteuid().is_root()
}
