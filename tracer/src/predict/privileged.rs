//! Whether a call consults a capability by what it is: the conditions of the table of calls, decided by what is passed.

use nrtrace_profiles::Capability;
use nrtrace_profiles::calls::{Condition, File, Identity, Kernel, Limit, Memory, Operation, Row, Task};
use nrtrace_profiles::event;

use super::host::{self, Host};
use crate::ptrace::{CLONE_NEW, CallAtEntry};

/// Of the kernel; the C libraries give them different types.
const PRIO_PROCESS: u32 = 0;
const RLIMIT_NOFILE: u64 = 7;

/// The capability that a call consults, if it does. `args` are in place.
pub fn capability(call: &CallAtEntry<'_>, row: &Row, args: &[u64; 6], host: &Host) -> Option<Capability> {
    let does = row.operation;
    let found = does.consults().iter().find(|consulted| holds(consulted.when, call, (does, args), host))?;
    Some(found.capability)
}

fn holds(when: Condition, call: &CallAtEntry<'_>, (does, args): (Operation, &[u64; 6]), host: &Host) -> bool {
    match when {
        Condition::Always => true,
        Condition::PrivilegedPort => binds_privileged_port(call, host),
        Condition::RawSocket => is_raw_socket(call),
        Condition::AdminOption => is_admin_option(call),
        Condition::TransparentOption => option(call) == (libc::SOL_IP, libc::IP_TRANSPARENT),
        Condition::Device => does.mode().is_some_and(|mode| {
            let mode = usize::from(mode);
            is_device(args[mode], args[mode + 1])
        }),
        // OPEN_TREE_CLONE
        Condition::Copies => args[2] & 1 != 0,
        Condition::NewNamespace => match does {
            Operation::Task(Task::CloneBy) => {
                call.read::<8>(args[0]).is_some_and(|flags| makes_namespace(u64::from_ne_bytes(flags)))
            }
            _ => makes_namespace(args[0]),
        },
        Condition::DropsBounds => {
            matches!(args[0] as i32, libc::PR_CAPBSET_DROP | libc::PR_SET_SECUREBITS)
        }
        Condition::Adjusts => adjusts(call, does),
        Condition::RestrictedLog => reads_kernel_log(call, host),
        Condition::RealTimeInput => args[2] as u32 >> 13 == 1,
        Condition::LowersNice => raises_priority(call, does),
        Condition::RealTime => takes_real_time(call, does),
        Condition::AboveLockLimit => locks_too_much(call, does),
        Condition::RaisesHardLimit => raises_hard_limit(call, does, host),
        Condition::OtherUser => signals_another_user(call, does, host),
        Condition::OtherId => becomes(call, does, &host.identity),
        Condition::FileCapabilities => sets_attribute(call, does, b"security.capability"),
        Condition::TrustedAttribute => sets_attribute(call, does, b"trusted."),
        Condition::NetworkParameter => writes_network_sysctl(call, (does, args)),
    }
}

fn binds_privileged_port(call: &CallAtEntry<'_>, host: &Host) -> bool {
    let [low, high, first, second, ..] = call.address.unwrap_or_default() else { return false };
    let family = i32::from(u16::from_ne_bytes([*low, *high]));
    let port = u16::from_be_bytes([*first, *second]);
    let raw = call.socket.is_some_and(|socket| i32::from(socket.ty) == libc::SOCK_RAW);
    matches!(family, libc::AF_INET | libc::AF_INET6)
        && !raw
        && port != 0
        && port < host.port_start(call.net_ns, call.pid)
}

fn is_raw_socket(call: &CallAtEntry<'_>) -> bool {
    /// The kind without `SOCK_CLOEXEC` and `SOCK_NONBLOCK`.
    const KIND: i32 = 0xf;
    match call.args[0] as i32 {
        libc::AF_INET | libc::AF_INET6 => call.args[1] as i32 & KIND == libc::SOCK_RAW,
        family => family == libc::AF_PACKET,
    }
}

fn option(call: &CallAtEntry<'_>) -> (i32, i32) {
    (call.args[1] as i32, call.args[2] as i32)
}

fn is_admin_option(call: &CallAtEntry<'_>) -> bool {
    let (level, name) = option(call);
    level == libc::SOL_SOCKET && matches!(name, libc::SO_MARK | libc::SO_RCVBUFFORCE | libc::SO_SNDBUFFORCE)
}

/// A character device 0,0 is a whiteout of overlayfs, which everybody may make.
fn is_device(mode: u64, device: u64) -> bool {
    let kind = mode as u32 & libc::S_IFMT;
    kind == libc::S_IFBLK || (kind == libc::S_IFCHR && device != 0)
}

fn makes_namespace(flags: u64) -> bool {
    flags & u64::from(CLONE_NEW) != 0 && flags & libc::CLONE_NEWUSER as u64 == 0
}

/// `struct timex` starts with what is to be changed.
fn adjusts(call: &CallAtEntry<'_>, does: Operation) -> bool {
    let Operation::Kernel(Kernel::AdjustClock(index)) = does else { return false };
    call.read::<4>(call.args[usize::from(index)]).is_some_and(|modes| u32::from_ne_bytes(modes) != 0)
}

/// Reading the log, and asking for its size, is free unless restricted (syslog(2)).
fn reads_kernel_log(call: &CallAtEntry<'_>, host: &Host) -> bool {
    !matches!(call.args[0], 3 | 10) || host.dmesg_restrict
}

fn raises_priority(call: &CallAtEntry<'_>, does: Operation) -> bool {
    let adds = does == Operation::Limit(Limit::Nice);
    let now = match adds {
        true => host::nice(PRIO_PROCESS, call.tid as u32),
        false => {
            let who = if call.args[1] as u32 == 0 { call.tid as u32 } else { call.args[1] as u32 };
            host::nice(call.args[0] as u32, who)
        }
    };
    let wanted = match adds {
        true => now + call.args[0] as i32,
        false => call.args[2] as i32,
    };
    let wanted = wanted.clamp(-20, 19);
    let ceiling = host::limit(call.tid, "Max nice priority").map_or(0, |limit| limit.0);
    wanted < now && (20 - wanted) as u64 > ceiling
}

/// A policy of real time beyond `RLIMIT_RTPRIO` (sched(7)).
fn takes_real_time(call: &CallAtEntry<'_>, does: Operation) -> bool {
    let word = |address: u64| call.read::<4>(address).map(i32::from_ne_bytes);
    let (policy, priority) = match does {
        Operation::Limit(Limit::Scheduler) => {
            (Some(call.args[1] as i32 & !libc::SCHED_RESET_ON_FORK), word(call.args[2]))
        }
        Operation::Limit(Limit::Parameter) => (None, word(call.args[1])),
        _ => (word(call.args[1] + 4), word(call.args[1] + 20)),
    };
    let real_time = policy
        .is_none_or(|policy| matches!(policy, libc::SCHED_FIFO | libc::SCHED_RR | libc::SCHED_DEADLINE));
    let ceiling = host::limit(call.tid, "Max realtime priority").map_or(0, |limit| limit.0);
    let deadline = policy == Some(libc::SCHED_DEADLINE);
    real_time && (deadline || priority.is_some_and(|priority| priority > 0 && priority as u64 > ceiling))
}

fn locks_too_much(call: &CallAtEntry<'_>, does: Operation) -> bool {
    let Some((limit, _)) = host::limit(call.tid, "Max locked memory") else { return false };
    let more = if does == Operation::Memory(Memory::LockAll) { 0 } else { call.args[1] };
    limit == 0 || host::locked(call.tid).saturating_add(more) > limit
}

/// More open files than `fs.nr_open` are refused before a capability is asked for (`do_prlimit` of `kernel/sys.c`).
fn raises_hard_limit(call: &CallAtEntry<'_>, does: Operation, host: &Host) -> bool {
    let own = does == Operation::Limit(Limit::Own);
    let (pid, resource, new) = match own {
        true => (call.tid, call.args[0], call.args[1]),
        false if call.args[0] == 0 => (call.tid, call.args[1], call.args[2]),
        false => (call.args[0] as i32, call.args[1], call.args[2]),
    };
    let wide = !call.compat || !own;
    let hard = if wide {
        call.read::<8>(new + 8).map(u64::from_ne_bytes)
    } else {
        call.read::<4>(new + 4).map(|half| match u32::from_ne_bytes(half) {
            u32::MAX => u64::MAX,
            value => value.into(),
        })
    };
    let name = usize::try_from(resource).ok().and_then(|number| host::LIMITS.get(number));
    let Some((_, present)) = name.and_then(|name| host::limit(pid, name)) else { return false };
    let most = if resource == RLIMIT_NOFILE { host.nr_open } else { u64::MAX };
    new != 0 && hard.is_some_and(|hard| hard > present && hard <= most)
}

/// `kill_ok_by_cred` of `kernel/signal.c`. Groups and everybody (`pid` below 1) are left to the real outcome.
fn signals_another_user(call: &CallAtEntry<'_>, does: Operation, host: &Host) -> bool {
    let uid = host.identity.uid;
    let (pid, signal) = match does {
        Operation::Task(Task::Signal(signal)) => (Some(call.args[0] as i32), call.args[usize::from(signal)]),
        _ => (host::of_pidfd(call.tid, call.args[0] as i32), call.args[1]),
    };
    let Some(pid) = pid.filter(|pid| *pid > 0) else { return false };
    // SAFETY: plain numbers.
    let session = |pid: i32| unsafe { libc::getsid(pid) };
    // Within a session everybody may have everybody go on (kill(2)).
    let goes_on = signal as i32 == libc::SIGCONT && session(pid) == session(call.pid);
    !goes_on && host::owners(pid).is_some_and(|(real, saved)| real != uid && saved != uid)
}

/// Whether an id other than the present one is to be taken.
fn becomes(call: &CallAtEntry<'_>, does: Operation, identity: &event::Identity) -> bool {
    let own = match does {
        Operation::Identity(Identity::Users(_) | Identity::FileUser) => identity.uid,
        _ => identity.gid,
    };
    let count = does.ids().unwrap_or(0);
    call.args[..count].iter().any(|id| *id as u32 != u32::MAX && *id as u32 != own)
}

fn sets_attribute(call: &CallAtEntry<'_>, does: Operation, start: &[u8]) -> bool {
    let Operation::File(File::SetAttribute(name)) = does else { return false };
    let address = call.args[usize::from(name)];
    // The longest of them; a shorter name may end where memory does.
    let long = call.read::<19>(address).is_some_and(|name| name.starts_with(start));
    long || call.read::<8>(address).is_some_and(|name| name == start)
}

/// The owner of these files is whoever administers the network namespace (`net_ctl_permissions`).
fn writes_network_sysctl(call: &CallAtEntry<'_>, (does, args): (Operation, &[u64; 6])) -> bool {
    does.opened_with(args).is_some_and(|flags| flags as i32 & libc::O_ACCMODE != libc::O_RDONLY)
        && call.path.is_some_and(|path| path.starts_with(b"/proc/sys/net/"))
}
