//! Files that are more than files: kernel parameters, cgroups, `/sys`, the OOM score.

use crate::requirement::{KernelOperation, Limit, Need};
use crate::{Capability, RawText};

use super::capability::kernel_state;
use super::files;
use super::finding::{Judged, Source};
use super::site::CheckSite;

const CGROUPS: &[u8] = b"/sys/fs/cgroup";

/// Finds the need behind a check or refusal on such a file, when it is one and is written.
pub fn place(source: &Source<'_>, out: &mut Judged) -> bool {
    let event = source.event;
    let Some(path) = files::made(event) else { return false };
    if source.site == CheckSite::Search || !files::writes(event) {
        return false;
    }
    let need = if files::is_sysctl(event) {
        Need::Sysctl { name: sysctl_name(&path.path), value: source.context.written(&path.path) }
    } else if files::is_oom_score(path) {
        let value = source.context.written(&path.path).or_else(|| event.call.data.clone());
        Need::Limit { limit: Limit::OomScore, value: value.and_then(|text| number(&text)) }
    } else if files::is_below(path.path.as_bytes(), b"/sys") {
        let cgroup = files::is_below(path.path.as_bytes(), CGROUPS);
        let operation = if cgroup { KernelOperation::Cgroup } else { KernelOperation::Sysfs };
        out.findings.push(kernel_state(source, operation, path.path.clone(), consulted(source)));
        return true;
    } else {
        return false;
    };
    out.findings.push(source.finding(need));
    true
}

/// One name for the capabilities that override permissions, so that equal needs have equal ids.
fn consulted(source: &Source<'_>) -> Capability {
    source.capability().filter(|capability| !capability.is_dac()).unwrap_or(Capability::DAC_OVERRIDE)
}

/// The name of the parameter as in sysctl.d(5): dots for slashes, and slashes for the dots in a component.
fn sysctl_name(path: &RawText) -> RawText {
    let below = path.as_bytes().get(files::SYSCTLS.len() + 1..).unwrap_or_default();
    let swap = |byte: &u8| match byte {
        b'/' => b'.',
        b'.' => b'/',
        other => *other,
    };
    RawText::new(below.iter().map(swap).collect::<Vec<u8>>())
}

fn number(text: &RawText) -> Option<i64> {
    text.as_str()?.trim().parse().ok()
}
