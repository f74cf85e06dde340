//! Whether a call is about what belongs to somebody else.

use nrtrace_profiles::calls::{Limit, Memory, Operation, Task};

use super::host::{self, Host};
use crate::ptrace::CallAtEntry;
use crate::status;

/// `kill_ok_by_cred` of `kernel/signal.c`. Groups and everybody (`pid` below 1) are left to the real outcome.
pub fn signals(call: &CallAtEntry<'_>, does: Operation, host: &Host) -> bool {
    let uid = host.identity.uid;
    let (pid, signal) = match does {
        Operation::Task(Task::Signal(signal)) => (Some(call.args[0] as i32), call.args[usize::from(signal)]),
        _ => (host::of_pidfd(call.tid, call.args[0] as i32), call.args[1]),
    };
    let Some(pid) = pid.filter(|pid| *pid > 0) else { return false };
    !(signal as i32 == libc::SIGCONT && status::share_session(pid, call.pid))
        && host::owners(pid).is_some_and(|(real, saved)| real != uid && saved != uid)
}

/// A thread of another user, whose priority, policy or processors are set.
pub fn sets_thread(call: &CallAtEntry<'_>, does: Operation, host: &Host) -> bool {
    /// `IOPRIO_WHO_PROCESS`; `PRIO_PROCESS` is 0.
    const PROCESS: u32 = 1;
    let tid = match does {
        Operation::Limit(Limit::Priority) if call.args[0] as u32 == 0 => call.args[1],
        Operation::Limit(Limit::InputOutput) if call.args[0] as u32 == PROCESS => call.args[1],
        Operation::Limit(Limit::Parameter | Limit::Scheduler | Limit::Attributes | Limit::Affinity) => {
            call.args[0]
        }
        _ => return false,
    };
    tid as i32 > 0 && !host::is_users(tid as i32, host.identity.uid)
}

/// A process that ptrace(2) would not be allowed on.
pub fn inspects(call: &CallAtEntry<'_>, does: Operation, host: &Host) -> bool {
    const PTRACE_SEIZE: u64 = 0x4206;
    const PTRACE_ATTACH: u64 = 16;
    let pid = match does {
        Operation::Task(Task::Inspect(index)) => {
            return call.args[..=usize::from(index)].iter().any(|pid| is_closed(call, *pid as i32, host));
        }
        Operation::Memory(Memory::Move) => Some(call.args[0] as i32),
        Operation::Task(Task::InspectBy) => host::of_pidfd(call.tid, call.args[0] as i32),
        Operation::Task(Task::Trace) if matches!(call.args[0], PTRACE_ATTACH | PTRACE_SEIZE) => {
            Some(call.args[1] as i32)
        }
        _ => None,
    };
    pid.is_some_and(|pid| is_closed(call, pid, host))
}

/// What perf_event_open(2) watches: `kernel.perf_event_paranoid` decides on the kernel (above 1) and on processors (above
/// 0), the rule of ptrace(2) on processes.
pub fn watches(call: &CallAtEntry<'_>, host: &Host) -> bool {
    /// Where `struct perf_event_attr` has its bits, and the one that leaves the kernel out.
    const BITS: u64 = 40;
    const EXCLUDE_KERNEL: u64 = 1 << 5;
    /// `PERF_FLAG_PID_CGROUP`: the process is a descriptor.
    const OF_GROUP: u64 = 4;
    let paranoid = host::setting("kernel/perf_event_paranoid").unwrap_or(2);
    let bits = call.read::<8>(call.args[0] + BITS).map_or(0, u64::from_ne_bytes);
    let pid = call.args[1] as i32;
    let processor = pid == -1 || call.args[4] & OF_GROUP != 0;
    (paranoid > 1 && bits & EXCLUDE_KERNEL == 0)
        || (paranoid > 0 && processor)
        || (!processor && is_closed(call, pid, host))
}

fn is_closed(call: &CallAtEntry<'_>, pid: i32, host: &Host) -> bool {
    pid > 0 && pid != call.pid && pid != call.tid && !host::may_inspect(pid, &host.identity)
}
