//! The one who is asked: a thread that holds the target's ids and no capability.
//!
//! Linux keeps credentials for each thread; the C library's wrappers change those of all, so the calls are
//! made raw. Only the *filesystem* ids become the target's (setfsuid(2)), which are what the kernel judges
//! file access by. The real, effective and saved ids stay nrtrace's: else every process of the target could
//! send this thread a deadly signal, or attach to it and so take over nrtrace.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nrtrace_profiles::event::Identity;

use super::node::{descriptor, open_path};
use super::{Error, Method};

/// One thing to ask the kernel. The descriptors stay open until the answer is there.
pub(super) enum Query {
    /// Is this access (`R_OK`, `W_OK`, `X_OK`) to an open file allowed?
    Access { fd: RawFd, bits: i32 },
    /// Open this entry with `O_PATH`.
    Open { dir: RawFd, name: CString, follow: bool },
}

/// What the kernel said: a new descriptor for [`Query::Open`], none for [`Query::Access`].
pub(super) type Reply = Result<Option<OwnedFd>, Errno>;

/// Asks the kernel as the target.
pub(super) struct Judge {
    method: Method,
    seat: Seat,
}

/// Where the judge sits.
enum Seat {
    /// Every thread of this process already has exactly the target's rights.
    Anywhere,
    /// In a thread of its own.
    Thread(JudgeThread),
    /// In the thread that asks, which wears the target's filesystem ids, and takes them off to look around.
    Here(FilesystemIds),
}

struct JudgeThread {
    line: Mutex<Line>,
    handle: Option<JoinHandle<()>>,
}

struct Line {
    /// `None` once the thread is to end.
    queries: Option<Sender<Vec<Query>>>,
    replies: Receiver<Vec<Reply>>,
}

impl Judge {
    /// Starts the thread and gives it the target's rights.
    pub fn new(identity: &Identity, method: Option<Method>) -> Result<Self, Error> {
        let method = method.map_or_else(choose_method, Ok)?;
        if is_ourselves(identity) {
            return Ok(Self { method, seat: Seat::Anywhere });
        }
        let (queries, inbox) = channel::<Vec<Query>>();
        let (outbox, replies) = channel();
        let (ready, started) = channel();
        let identity = identity.clone();
        let handle = std::thread::Builder::new()
            .name("access-oracle".into())
            .spawn(move || {
                let result = become_target(&identity, method);
                let failed = result.is_err();
                if ready.send(result).is_err() || failed {
                    return;
                }
                for batch in inbox {
                    if outbox.send(batch.into_iter().map(|query| put(method, query)).collect()).is_err() {
                        break;
                    }
                }
            })
            .map_err(Error::Thread)?;
        let line = Mutex::new(Line { queries: Some(queries), replies });
        let court = JudgeThread { line, handle: Some(handle) };
        started.recv().map_err(|_| Error::Gone)??;
        Ok(Self { method, seat: Seat::Thread(court) })
    }

    /// A judge in the calling thread, the only one that will ask: it has no round trip to make. The thread takes the
    /// target's groups and filesystem ids for good, and loses the capabilities that go with root's (setfsuid(2)).
    pub fn here(identity: &Identity) -> Result<Self, Error> {
        let method = choose_method()?;
        if method != Method::Descriptor || is_ourselves(identity) {
            return Self::new(identity, Some(method));
        }
        match FilesystemIds::put_on(identity)? {
            Some(robe) => Ok(Self { method, seat: Seat::Here(robe) }),
            None => Self::new(identity, Some(method)),
        }
    }

    /// Runs `act` with the rights that this thread had before it became the judge.
    pub fn look_around<T>(&self, act: impl FnOnce() -> T) -> T {
        match &self.seat {
            Seat::Here(robe) => robe.take_off(act),
            Seat::Anywhere | Seat::Thread(_) => act(),
        }
    }

    /// How the kernel is asked.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Puts the queries to the kernel, in order; as many replies come back.
    pub fn put(&self, queries: Vec<Query>) -> Result<Vec<Reply>, Error> {
        let court = match &self.seat {
            Seat::Anywhere => return Ok(queries.into_iter().map(|query| put(self.method, query)).collect()),
            Seat::Here(robe) => {
                return robe.wear(|| queries.into_iter().map(|query| put(self.method, query)).collect());
            }
            Seat::Thread(court) => court,
        };
        let line = court.line.lock().map_err(|_| Error::Gone)?;
        let sender = line.queries.as_ref().ok_or(Error::Gone)?;
        sender.send(queries).map_err(|_| Error::Gone)?;
        line.replies.recv().map_err(|_| Error::Gone)
    }
}

impl Judge {
    /// Asks about a path as a whole, if that can be done without another thread: `None` if not.
    pub fn glance(&self, dir: RawFd, path: &CString, bits: i32, flags: i32) -> Option<Result<(), Errno>> {
        let ask = || {
            // SAFETY: the path is a C string; the other arguments are integers.
            let result = unsafe {
                libc::syscall(libc::SYS_faccessat2, dir, path.as_ptr(), bits, flags | libc::AT_EACCESS)
            };
            Errno::result(result).map(drop)
        };
        match &self.seat {
            _ if self.method != Method::Descriptor => None,
            Seat::Anywhere | Seat::Here(_) => Some(ask()),
            Seat::Thread(_) => None,
        }
    }

    /// Looks at what a path leads to, as [`Judge::glance`] went there.
    pub fn look(&self, dir: RawFd, path: &CString, flags: i32) -> Option<libc::stat> {
        let mut file = std::mem::MaybeUninit::uninit();
        // SAFETY: the path is a C string, and the buffer is as large as the call wants it.
        let done = unsafe { libc::fstatat(dir, path.as_ptr(), file.as_mut_ptr(), flags) == 0 };
        // SAFETY: filled in by the call that has succeeded.
        done.then(|| unsafe { file.assume_init() })
    }
}

/// The target's filesystem ids, on a thread of root's.
struct FilesystemIds {
    uid: u32,
    capabilities: [CapData; 2],
}

impl FilesystemIds {
    /// `None` where that would not take away the capabilities that override permissions: this thread is not root's, or
    /// its secure bits forbid it.
    fn put_on(identity: &Identity) -> Result<Option<Self>, Error> {
        let failed =
            |operation| move |errno| Error::Become { operation, uid: identity.uid, gid: identity.gid, errno };
        if set_fs_id(libc::SYS_setfsuid, u32::MAX) != 0 {
            return Ok(None);
        }
        let robe = Self { uid: identity.uid, capabilities: get_capabilities().map_err(failed("capget"))? };
        if set_fs_id(libc::SYS_setfsuid, identity.uid) != identity.uid {
            return Err(failed("setfsuid")(Errno::EPERM));
        }
        let (effective, _) = capabilities().map_err(failed("capget"))?;
        if effective & OVERRIDES != 0 {
            set_fs_id(libc::SYS_setfsuid, 0);
            return Ok(None);
        }
        take_groups(identity).map_err(failed("setgroups"))?;
        match set_fs_id(libc::SYS_setfsgid, identity.gid) {
            gid if gid == identity.gid => Ok(Some(robe)),
            _ => Err(failed("setfsgid")(Errno::EPERM)),
        }
    }

    /// Runs `act` with root's filesystem ids and the capabilities that go with them.
    fn take_off<T>(&self, act: impl FnOnce() -> T) -> T {
        set_fs_id(libc::SYS_setfsuid, 0);
        let result = act();
        set_fs_id(libc::SYS_setfsuid, self.uid);
        result
    }

    /// Within [`FilesystemIds::take_off`]: runs `act` as the target, without any capability.
    ///
    /// # Errors
    /// When the thread's rights could not be changed; it has root's again.
    fn wear<T>(&self, act: impl FnOnce() -> T) -> Result<T, Error> {
        let none = self.capabilities.map(|half| CapData { effective: 0, ..half });
        set_fs_id(libc::SYS_setfsuid, self.uid);
        let taken = set_capabilities(&none);
        let result = act();
        let given = set_capabilities(&self.capabilities);
        set_fs_id(libc::SYS_setfsuid, 0);
        taken.and(given).map_err(|_| Error::Gone)?;
        Ok(result)
    }
}

/// CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER of `linux/capability.h`, as bits.
const OVERRIDES: u64 = 0b1110;

/// setfsuid(2) or setfsgid(2), for this thread; the id it has then. An impossible id asks for the present one.
fn set_fs_id(number: libc::c_long, id: u32) -> u32 {
    // SAFETY: integers only. The call returns the former id whether it works or not.
    unsafe {
        let former = libc::syscall(number, id) as u32;
        if id == u32::MAX { former } else { libc::syscall(number, u32::MAX) as u32 }
    }
}

/// Takes the target's supplementary groups, for this thread.
fn take_groups(identity: &Identity) -> Result<(), Errno> {
    let wanted = sorted(&identity.groups);
    if groups()? == wanted {
        return Ok(());
    }
    // SAFETY: the pointer and the length belong together. Raw: this thread only. The numbers are those of 32-bit ids
    // on every 64-bit Linux.
    Errno::result(unsafe { libc::syscall(libc::SYS_setgroups, wanted.len(), wanted.as_ptr()) }).map(drop)
}

impl Drop for JudgeThread {
    fn drop(&mut self) {
        match self.line.get_mut() {
            Ok(line) => line.queries = None,
            Err(poisoned) => poisoned.into_inner().queries = None,
        }
        if let Some(handle) = self.handle.take() {
            // A thread that panicked has nothing more to say than that it is gone, which the last query has told.
            let _ = handle.join();
        }
    }
}

fn put(method: Method, query: Query) -> Reply {
    match query {
        Query::Access { fd, bits } => access(method, fd, bits).map(|()| None),
        Query::Open { dir, name, follow } => open_path(dir, &name, follow).map(Some),
    }
}

/// Asks about an open file, as the calling thread.
pub(super) fn access(method: Method, fd: RawFd, bits: i32) -> Result<(), Errno> {
    let result = match method {
        Method::Descriptor => {
            let flags = libc::AT_EACCESS | libc::AT_EMPTY_PATH;
            // SAFETY: the path is a C string; the other arguments are integers.
            unsafe { libc::syscall(libc::SYS_faccessat2, fd, c"".as_ptr(), bits, flags) }
        }
        Method::RealIds => {
            let name = descriptor(fd);
            // SAFETY: as above.
            unsafe { libc::syscall(libc::SYS_faccessat, libc::AT_FDCWD, name.as_ptr(), bits) }
        }
    };
    Errno::result(result).map(drop)
}

/// Finds by trying how the kernel can be asked about a file that is already open.
fn choose_method() -> Result<Method, Error> {
    let root = open_path(libc::AT_FDCWD, c"/", true).map_err(|errno| Error::Ask { errno })?;
    // Existence is never refused: an error here speaks of the call, not of the file. Old container runtimes
    // answer EPERM for calls they do not know.
    if access(Method::Descriptor, root.as_raw_fd(), libc::F_OK).is_ok() {
        return Ok(Method::Descriptor);
    }
    access(Method::RealIds, root.as_raw_fd(), libc::F_OK).map_err(|errno| Error::Ask { errno })?;
    Ok(Method::RealIds)
}

/// Whether this thread has the target's ids and groups, real ones too, and no capability.
fn is_ourselves(identity: &Identity) -> bool {
    // SAFETY: these calls take nothing and cannot fail; setfsuid with an impossible id changes nothing.
    let ids = unsafe {
        let (uid, gid) = (libc::getuid(), libc::getgid());
        let fsuid = libc::syscall(libc::SYS_setfsuid, u32::MAX) as u32;
        let fsgid = libc::syscall(libc::SYS_setfsgid, u32::MAX) as u32;
        (uid, fsuid, gid, fsgid)
    };
    ids == (identity.uid, identity.uid, identity.gid, identity.gid)
        && groups().is_ok_and(|groups| groups == sorted(&identity.groups))
        && capabilities().is_ok_and(|(effective, permitted)| effective | permitted == 0)
}

/// Gives the calling thread, and no other, the target's ids and takes its capabilities.
fn become_target(identity: &Identity, method: Method) -> Result<(), Error> {
    let failed =
        |operation| move |errno| Error::Become { operation, uid: identity.uid, gid: identity.gid, errno };
    take_groups(identity).map_err(failed("setgroups"))?;
    if method == Method::RealIds {
        let keep = u32::MAX;
        // SAFETY: integers only.
        let result = unsafe { libc::syscall(libc::SYS_setresgid, identity.gid, keep, keep) };
        Errno::result(result).map_err(failed("setresgid"))?;
        // SAFETY: integers only.
        let result = unsafe { libc::syscall(libc::SYS_setresuid, identity.uid, keep, keep) };
        Errno::result(result).map_err(failed("setresuid"))?;
    }
    // The files this thread opens itself are opened as the target in either method.
    for (operation, number, id) in
        [("setfsgid", libc::SYS_setfsgid, identity.gid), ("setfsuid", libc::SYS_setfsuid, identity.uid)]
    {
        if set_fs_id(number, id) != id {
            return Err(failed(operation)(Errno::EPERM));
        }
    }
    drop_capabilities().map_err(failed("capset"))
}

fn sorted(groups: &[u32]) -> Vec<u32> {
    let mut groups = groups.to_vec();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// The supplementary groups of the calling thread, sorted.
fn groups() -> Result<Vec<u32>, Errno> {
    // SAFETY: a length of zero asks for the count alone.
    let count = Errno::result(unsafe { libc::getgroups(0, std::ptr::null_mut()) })?;
    let mut groups = vec![0; count as usize];
    // SAFETY: the buffer is as large as said.
    let count = Errno::result(unsafe { libc::getgroups(count, groups.as_mut_ptr()) })?;
    groups.truncate(count as usize);
    Ok(sorted(&groups))
}

/// `_LINUX_CAPABILITY_VERSION_3` of `linux/capability.h`: 64 bits in two halves.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Effective and permitted capabilities of the calling thread.
pub(super) fn capabilities() -> Result<(u64, u64), Errno> {
    let data = get_capabilities()?;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok((join(data[0].effective, data[1].effective), join(data[0].permitted, data[1].permitted)))
}

fn get_capabilities() -> Result<[CapData; 2], Errno> {
    let mut header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 reads the header and writes two elements.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    Errno::result(result).map(|_| data)
}

/// Sets the permitted, effective and inheritable sets of the calling thread.
fn set_capabilities(data: &[CapData; 2]) -> Result<(), Errno> {
    let mut header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    // SAFETY: version 3 reads the header and two elements.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
    Errno::result(result).map(drop)
}

/// Empties the permitted, effective and inheritable sets, and with them the ambient one.
fn drop_capabilities() -> Result<(), Errno> {
    set_capabilities(&[CapData::default(); 2])
}
