//! What a caught call is answered.

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::libc;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use nrtrace_profiles::calls::flags::only_reads_clock;
use nrtrace_profiles::event::{Object, Outcome, PathObject};
use nrtrace_profiles::{Capability, RawText};

use super::filesystem::{Target, View, directory};
use super::identity_filter::{IdentityPolicy, Takes};
use super::machine::{self, Mounting, Way};
use crate::status::Status;

/// The id that leaves things as they are.
const UNCHANGED: u32 = u32::MAX;
/// `NGROUPS_MAX`
const GROUPS_MAX: usize = 65536;
/// `PATH_MAX`
const PATH_MAX: usize = 4096;

/// A call, stopped before the kernel has looked at it.
pub(super) struct Caught {
    /// Thread.
    pub tid: i32,
    /// Thread group.
    pub tgid: u32,
    /// Real, effective, saved and filesystem user ids.
    pub uids: [u32; 4],
    /// Real, effective, saved and filesystem group ids.
    pub gids: [u32; 4],
    /// What else is told of it.
    pub status: Status,
    /// What it changes.
    pub takes: Takes,
    /// Whether its ids have 16 bits.
    pub narrow: bool,
    /// Whether it came by the native table.
    pub native: bool,
    /// Its arguments.
    pub args: [u64; 6],
    /// When it was made.
    pub time: u64,
}

/// What the program is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The kernel shall judge.
    Continue,
    /// The result.
    Value(i64),
    /// The failure.
    Errno(Errno),
}

/// The answer, and what is recorded.
pub(super) struct Decided {
    pub answer: Answer,
    pub record: Option<(Object, Outcome)>,
    /// What the kernel would have consulted, and whether the process has it.
    pub consulted: Option<(Capability, bool)>,
    pub comm: RawText,
}

impl From<Answer> for Decided {
    fn from(answer: Answer) -> Self {
        Self { answer, record: None, consulted: None, comm: RawText::default() }
    }
}

/// How the ids asked for relate to those present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Nothing would change. The kernel would still consult CAP_SETUID for some of these calls, although it does
    /// not take it: answering in its place keeps such a check from looking like a need.
    None,
    /// Within the ids present, or nonsense: no capability is needed.
    Own,
    /// To others.
    Foreign,
}

/// Decides.
pub(super) struct Answerer {
    policy: IdentityPolicy,
    /// Nobody but the supervisor sees the calls that it is asked about.
    alone: bool,
    user_namespace: PathBuf,
}

impl Answerer {
    pub(super) fn new(policy: IdentityPolicy, alone: bool) -> std::io::Result<Self> {
        Ok(Self { policy, alone, user_namespace: fs::read_link("/proc/self/ns/user")? })
    }

    /// Decides on `caught`. `is_valid` tells whether the call still waits: what was read from its thread meant another
    /// one otherwise.
    pub(super) fn decide(&self, caught: &Caught, is_valid: &dyn Fn() -> bool) -> Decided {
        // In a user namespace of its own the program may change among the ids mapped there.
        let namespace = fs::read_link(format!("/proc/{}/ns/user", caught.tid));
        if namespace.is_ok_and(|namespace| namespace != self.user_namespace) {
            return Answer::Continue.into();
        }
        let mut decided = match caught.takes {
            Takes::Groups => self.groups(caught),
            Takes::Machine(way, capability) => self.machine(caught, way, capability),
            takes => match takes.owner_index() {
                Some(index) => self.gift(caught, index),
                None => self.ids(caught),
            },
        };
        if decided.record.is_some() {
            // The newline is the kernel's.
            let comm = fs::read(format!("/proc/{}/comm", caught.tid)).unwrap_or_default();
            decided.comm = RawText::from(comm.strip_suffix(b"\n").unwrap_or(&comm));
            if !is_valid() {
                return Answer::Errno(Errno::EINTR).into();
            }
        }
        decided
    }

    fn ids(&self, caught: &Caught) -> Decided {
        let Caught { uids, gids, .. } = *caught;
        let (present, count, is_fs) = match caught.takes {
            Takes::Uids(count) => (uids, count, false),
            Takes::Gids(count) => (gids, count, false),
            Takes::FsUid => (uids, 1, true),
            _ => (gids, 1, true),
        };
        let ids: Vec<u32> = caught.args[..count].iter().map(|arg| id(*arg, caught.narrow)).collect();
        // setfsuid(2) returns the previous id, whatever happens.
        let success = if is_fs { Answer::Value(i64::from(present[3])) } else { Answer::Value(0) };
        let refusal = if is_fs { success } else { Answer::Errno(Errno::EPERM) };
        match change(&ids, &present, is_fs) {
            Change::None => success.into(),
            Change::Own => Answer::Continue.into(),
            Change::Foreign => self.record(Object::Ids { ids }, success, refusal),
        }
    }

    fn groups(&self, caught: &Caught) -> Decided {
        // Even the present list takes CAP_SETGID.
        match read_groups(caught) {
            Ok(ids) => self.record(Object::Ids { ids }, Answer::Value(0), Answer::Errno(Errno::EPERM)),
            Err(errno @ (Errno::EINVAL | Errno::EFAULT)) => Answer::Errno(errno).into(),
            // nrtrace may not look, which says nothing about the program.
            Err(_) => self.record(Object::Nothing, Answer::Value(0), Answer::Errno(Errno::EPERM)),
        }
    }

    fn gift(&self, caught: &Caught, index: usize) -> Decided {
        let uid = id(caught.args[index], caught.narrow);
        let gid = id(caught.args[index + 1], caught.narrow);
        let own_user = uid == UNCHANGED || uid == caught.uids[3];
        let own_group =
            gid == UNCHANGED || gid == caught.gids[3] || caught.status.numbers("Groups").contains(&gid);
        if own_user && own_group {
            return Answer::Continue.into();
        }
        let path = match locate(caught) {
            Ok(path) => path,
            Err(errno) => return Answer::Errno(errno).into(),
        };
        self.record(Object::Gift { path, uid, gid }, Answer::Value(0), Answer::Errno(Errno::EPERM))
    }

    fn machine(&self, caught: &Caught, way: Way, capability: Capability) -> Decided {
        let held = caught.status.capabilities("CapEff") >> capability.number() & 1 == 1;
        let reads = match way {
            Way::Clock(at) => modes(caught, at).is_ok_and(only_reads_clock),
            Way::Node(at) => machine::is_harmless(caught.args[at], caught.args[at + 1]),
            _ => false,
        };
        let kernel = |outcome| (Answer::Continue, outcome);
        let answered = (Answer::Value(0), Outcome::Answered);
        let refused = (Answer::Errno(Errno::EPERM), Outcome::Failure { errno: libc::EPERM });
        let (answer, outcome) = match way {
            // The clock may be read by everybody.
            Way::Clock(at) if reads && held => return read_clock(caught, at).into(),
            Way::Clock(_) if reads => return Answer::Continue.into(),
            // Who has not the capability gets nowhere: no thread can get it while it waits for this.
            _ if !held && !self.alone => return Answer::Continue.into(),
            _ if !held => refused,
            Way::Unknown => return Answer::Errno(Errno::ENOSYS).into(),
            Way::Node(_) if reads => kernel(Outcome::Unknown),
            Way::Answered | Way::Clock(_) | Way::Node(_) => answered,
            Way::Refused => refused,
            Way::Mount => {
                let kind = || read_path(caught.tid, caught.args[2]).unwrap_or_default();
                match machine::mounting(caught.args[3], kind) {
                    Mounting::Done => kernel(Outcome::Unknown),
                    Mounting::Answered => answered,
                    Mounting::Refused => refused,
                }
            }
        };
        if answer == Answer::Continue && !self.alone {
            return answer.into();
        }
        let object = match way {
            Way::Mount => named(read_path(caught.tid, caught.args[1])),
            _ => Object::Nothing,
        };
        let consulted = Some((capability, answer != Answer::Errno(Errno::EPERM)));
        Decided { record: Some((object, outcome)), consulted, ..Decided::from(answer) }
    }

    fn record(&self, object: Object, success: Answer, refusal: Answer) -> Decided {
        let (answer, outcome) = match self.policy {
            IdentityPolicy::Deny => (refusal, Outcome::Failure { errno: libc::EPERM }),
            IdentityPolicy::Keep | IdentityPolicy::Switch | IdentityPolicy::Root => {
                (success, Outcome::Answered)
            }
        };
        Decided { record: Some((object, outcome)), ..Decided::from(answer) }
    }
}

/// What a `struct timex` asks to be changed.
fn modes(caught: &Caught, at: usize) -> Result<u32, Errno> {
    let mut modes = [0; 4];
    match read_memory(caught.tid, caught.args[at], &mut modes)? {
        4 => Ok(u32::from_ne_bytes(modes)),
        _ => Err(Errno::EFAULT),
    }
}

/// Reads the clock for the caller: by itself, it could ask for a change after it was seen to ask for none.
fn read_clock(caught: &Caught, at: usize) -> Answer {
    let realtime = at == 0 || caught.args[0] as i32 == libc::CLOCK_REALTIME;
    if !caught.native || !realtime {
        return Answer::Errno(Errno::EPERM);
    }
    // SAFETY: the structure consists of integers, for which zero is valid: it asks for no change.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // What was to be changed may be another now.
    match modes(caught, at) {
        Ok(modes) if only_reads_clock(modes) => timex.modes = modes,
        Ok(_) => return Answer::Errno(Errno::EPERM),
        Err(errno) => return Answer::Errno(errno),
    }
    // SAFETY: the structure is valid for the whole call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    // SAFETY: a structure of integers, without padding that was not zeroed, read as the bytes it consists of.
    let bytes = unsafe {
        std::slice::from_raw_parts((&raw const timex).cast::<u8>(), std::mem::size_of::<libc::timex>())
    };
    let Ok(base) = usize::try_from(caught.args[at]) else { return Answer::Errno(Errno::EFAULT) };
    let remote = [RemoteIoVec { base, len: bytes.len() }];
    match process_vm_writev(Pid::from_raw(caught.tid), &[IoSlice::new(bytes)], &remote) {
        Ok(written) if written == bytes.len() => Answer::Value(state.into()),
        _ => Answer::Errno(Errno::EFAULT),
    }
}

/// A file by the name that a call was given.
fn named(path: Result<Vec<u8>, Errno>) -> Object {
    let Ok(path) = path else { return Object::Nothing };
    let resolved = path.starts_with(b"/");
    let path = RawText::new(path);
    Object::Path(PathObject {
        given: path.clone(),
        seen: path.clone(),
        path,
        resolved,
        ..PathObject::default()
    })
}

fn id(argument: u64, narrow: bool) -> u32 {
    match (narrow, argument as u32) {
        (true, argument) if argument & 0xffff == 0xffff => UNCHANGED,
        (true, argument) => argument & 0xffff,
        (false, argument) => argument,
    }
}

/// `present` holds the real, effective, saved and filesystem id.
fn change(ids: &[u32], present: &[u32; 4], is_fs: bool) -> Change {
    let [real, effective, saved, filesystem] = *present;
    let unchanged = |wanted: u32, now: u32| wanted == UNCHANGED || wanted == now;
    let same = match *ids {
        [id] if is_fs => unchanged(id, filesystem),
        // setuid(-1) is an error, which the kernel shall give.
        [id] => present.iter().all(|now| *now == id),
        [r, e] => {
            unchanged(r, real) && unchanged(e, effective) && saved == effective && filesystem == effective
        }
        [r, e, s] => {
            unchanged(r, real) && unchanged(e, effective) && unchanged(s, saved) && filesystem == effective
        }
        _ => false,
    };
    if same {
        return Change::None;
    }
    let known = if is_fs { &present[..] } else { &present[..3] };
    if ids.iter().all(|id| *id == UNCHANGED || known.contains(id)) { Change::Own } else { Change::Foreign }
}

fn read_groups(caught: &Caught) -> Result<Vec<u32>, Errno> {
    // The kernel takes a signed int and refuses what is beyond NGROUPS_MAX.
    let count = usize::try_from(caught.args[0] as i32).ok().filter(|count| *count <= GROUPS_MAX);
    let count = count.ok_or(Errno::EINVAL)?;
    let width = if caught.narrow { 2 } else { 4 };
    let mut bytes = vec![0; count * width];
    let read = read_memory(caught.tid, caught.args[1], &mut bytes)?;
    if read < bytes.len() {
        return Err(Errno::EFAULT);
    }
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
    Ok(bytes.chunks_exact(width).map(word).collect())
}

/// The file of a gift, or the errno that the call would have met before it came to permissions.
fn locate(caught: &Caught) -> Result<PathObject, Errno> {
    let target = match target(caught) {
        Ok(target) => target,
        Err(errno @ (Errno::EINVAL | Errno::EFAULT | Errno::ENAMETOOLONG)) => return Err(errno),
        // nrtrace may not look, which says nothing about the program; likewise below.
        Err(_) => return Ok(PathObject::default()),
    };
    let view = View { tid: caught.tid, tgid: caught.tgid };
    match view.find(&target) {
        Ok(found) if found.is_read_only() => Err(Errno::EROFS),
        Ok(found) => Ok(view.describe(&target, &found)),
        Err(errno @ (Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG | Errno::EBADF)) => {
            Err(errno)
        }
        Err(_) => {
            let given = RawText::new(target.path.unwrap_or_default());
            Ok(PathObject { seen: given.clone(), path: given.clone(), given, ..PathObject::default() })
        }
    }
}

fn target(caught: &Caught) -> Result<Target, Errno> {
    let path = |index: usize| read_path(caught.tid, caught.args[index]);
    match caught.takes {
        Takes::FdOwner => Ok(Target { fd: Some(caught.args[0] as i32), path: None, follow: true }),
        Takes::AtOwner => {
            let flags = caught.args[4] as i32;
            if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
                return Err(Errno::EINVAL);
            }
            let path = path(1)?;
            let by_descriptor = path.is_empty() && flags & libc::AT_EMPTY_PATH != 0;
            Ok(Target {
                fd: directory(caught.args[0]),
                path: (!by_descriptor).then_some(path),
                follow: flags & libc::AT_SYMLINK_NOFOLLOW == 0,
            })
        }
        Takes::PathOwner { follow } => Ok(Target { fd: None, path: Some(path(0)?), follow }),
        _ => Err(Errno::EINVAL),
    }
}

fn read_path(tid: i32, address: u64) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; PATH_MAX];
    let read = read_memory(tid, address, &mut bytes)?;
    bytes.truncate(read);
    match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => bytes.truncate(end),
        None if read == PATH_MAX => return Err(Errno::ENAMETOOLONG),
        None => return Err(Errno::EFAULT),
    }
    Ok(bytes)
}

/// Reads up to the first page that is not there.
fn read_memory(tid: i32, address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    /// The smallest page size there is: a read that stays within pages cannot fail half-way.
    const PAGE: usize = 4096;
    if buffer.is_empty() {
        return Ok(0);
    }
    let start = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
    let mut done = 0;
    while done < buffer.len() {
        let at = start.checked_add(done).ok_or(Errno::EFAULT)?;
        let length = (PAGE - at % PAGE).min(buffer.len() - done);
        let remote = [RemoteIoVec { base: at, len: length }];
        let mut local = [IoSliceMut::new(&mut buffer[done..done + length])];
        match process_vm_readv(Pid::from_raw(tid), &mut local, &remote) {
            Ok(read) if read > 0 => done += read,
            Ok(_) | Err(Errno::EFAULT) if done > 0 => break,
            Ok(_) => return Err(Errno::EFAULT),
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_from_repetitions() {
        let same = [7, 7, 7, 7];
        let set_id = [7, 0, 0, 0];
        let cases: &[(&[u32], &[u32; 4], bool, Change)] = &[
            (&[7], &same, false, Change::None),
            (&[8], &same, false, Change::Foreign),
            (&[UNCHANGED], &same, false, Change::Own),
            (&[7], &set_id, false, Change::Own),
            (&[0], &set_id, false, Change::Own),
            (&[UNCHANGED, UNCHANGED], &same, false, Change::None),
            (&[UNCHANGED, 7], &same, false, Change::None),
            (&[UNCHANGED, 8], &same, false, Change::Foreign),
            (&[0, 7], &set_id, false, Change::Own),
            (&[7, UNCHANGED, 7], &same, false, Change::None),
            (&[7, 7, 8], &same, false, Change::Foreign),
            (&[7, 7, 7], &set_id, false, Change::Own),
            (&[7], &same, true, Change::None),
            (&[UNCHANGED], &same, true, Change::None),
            (&[7], &set_id, true, Change::Own),
            (&[8], &set_id, true, Change::Foreign),
        ];
        for (ids, present, is_fs, expected) in cases {
            assert_eq!(change(ids, present, *is_fs), *expected, "{ids:?} {present:?}");
        }
    }

    #[test]
    fn ids_of_sixteen_bits_are_widened() {
        assert_eq!(id(0xffff, true), UNCHANGED);
        assert_eq!(id(0x1_0005, true), 5);
        assert_eq!(id(0xffff, false), 0xffff);
        assert_eq!(id(u64::MAX, false), UNCHANGED);
    }

    #[test]
    fn memory_is_read_up_to_its_end() {
        let tid = nix::unistd::gettid().as_raw();
        let text = c"/some/path";
        assert_eq!(read_path(tid, text.as_ptr() as u64), Ok(b"/some/path".to_vec()));
        assert_eq!(read_path(tid, 8), Err(Errno::EFAULT));
        let long = vec![b'x'; 3 * PATH_MAX];
        assert_eq!(read_path(tid, long.as_ptr() as u64), Err(Errno::ENAMETOOLONG));
    }
}
