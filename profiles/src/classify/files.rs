//! Paths as bytes, and what the arguments of calls say about files.

use std::collections::BTreeSet;

use crate::RawText;
use crate::calls::{File, Kernel, Operation, Socket};
use crate::event::{Event, FileType, Object, PathObject};
pub use crate::paths::{is_at_or_below, is_below, name, parent};
use crate::requirement::Access;

const O_ACCMODE: u64 = 0o3;
const O_CREAT: u64 = 0o100;
const O_EXCL: u64 = 0o200;
const O_TRUNC: u64 = 0o1000;
const O_APPEND: u64 = 0o2000;
const O_DIRECTORY: u64 = 0o200_000;
const O_TMPFILE: u64 = 0o20_000_000;

/// Whether the path is known.
pub fn is_known(path: &RawText) -> bool {
    path.as_bytes().first() == Some(&b'/')
}

/// The files a call is about: the existing name first.
pub fn of(object: &Object) -> (Option<&PathObject>, Option<&PathObject>) {
    match object {
        Object::Path(path) | Object::Program { path, .. } | Object::Gift { path, .. } => (Some(path), None),
        Object::TwoPaths { from, to } => (Some(from), Some(to)),
        Object::Socket(socket) => (socket.path.as_ref(), None),
        Object::Nothing | Object::Ids { .. } => (None, None),
    }
}

/// Calls that make a name, and where the name is: the second path of `rename` and `link`, else the first.
pub fn made(event: &Event) -> Option<&PathObject> {
    match (event.call.operation(), of(&event.object)) {
        (Operation::File(File::Rename | File::Link), (_, to)) => to,
        (_, (path, _)) => path,
    }
}

/// The open flags of a call that opens by such.
pub fn open_flags(event: &Event) -> Option<u64> {
    event.call.opened_with()
}

/// Whether these open flags ask for more than reading.
pub fn opens_for_writing(flags: u64) -> bool {
    flags & O_ACCMODE != 0 || flags & (O_CREAT | O_TRUNC) != 0
}

/// Whether these open flags make a file without a name in the directory that is opened.
pub fn is_temporary(flags: u64) -> bool {
    flags & O_TMPFILE != 0
}

/// Whether the call runs a program.
pub fn is_exec(event: &Event) -> bool {
    event.call.operation().is(File::Execute)
}

/// Whether the call changes the name of a file.
pub fn is_rename(event: &Event) -> bool {
    event.call.operation().is(File::Rename)
}

/// Whether the call would have made a file that is not there.
pub fn may_create(event: &Event) -> bool {
    open_flags(event).is_some_and(|flags| flags & O_CREAT != 0)
}

/// Whether the call makes a file, or fails when there is one.
pub fn creates_only(event: &Event) -> bool {
    open_flags(event).is_some_and(|flags| flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL)
}

/// What opening with these flags does with the file.
fn opened(flags: u64) -> BTreeSet<Access> {
    let mut access = BTreeSet::new();
    let writes = if flags & O_APPEND != 0 { Access::Append } else { Access::Write };
    match flags & O_ACCMODE {
        0 => access.extend([Access::Read]),
        1 => access.extend([writes]),
        // O_RDWR, and 3, which asks for both permissions and gives neither.
        _ => access.extend([Access::Read, writes]),
    }
    if flags & O_TRUNC != 0 {
        access.insert(Access::Write);
    }
    access
}

/// What an access(2) mode asks for.
fn asked(mode: u64, directory: bool) -> BTreeSet<Access> {
    let pass = if directory { Access::Search } else { Access::Execute };
    [(4, Access::Read), (2, Access::Write), (1, pass)]
        .into_iter()
        .filter(|(bit, _)| mode & bit != 0)
        .map(|(_, access)| access)
        .collect()
}

/// What a call does with the file itself. `pure_read` is what is assumed where the arguments do not tell: the
/// kernel asks CAP_DAC_READ_SEARCH first when a file is to be read only, and CAP_DAC_OVERRIDE alone otherwise.
pub fn access(event: &Event, file_type: FileType, pure_read: bool) -> BTreeSet<Access> {
    if let Some(flags) = open_flags(event) {
        return opened(flags);
    }
    let directory = file_type == FileType::Directory;
    let untold = if pure_read { Access::Read } else { Access::Write };
    match event.call.operation() {
        Operation::File(file) => match file {
            File::Access(mode) => asked(event.call.args[usize::from(mode)], directory),
            File::Execute => [Access::Execute].into(),
            File::Enter | File::ChangeRoot => [Access::Search].into(),
            File::Truncate | File::Times(_) | File::SetAttribute(_) | File::RemoveAttribute(_) => {
                [Access::Write].into()
            }
            // A hard link to what others own takes read and write access (fs.protected_hardlinks).
            File::Link => [Access::Read, Access::Write].into(),
            File::Open(_)
            | File::MakeDirectory(_)
            | File::MakeNode(_)
            | File::MakeLink
            | File::Rename
            | File::Remove(_)
            | File::Mode(_)
            | File::Flags
            | File::Give(_)
            | File::Allocate
            | File::GetAttribute(_)
            | File::ListAttributes
            | File::Look
            | File::Watch
            | File::OpenHandle => [untold].into(),
        },
        Operation::Socket(Socket::Connect | Socket::Send)
        | Operation::Kernel(Kernel::Accounting | Kernel::SwapOn) => [Access::Write].into(),
        Operation::Socket(_)
        | Operation::Identity(_)
        | Operation::Task(_)
        | Operation::Memory(_)
        | Operation::Mount(_)
        | Operation::Limit(_)
        | Operation::Kernel(_)
        | Operation::Write
        | Operation::Other => [untold].into(),
    }
}

/// What a call that makes a name makes.
pub fn made_type(event: &Event) -> FileType {
    match event.call.operation() {
        Operation::File(File::MakeDirectory(_)) => FileType::Directory,
        Operation::File(File::MakeLink) => FileType::Symlink,
        Operation::File(File::MakeNode(mode)) => node_type(event.call.args[usize::from(mode)]),
        Operation::File(File::Link | File::Rename) => known_type(event),
        Operation::Socket(Socket::Bind) => FileType::Socket,
        _ => FileType::File,
    }
}

/// What a call that removes a name removes.
pub fn removed_type(event: &Event) -> FileType {
    match event.call.operation() {
        Operation::File(File::Remove(removed)) if removed.is_directory(&event.call.args) => {
            FileType::Directory
        }
        _ => known_type(event),
    }
}

fn known_type(event: &Event) -> FileType {
    let (first, second) = of(&event.object);
    let found = [first, second].into_iter().flatten().find_map(|path| path.inode.as_ref());
    found.map_or(FileType::File, |inode| inode.file_type)
}

/// Type of a file that is there, as far as the object or the open flags tell.
pub fn file_type(event: &Event, path: &PathObject) -> FileType {
    if let Some(inode) = &path.inode {
        return inode.file_type;
    }
    match event.call.operation() {
        Operation::File(File::Enter | File::ChangeRoot) => FileType::Directory,
        Operation::File(File::Execute) => FileType::File,
        Operation::File(File::Remove(_)) => removed_type(event),
        Operation::Socket(Socket::Connect | Socket::Send) => FileType::Socket,
        _ => match open_flags(event) {
            Some(flags) if flags & O_DIRECTORY != 0 => FileType::Directory,
            Some(_) => FileType::File,
            None => FileType::Unknown,
        },
    }
}

fn node_type(mode: u64) -> FileType {
    match FileType::of_mode(mode as u32) {
        FileType::Directory | FileType::Symlink | FileType::Unknown => FileType::File,
        node => node,
    }
}

/// Where kernel parameters are.
pub const SYSCTLS: &[u8] = b"/proc/sys";

/// Whether the call is about a kernel parameter.
pub fn is_sysctl(event: &Event) -> bool {
    made(event).is_some_and(|path| is_below(path.path.as_bytes(), SYSCTLS))
}

/// Whether the file is a process's OOM score.
pub fn is_oom_score(path: &PathObject) -> bool {
    is_below(path.path.as_bytes(), b"/proc") && matches!(name(&path.path), b"oom_score_adj" | b"oom_adj")
}

/// Whether the call changes the file or its directory.
pub fn writes(event: &Event) -> bool {
    const O_WRONLY_RDWR_TRUNC: u64 = 0o1003;
    open_flags(event).is_some_and(|flags| flags & O_WRONLY_RDWR_TRUNC != 0)
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
