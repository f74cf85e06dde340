//! Kernel parameters.

use super::kernel::boot_or_before;
use crate::RawText;
use crate::grants::{Act, Grants, Sysctl, Way, Why};
use crate::requirement::{Basis, Requirement};

/// Parameters that name a program which the kernel runs as root, or that cannot be undone.
const NEVER_SET: &[&str] =
    &["kernel.core_pattern", "kernel.modprobe", "kernel.hotplug", "kernel.modules_disabled"];

/// Meets a need to set a kernel parameter: it is set for the machine beforehand.
pub(super) fn meet(requirement: &Requirement, name: &RawText, value: Option<&RawText>, grants: &mut Grants) {
    let id = &requirement.id;
    let refuse = match (plain_name(name), value.and_then(plain_value)) {
        (Some(name), _) if NEVER_SET.contains(&name.replace('/', ".").as_str()) => {
            Way::refuse("it decides what the kernel runs as root", "have an administrator set it by hand")
        }
        (Some(name), Some(value)) => {
            let words = ["sysctl", "-q", "-w", &format!("{name}={value}")].map(str::to_owned).into();
            let sysctl = Act::Sysctl(name, Sysctl { value, why: Why::default() });
            let ways = boot_or_before(sysctl, "set", words);
            grants.choose([id.as_str()], requirement.way, ways);
            return;
        }
        (None, _) => Way::refuse("this is no name of a kernel parameter", "set it by hand before the start"),
        (_, None) if requirement.basis == Basis::Denied => Way::refuse(
            "root alone may write it, and the value is not known, since it was refused",
            "set it in /etc/sysctl.d before the start; a run with --as-root shows the value",
        ),
        (_, None) => {
            Way::refuse("the value it writes is not known", "set it in /etc/sysctl.d before the start")
        }
    };
    grants.take(id, refuse);
}

fn plain(text: &[u8], allowed: impl Fn(char) -> bool) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    (!text.is_empty() && text.chars().all(allowed)).then(|| text.to_owned())
}

fn plain_name(name: &RawText) -> Option<String> {
    plain(name.as_bytes(), |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '@' | ':'))
        .filter(|name| name.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

fn plain_value(value: &RawText) -> Option<String> {
    plain(value.as_bytes().trim_ascii(), |c| c.is_ascii_graphic() || c == ' ' || c == '\t')
}
