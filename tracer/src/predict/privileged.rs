//! Whether a call consults a capability by what it is: the conditions of the table of calls, decided by what is passed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use nrtrace_profiles::Capability;
use nrtrace_profiles::calls::{
    Condition, File, Identity, Kernel, Limit, Memory, Operation, Row, Task, flags,
};
use nrtrace_profiles::event;

use super::host::{self, Host};
use super::{device, others};
use crate::ptrace::{CLONE_NEW, CallAtEntry, socket};

/// Of the kernel; the C libraries give them different types.
const PRIO_PROCESS: u32 = 0;
/// `CLOCK_REALTIME_ALARM` and `CLOCK_BOOTTIME_ALARM`.
const ALARMS: [i32; 2] = [8, 9];
/// `LAST_RESERVED_PORT` of `net/vmw_vsock/af_vsock.c`.
const VSOCK_RESERVED: u32 = 1023;
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
        Condition::RawOption => is_raw_option(call),
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
        Condition::SetsMemoryMap => args[0] as i32 == libc::PR_SET_MM,
        Condition::Adjusts => adjusts(call, does),
        Condition::RestrictedLog => reads_kernel_log(call, host),
        Condition::RealTimeInput => args[2] as u32 >> 13 == 1,
        Condition::LowersNice => raises_priority(call, does),
        Condition::RealTime => takes_real_time(call, does),
        Condition::AboveLockLimit => locks_too_much(call, does),
        Condition::RaisesHardLimit => raises_hard_limit(call, does, host),
        Condition::OtherUser => others::signals(call, does, host),
        Condition::OthersThread => others::sets_thread(call, does, host),
        Condition::OtherProcess => others::inspects(call, does, host),
        Condition::WatchesOthers => others::watches(call, host),
        Condition::OtherId => becomes(call, does, &host.identity),
        Condition::FileCapabilities => names_attribute(call, does, b"security.capability"),
        Condition::AdminAttribute => {
            let changes = !matches!(does, Operation::File(File::GetAttribute(_)));
            names_attribute(call, does, b"trusted.") || (changes && names_attribute(call, does, b"security."))
        }
        Condition::NetworkParameter => opens_network_sysctl(call, (does, args)),
        Condition::OthersLease => device::leases(call, host),
        Condition::LargePipe => device::enlarges_pipe(call),
        Condition::NetworkRequest => flags::NETWORK_REQUESTS.contains(&(args[1] as u32)),
        Condition::ImmutableFlag => device::changes_immutable(call),
        Condition::TerminalInput => device::puts_input(call),
        Condition::AlarmClock => ALARMS.contains(&(args[0] as i32)),
        // UFFD_USER_MODE_ONLY
        Condition::FaultsOfKernel => {
            args[0] & 1 == 0 && host::setting("vm/unprivileged_userfaultfd") == Some(0)
        }
    }
}

fn binds_privileged_port(call: &CallAtEntry<'_>, host: &Host) -> bool {
    let [low, high, first, second, ..] = call.address.unwrap_or_default() else { return false };
    let family = i32::from(u16::from_ne_bytes([*low, *high]));
    let port = u16::from_be_bytes([*first, *second]);
    let raw = call.socket.is_some_and(|socket| i32::from(socket.ty) == libc::SOCK_RAW);
    if family == libc::AF_VSOCK {
        let port =
            call.address.and_then(|address| address.get(4..8)?.try_into().ok()).map(u32::from_ne_bytes);
        return port.is_some_and(|port| port <= VSOCK_RESERVED);
    }
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

/// Level, name, and the number that the value starts with.
fn option(call: &CallAtEntry<'_>) -> (u32, u32, i32) {
    (call.args[1] as u32, call.args[2] as u32, call.read::<4>(call.args[3]).map_or(0, i32::from_ne_bytes))
}

fn is_admin_option(call: &CallAtEntry<'_>) -> bool {
    let (level, name, value) = option(call);
    level == flags::SOL_SOCKET
        && match name {
            flags::SO_RCVBUFFORCE | flags::SO_SNDBUFFORCE => true,
            flags::SO_DEBUG => value != 0,
            _ => false,
        }
}

/// `sk_setsockopt` of `net/core/sock.c`, where CAP_NET_ADMIN does as well.
fn is_raw_option(call: &CallAtEntry<'_>) -> bool {
    /// The highest priority of a packet that everybody may set.
    const HIGHEST: i32 = 6;
    let (level, name, value) = option(call);
    match name {
        _ if flags::TRANSPARENT.contains(&(level, name)) => value != 0,
        _ if level != flags::SOL_SOCKET => false,
        flags::SO_MARK => true,
        flags::SO_PRIORITY => !(0..=HIGHEST).contains(&value),
        flags::SO_BINDTODEVICE => socket::is_bound_to_device(call.pid, call.args[0] as i32),
        _ => false,
    }
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
    let modes = call.read::<4>(call.args[usize::from(index)]);
    modes.is_some_and(|modes| !flags::only_reads_clock(u32::from_ne_bytes(modes)))
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

/// `can_do_mlock` and `do_mlock` of `mm/mlock.c`; what is mapped already counts for all memory, unless that is only about
/// later.
fn locks_too_much(call: &CallAtEntry<'_>, does: Operation) -> bool {
    let Some((limit, _)) = host::limit(call.tid, "Max locked memory") else { return false };
    let locked = match does {
        Operation::Memory(Memory::LockAll) if call.args[0] as i32 & libc::MCL_CURRENT == 0 => 0,
        Operation::Memory(Memory::LockAll) => host::memory(call.tid, "VmSize"),
        _ => host::memory(call.tid, "VmLck").saturating_add(call.args[1]),
    };
    limit == 0 || locked > limit
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

/// Whether an id other than the present one is to be taken.
fn becomes(call: &CallAtEntry<'_>, does: Operation, identity: &event::Identity) -> bool {
    let own = match does {
        Operation::Identity(Identity::Users(_) | Identity::FileUser) => identity.uid,
        _ => identity.gid,
    };
    let count = does.ids().unwrap_or(0);
    call.args[..count].iter().any(|id| *id as u32 != u32::MAX && *id as u32 != own)
}

fn names_attribute(call: &CallAtEntry<'_>, does: Operation, start: &[u8]) -> bool {
    let Operation::File(File::SetAttribute(name) | File::RemoveAttribute(name) | File::GetAttribute(name)) =
        does
    else {
        return false;
    };
    let address = call.args[usize::from(name)];
    // The longest of them; a shorter name may end where memory does.
    let long = call.read::<19>(address).is_some_and(|name| name.starts_with(start));
    long || call.read::<9>(address).is_some_and(|name| name.starts_with(start))
}

/// The owner of these files is whoever administers the network namespace (`net_ctl_permissions`): everybody reads most of
/// them.
fn opens_network_sysctl(call: &CallAtEntry<'_>, (does, args): (Operation, &[u64; 6])) -> bool {
    const READ_BY_ALL: u32 = 0o004;
    let Some(path) = call.path.filter(|path| path.starts_with(b"/proc/sys/net/")) else { return false };
    let closed = || {
        let facts = fs::metadata(OsStr::from_bytes(path));
        facts.is_ok_and(|facts| facts.mode() & READ_BY_ALL == 0)
    };
    does.opened_with(args).is_some_and(|flags| flags as i32 & libc::O_ACCMODE != libc::O_RDONLY || closed())
}
