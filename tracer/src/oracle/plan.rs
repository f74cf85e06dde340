//! What each kind of call asks of the file it led to, in the order of `fs/namei.c`, `fs/open.c` and `fs/attr.c`.

use nix::errno::Errno;
use nrtrace_profiles::requirement::Access;

use super::protections::Protections;
use super::walk::{End, Final, Last, Step, Walk, mount};
use super::{Cause, Question, Victim, Want};

const READ: (i32, Access) = (libc::R_OK, Access::Read);
const WRITE: (i32, Access) = (libc::W_OK, Access::Write);
const SEARCH: (i32, Access) = (libc::X_OK, Access::Search);
const CREATE: (i32, Access) = (libc::W_OK, Access::Create);
const DELETE: (i32, Access) = (libc::W_OK, Access::Delete);

/// The bit of `O_TMPFILE` that is not `O_DIRECTORY`.
pub(super) const TMPFILE: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;

/// How the last component of a question's path is treated.
pub(super) fn treatment(question: &Question) -> Final {
    let nofollow = match question.want {
        Want::Create { .. } | Want::Delete(_) | Want::Replace(_) => return Final::Entry,
        Want::Open(flags) if flags & libc::O_PATH == 0 && flags & libc::O_CREAT != 0 => {
            let stop = flags & (libc::O_NOFOLLOW | libc::O_EXCL) != 0;
            return if stop { Final::MakeNoFollow } else { Final::Make };
        }
        Want::Open(flags) => flags & libc::O_NOFOLLOW != 0,
        _ => !question.follow,
    };
    if nofollow { Final::NoFollow } else { Final::Follow }
}

/// Adds to a walk what is asked at its end, or tells why the call fails whoever makes it.
pub(super) fn plan(walk: &mut Walk, protections: &Protections, want: Want) -> Result<(), Errno> {
    match want {
        Want::Create { directory } => return create_entry(walk, directory),
        Want::Delete(victim) => return delete(walk, protections, victim),
        Want::Replace(victim) => return replace(walk, protections, victim),
        Want::Open(flags) if flags & libc::O_PATH == 0 => return open(walk, protections, flags),
        _ => {}
    }
    let node = found(walk)?;
    match want {
        Want::Open(flags) if flags & libc::O_DIRECTORY != 0 && !walk.nodes[node].is_directory() => {
            return Err(Errno::ENOTDIR);
        }
        Want::Search if !walk.nodes[node].is_directory() => return Err(Errno::ENOTDIR),
        Want::Search => walk.ask(node, &[SEARCH]),
        Want::Access(bits) => access(walk, node, bits),
        Want::Execute => return execute(walk, node),
        Want::Connect => {
            walk.ask(node, &[WRITE]);
            if walk.nodes[node].kind() != libc::S_IFSOCK {
                return Err(Errno::ECONNREFUSED);
            }
        }
        Want::Link => return link(walk, protections, node),
        Want::Own => own(walk, protections, node),
        Want::Touch => touch(walk, protections, node),
        Want::Truncate => return truncate(walk, node),
        _ => {}
    }
    Ok(())
}

/// The file at the end, which must be there, and be a directory if a slash says so.
fn found(walk: &Walk) -> Result<usize, Errno> {
    match walk.end {
        End::Found(node) if walk.slash && !walk.nodes[node].is_directory() => Err(Errno::ENOTDIR),
        End::Found(node) => Ok(node),
        _ => Err(Errno::ENOENT),
    }
}

/// Refuses on a read-only mount (`mnt_want_write`), which the kernel looks at before any permission here.
fn writable_mount(walk: &mut Walk, node: usize, access: Access) {
    if mount(&walk.nodes[node]).read_only {
        walk.refuse(node, access, Errno::EROFS, Cause::ReadOnlyMount);
    }
}

fn access(walk: &mut Walk, node: usize, bits: i32) {
    let subject = &walk.nodes[node];
    let pass = if subject.is_directory() { Access::Search } else { Access::Execute };
    if bits & libc::X_OK != 0 && subject.is_regular() && mount(subject).no_exec {
        return walk.refuse(node, Access::Execute, Errno::EACCES, Cause::NoExec);
    }
    let rows: Vec<_> =
        [READ, WRITE, (libc::X_OK, pass)].into_iter().filter(|(bit, _)| bits & bit != 0).collect();
    if !rows.is_empty() {
        walk.ask(node, &rows);
    }
    if bits & libc::W_OK != 0 {
        writable_at_last(walk, node, Access::Write);
    }
}

fn execute(walk: &mut Walk, node: usize) -> Result<(), Errno> {
    if walk.nodes[node].is_symlink() {
        return Err(Errno::ELOOP);
    }
    if !walk.nodes[node].is_regular() {
        return Err(Errno::EACCES);
    }
    access(walk, node, libc::X_OK);
    Ok(())
}

/// Tells of a read-only mount where the kernel looks at the permission bits first (`mnt_get_write_access`). Of
/// devices, pipes and sockets it may be written to.
fn writable_at_last(walk: &mut Walk, node: usize, access: Access) {
    let subject = &walk.nodes[node];
    if subject.is_regular() || subject.is_directory() {
        writable_mount(walk, node, access);
    }
}

/// `may_o_create` and `may_create`: the directory must let entries be made.
fn create(walk: &mut Walk, parent: usize) -> Result<(), Errno> {
    writable_mount(walk, parent, Access::Create);
    if walk.nodes[parent].links == 0 {
        return Err(Errno::ENOENT);
    }
    walk.ask(parent, &[CREATE, SEARCH]);
    Ok(())
}

fn create_entry(walk: &mut Walk, directory: bool) -> Result<(), Errno> {
    match (walk.last, walk.end, walk.parent) {
        (Last::Name, End::Absent, Some(_)) if walk.slash && !directory => Err(Errno::ENOENT),
        (Last::Name, End::Absent, Some(parent)) => create(walk, parent),
        _ => Err(Errno::EEXIST),
    }
}

fn delete(walk: &mut Walk, protections: &Protections, victim: Victim) -> Result<(), Errno> {
    let parent = match (walk.last, victim, walk.parent) {
        (Last::Name, _, Some(parent)) => parent,
        (_, Victim::File, _) => return Err(Errno::EISDIR),
        (Last::Dot, Victim::Directory, _) => return Err(Errno::EINVAL),
        (Last::DotDot, Victim::Directory, _) => return Err(Errno::ENOTEMPTY),
        _ => return Err(Errno::EBUSY),
    };
    writable_mount(walk, parent, Access::Delete);
    let End::Found(node) = walk.end else { return Err(Errno::ENOENT) };
    let directory = walk.nodes[node].is_directory();
    if walk.slash && victim == Victim::File {
        return Err(if directory { Errno::EISDIR } else { Errno::ENOTDIR });
    }
    if walk.slash && victim == Victim::Any && !directory {
        return Err(Errno::ENOTDIR);
    }
    remove(walk, protections, parent, node);
    match victim {
        Victim::Directory if !directory => Err(Errno::ENOTDIR),
        Victim::File if directory => Err(Errno::EISDIR),
        _ => Ok(()),
    }
}

/// `may_delete`: the directory must let entries be removed, and the entry must not be protected.
fn remove(walk: &mut Walk, protections: &Protections, parent: usize, node: usize) {
    walk.ask(parent, &[DELETE, SEARCH]);
    let (dir, entry) = (&walk.nodes[parent], &walk.nodes[node]);
    let others = entry.uid != protections.uid && dir.uid != protections.uid;
    let sticky = dir.mode & libc::S_ISVTX != 0 && others;
    let (dir_appends, appends, immutable) =
        (dir.is_append_only(), entry.is_append_only(), entry.is_immutable());
    for (refuses, subject, cause) in [
        (dir_appends, parent, Cause::AppendOnly),
        (sticky, node, Cause::Sticky),
        (appends, node, Cause::AppendOnly),
        (immutable, node, Cause::Immutable),
    ] {
        if refuses {
            walk.refuse(subject, Access::Delete, Errno::EPERM, cause);
        }
    }
}

fn replace(walk: &mut Walk, protections: &Protections, victim: Victim) -> Result<(), Errno> {
    match (walk.last, walk.end, walk.parent) {
        (Last::Name, End::Found(_), _) => delete(walk, protections, victim),
        (Last::Name, End::Absent, Some(_)) if walk.slash && victim == Victim::File => Err(Errno::ENOTDIR),
        (Last::Name, End::Absent, Some(parent)) => create(walk, parent),
        _ => Err(Errno::EBUSY),
    }
}

fn open(walk: &mut Walk, protections: &Protections, flags: i32) -> Result<(), Errno> {
    let create_flag = flags & libc::O_CREAT != 0;
    if let (true, End::Absent, Some(parent)) = (create_flag, walk.end, walk.parent) {
        return create(walk, parent);
    }
    let node = found(walk)?;
    let subject = &walk.nodes[node];
    if flags & TMPFILE != 0 {
        return open_unnamed(walk, node);
    }
    if create_flag {
        if flags & libc::O_EXCL != 0 {
            return Err(Errno::EEXIST);
        }
        if subject.is_directory() {
            return Err(Errno::EISDIR);
        }
        if walk.parent.is_some_and(|dir| protections.forbids_create(&walk.nodes[dir], subject)) {
            walk.refuse(node, Access::Write, Errno::EACCES, Cause::ProtectedFile);
        }
    }
    open_existing(walk, protections, node, flags)
}

fn open_unnamed(walk: &mut Walk, node: usize) -> Result<(), Errno> {
    if !walk.nodes[node].is_directory() {
        return Err(Errno::ENOTDIR);
    }
    create(walk, node)
}

/// `may_open` and what surrounds it.
fn open_existing(walk: &mut Walk, protections: &Protections, node: usize, flags: i32) -> Result<(), Errno> {
    let subject = &walk.nodes[node];
    let (mode, truncate) = (flags & libc::O_ACCMODE, flags & libc::O_TRUNC != 0);
    let read = matches!(mode, libc::O_RDONLY | libc::O_RDWR | libc::O_ACCMODE);
    let write = mode != libc::O_RDONLY || truncate;
    if flags & libc::O_DIRECTORY != 0 && !subject.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    if subject.is_symlink() {
        return Err(Errno::ELOOP);
    }
    if subject.is_directory() && write {
        return Err(Errno::EISDIR);
    }
    let append = mode == libc::O_WRONLY && flags & libc::O_APPEND != 0 && !truncate;
    let writing = if append { (libc::W_OK, Access::Append) } else { WRITE };
    let rows: Vec<_> =
        [(read, READ), (write, writing)].into_iter().filter(|row| row.0).map(|row| row.1).collect();
    let label = if write { writing.1 } else { Access::Read };
    let bad_append =
        subject.is_append_only() && (truncate || (mode != libc::O_RDONLY && flags & libc::O_APPEND == 0));
    let bad_time = flags & libc::O_NOATIME != 0 && subject.uid != protections.uid;
    let (no_dev, regular) = (subject.is_device() && mount(subject).no_dev, subject.is_regular());
    let socket = subject.kind() == libc::S_IFSOCK;
    if truncate && regular {
        writable_mount(walk, node, Access::Write);
    }
    if no_dev {
        walk.refuse(node, label, Errno::EACCES, Cause::NoDev);
    }
    walk.ask(node, &rows);
    if write {
        writable_at_last(walk, node, writing.1);
    }
    if bad_append {
        walk.refuse(node, Access::Write, Errno::EPERM, Cause::AppendOnly);
    }
    if bad_time {
        walk.refuse(node, Access::Own, Errno::EPERM, Cause::NotOwner);
    }
    if socket { Err(Errno::ENXIO) } else { Ok(()) }
}

/// `may_linkat` and `vfs_link`, as far as the old name goes.
fn link(walk: &mut Walk, protections: &Protections, node: usize) -> Result<(), Errno> {
    let subject = &walk.nodes[node];
    if protections.hardlinks && subject.uid != protections.uid {
        let group_exec = libc::S_ISGID | libc::S_IXGRP;
        let special = subject.mode & libc::S_ISUID != 0 || subject.mode & group_exec == group_exec;
        if special || !subject.is_regular() {
            walk.refuse(node, Access::Own, Errno::EPERM, Cause::ProtectedHardlink);
        } else {
            let refusal = Some((Errno::EPERM, Cause::ProtectedHardlink));
            walk.steps.push(Step::Ask { node, bits: vec![READ, WRITE], refusal });
        }
    }
    refuse_fixed(walk, node, true);
    if walk.nodes[node].is_directory() { Err(Errno::EPERM) } else { Ok(()) }
}

/// Attributes of append-only and immutable files cannot be changed.
fn refuse_fixed(walk: &mut Walk, node: usize, append_only_too: bool) {
    if walk.nodes[node].is_immutable() {
        walk.refuse(node, Access::Own, Errno::EPERM, Cause::Immutable);
    }
    if append_only_too && walk.nodes[node].is_append_only() {
        walk.refuse(node, Access::Own, Errno::EPERM, Cause::AppendOnly);
    }
}

/// `notify_change` with a mode, an owner or given times.
fn own(walk: &mut Walk, protections: &Protections, node: usize) {
    writable_mount(walk, node, Access::Own);
    refuse_fixed(walk, node, true);
    if walk.nodes[node].uid != protections.uid {
        walk.refuse(node, Access::Own, Errno::EPERM, Cause::NotOwner);
    }
}

/// `notify_change` with the present time: owners may, and those who may write.
fn touch(walk: &mut Walk, protections: &Protections, node: usize) {
    writable_mount(walk, node, Access::Write);
    refuse_fixed(walk, node, false);
    if walk.nodes[node].uid != protections.uid {
        walk.ask(node, &[WRITE]);
    }
}

/// `vfs_truncate`.
fn truncate(walk: &mut Walk, node: usize) -> Result<(), Errno> {
    if walk.nodes[node].is_directory() {
        return Err(Errno::EISDIR);
    }
    if !walk.nodes[node].is_regular() {
        return Err(Errno::EINVAL);
    }
    writable_mount(walk, node, Access::Write);
    walk.ask(node, &[WRITE]);
    if walk.nodes[node].is_append_only() {
        walk.refuse(node, Access::Write, Errno::EPERM, Cause::AppendOnly);
    }
    Ok(())
}
