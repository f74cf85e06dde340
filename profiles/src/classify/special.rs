//! Files that are more than files: kernel parameters, cgroups, `/sys`, the OOM score.

use crate::calls::{File, Operation};
use crate::event::{Event, PathObject};
use crate::requirement::{KernelOperation, Limit, Need};
use crate::{Capability, RawText};

use super::capability::kernel_state;
use super::files;
use super::finding::{Judged, Source};
use super::site::CheckSite;

const SYSCTLS: &[u8] = b"/proc/sys";
const CGROUPS: &[u8] = b"/sys/fs/cgroup";

/// Finds the need behind a check or refusal on such a file, when it is one and is written.
pub fn place(source: &Source<'_>, out: &mut Judged) -> bool {
    let event = source.event;
    let Some(path) = files::made(event) else { return false };
    if source.site == CheckSite::Search || !writes(event) {
        return false;
    }
    let need = if is_sysctl(event) {
        Need::Sysctl { name: sysctl_name(&path.path), value: source.context.written(&path.path) }
    } else if is_oom_score(path) {
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

/// Whether the call is about a kernel parameter.
pub fn is_sysctl(event: &Event) -> bool {
    files::made(event).is_some_and(|path| files::is_below(path.path.as_bytes(), SYSCTLS))
}

/// Whether the file is a process's OOM score.
pub fn is_oom_score(path: &PathObject) -> bool {
    files::is_below(path.path.as_bytes(), b"/proc")
        && matches!(files::name(&path.path), b"oom_score_adj" | b"oom_adj")
}

/// Whether the call changes the file or its directory.
pub fn writes(event: &Event) -> bool {
    const O_WRONLY_RDWR_TRUNC: u64 = 0o1003;
    files::open_flags(event).is_some_and(|flags| flags & O_WRONLY_RDWR_TRUNC != 0)
        || matches!(
            event.call.operation(),
            Operation::Write
                | Operation::File(
                    File::MakeDirectory(_)
                        | File::Remove(_)
                        | File::Rename
                        | File::Truncate
                        | File::Mode(_)
                        | File::Give(_)
                )
        )
}

/// The name of the parameter as in sysctl.d(5): dots for slashes, and slashes for the dots in a component.
fn sysctl_name(path: &RawText) -> RawText {
    let below = path.as_bytes().get(SYSCTLS.len() + 1..).unwrap_or_default();
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
