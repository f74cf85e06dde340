//! Questions put to the access oracle when a call is concluded: what refused it, and, where the program runs with other
//! rights than the user's, what the user would have been refused.

use std::collections::HashSet;
use std::fs;
use std::os::fd::BorrowedFd;

use nix::time::{ClockId, clock_getres, clock_gettime};
use nrtrace_profiles::calls::{Kernel, Operation, Row, Task, Want};
use nrtrace_profiles::event::{
    Cause, Check, Component, Credentials, Event, Identity, Mode, Object, Obstacle, Outcome, PathObject,
};
use nrtrace_profiles::requirement::Access;
use nrtrace_profiles::{Capability, RawText};

use super::Within;
use super::magic::is_through;
use super::paths::{Paths, split};
use super::tree::Tree;
use super::wants::{WantedFile, wants};
use crate::oracle::{self, Asker, Judgement, Oracle, Question, Refusal};
use crate::status::{self, Status};

/// A name that is nowhere, for questions about the making of entries that have been made by now.
const ABSENT: &[u8] = b"\x01nrtrace: no such name";

/// Puts the questions.
pub struct Inquiry {
    identity: Identity,
    /// The same, with the ids that the host sees.
    on_host: Identity,
    within: Within,
    mode: Mode,
    /// Made at the first question: while the program runs, so that its thread has the run's signal mask.
    oracle: Option<Result<Oracle, oracle::Error>>,
    /// What the run made, which counts as the user's own.
    made: HashSet<RawText>,
    /// When the program was started, in nanoseconds of `CLOCK_REALTIME_COARSE`, which file systems stamp files with.
    start: i128,
    /// Whether nrtrace itself, and so everything it starts, is under a seccomp filter.
    filtered: bool,
    /// Accesses that could not be judged for the user.
    pub unjudged: u64,
}

/// A concluded call, with what the event does not hold.
pub struct Case<'a> {
    /// What is known of the call.
    pub row: &'static Row,
    /// Mount namespace.
    pub mnt_ns: u32,
    /// Where a relative path starts, absolute.
    pub base: &'a [u8],
    /// Whether the process has installed a seccomp filter.
    pub filtered: bool,
    /// Whether the backend has asked the oracle itself, when the call was made.
    pub foretold: bool,
}

impl std::fmt::Debug for Inquiry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inquiry").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Inquiry {
    /// For a program that is judged for `identity`.
    pub fn new(identity: Identity, within: Within, mode: Mode) -> Self {
        Self {
            on_host: within.on_host.clone().unwrap_or_else(|| identity.clone()),
            identity,
            within,
            mode,
            oracle: None,
            made: HashSet::new(),
            start: 0,
            filtered: Status::of("self").is_some_and(|own| own.is_filtered()),
            unjudged: 0,
        }
    }

    /// The program runs since `time`, in nanoseconds of `CLOCK_MONOTONIC`, or is about to.
    pub fn started(&mut self, time: u64) {
        let [stamp, now, step] = [
            clock_gettime(ClockId::CLOCK_REALTIME_COARSE),
            clock_gettime(ClockId::CLOCK_MONOTONIC),
            clock_getres(ClockId::CLOCK_REALTIME_COARSE),
        ]
        // The clocks always exist; without a time, every file counts as new.
        .map(|time| time.map_or(0, |time| nanoseconds(time.tv_sec(), time.tv_nsec())));
        let passed = now - i128::from(time);
        // The stamps of what was made meanwhile may be a step older than it is.
        self.start = if passed > step { stamp - passed - step } else { stamp };
    }

    /// Finds what refused `event`, or what the user would have been refused in it.
    pub fn inquire(&mut self, event: &mut Event, case: &Case<'_>, paths: &mut Paths) {
        let succeeded = matches!(event.outcome, Outcome::Success { .. });
        if case.foretold && succeeded && case.row.operation == Operation::Kernel(Kernel::Ring) {
            // What the ring does makes no calls that could be stopped at.
            self.unjudged += event.count;
        }
        forget_session(event, case.row);
        if self.mode == Mode::Permissive && matches!(event.outcome, Outcome::Success { .. }) {
            self.forget_creation(event, case, paths);
        }
        match event.outcome {
            Outcome::Failure { errno: errno @ (libc::EACCES | libc::EPERM | libc::EROFS) } => {
                event.obstacle = self.obstacle(event, errno, case, paths);
            }
            Outcome::Success { .. } | Outcome::Failure { .. } if self.judges(event.credentials) => {
                self.foretell(event, case, paths);
            }
            _ => {}
        }
    }

    /// Takes away the question whether a file may be made that was there: the kernel asks before it looks, where it does
    /// not remember the name.
    fn forget_creation(&self, event: &mut Event, case: &Case<'_>, paths: &Paths) {
        // Each goes into the next, as the compiler has it.
        const ASKS: [&str; 4] = ["may_o_create", "lookup_open", "open_last_lookups", "path_openat"];
        let asks = |check: &Check| {
            let mut callers = check
                .frames
                .iter()
                .filter(|frame| !frame.contains("capable") && !frame.contains("permission"));
            callers.next().is_some_and(|frame| ASKS.contains(&&**frame))
        };
        if !event.checks.iter().any(asks) {
            return;
        }
        let there = wants(event, case.row).iter().any(|wanted| match wanted.want {
            Want::Open(flags) if flags & libc::O_CREAT != 0 && flags & libc::O_EXCL == 0 => {
                !self.is_fresh(wanted, case, paths)
            }
            _ => false,
        });
        if there {
            event.checks.retain(|check| !asks(check));
        }
    }

    /// Whether it is asked what the user would have been refused of what a caller with these ids may do.
    pub fn judges(&self, caller: Credentials) -> bool {
        self.mode == Mode::Observation && !self.within.is_really_refused(caller)
    }

    /// Whether a file's time is one since the start of the program.
    pub fn is_since_start(&self, time: i128) -> bool {
        time >= self.start
    }

    fn obstacle(&mut self, event: &Event, errno: i32, case: &Case<'_>, paths: &Paths) -> Option<Obstacle> {
        let real = |check: &Check| !check.foreign && !check.not_audited;
        let explained = event.checks.iter().any(|check| !check.granted && real(check));
        let wanted = wants(event, case.row);
        let mut allowed = !wanted.is_empty();
        for wanted in &wanted {
            let judgement = self.ask(event, wanted, case, paths)?;
            let failing = judgement.failure.as_ref().is_some_and(|failure| failure.errno == errno);
            allowed &= wanted.exact && !failing;
            let refusal = judgement.refusals.iter().find(|refusal| {
                refusal.errno == errno && (self.is_judged(event) || stops_root(refusal, &judgement))
            });
            let Some(refusal) = refusal else { continue };
            // Where the kernel was seen to consult a capability, that tells more.
            return (!(explained && is_rights(refusal.cause))).then(|| obstacle(refusal, case, paths));
        }
        let cause = match explained {
            true => return None,
            false if self.filtered || case.filtered => Cause::Seccomp,
            false if allowed => Cause::Policy,
            false => return None,
        };
        Some(Obstacle { cause, at: None })
    }

    /// Whether the caller has just the rights that the oracle judges by.
    fn is_judged(&self, event: &Event) -> bool {
        self.mode == Mode::Enforced && event.credentials.uid == self.identity.uid
    }

    /// Adds the checks that the call would have brought had the user made it.
    fn foretell(&mut self, event: &mut Event, case: &Case<'_>, paths: &mut Paths) {
        let succeeded = matches!(event.outcome, Outcome::Success { .. });
        let mut found: Vec<(Want, Refusal)> = Vec::new();
        let mut made = Vec::new();
        for wanted in wants(event, case.row) {
            let afterwards = if succeeded { self.afterwards(&wanted, case, paths) } else { wanted.want };
            made.extend(self.makes(event, &wanted, afterwards).filter(|_| succeeded));
            let wanted = WantedFile { want: afterwards, ..wanted };
            // What is given away has another owner by now, and the kernel has asked about that itself.
            let given = matches!(wanted.want, Want::Own)
                && event.checks.iter().any(|check| check.capability == Capability::CHOWN);
            if case.foretold || given {
                continue;
            }
            let Some(judgement) = self.ask(event, &wanted, case, paths) else {
                self.unjudged += event.count;
                continue;
            };
            // To look at what a descriptor leads to takes no right.
            let looks = matches!(wanted.want, Want::Reach);
            if succeeded && !looks && judgement.failure.is_some() && is_through(&wanted.object.path) {
                // The process has closed it, or is gone.
                self.unjudged += event.count;
            }
            if succeeded {
                found.extend(self.sticky(&wanted, &judgement).map(|refusal| (wanted.want, refusal)));
            }
            let refusals = judgement.refusals.into_iter().filter(|refusal| {
                let on_the_way = refusal.access.iter().all(|access| *access == Access::Search);
                let passed = on_the_way && is_above(refusal.component.path.as_bytes(), wanted.object, case);
                !passed && (succeeded || on_the_way) && !self.is_made(&refusal.component.path)
            });
            found.extend(refusals.map(|refusal| (wanted.want, refusal)));
        }
        for (want, mut refusal) in found {
            paths.names().name(&mut refusal.component.inode);
            match check(want, &refusal) {
                Some(check) => event.checks.push(check),
                None if is_rights(refusal.cause) || stops_everybody(refusal.cause) => {}
                None => event.obstacle = Some(obstacle(&refusal, case, paths)),
            }
        }
        self.made.extend(made);
    }

    /// The refusal of a sticky directory to let go of what somebody else owned. Its owner can no longer be asked for: a
    /// user that is new cannot have been it.
    fn sticky(&self, wanted: &WantedFile<'_>, judgement: &Judgement) -> Option<Refusal> {
        let removed = matches!(wanted.want, Want::Delete(_)) && !self.is_made(&wanted.object.path);
        let parent = judgement.parent.as_ref().filter(|_| removed && !self.identity.exists)?;
        let sticky = parent.mode & libc::S_ISVTX != 0 && parent.uid != self.on_host.uid;
        let path = RawText::from(split(wanted.object.path.as_bytes()).0);
        sticky.then(|| Refusal {
            component: Component { path, inode: parent.clone() },
            access: [Access::Delete].into(),
            errno: libc::EPERM,
            cause: Cause::Sticky,
        })
    }

    /// Takes back what was foretold of files that the run made: a question may have been put when the file was there
    /// already and the record of its making was still to come.
    pub fn take_back(&self, events: &mut [Event]) {
        if self.mode != Mode::Observation {
            return;
        }
        let made_by_run = |component: &Component| self.is_made(&component.path);
        for event in events {
            event.checks.retain(|check| {
                // Who owns a file may not give it away either.
                check.predicted.is_none()
                    || check.capability == Capability::CHOWN
                    || !check.component.as_ref().is_some_and(made_by_run)
            });
        }
    }

    /// What was wanted, as it can be asked now that it is done: what was to be made is there, and what was to be removed
    /// is gone.
    fn afterwards(&self, wanted: &WantedFile<'_>, case: &Case<'_>, paths: &Paths) -> Want {
        match wanted.want {
            Want::Open(flags) if flags & libc::O_CREAT != 0 => {
                let fresh = flags & libc::O_EXCL != 0 || self.is_fresh(wanted, case, paths);
                if fresh && !self.is_made(&wanted.object.path) {
                    return Want::Create { directory: false };
                }
                Want::Open(flags & !libc::O_EXCL)
            }
            other => other,
        }
    }

    /// Whether the file was made by the run, as far as its times tell. A file that is gone was a temporary one.
    fn is_fresh(&self, wanted: &WantedFile<'_>, case: &Case<'_>, paths: &Paths) -> bool {
        let times = paths.tree(case.mnt_ns).and_then(|tree| tree.times(wanted.object.path.as_bytes()));
        let Some(times) = times else { return true };
        // An overlay makes a file anew when it is first opened for writing, and keeps its times: by now it may have been
        // written to, but who writes it seldom reads it.
        let since = times.accessed.min(times.modified);
        times.birth.is_some_and(|birth| birth >= self.start && since >= birth)
    }

    /// The name that the call has made.
    fn makes<'e>(
        &self,
        event: &Event,
        wanted: &WantedFile<'e>,
        afterwards: Want,
    ) -> impl Iterator<Item = RawText> + use<'e> {
        let moved = match &event.object {
            Object::TwoPaths { from, .. } => self.is_made(&from.path),
            _ => false,
        };
        let makes = match afterwards {
            Want::Create { .. } => true,
            Want::Replace(_) => moved,
            _ => false,
        };
        makes.then(|| wanted.object.path.clone()).into_iter()
    }

    /// Whether `path` was made by the run, or is below a directory that was.
    fn is_made(&self, path: &RawText) -> bool {
        let bytes = path.as_bytes();
        let ends = bytes.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        !self.made.is_empty()
            && (self.made.contains(path)
                || ends.into_iter().any(|end| self.made.contains(&RawText::from(&bytes[..end]))))
    }

    /// Everything that stands against a call, for the user.
    fn ask(
        &mut self,
        event: &Event,
        wanted: &WantedFile<'_>,
        case: &Case<'_>,
        paths: &Paths,
    ) -> Option<Judgement> {
        let (root, mut path) = place(wanted, case, paths)?;
        let done = matches!(event.outcome, Outcome::Success { .. });
        let mut want = wanted.want;
        if done && let Want::Create { .. } | Want::Delete(_) | Want::Replace(_) = want {
            let directory = split(&path).0;
            path = [directory.strip_suffix(b"/").unwrap_or(directory), b"/", ABSENT].concat();
            want = Want::Create { directory: false };
        }
        let question = Question {
            follow: wanted.follow,
            process: Some(Asker { pid: event.process.pid, tid: event.process.tid }),
            ..Question::new(root, root, &path, want)
        };
        let identity = &self.on_host;
        let oracle = self.oracle.get_or_insert_with(|| Oracle::new(identity));
        oracle.as_ref().ok()?.ask_all(&question).ok()
    }

    /// Why nothing could be judged.
    pub fn hindrance(&self) -> Option<String> {
        self.oracle.as_ref()?.as_ref().err().map(ToString::to_string)
    }
}

/// Takes away the question whether a process of the caller's session may be signalled, when it is told to go on: the kernel
/// asks for the capability first (`check_kill_permission`).
fn forget_session(event: &mut Event, row: &Row) {
    let Operation::Task(Task::Signal(signal)) = row.operation else { return };
    let (pid, caller) = (event.call.args[0] as i32, event.process.pid as i32);
    let goes_on = event.call.args[usize::from(signal)] as i32 == libc::SIGCONT;
    let asked = event.checks.iter().any(|check| check.capability == Capability::KILL);
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    if goes_on
        && asked
        && namespace(&caller.to_string()) == namespace("self")
        && status::share_session(pid, caller)
    {
        event.checks.retain(|check| check.capability != Capability::KILL);
    }
}

/// The root of the mount namespace, and the path in it: as it was given where that is another way.
fn place<'p>(
    wanted: &WantedFile<'_>,
    case: &Case<'_>,
    paths: &'p Paths,
) -> Option<(BorrowedFd<'p>, Vec<u8>)> {
    let object = wanted.object;
    let (seen, path) = (object.seen.as_bytes(), object.path.as_bytes());
    let way = if path.ends_with(seen) { path } else { seen };
    let root = paths.tree(case.mnt_ns).map(Tree::root)?;
    (object.resolved && way.starts_with(b"/")).then(|| (root, way.to_vec()))
}

/// Whether a directory is one that the process did not have to pass: above the start of a relative path, or of an open
/// file.
fn is_above(directory: &[u8], object: &PathObject, case: &Case<'_>) -> bool {
    let given = object.given.as_bytes();
    if given.starts_with(b"/") {
        return false;
    }
    let below = case.base.strip_prefix(directory);
    let proper = directory == b"/" || below.is_some_and(|rest| rest.starts_with(b"/"));
    proper && case.base != directory || given.is_empty()
}

/// What the user would be asked for; nothing where no capability would have helped.
fn check(want: Want, refusal: &Refusal) -> Option<Check> {
    let (capability, asked) = refusal.consulted(want)?;
    Some(Check {
        capability,
        granted: true,
        frames: [].into(),
        component: Some(refusal.component.clone()),
        foreign: false,
        not_audited: false,
        child_namespace: false,
        predicted: Some(asked),
    })
}

/// Whether it is a matter of rights that a capability overrides.
fn is_rights(cause: Cause) -> bool {
    matches!(cause, Cause::Permission | Cause::NotOwner | Cause::Sticky | Cause::OtherProcess)
}

/// Whether it would have stopped the call whoever made it.
fn stops_everybody(cause: Cause) -> bool {
    use Cause::{AppendOnly, Immutable, NoDev, NoExec, ReadOnlyMount};
    matches!(cause, AppendOnly | Immutable | NoDev | NoExec | ReadOnlyMount)
}

/// Whether a refusal stands although the caller has every capability. Nobody executes a file without an `x` bit.
fn stops_root(refusal: &Refusal, judgement: &Judgement) -> bool {
    let executes = refusal.access.contains(&Access::Execute);
    let closed = judgement.inode.as_ref().is_some_and(|inode| inode.mode & 0o111 == 0);
    !is_rights(refusal.cause) || (executes && closed)
}

fn obstacle(refusal: &Refusal, case: &Case<'_>, paths: &Paths) -> Obstacle {
    let path = &refusal.component.path;
    let at = match refusal.cause {
        Cause::ReadOnlyMount | Cause::NoExec | Cause::NoDev => {
            let point = paths.tree(case.mnt_ns).and_then(|tree| tree.mount_point(path.as_bytes()));
            point.map_or_else(|| path.clone(), RawText::from)
        }
        _ => path.clone(),
    };
    Obstacle { cause: refusal.cause, at: Some(at) }
}

/// A time of a file system as one number.
pub fn nanoseconds(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}
