//! A program that ends by itself, although the kernel refused nothing.

use std::collections::BTreeSet;

use crate::RawText;
use crate::calls::{File, Operation};
use crate::event::{Event, Exit, Object, Outcome};
use crate::profile::{GaveUp, LookedAt, Unexplained};
use crate::requirement::{Basis, Need, Requirement, Severity};

use super::context::Context;
use super::files;
use super::finding::best;
use super::fold;
use super::missing;

const SIGKILL: i32 = 9;
/// How many files are told of.
const FILES: usize = 8;

/// Files that nearly every program looks at: the beginnings of their paths.
const COMMON: &[&str] = &[
    "/etc/ld.so.",
    "/etc/locale",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/resolv.conf",
    "/etc/gai.conf",
    "/usr/lib/locale/",
    "/usr/share/locale/",
    "/usr/share/zoneinfo/",
    "/usr/lib/x86_64-linux-gnu/gconv/",
    "/usr/lib/aarch64-linux-gnu/gconv/",
    "/usr/lib/ssl/openssl.cnf",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/certs/",
    "/usr/share/ca-certificates/",
    "/dev/null",
    "/dev/urandom",
    "/proc/self/",
    "/sys/devices/system/",
    "/sys/kernel/mm/",
];

/// Says so when the program ended by itself with an error that no refusal explains.
pub fn gave_up(
    events: &[&Event],
    context: &Context<'_>,
    requirements: &[Requirement],
    unexplained: &[Unexplained],
) -> Option<GaveUp> {
    let end = context.end;
    let refused = |requirement: &Requirement| {
        requirement.basis == Basis::Denied
            && requirement.severity == Severity::Required
            // What was missing may be why it ended, but is no refusal: the evidence is still wanted.
            && !missing::is_missing(requirement)
            // Programs make do with the limit they have.
            && !matches!(requirement.need, Need::Limit { .. })
    };
    let hindered = unexplained.iter().any(|entry| entry.obstacle.is_some());
    // Nobody sends itself this one: it was ended by somebody else.
    let killed = end.exit == Exit::Signaled { signal: SIGKILL };
    if !end.exit.is_failure() || killed || hindered || requirements.iter().any(refused) {
        return None;
    }
    Some(GaveUp { exit: end.exit, stderr: end.stderr.clone(), looked_at: looked_at(events) })
}

/// Whether the call is a look at a file, or failed on one.
fn looks(event: &Event) -> bool {
    let looks = matches!(
        event.call.operation(),
        Operation::File(File::Look | File::Access(_) | File::Open(_) | File::Enter)
    ) || matches!(event.outcome, Outcome::Failure { .. });
    looks && !is_of_stdio(event)
}

/// A look at what the caller gave as standard input, output or error.
fn is_of_stdio(event: &Event) -> bool {
    let nameless = matches!(&event.object, Object::Path(path) if path.given.as_bytes().is_empty());
    nameless && (0..=2).contains(&event.call.args[0])
}

/// The last files looked at, most recent last.
fn looked_at(events: &[&Event]) -> Vec<LookedAt> {
    let mut latest: Vec<&&Event> = events.iter().filter(|event| looks(event)).collect();
    latest.sort_by_key(|event| (event.last.max(event.time), event.seq));
    let mut known: BTreeSet<RawText> = BTreeSet::new();
    let mut found = Vec::new();
    for event in latest.into_iter().rev() {
        let (Some(object), _) = files::of(&event.object) else { continue };
        let path = best(object);
        if is_common(&path) || !known.insert(path.clone()) {
            continue;
        }
        found.push(LookedAt {
            call: event.call.name.to_string(),
            path,
            outcome: fold::outcome(event),
            inode: object.inode.as_deref().cloned(),
        });
        if found.len() == FILES {
            break;
        }
    }
    found.reverse();
    found
}

/// Shared libraries, locales and the like.
fn is_common(path: &RawText) -> bool {
    let (bytes, name) = (path.as_bytes(), files::name(path));
    let is_library = name.ends_with(b".so") || name.windows(4).any(|part| part == b".so.");
    !files::is_known(path) || is_library || COMMON.iter().any(|start| bytes.starts_with(start.as_bytes()))
}
