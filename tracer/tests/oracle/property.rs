//! Random trees, identities and calls: the oracle's answer equals what a real process gets.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nrtrace_profiles::event::Identity;
use nrtrace_tracer::oracle::{Answer, Method, Oracle, Question, Victim, Want};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::world::{Entry, Kind, OPEN, World, identity, is_fifo, look, really};

/// A call, the question it stands for, and what it may fail with when nothing is refused.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Stat,
    Lstat,
    Chdir,
    Access(i32),
    Open(i32),
    Exec,
    Mkdir,
    Mkfifo,
    Symlink,
    Unlink,
    Rmdir,
    Connect,
    Chmod,
    UtimesLink,
    Touch,
    Truncate,
    Link,
}

impl Op {
    pub fn want(self) -> (Want, bool) {
        let want = match self {
            Self::Stat | Self::Lstat => Want::Reach,
            Self::Chdir => Want::Search,
            Self::Access(bits) => Want::Access(bits),
            Self::Open(flags) => Want::Open(flags),
            Self::Exec => Want::Execute,
            Self::Mkdir => Want::Create { directory: true },
            Self::Mkfifo | Self::Symlink => Want::Create { directory: false },
            Self::Unlink => Want::Delete(Victim::File),
            Self::Rmdir => Want::Delete(Victim::Directory),
            Self::Connect => Want::Connect,
            Self::Chmod | Self::UtimesLink => Want::Own,
            Self::Touch => Want::Touch,
            Self::Truncate => Want::Truncate,
            Self::Link => Want::Link,
        };
        (want, !matches!(self, Self::Lstat | Self::UtimesLink | Self::Link))
    }

    /// What the call fails with for want of something other than a right.
    fn idle(self, path: &Path) -> &'static [i32] {
        match self {
            Self::Open(_) if is_fifo(path) => &[libc::ENXIO],
            Self::Exec => &[libc::ENOEXEC],
            Self::Rmdir => &[libc::ENOTEMPTY],
            Self::Connect => &[libc::ECONNREFUSED],
            _ => &[],
        }
    }

    /// Makes the call. System calls only: it runs between fork and exit.
    pub fn act(self, path: &CString) -> i64 {
        let (p, cwd) = (path.as_ptr(), libc::AT_FDCWD);
        let old = libc::timespec { tv_sec: 1, tv_nsec: 0 };
        // SAFETY: C strings, integers and buffers that live as long as the call.
        i64::from(unsafe {
            match self {
                Self::Stat | Self::Lstat => {
                    let flags = if matches!(self, Self::Lstat) { libc::AT_SYMLINK_NOFOLLOW } else { 0 };
                    let mut stat = std::mem::MaybeUninit::uninit();
                    libc::fstatat(cwd, p, stat.as_mut_ptr(), flags)
                }
                Self::Chdir => libc::chdir(p),
                Self::Access(bits) => libc::access(p, bits),
                Self::Open(flags) => libc::open(p, flags | libc::O_NONBLOCK, 0o600),
                Self::Exec => libc::execve(p, [p, std::ptr::null()].as_ptr(), [std::ptr::null()].as_ptr()),
                Self::Mkdir => libc::mkdir(p, 0o700),
                Self::Mkfifo => libc::mkfifo(p, 0o600),
                Self::Symlink => libc::symlink(c"x".as_ptr(), p),
                Self::Unlink => libc::unlink(p),
                Self::Rmdir => libc::rmdir(p),
                Self::Connect => connect(path),
                Self::Chmod => libc::chmod(p, 0o700),
                Self::UtimesLink => libc::utimensat(cwd, p, [old, old].as_ptr(), libc::AT_SYMLINK_NOFOLLOW),
                Self::Touch => libc::utimensat(cwd, p, std::ptr::null(), 0),
                Self::Truncate => libc::truncate(p, 0),
                Self::Link => libc::linkat(cwd, p, OPEN, c"new".as_ptr(), 0),
            }
        })
    }
}

fn connect(path: &CString) -> i32 {
    // SAFETY: an address of integers; the path fits, for the tests' paths are short.
    unsafe {
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as u16;
        for (to, from) in address.sun_path.iter_mut().zip(path.as_bytes()) {
            *to = *from as libc::c_char;
        }
        let socket = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0);
        libc::connect(socket, (&raw const address).cast(), size_of_val(&address) as u32)
    }
}

const FLAGS: [i32; 17] = [
    libc::O_RDONLY,
    libc::O_WRONLY,
    libc::O_RDWR,
    libc::O_WRONLY | libc::O_APPEND,
    libc::O_RDONLY | libc::O_TRUNC,
    libc::O_WRONLY | libc::O_TRUNC,
    libc::O_RDONLY | libc::O_DIRECTORY,
    libc::O_RDONLY | libc::O_NOFOLLOW,
    libc::O_RDONLY | libc::O_NOATIME,
    libc::O_RDONLY | libc::O_CREAT,
    libc::O_RDWR | libc::O_CREAT,
    libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC,
    libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL,
    libc::O_WRONLY | libc::O_CREAT | libc::O_NOFOLLOW,
    libc::O_PATH,
    libc::O_PATH | libc::O_NOFOLLOW,
    libc::O_TMPFILE | libc::O_RDWR,
];

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => proptest::sample::select(FLAGS.as_slice()).prop_map(Op::Open),
        2 => (0..8).prop_map(Op::Access),
        8 => proptest::sample::select(vec![
            Op::Stat, Op::Lstat, Op::Chdir, Op::Exec, Op::Mkdir, Op::Mkfifo, Op::Symlink, Op::Unlink, Op::Rmdir,
            Op::Unlink, Op::Rmdir, Op::Connect, Op::Chmod, Op::UtimesLink, Op::Touch, Op::Truncate, Op::Link,
        ]),
    ]
}

fn path() -> impl Strategy<Value = String> {
    let name = proptest::sample::select(vec!["a", "a", "a", "b", "b", "b", "c", "c", "d", "..", ".", "x"]);
    (any::<bool>(), vec(name, 1..4), proptest::bool::weighted(0.1)).prop_map(|(absolute, names, slash)| {
        let (start, end) = (if absolute { "/" } else { "" }, if slash { "/" } else { "" });
        format!("{start}{}{end}", names.join("/"))
    })
}

fn mode(directory: bool) -> impl Strategy<Value = u32> {
    // Mostly passable directories: else hardly a walk gets beyond the first.
    let common =
        if directory { vec![0o755, 0o777, 0o1777, 0o711, 0o770, 0o1770] } else { vec![0o644, 0o755, 0o666] };
    prop_oneof![3 => proptest::sample::select(common), 2 => 0..0o10000_u32]
}

fn owner() -> impl Strategy<Value = u32> {
    proptest::sample::select(vec![0, 1000, 1000, 1001, 1002])
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let acl = (vec((proptest::sample::select(vec![2_u16, 8]), owner(), 0..8_u16), 1..4), 0..8_u16).boxed();
    let place =
        vec(proptest::sample::select(vec!["a", "b", "c", "d"]), 1..4).prop_map(|names| names.join("/"));
    let entry = (place, 0..14_u8, path(), any::<bool>()).prop_flat_map(move |(place, kind, text, listed)| {
        let kind = match kind {
            0..=6 => Kind::Directory,
            7..=9 => Kind::File,
            10 => Kind::Fifo,
            11 => Kind::Socket,
            12 => Kind::Device,
            _ => Kind::Link(text),
        };
        let acl = proptest::option::weighted(if listed { 0.5 } else { 0.01 }, acl.clone());
        let fields = (mode(matches!(kind, Kind::Directory)), owner(), owner(), acl);
        fields.prop_map(move |(mode, uid, gid, acl)| {
            let acl = acl.filter(|_| !matches!(kind, Kind::Link(_)));
            Entry { path: place.clone(), kind: kind.clone(), mode, uid, gid, acl }
        })
    });
    let open = Entry { path: "open".into(), kind: Kind::Directory, mode: 0o777, uid: 0, gid: 0, acl: None };
    (mode(true), owner(), vec(entry, 6..20)).prop_map(move |(mode, uid, mut entries)| {
        // Directories above their entries.
        entries.sort_by_key(|entry| entry.path.len());
        let top = Entry { path: "/".into(), kind: Kind::Directory, mode, uid, gid: 0, acl: None };
        entries.splice(0..0, [top, open.clone()]);
        entries
    })
}

fn someone() -> impl Strategy<Value = Identity> {
    let groups = proptest::sample::subsequence(vec![0, 1000, 1001, 1002], 0..=4);
    (owner(), owner(), groups).prop_map(|(uid, gid, groups)| identity(uid, gid, &groups))
}

fn check(
    oracle: &Oracle,
    who: &Identity,
    entries: &[Entry],
    cwd: &str,
    op: Op,
    path: &str,
) -> Result<Answer, String> {
    let world = World::new(entries);
    let before = world.snapshot();
    let (root, base) = (world.root(), world.at(cwd));
    let inside = |path: &Path| path.is_dir() && path.starts_with(root);
    let base = base.canonicalize().ok().filter(|base| inside(base)).unwrap_or_else(|| root.to_path_buf());
    let (root_fd, base_fd) = (look(root), look(&base));
    let (want, follow) = op.want();
    let question =
        Question { follow, ..Question::new(root_fd.as_fd(), base_fd.as_fd(), path.as_bytes(), want) };
    let answer = oracle.ask(&question).map_err(|error| error.to_string())?;
    let all = oracle.ask_all(&question).map_err(|error| error.to_string())?;
    // Before the act, which may take the working directory away.
    let glance = glance(who, root, &base, &question);
    if world.snapshot() != before {
        return Err("asking has changed a file".into());
    }
    let object = all.path.as_str().map(std::path::PathBuf::from).unwrap_or_default();
    let idle = op.idle(&object);
    let name = CString::new(path).unwrap();
    let got = really(who, root, &base, || op.act(&name));
    let right = match (&answer, all.refusals.first(), &all.failure) {
        (Answer::Allowed, None, None) => got == 0 || idle.contains(&got),
        (Answer::Refused(refusal), Some(first), _) => refusal == first && got == refusal.errno,
        (Answer::Fails(failure), None, Some(same)) => failure == same && got == failure.errno,
        _ => false,
    };
    let fits = match glance {
        None => true,
        Some(Ok(())) => got == 0 || idle.contains(&got),
        Some(Err(errno)) => got == errno as i32,
    };
    if !fits {
        Err(format!("the process got {got}, a glance said {glance:?}"))
    } else if right {
        Ok(answer)
    } else {
        Err(format!("the process got {got}, the oracle said {answer:#?}, all: {all:#?}"))
    }
}

/// What a glance says in a thread that has the root of the process.
fn glance(who: &Identity, root: &Path, cwd: &Path, question: &Question) -> Option<Result<(), Errno>> {
    let ask = || {
        nix::sched::unshare(CloneFlags::CLONE_FS).unwrap();
        nix::unistd::chroot(root).unwrap();
        let inside = Path::new("/").join(cwd.strip_prefix(root).unwrap());
        nix::unistd::chdir(&inside).unwrap();
        Oracle::for_this_thread(who).unwrap().glance(question)
    };
    std::thread::scope(|scope| scope.spawn(ask).join()).unwrap()
}

fn run(method: Method, cases: u32) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let asks = vec((op(), path(), path()), 8);
    // Errors of refusals and failures, 0 for what is allowed: how often each was right.
    let tally = RefCell::new(BTreeMap::new());
    let outcome = TestRunner::new(config).run(&(entries(), someone(), asks), |(entries, who, asks)| {
        let oracle = Oracle::with_method(&who, method).unwrap();
        for (op, path, cwd) in asks {
            let result = check(&oracle, &who, &entries, &cwd, op, &path);
            let answer = result
                .map_err(|error| TestCaseError::fail(format!("{op:?} {path:?} from {cwd:?}: {error}")))?;
            let kind = match answer {
                Answer::Allowed => ("allowed", 0),
                Answer::Refused(refusal) => ("refused", refusal.errno),
                Answer::Fails(failure) => ("fails", failure.errno),
            };
            *tally.borrow_mut().entry(kind).or_insert(0) += 1;
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    // The trees are worth asking about: every kind of answer occurs often.
    println!("{:?}", tally.borrow());
    for kind in [("allowed", 0), ("refused", libc::EACCES), ("refused", libc::EPERM), ("fails", libc::ENOENT)]
    {
        let count = tally.borrow().get(&kind).copied().unwrap_or(0);
        assert!(count * 100 > cases, "{kind:?} occurs {count} times in {cases} trees");
    }
}

#[test]
fn answers_equal_what_a_process_gets() {
    run(Method::Descriptor, 150);
}

#[test]
fn answers_equal_on_kernels_without_faccessat2() {
    run(Method::RealIds, 50);
}
