//! Foretells the capability checks of a call by the access oracle and a table, for backends that cannot see the kernel
//! make them.
//!
//! ```text
//! call at its entry ─┬─ files: what it does with which paths ─▶ Oracle ─▶ refusals ─┐
//!                    └─ privileged: call and arguments ─▶ capability ───────────────┴▶ Foretold
//! ```
//!
//! What cannot be foretold, and how findings then differ from those of the eBPF backend:
//! - Privileges that hang on more than the call's arguments: `keyctl`, netlink messages, `sendmsg`, the commands of
//!   `bpf`, System V IPC, the memory limit of `mmap`, requests of `ioctl` that the table does not know.
//! - Opens of a script's interpreter, and of what the kernel opens by itself.
//! - Rights of another user: with `--identity switch`, accesses are judged for the first one all the same.
//! - What lies behind a path may change between the question and the call.

mod device;
mod files;
mod host;
mod others;
mod privileged;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nrtrace_ebpf::record::{
    ASKED_CREATE, ASKED_DELETE, ASKED_ENTRY, ASKED_FILE, ASKED_OTHER, ASKED_SEARCH, ASKED_STICKY, InodeRecord,
};
use nrtrace_ebpf::table::NONE;
use nrtrace_profiles::calls::flags::RESOLVE_IN_ROOT;
use nrtrace_profiles::calls::{self, File as Does, Kernel, Operation, Part, ROWS, Row, Socket};
use nrtrace_profiles::event::{Asked, Component, Identity, Record};
use nrtrace_profiles::{Capability, RawText};

use crate::oracle::{self, Asker, Cause, Judgement, Oracle, Question, Want};
use crate::ptrace::{CallAtEntry, Ending, Foreteller, Foretold, Predicted};
use host::Host;

/// Foretells for one user.
pub struct Predictor {
    oracle: Oracle,
    host: Host,
    /// The root directory of all that have not changed theirs.
    root: Option<OwnedFd>,
    /// Whether refusals are real, so that the result of a call matters although nothing seems to stand against it.
    real: bool,
    /// Only what this user does is foretold, and what others do is refused or not.
    only: Option<u32>,
}

impl Predictor {
    /// Makes a predictor for `identity`, in the thread that will ask it. With `real`, the program has just that user's
    /// rights, and what refuses it may be something the oracle does not know.
    ///
    /// # Errors
    /// See [`Oracle::new`].
    pub fn new(identity: &Identity, real: bool) -> Result<Self, oracle::Error> {
        let root = File::options().read(true).custom_flags(libc::O_PATH).open("/").ok().map(OwnedFd::from);
        Ok(Self {
            oracle: Oracle::for_this_thread(identity)?,
            host: Host::new(identity.clone()),
            root,
            real,
            only: None,
        })
    }

    /// Foretells only what filesystem user id `uid` does, where there is one.
    #[must_use]
    pub fn only(self, uid: Option<u32>) -> Self {
        Self { only: uid, ..self }
    }
}

/// The rows of the table whose calls are worth a stop: those that can be foretold, and with [`Record::Calls`] those
/// whose results are recorded.
pub fn rows(record: Record) -> Vec<Row> {
    let told = |row: &Row| {
        // Sends are many, and most go where they are connected.
        (row.is_judged() && row.operation != Operation::Socket(Socket::Send))
            || !row.operation.consults().is_empty()
            || row.operation == Operation::Kernel(Kernel::Ring)
            || (record == Record::Calls && files::is_worth_its_result(row))
    };
    ROWS.iter().copied().filter(told).collect()
}

impl Foreteller for Predictor {
    fn judge(&mut self, call: &CallAtEntry<'_>) -> Foretold {
        if self.only.is_some_and(|uid| uid != call.fsuid) {
            return Foretold::default();
        }
        let mut told = Told { ending: Ending::Allowed, failed: false, checks: Vec::new() };
        let row = calls::row(call.name);
        let args = &files::in_place(call, row);
        let at = At { call, row, args };
        if row.is_judged() {
            for (part, want) in files::wants(call, row, args).into_iter().flatten() {
                // `link` looks no further than at an old name that is not there; `rename` on the way to the new one.
                match (told.failed, row.operation.is(Does::Rename)) {
                    (true, true) => self.ask(&at, part, Want::Reach, &mut told),
                    (true, false) => break,
                    (false, _) => self.ask(&at, part, want, &mut told),
                }
            }
        } else {
            told.ending = Ending::Open;
        }
        let asked = !told.failed || !row.operation.looks_first();
        let consulted = if asked { privileged::capability(call, row, args, &self.host) } else { None };
        if let Some(capability) = consulted.filter(|_| host::is_in_own_namespace(call.tid)) {
            if row.operation.opened_with(args).is_some() {
                // The owner's right to a parameter of the network is asked for in place of what its mode says.
                told.checks.retain(|(_, asked, _)| *asked != ASKED_FILE);
            }
            told.checks.push((capability, ASKED_OTHER, None));
        }
        let looks = !self.real && files::only_looks(call, row, args);
        if !told.checks.is_empty() || !looks {
            told.ending = Ending::Open;
        }
        told.verdict(call)
    }
}

/// A call at its entry, with what is known of it.
struct At<'a> {
    call: &'a CallAtEntry<'a>,
    row: &'static Row,
    /// Its arguments, in place.
    args: &'a [u64; 6],
}

/// What has been found out so far.
struct Told {
    ending: Ending,
    /// A path leads nowhere.
    failed: bool,
    checks: Vec<(Capability, u32, Option<Component>)>,
}

/// What a look at one path came to.
enum Seen {
    /// Nothing stands in the way.
    Clear,
    /// It fails whoever makes the call.
    Fails(i32),
    /// The whole of it.
    Judged(Box<Judgement>),
}

impl Told {
    fn fails(&mut self, errno: i32) {
        self.failed = true;
        if self.ending == Ending::Allowed {
            self.ending = Ending::Fails(errno);
        }
    }

    fn verdict(self, call: &CallAtEntry<'_>) -> Foretold {
        if self.checks.is_empty() {
            return Foretold { checks: Vec::new(), ending: self.ending };
        }
        let held = host::capabilities(call.tid);
        let checks = self.checks.into_iter().map(|(capability, asked, component)| Predicted {
            capability: capability.number().into(),
            ret: if held >> capability.number() & 1 == 1 { 0 } else { -libc::EPERM },
            asked,
            component: component.map(|found| (found.path.as_bytes().to_vec(), inode(&found))),
        });
        Foretold { checks: checks.collect(), ending: self.ending }
    }
}

impl Predictor {
    /// Puts one path of the call to the oracle.
    fn ask(&self, at: &At<'_>, part: Part, want: Want, told: &mut Told) {
        let judgement = match self.judgement(at, part, want) {
            Some(Seen::Clear) => return,
            Some(Seen::Fails(errno)) => return told.fails(errno),
            Some(Seen::Judged(judgement)) => *judgement,
            // It cannot be read, or is about a descriptor that is not open.
            None => {
                told.ending = Ending::Open;
                return;
            }
        };
        // A sticky directory lets go of nobody else's: it is what refuses.
        let parent =
            judgement.parent.clone().map(|inode| Component { path: directory(&judgement.path), inode });
        let gift =
            at.row.operation.gift(at.args).map(|gift| host::may_give(&judgement, gift, &self.host.identity));
        for refusal in judgement.refusals {
            match refusal.cause {
                // The owner's right is asked for with the gift, in one.
                Cause::NotOwner if gift.is_some() => {}
                _ => match refusal.consulted(want) {
                    Some((capability, asked)) => {
                        let sticky = refusal.cause == Cause::Sticky;
                        let component = parent.clone().filter(|_| sticky).unwrap_or(refusal.component);
                        // A pipe or a socket has no path.
                        let named = component.path.as_bytes().starts_with(b"/");
                        told.checks.push((capability, code(asked), named.then_some(component)))
                    }
                    None => told.ending = Ending::Open,
                },
            }
        }
        if gift == Some(false) {
            told.checks.push((Capability::CHOWN, ASKED_OTHER, None));
        }
        if let Some(failure) = judgement.failure {
            told.fails(failure.errno);
        }
    }

    fn judgement(&self, at: &At<'_>, part: Part, want: Want) -> Option<Seen> {
        let call = at.call;
        let path = files::path(part, call)?;
        let own_root = if call.plain_root && self.root.is_some() { None } else { Some(call.root().ok()?) };
        let root = own_root.as_ref().or(self.root.as_ref())?.as_fd();
        let resolve = files::resolve(call, at.row);
        let in_root = resolve & RESOLVE_IN_ROOT != 0;
        // An absolute path does not look at where it starts.
        let start: Option<OwnedFd> =
            if path.starts_with(b"/") && !in_root { None } else { Some(files::start(part, call).ok()?) };
        let base: BorrowedFd<'_> = start.as_ref().map_or(root, AsFd::as_fd);
        let root = if in_root { base } else { root };
        if resolve != 0
            && let Some(errno) = files::is_beyond(base, path, resolve)
        {
            return Some(Seen::Fails(errno));
        }
        let question = Question {
            follow: at.row.follows(at.args),
            empty_path: path.is_empty() && call.operands.dirfd != NONE,
            process: Some(Asker { pid: call.pid as u32, tid: call.tid as u32 }),
            ..Question::new(root, base, path, want)
        };
        if own_root.is_none() && !in_root && !question.path.is_empty() && !is_peculiar(path) {
            match self.oracle.glance(&question) {
                Some(Ok(())) => return Some(Seen::Clear),
                Some(Err(errno)) => return Some(Seen::Fails(errno as i32)),
                None => {}
            }
        }
        self.oracle.ask_all(&question).ok().map(|judgement| Seen::Judged(Box::new(judgement)))
    }
}

/// Whether what a path leads to may depend on who looks.
fn is_peculiar(path: &[u8]) -> bool {
    const STARTS: [&[u8]; 2] = [b"/proc", b"/dev/"];
    STARTS.iter().any(|start| path.starts_with(start))
}

/// The directory that holds a file.
fn directory(path: &RawText) -> RawText {
    let bytes = path.as_bytes();
    let end = bytes.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    RawText::from(&bytes[..end.max(1).min(bytes.len())])
}

/// The number of a question in a record.
fn code(asked: Asked) -> u32 {
    match asked {
        Asked::Search => ASKED_SEARCH,
        Asked::File => ASKED_FILE,
        Asked::Create => ASKED_CREATE,
        Asked::Delete => ASKED_DELETE,
        Asked::Entry => ASKED_ENTRY,
        Asked::Sticky => ASKED_STICKY,
        Asked::Other => ASKED_OTHER,
    }
}

fn inode(component: &Component) -> InodeRecord {
    let found = &component.inode;
    let rdev = found.device.map_or(0, |(major, minor)| major << 20 | minor & 0xf_ffff);
    InodeRecord {
        mode: found.file_type.bits() | found.mode,
        uid: found.uid,
        gid: found.gid,
        rdev,
        ..InodeRecord::default()
    }
}
