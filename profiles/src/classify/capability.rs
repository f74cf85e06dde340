//! Limits, changes to the kernel's state, and whatever else takes a capability.

use crate::calls::{File, Kernel, Limit as Limits, Operation, Task};
use crate::event::Event;
use crate::requirement::{KernelOperation, Limit, Need};
use crate::{Capability, RawText};

use super::files;
use super::finding::{Finding, Judged, Source, best};
use super::path;

/// All `CLONE_NEW*` flags, with their names without the prefix (clone(2)).
const NAMESPACES: &[(u64, &str)] = &[
    (0x80, "time"),
    (0x2_0000, "mount"),
    (0x200_0000, "cgroup"),
    (0x400_0000, "uts"),
    (0x800_0000, "ipc"),
    (0x1000_0000, "user"),
    (0x2000_0000, "pid"),
    (0x4000_0000, "net"),
];

/// The same as one mask, without `CLONE_NEWTIME`, which clone(2) takes as part of the exit signal.
pub const CLONE_NEW: u64 = 0x7e02_0000;

/// Limits by number (`include/uapi/asm-generic/resource.h`).
const LIMITS: [Limit; 16] = [
    Limit::Cpu,
    Limit::FileSize,
    Limit::Data,
    Limit::Stack,
    Limit::Core,
    Limit::ResidentSet,
    Limit::Processes,
    Limit::OpenFiles,
    Limit::LockedMemory,
    Limit::AddressSpace,
    Limit::Locks,
    Limit::PendingSignals,
    Limit::MessageQueue,
    Limit::NiceCeiling,
    Limit::RealtimePriority,
    Limit::RealtimeCpu,
];

/// Finds the need behind a check that is no matter of files, ports or identity. Capabilities that override file
/// permissions are one only where there is no path.
pub fn place(source: &Source<'_>, out: &mut Judged) -> bool {
    let Some(capability) = source.capability() else { return false };
    let event = source.event;
    // A file that is named by its handle has no path that could be granted instead.
    if capability.is_dac() && !event.call.operation().is(File::OpenHandle) {
        return false;
    }
    let finding = match (limit(event, capability), kernel(event, capability)) {
        (Some((limit, value)), _) => source.finding(Need::Limit { limit, value }),
        (None, Some(operation)) => kernel_state(source, operation, subject(event, operation), capability),
        (None, None) => source.finding(Need::Capability { capability: least(event, capability) }),
    };
    out.findings.push(finding);
    true
}

/// The least capability that answers a check, where the kernel asks for a mightier one first: a real-time class of input and
/// output takes either of two (`ioprio_check_cap`).
fn least(event: &Event, asked: Capability) -> Capability {
    match (asked, event.call.operation()) {
        (Capability::SYS_ADMIN, Operation::Limit(Limits::InputOutput)) => Capability::SYS_NICE,
        _ => asked,
    }
}

/// A change to the kernel's state. A pod's control group and a container's mount have other names in every run; the
/// need is the same.
pub fn kernel_state(
    source: &Source<'_>,
    operation: KernelOperation,
    subject: RawText,
    capability: Capability,
) -> Finding {
    let varies =
        matches!(operation, KernelOperation::Cgroup | KernelOperation::Mount | KernelOperation::Chroot);
    let general = varies.then(|| path::generalise_all(source, &subject)).flatten();
    let objects = general.is_some().then(|| subject.clone());
    let subject = general.unwrap_or(subject);
    let mut finding = source.finding(Need::Kernel { operation, subject, capability });
    finding.objects.extend(objects);
    finding
}

/// The limit a call exceeds, with the value asked for.
pub fn limit(event: &Event, capability: Capability) -> Option<(Limit, Option<i64>)> {
    let args = &event.call.args;
    let by_number = |number: u64| LIMITS.get(usize::try_from(number).ok()?).copied();
    // Priorities are 32 bits wide and signed.
    let signed = |arg: u64| Some(i64::from(arg as u32 as i32));
    let operation = event.call.operation();
    match (capability, operation) {
        (Capability::SYS_RESOURCE, Operation::Limit(Limits::Own)) => Some((by_number(args[0])?, hard(event))),
        (Capability::SYS_RESOURCE, Operation::Limit(Limits::OfProcess)) => {
            Some((by_number(args[1])?, hard(event)))
        }
        (Capability::SYS_RESOURCE, Operation::Task(Task::Fork | Task::Clone | Task::CloneBy))
        | (Capability::SYS_ADMIN, Operation::Task(Task::Fork)) => Some((Limit::Processes, None)),
        (Capability::SYS_ADMIN, Operation::Task(Task::Clone)) if is_fork(event) => {
            Some((Limit::Processes, None))
        }
        (Capability::SYS_NICE, Operation::Limit(Limits::Priority)) => Some((Limit::Nice, signed(args[2]))),
        (Capability::SYS_NICE, Operation::Limit(Limits::Nice)) => Some((Limit::Nice, signed(args[0]))),
        (
            Capability::SYS_NICE,
            Operation::Limit(Limits::Parameter | Limits::Scheduler | Limits::Attributes | Limits::Affinity),
        ) => {
            let priority = event.call.structure.last().and_then(|value| i64::try_from(*value).ok());
            Some((Limit::Scheduling, priority.filter(|priority| *priority > 0)))
        }
        (Capability::IPC_LOCK, Operation::Memory(_) | Operation::Kernel(Kernel::ControlIpc)) => {
            Some((Limit::LockedMemory, None))
        }
        _ => None,
    }
}

/// The hard limit asked for, which alone takes a capability; none where it could not be read.
fn hard(event: &Event) -> Option<i64> {
    let [_, hard] = event.call.structure[..] else { return None };
    Some(i64::try_from(hard).unwrap_or(i64::MAX))
}

/// Whether the stack of a new task's check has none of the functions that make namespaces: the number of
/// processes was the matter.
fn is_fork(event: &Event) -> bool {
    let namespaces = event.checks.iter().flat_map(|check| check.frames.iter()).any(|frame| {
        matches!(&**frame, "copy_namespaces" | "create_new_namespaces" | "copy_creds" | "create_user_ns")
    });
    event.call.args[0] & CLONE_NEW == 0 && !namespaces
}

fn kernel(event: &Event, capability: Capability) -> Option<KernelOperation> {
    Some(match (capability, event.call.operation()) {
        (Capability::SYS_MODULE, _) => KernelOperation::Module,
        (Capability::SYS_CHROOT, Operation::File(File::ChangeRoot)) => KernelOperation::Chroot,
        (
            Capability::SYS_ADMIN | Capability::SYS_CHROOT,
            Operation::Task(Task::Unshare | Task::EnterNamespace | Task::Clone | Task::CloneBy),
        ) => KernelOperation::Namespace,
        (Capability::SYS_ADMIN, Operation::Mount(_)) => KernelOperation::Mount,
        _ => return None,
    })
}

/// What it was about: namespaces by kind; a mount by its place; else the file, or the call where there is none.
fn subject(event: &Event, operation: KernelOperation) -> RawText {
    let call = &*event.call.name;
    if operation == KernelOperation::Namespace {
        let flags = match event.call.operation() {
            Operation::Task(Task::EnterNamespace) => event.call.args[1],
            // They are in memory.
            Operation::Task(Task::CloneBy) => 0,
            _ => event.call.args[0],
        };
        let names: Vec<&str> =
            NAMESPACES.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| *name).collect();
        return if !names.is_empty() { names.join(",").as_str().into() } else { call.into() };
    }
    let (first, second) = files::of(&event.object);
    // Of two, the second is where it is mounted.
    second.or(first).map(best).filter(|path| !path.as_bytes().is_empty()).unwrap_or_else(|| call.into())
}
