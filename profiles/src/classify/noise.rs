//! Checks that say nothing about what the program needs.

use crate::Capability;
use crate::calls::{File, Kernel, Operation, Socket, Task};
use crate::event::{Check, Event, FileType, Inode, Outcome};

use super::files;
use super::site::CheckSite;

/// Whether a check counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relevance {
    /// An ordinary user would have been refused here.
    Real,
    /// The call would have gone on.
    Dropped,
    /// No need, but worth a remark.
    Remarked(String),
}

/// A rule: whether it holds, and why what it covers is no need.
struct Rule(
    fn(&Event, &Check, CheckSite) -> bool,
    #[expect(dead_code, reason = "says why the rule is there")] &'static str,
);

const RULES: &[Rule] = &[
    Rule(|_, check, _| check.foreign, "asked of somebody else's credentials: overlayfs acts as its mounter"),
    Rule(|_, _, site| site == CheckSite::Overlay, "overlayfs at work on its layers"),
    Rule(|_, check, _| check.child_namespace, "asked in a namespace that the program has made itself"),
    Rule(
        |event, check, site| {
            (check.not_audited || site == CheckSite::NotAudited || site == CheckSite::Sysctl)
                && !is_sysctl_of_owner(event, site)
        },
        "the kernel expects refusals here and goes on; only what a namespace's sysctl keeps for its owner depends on it",
    ),
    Rule(|_, _, site| site == CheckSite::CoreDump, "the kernel's doing, after the program's end"),
    Rule(|_, _, site| site == CheckSite::Overcommit, "overcommit accounting on mmap, brk, fork and exec"),
    Rule(|_, _, site| site == CheckSite::GoesOn, "the call does a little less and succeeds"),
    Rule(|_, _, site| site == CheckSite::DropsPrivileges, "a process without privileges has none to drop"),
    Rule(
        |_, check, _| check.capability == Capability::FSETID,
        "chmod, chown and write drop set-id bits silently",
    ),
    Rule(|event, check, _| is_listing(event, check), "lists leave out what the caller may not see"),
    Rule(
        |event, check, _| is_congestion(event, check),
        "TCP_CONGESTION asks always, and refuses few algorithms",
    ),
    Rule(is_look_at_program, "execve only marks the process undumpable when the program cannot be read"),
    Rule(
        |event, check, _| check.capability == Capability::KILL && signals_own_group(event),
        "a signal to a group is sent to those whom it may be sent to, the caller among them",
    ),
    Rule(|event, check, _| is_ring(event, check), "io_uring asks whether to account locked memory"),
    Rule(is_link_of_own, "link(2) asks for access to the file before it asks whose it is"),
    Rule(is_watching_itself, "perf_event_open asks for CAP_PERFMON before it looks whose the process is"),
    Rule(
        |event, check, _| check.predicted.is_some() && event.outcome == Outcome::Failure { errno: ENOSYS },
        "the kernel does not have the call",
    ),
];

const ENOSYS: i32 = 38;

/// Whether a check counts.
pub fn noise(event: &Event, check: &Check, site: CheckSite) -> Relevance {
    if site == CheckSite::SeccompFilter && !check.foreign && !check.child_namespace {
        return Relevance::Remarked(format!(
            "{} installs a seccomp filter without no_new_privs, which takes CAP_SYS_ADMIN: set NoNewPrivileges=yes \
             (allowPrivilegeEscalation: false) and it needs none",
            event.process.name
        ));
    }
    if is_buffer_size(event, check) {
        return Relevance::Remarked(format!(
            "{} asks for larger socket buffers than net.core.rmem_max and wmem_max allow; programs make do with less \
             where that is refused: if it is not enough, raise these parameters rather than grant CAP_NET_ADMIN",
            event.process.name
        ));
    }
    if is_time_of_others(event, site) {
        return Relevance::Remarked(format!(
            "{} opens files of others with O_NOATIME, which only their owner may; programs that know this open them again \
             without it",
            event.process.name
        ));
    }
    match RULES.iter().any(|Rule(holds, _)| holds(event, check, site)) {
        true => Relevance::Dropped,
        false => Relevance::Real,
    }
}

/// What a sysctl of a namespace lets only its owner do succeeds for the namespace's administrator, too.
fn is_sysctl_of_owner(event: &Event, site: CheckSite) -> bool {
    const READ_BY_ALL: u32 = 0o004;
    let closed = files::made(event)
        .and_then(|path| path.inode.as_ref())
        .is_some_and(|inode| inode.mode & READ_BY_ALL == 0);
    site == CheckSite::Sysctl && files::is_sysctl(event) && (closed || files::writes(event))
}

/// `may_linkat`: whoever owns the file may give it another name, whatever its mode.
fn is_link_of_own(event: &Event, check: &Check, site: CheckSite) -> bool {
    let own = files::of(&event.object).0.and_then(|path| path.inode.as_ref());
    site == CheckSite::File
        && check.predicted.is_none()
        && event.call.operation().is(File::Link)
        && own.is_some_and(|inode| inode.uid == event.credentials.uid)
}

/// `perf_check_permission`, which is passed for a process of one's own; `perf_allow_kernel` asks besides where the kernel
/// is to be watched.
fn is_watching_itself(event: &Event, check: &Check, _: CheckSite) -> bool {
    let watched = event.call.args[1] as u32;
    let itself = watched == 0 || watched == event.process.pid || watched == event.process.tid;
    let same = event.checks.iter().filter(|other| other.capability == check.capability);
    event.call.operation() == Operation::Kernel(Kernel::Perf)
        && check.capability == Capability::PERFMON
        && check.predicted.is_none()
        && itself
        && same.count() == 1
}

/// `O_NOATIME` on a file that somebody else owns.
pub fn is_time_of_others(event: &Event, site: CheckSite) -> bool {
    const O_NOATIME: u64 = 0o1_000_000;
    site == CheckSite::Own && files::open_flags(event).is_some_and(|flags| flags & O_NOATIME != 0)
}

fn is_listing(event: &Event, check: &Check) -> bool {
    event.call.operation().is(File::ListAttributes) && check.capability == Capability::SYS_ADMIN
}

fn is_congestion(event: &Event, check: &Check) -> bool {
    const SOL_TCP: u64 = 6;
    const TCP_CONGESTION: u64 = 13;
    event.call.operation() == Operation::Socket(Socket::SetOption)
        && check.capability == Capability::NET_ADMIN
        && event.call.args[1] == SOL_TCP
        && event.call.args[2] == TCP_CONGESTION
}

/// `SO_SNDBUFFORCE` and `SO_RCVBUFFORCE`, which have twins that ask for no privilege (socket(7)).
fn is_buffer_size(event: &Event, check: &Check) -> bool {
    const SOL_SOCKET: u64 = 1;
    const FORCED: [u64; 2] = [32, 33];
    event.call.operation() == Operation::Socket(Socket::SetOption)
        && check.capability == Capability::NET_ADMIN
        && event.call.args[1] == SOL_SOCKET
        && FORCED.contains(&event.call.args[2])
}

/// `would_dump` of execve: to execute a file is no reading of it, which alone is asked for CAP_DAC_READ_SEARCH, and first
/// (`generic_permission`).
fn is_look_at_program(event: &Event, check: &Check, site: CheckSite) -> bool {
    let reads = |other: &Check| {
        other.capability == Capability::DAC_READ_SEARCH
            && other.component == check.component
            && other.frames == check.frames
    };
    let told =
        check.predicted.is_none() && check.component.as_ref().is_none_or(|at| !is_directory(&at.inode));
    site == CheckSite::File && files::is_exec(event) && told && event.checks.iter().any(reads)
}

fn is_directory(inode: &Inode) -> bool {
    inode.file_type == FileType::Directory
}

/// `kill` of the caller's own process group.
fn signals_own_group(event: &Event) -> bool {
    event.call.operation() == Operation::Task(Task::Signal(1)) && event.call.args[0] as i32 == 0
}

fn is_ring(event: &Event, check: &Check) -> bool {
    event.call.operation() == Operation::Kernel(Kernel::Ring) && check.capability == Capability::IPC_LOCK
}

/// An open that would have made the file had it not been there asks for the directory before it looks, when the
/// name is not cached: the file's own check, or an owner other than the caller, shows that it was there.
pub fn is_moot_create(event: &Event, has_file_check: bool) -> bool {
    let Some(path) = files::made(event) else { return false };
    let others = path.inode.as_ref().is_some_and(|inode| inode.uid != event.credentials.uid);
    files::may_create(event) && !files::creates_only(event) && (has_file_check || others)
}
