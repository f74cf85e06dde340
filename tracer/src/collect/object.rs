//! What a call was about.

use std::fs::read_link;
use std::os::unix::ffi::OsStrExt;

use nrtrace_ebpf::record::{FLAG_COMPAT, FLAG_DEEP, FLAG_FD_ONLY, FLAG_TRUNCATED, FLAG_UNREADABLE};
use nrtrace_profiles::RawText;
use nrtrace_profiles::calls::{self, File, Operation as Does, Row, Socket};
use nrtrace_profiles::event::{Object, PathObject};

use super::decode::Operation;
use super::paths::{Given, Paths, upright};
use super::sockets::{self, Address, Bound};
use super::structure;

/// The object of `operation`, a call of this row, without facts of inodes.
pub fn of(operation: &Operation<'_>, row: &Row, paths: &mut Paths, bound: &Bound) -> Object {
    let strings = &operation.strings;
    if let Some(socket) = &operation.socket
        && row.operation == Does::Socket(Socket::Listen)
    {
        return Object::Socket(bound.listening(operation.head.pid, operation.args[0], socket));
    }
    if operation.nr < 0 {
        return Object::Nothing;
    }
    if let Some(ids) = ids(operation, row) {
        return Object::Ids { ids };
    }
    if row.operation.takes_address() {
        return address(operation, row, paths);
    }
    let has_path = operation.head.flags & FLAG_FD_ONLY != 0
        || !strings.path().is_empty()
        || !strings.base().is_empty()
        || (operation.head.flags & FLAG_UNREADABLE != 0 && strings.data().is_empty());
    if !has_path {
        return Object::Nothing;
    }
    if is_no_file(operation) {
        return Object::Nothing;
    }
    let mut head = operation.head;
    if !strings.data().is_empty() && row.operation == Does::Write {
        // It is the data that was cut: a path of so few bytes is not.
        head.flags &= !FLAG_TRUNCATED;
    }
    let args = row.in_place(&operation.args, &structure::numbers(operation, row.operation));
    let follow = row.follows(&args);
    let directory;
    let given = match strings.path().strip_prefix(b"/") {
        // An absolute path needs no directory, so the record has none.
        Some(below) if structure::is_in_root(operation, row.operation) => {
            let dirfd = operation.args[0] as i32;
            let link = if dirfd == libc::AT_FDCWD { "cwd".to_owned() } else { format!("fd/{dirfd}") };
            directory = directory_of(operation.head.pid, &link);
            if directory.is_empty() {
                // Below which directory is not known any more.
                let given = RawText::from(strings.path());
                return Object::Path(PathObject { given, ..PathObject::default() });
            }
            Given { path: below, base: &directory, follow }
        }
        _ => Given { path: strings.path(), base: strings.base(), follow },
    };
    let first = paths.object(&head, strings.root(), given);
    match second(operation, row.operation, paths) {
        Some(second) => Object::TwoPaths { from: Box::new(first), to: Box::new(second) },
        None => Object::Path(first),
    }
}

/// Components of a walk that certainly did not end for its length: the probe follows more.
const SHORT_WALK: usize = 64;

/// Whether the call is on a descriptor of a pipe, a socket or another thing outside the mount namespace (a console
/// that was opened before the root was mounted): the walk upwards then ends soon, and not at the namespace's root.
fn is_no_file(operation: &Operation<'_>) -> bool {
    operation.head.flags & (FLAG_FD_ONLY | FLAG_DEEP) == FLAG_FD_ONLY | FLAG_DEEP
        && operation.strings.path().is_empty()
        && operation.strings.base().split(|byte| *byte == b'/').count() < SHORT_WALK
}

/// The ids that a process wants to take; none for `setgroups`, whose list is in memory.
fn ids(operation: &Operation<'_>, row: &Row) -> Option<Vec<u32>> {
    let count = row.operation.ids()?;
    // Of 16 bits, all leave an id as it is.
    let narrow = operation.head.flags & FLAG_COMPAT != 0 && calls::has_narrow_ids(row);
    let id = |arg: &u64| match *arg as u16 {
        u16::MAX if narrow => u32::MAX,
        id if narrow => id.into(),
        _ => *arg as u32,
    };
    Some(operation.args[..count].iter().map(id).collect())
}

/// The object of a `chroot` that has succeeded: the record holds the root that the process has since, which is just
/// the directory that was passed, and no longer the one that an absolute path started from.
pub fn take_root(object: &mut Object, operation: &Operation<'_>) {
    let root = operation.strings.root();
    if let Object::Path(path) = object
        && operation.head.flags & (FLAG_UNREADABLE | FLAG_DEEP | FLAG_TRUNCATED) == 0
    {
        path.path = RawText::new(upright(root));
        path.resolved = true;
    }
}

fn second(operation: &Operation<'_>, does: Does, paths: &mut Paths) -> Option<PathObject> {
    let strings = &operation.strings;
    // What is mounted is often no file, but a device or the name of a file system.
    if strings.path2().is_empty() || (does.has_text() && !does.is(File::MakeLink)) {
        return None;
    }
    if does.has_text() {
        let text = RawText::from(strings.path2());
        let (seen, path) = (text.clone(), text.clone());
        return Some(PathObject { given: text, seen, path, resolved: true, ..Default::default() });
    }
    let given = Given { path: strings.path2(), base: strings.base2(), follow: false };
    Some(paths.object(&operation.head, strings.root(), given))
}

fn address(operation: &Operation<'_>, row: &Row, paths: &mut Paths) -> Object {
    let socket = operation.socket.as_ref();
    let parsed = sockets::parse(operation.strings.data());
    let Some((family, address)) = parsed.or_else(|| socket.map(|known| (known.family, Address::Other)))
    else {
        return Object::Nothing;
    };
    let path = match address {
        Address::File(path) => {
            let mut base = operation.strings.base().to_vec();
            if base.is_empty() && path.first() != Some(&b'/') {
                base = directory_of(operation.head.pid, "cwd");
            }
            let given = Given { path, base: &base, follow: row.follows(&operation.args) };
            Some(paths.object(&operation.head, operation.strings.root(), given))
        }
        _ => None,
    };
    Object::Socket(sockets::object(family, address, socket, path))
}

/// A directory that a process has, by the name of its link in `/proc`, leaf first; nothing when it is gone. The probe tells
/// the working directory with paths, not with addresses.
fn directory_of(pid: u32, link: &str) -> Vec<u8> {
    let Ok(path) = read_link(format!("/proc/{pid}/{link}")) else { return Vec::new() };
    let mut components: Vec<&[u8]> = path.as_os_str().as_bytes().split(|byte| *byte == b'/').collect();
    components.retain(|component| !component.is_empty());
    components.reverse();
    components.join(&b'/')
}

/// The same, to look at.
pub fn paths(object: &Object, does: Does) -> impl Iterator<Item = &PathObject> {
    let (first, second) = match object {
        Object::Path(path) | Object::Program { path, .. } | Object::Gift { path, .. } => (Some(path), None),
        Object::TwoPaths { from, to } => (Some(from.as_ref()), (!does.has_text()).then_some(to.as_ref())),
        Object::Socket(socket) => (socket.path.as_ref(), None),
        Object::Nothing | Object::Ids { .. } => (None, None),
    };
    first.into_iter().chain(second)
}

/// The paths in `object`, which are files of the program's mount namespace.
pub fn paths_mut(object: &mut Object, does: Does) -> impl Iterator<Item = &mut PathObject> {
    let (first, second) = match object {
        Object::Path(path) | Object::Program { path, .. } | Object::Gift { path, .. } => (Some(path), None),
        Object::TwoPaths { from, to } => (Some(from.as_mut()), (!does.has_text()).then_some(to.as_mut())),
        Object::Socket(socket) => (socket.path.as_mut(), None),
        Object::Nothing | Object::Ids { .. } => (None, None),
    };
    first.into_iter().chain(second)
}
