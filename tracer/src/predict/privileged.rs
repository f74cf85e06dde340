//! Calls that take a capability by what they are, not by the files they are about: capabilities(7), and the kernel's
//! own checks.

use nrtrace_profiles::Capability;

use super::host::{self, Host};
use crate::ptrace::{CLONE_NEW, CallAtEntry};

type Holds = fn(&CallAtEntry<'_>, &Host) -> bool;

/// Calls, what they take, and when.
#[derive(Debug)]
pub struct Row(&'static [&'static str], Capability, Holds);

/// Of the kernel; the C libraries give them different types.
const PRIO_PROCESS: u32 = 0;
const RLIMIT_NOFILE: u64 = 7;

const ALWAYS: Holds = |_, _| true;

const TABLE: &[Row] = &[
    Row(&["bind"], Capability::NET_BIND_SERVICE, binds_privileged_port),
    Row(&["socket"], Capability::NET_RAW, |call, _| is_raw_socket(call)),
    Row(&["setsockopt"], Capability::NET_ADMIN, |call, _| is_admin_option(call)),
    Row(&["setsockopt"], Capability::NET_RAW, |call, _| option(call) == (libc::SOL_IP, libc::IP_TRANSPARENT)),
    Row(&["mknod"], Capability::MKNOD, |call, _| is_device(call.args[1], call.args[2])),
    Row(&["mknodat"], Capability::MKNOD, |call, _| is_device(call.args[2], call.args[3])),
    Row(
        &[
            "mount",
            "umount",
            "umount2",
            "pivot_root",
            "move_mount",
            "mount_setattr",
            "fsopen",
            "fspick",
            "fsmount",
        ],
        Capability::SYS_ADMIN,
        ALWAYS,
    ),
    // OPEN_TREE_CLONE
    Row(&["open_tree", "open_tree_attr"], Capability::SYS_ADMIN, |call, _| call.args[2] & 1 != 0),
    Row(&["unshare", "clone"], Capability::SYS_ADMIN, |call, _| makes_namespace(call.args[0])),
    Row(&["clone3"], Capability::SYS_ADMIN, |call, _| {
        call.read::<8>(call.args[0]).is_some_and(|flags| makes_namespace(u64::from_ne_bytes(flags)))
    }),
    Row(
        &["setns", "sethostname", "setdomainname", "swapon", "swapoff", "quotactl", "fanotify_init"],
        Capability::SYS_ADMIN,
        ALWAYS,
    ),
    Row(&["chroot"], Capability::SYS_CHROOT, ALWAYS),
    Row(&["prctl"], Capability::SETPCAP, |call, _| {
        matches!(call.args[0] as i32, libc::PR_CAPBSET_DROP | libc::PR_SET_SECUREBITS)
    }),
    Row(&["open_by_handle_at"], Capability::DAC_READ_SEARCH, ALWAYS),
    Row(&["settimeofday", "stime", "clock_settime", "clock_settime64"], Capability::SYS_TIME, ALWAYS),
    Row(&["adjtimex"], Capability::SYS_TIME, |call, _| adjusts(call, 0)),
    Row(&["clock_adjtime", "clock_adjtime64"], Capability::SYS_TIME, |call, _| adjusts(call, 1)),
    Row(&["reboot", "kexec_load", "kexec_file_load"], Capability::SYS_BOOT, ALWAYS),
    Row(&["init_module", "finit_module", "delete_module"], Capability::SYS_MODULE, ALWAYS),
    Row(&["acct"], Capability::from_number(20), ALWAYS),
    Row(&["iopl", "ioperm"], Capability::SYS_RAWIO, ALWAYS),
    Row(&["vhangup"], Capability::from_number(26), ALWAYS),
    Row(&["syslog"], Capability::SYSLOG, reads_kernel_log),
    Row(&["bpf"], Capability::BPF, ALWAYS),
    Row(&["perf_event_open"], Capability::PERFMON, ALWAYS),
    Row(&["ioprio_set"], Capability::SYS_ADMIN, |call, _| call.args[2] as u32 >> 13 == 1),
    Row(&["setpriority", "nice"], Capability::SYS_NICE, |call, _| raises_priority(call)),
    Row(&["sched_setscheduler", "sched_setattr", "sched_setparam"], Capability::SYS_NICE, |call, _| {
        takes_real_time(call)
    }),
    Row(&["mlock", "mlock2", "mlockall"], Capability::IPC_LOCK, |call, _| locks_too_much(call)),
    Row(&["setrlimit", "prlimit64"], Capability::SYS_RESOURCE, raises_hard_limit),
    Row(&["kill", "tgkill", "tkill"], Capability::KILL, signals_another_user),
    Row(&["setuid", "setreuid", "setresuid", "setfsuid"], Capability::SETUID, |call, host| {
        becomes(call, host.identity.uid)
    }),
    Row(&["setgid", "setregid", "setresgid", "setfsgid"], Capability::SETGID, |call, host| {
        becomes(call, host.identity.gid)
    }),
    Row(&["setgroups"], Capability::SETGID, ALWAYS),
    Row(&["setxattr", "lsetxattr", "fsetxattr"], Capability::SETFCAP, |call, _| {
        call.read::<19>(call.args[1]).is_some_and(|name| &name == b"security.capability")
    }),
    Row(&["setxattr", "lsetxattr", "fsetxattr"], Capability::SYS_ADMIN, |call, _| {
        call.read::<8>(call.args[1]).is_some_and(|name| &name == b"trusted.")
    }),
    Row(&["open", "openat", "openat2"], Capability::NET_ADMIN, |call, _| writes_network_sysctl(call)),
];

/// Whether a call has a row of its own here; opens have one for the sake of few files.
pub fn is_listed(call: &str) -> bool {
    TABLE.iter().any(|Row(names, ..)| names.contains(&call))
}

/// The rows of a call.
pub fn rows(call: &str) -> Vec<&'static Row> {
    TABLE.iter().filter(|Row(names, ..)| names.contains(&call)).collect()
}

/// The capability that a call takes by one of its rows, if it does.
pub fn capability(rows: &[&Row], call: &CallAtEntry<'_>, host: &Host) -> Option<Capability> {
    rows.iter().find(|Row(_, _, holds)| holds(call, host)).map(|row| row.1)
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
fn adjusts(call: &CallAtEntry<'_>, index: usize) -> bool {
    call.read::<4>(call.args[index]).is_some_and(|modes| u32::from_ne_bytes(modes) != 0)
}

/// Reading the log, and asking for its size, is free unless restricted (syslog(2)).
fn reads_kernel_log(call: &CallAtEntry<'_>, host: &Host) -> bool {
    !matches!(call.args[0], 3 | 10) || host.dmesg_restrict
}

fn raises_priority(call: &CallAtEntry<'_>) -> bool {
    let now = match call.name {
        "nice" => host::nice(PRIO_PROCESS, call.tid as u32),
        _ => {
            let who = if call.args[1] as u32 == 0 { call.tid as u32 } else { call.args[1] as u32 };
            host::nice(call.args[0] as u32, who)
        }
    };
    let wanted = match call.name {
        "nice" => now + call.args[0] as i32,
        _ => call.args[2] as i32,
    };
    let wanted = wanted.clamp(-20, 19);
    let ceiling = host::limit(call.tid, "Max nice priority").map_or(0, |limit| limit.0);
    wanted < now && (20 - wanted) as u64 > ceiling
}

/// A policy of real time beyond `RLIMIT_RTPRIO` (sched(7)).
fn takes_real_time(call: &CallAtEntry<'_>) -> bool {
    let word = |address: u64| call.read::<4>(address).map(i32::from_ne_bytes);
    let (policy, priority) = match call.name {
        "sched_setscheduler" => (Some(call.args[1] as i32 & !libc::SCHED_RESET_ON_FORK), word(call.args[2])),
        "sched_setparam" => (None, word(call.args[1])),
        _ => (word(call.args[1] + 4), word(call.args[1] + 20)),
    };
    let real_time = policy
        .is_none_or(|policy| matches!(policy, libc::SCHED_FIFO | libc::SCHED_RR | libc::SCHED_DEADLINE));
    let ceiling = host::limit(call.tid, "Max realtime priority").map_or(0, |limit| limit.0);
    let deadline = policy == Some(libc::SCHED_DEADLINE);
    real_time && (deadline || priority.is_some_and(|priority| priority > 0 && priority as u64 > ceiling))
}

fn locks_too_much(call: &CallAtEntry<'_>) -> bool {
    let Some((limit, _)) = host::limit(call.tid, "Max locked memory") else { return false };
    let more = if call.name == "mlockall" { 0 } else { call.args[1] };
    limit == 0 || host::locked(call.tid).saturating_add(more) > limit
}

/// More open files than `fs.nr_open` are refused before a capability is asked for (`do_prlimit` of `kernel/sys.c`).
fn raises_hard_limit(call: &CallAtEntry<'_>, host: &Host) -> bool {
    let (pid, resource, new) = match call.name {
        "setrlimit" => (call.tid, call.args[0], call.args[1]),
        _ if call.args[0] == 0 => (call.tid, call.args[1], call.args[2]),
        _ => (call.args[0] as i32, call.args[1], call.args[2]),
    };
    let wide = !call.compat || call.name == "prlimit64";
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
fn signals_another_user(call: &CallAtEntry<'_>, host: &Host) -> bool {
    let pid = call.args[0] as i32;
    let uid = host.identity.uid;
    let signal = call.args[if call.name == "tgkill" { 2 } else { 1 }] as i32;
    // SAFETY: plain numbers.
    let session = |pid: i32| unsafe { libc::getsid(pid) };
    // Within a session everybody may have everybody go on (kill(2)).
    let goes_on = signal == libc::SIGCONT && session(pid) == session(call.pid);
    pid > 0 && !goes_on && host::owners(pid).is_some_and(|(real, saved)| real != uid && saved != uid)
}

/// Whether an id other than the present one is to be taken.
fn becomes(call: &CallAtEntry<'_>, own: u32) -> bool {
    let count = match call.name {
        name if name.starts_with("setres") => 3,
        name if name.starts_with("setre") => 2,
        _ => 1,
    };
    call.args[..count].iter().any(|id| *id as u32 != u32::MAX && *id as u32 != own)
}

/// The owner of these files is whoever administers the network namespace (`net_ctl_permissions`).
fn writes_network_sysctl(call: &CallAtEntry<'_>) -> bool {
    let flags = match call.name {
        "open" => call.args[1],
        "openat" => call.args[2],
        _ => call.read::<8>(call.args[2]).map_or(0, u64::from_ne_bytes),
    };
    flags as i32 & libc::O_ACCMODE != libc::O_RDONLY
        && call.path.is_some_and(|path| path.starts_with(b"/proc/sys/net/"))
}
