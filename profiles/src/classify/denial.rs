//! Refusals that no capability check explains.

use crate::Capability;
use crate::calls::{File, Memory, Operation, Socket};
use crate::event::{Backend, Cause, Event, Identity, Inode, Object, Obstacle, PathObject};
use crate::requirement::{Access, Limit, Need, Severity};

use super::capability;
use super::context::Context;
use super::errno;
use super::files;
use super::finding::{Judged, Source, Unplaced};
use super::identity;
use super::path;
use super::port;
use super::site::CheckSite;
use super::special;

/// Finds what would have allowed a refused call, or says that it is not known.
pub fn explain(event: &Event, errno: i32, context: &Context<'_>, out: &mut Judged) {
    let source = Source { event, check: None, site: CheckSite::Other, context };
    let obstacle = obstacle(event, errno).filter(|obstacle| !is_owners_alone(event, errno, obstacle.cause));
    // A filter is what is left when nothing else is known to refuse.
    let certain = obstacle.as_ref().is_some_and(|obstacle| obstacle.cause != Cause::Seccomp);
    let placed = !certain
        && (special::place(&source, out)
            || identity::refused(&source, out)
            || echo_socket(&source, out)
            || privileged_port(&source, out)
            || limit(&source, out)
            || by_mode(&source, out));
    if !placed {
        out.unexplained.push(Unplaced { obstacle, ..Unplaced::of(&source) });
    }
}

/// What refused, when it is no matter of owner and mode: then no grant mends it.
fn obstacle(event: &Event, errno: i32) -> Option<Obstacle> {
    const PROT_EXEC: u64 = 4;
    let by_errno = match (errno, event.call.operation()) {
        (errno::EROFS, _) => Some(Cause::ReadOnlyMount),
        // The only other reason for it is a security module (mmap(2)).
        (errno::EPERM, Operation::Memory(Memory::Map)) if event.call.args[2] & PROT_EXEC != 0 => {
            Some(Cause::NoExec)
        }
        _ => None,
    };
    event.obstacle.clone().or(by_errno.map(|cause| Obstacle { cause, at: None }))
}

/// Most kernel parameters are their owner's to write, which is root, and no capability stands in for that
/// (`proc_sys_permission`): what seems to be refused for no reason is refused for this.
fn is_owners_alone(event: &Event, errno: i32, cause: Cause) -> bool {
    let by_mode = errno == errno::EACCES && matches!(cause, Cause::Policy | Cause::Permission);
    by_mode && files::is_sysctl(event) && files::writes(event)
}

/// A socket for ICMP echoes, which no privilege opens: the group has to be in a range (icmp(7)).
fn echo_socket(source: &Source<'_>, out: &mut Judged) -> bool {
    const INET: [(u64, u64); 2] = [(2, 1), (10, 58)];
    const SOCK_DGRAM: u64 = 2;
    /// Without `SOCK_CLOEXEC` and `SOCK_NONBLOCK`.
    const KIND: u64 = 0xf;
    let [family, kind, protocol, ..] = source.event.call.args;
    let is_echo = source.event.call.operation() == Operation::Socket(Socket::Make)
        && kind & KIND == SOCK_DGRAM
        && INET.contains(&(family, protocol));
    if is_echo {
        // As systemd sets it: what any group may, no group has to be named for.
        let (name, value) = ("net.ipv4.ping_group_range".into(), Some("0 2147483647".into()));
        let mut finding = source.finding(Need::Sysctl { name, value });
        if source.context.has_raw(&source.event.process) {
            finding.severity = Severity::Probe;
        }
        out.findings.push(finding);
    }
    is_echo
}

/// `bind` to a port below the first unprivileged one.
fn privileged_port(source: &Source<'_>, out: &mut Judged) -> bool {
    let Object::Socket(socket) = &source.event.object else { return false };
    let start = source.context.run.unprivileged_port_start;
    source.event.call.operation() == Operation::Socket(Socket::Bind)
        && socket.port.is_some_and(|port| port != 0 && port < start)
        && port::place(source, out)
}

/// A limit or priority. Where the kernel's checks are seen, one refusal has none: a number of open files beyond
/// `fs.nr_open`, which no privilege allows.
fn limit(source: &Source<'_>, out: &mut Judged) -> bool {
    let capabilities = [Capability::SYS_RESOURCE, Capability::SYS_NICE, Capability::IPC_LOCK];
    let found = capabilities.into_iter().find_map(|capability| capability::limit(source.event, capability));
    let Some((limit, value)) = found else { return false };
    // By ptrace they are foretold where what is asked for could be read.
    if source.context.run.backend == Backend::Ebpf || !source.event.call.structure.is_empty() {
        return limit == Limit::OpenFiles;
    }
    out.findings.push(source.finding(Need::Limit { limit, value }));
    true
}

/// What owner and mode explain. Where the kernel's checks are seen, such a refusal has one, and what has none is
/// something else: a security module, an immutable file.
fn by_mode(source: &Source<'_>, out: &mut Judged) -> bool {
    let (event, identity) = (source.event, &source.context.run.identity);
    let Some(object) = files::made(event) else { return false };
    if source.context.run.backend == Backend::Ebpf {
        return false;
    }
    let Some(site) = refusing(event, object, identity) else { return false };
    path::place(&Source { site, ..*source }, out)
}

fn refusing(event: &Event, object: &PathObject, identity: &Identity) -> Option<CheckSite> {
    const SEARCH: u32 = 0o1;
    const WRITE: u32 = 0o2;
    let operation = event.call.operation();
    let of_owner =
        matches!(operation, Operation::File(File::Mode(_) | File::Flags | File::Times(_) | File::Give(_)));
    if let Some(inode) = object.inode.as_ref().filter(|_| of_owner) {
        return (inode.uid != event.credentials.uid).then_some(CheckSite::Own);
    }
    let parent = object.parent.as_ref()?;
    if !allows(parent, event, identity, SEARCH) {
        return Some(CheckSite::Search);
    }
    let may_write = allows(parent, event, identity, WRITE);
    let removes = operation.removes_name();
    let makes = operation.makes_new();
    match &object.inode {
        _ if removes && !may_write => Some(CheckSite::DeleteIn),
        _ if makes && !may_write => Some(CheckSite::CreateIn),
        None if files::may_create(event) && !may_write => Some(CheckSite::CreateIn),
        Some(inode) if !removes && !makes => {
            let wanted = Access::bits(&files::access(event, inode.file_type, true));
            (!allows(inode, event, identity, wanted)).then_some(CheckSite::File)
        }
        _ => None,
    }
}

/// Whether owner and mode allow it. An ACL may say otherwise; this only explains a refusal that did happen.
pub fn allows(inode: &Inode, event: &Event, identity: &Identity, bits: u32) -> bool {
    inode.allows(event.credentials.uid, event.credentials.gid, identity, bits)
}
