//! The kernel's own state: modules, mounts, namespaces, control groups.

use super::capability;
use crate::grants::{Act, Grants, Way};
use crate::requirement::{KernelOperation, Requirement};
use crate::{Capability, RawText};

/// Meets a need to change the kernel's own state: the machine does it beforehand, or it is refused.
pub(super) fn meet(
    requirement: &Requirement,
    operation: KernelOperation,
    subject: &RawText,
    capability: Capability,
    grants: &mut Grants,
) {
    let id = requirement.id.as_str();
    let way = match operation {
        KernelOperation::Module => match module_name(subject) {
            Some(name) => {
                let words = ["modprobe".to_owned(), name.clone()].into();
                let ways = boot_or_before(Act::Module(name), "loaded", words);
                grants.choose([id], requirement.way, ways);
                return;
            }
            None => Way::refuse("which module it loads is not known", "load it at boot with modules-load.d"),
        },
        KernelOperation::Cgroup => {
            Way::new(Act::Delegate, "the service manages the control groups below its own")
        }
        KernelOperation::Chroot => {
            let because = format!("changes its root directory to {subject}");
            let ways = capability::ways(Capability::SYS_CHROOT, &because);
            grants.choose([id], requirement.way, ways);
            return;
        }
        KernelOperation::Mount => Way::refuse(
            format!("mounting takes {capability}, which amounts to root"),
            "let systemd mount it before the start: a mount unit, or ExecStartPre=+ with mount(8)",
        ),
        KernelOperation::Namespace => Way::refuse(
            format!("this namespace takes {capability}, which amounts to root"),
            "allow unprivileged user namespaces, or let systemd make it (PrivateMounts=, PrivateNetwork=)",
        ),
        KernelOperation::Sysfs => Way::refuse(
            format!("files below /sys are the kernel's ({capability})"),
            "set the value at boot with a `w` line in tmpfiles.d or a udev rule",
        ),
    };
    grants.take(id, way);
}

/// What is done for the whole machine when it starts, or by systemd as root before each start.
pub(super) fn boot_or_before(act: Act, done: &str, words: Vec<String>) -> [Way; 2] {
    let boot = match act {
        Act::Module(_) => format!("{done} at boot, so that the service need not"),
        _ => format!("{done} beforehand for the whole machine, so that the service need not"),
    };
    let before = format!("{done} by systemd before each start, so that the service need not");
    [Way::new(act, boot), Way::new(Act::Before(words), before)]
}

/// The name of a module from its file (`/lib/modules/…/br_netfilter.ko.xz`) or name.
fn module_name(subject: &RawText) -> Option<String> {
    let text = subject.as_str()?;
    let file = text.rsplit('/').next()?;
    let name = file.split_once(".ko").map_or(file, |(name, _)| name);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (!name.is_empty() && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain))
        .then(|| name.to_owned())
}
