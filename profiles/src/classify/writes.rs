//! Where the program wrote by the user's own rights. That is no need, but whoever makes the rest of the file system
//! read-only has to leave it writable.

use std::collections::BTreeMap;

use crate::RawText;
use crate::calls::{File, Kernel, Operation, Socket};
use crate::event::{Event, FileType, Identity, Inode, Outcome, PathObject};
use crate::profile::Written;

use super::context::Context;
use super::files;

/// Trees of the kernel, which stay as they are where everything else is read-only.
const KERNEL: [&[u8]; 3] = [b"/proc", b"/sys", b"/dev"];
/// File systems of their own below `/dev`, to which that does not apply.
const MEMORY: [&[u8]; 2] = [b"/dev/shm", b"/dev/mqueue"];

/// The places, gathered call by call.
#[derive(Default)]
pub struct Writes(BTreeMap<RawText, Written>);

impl Writes {
    /// Takes in a call that no right beyond the user's own was needed for.
    pub fn note(&mut self, event: &Event, context: &Context<'_>) {
        if !matches!(event.outcome, Outcome::Success { .. }) {
            return;
        }
        let (Some(path), second) = files::of(&event.object) else { return };
        match event.call.operation() {
            Operation::File(file) => match file {
                File::Rename => {
                    [Some(path), second].into_iter().flatten().for_each(|path| self.entry_of(path))
                }
                File::Link => second.into_iter().for_each(|path| self.entry_of(path)),
                File::MakeLink | File::MakeDirectory(_) | File::MakeNode(_) | File::Remove(_) => {
                    self.entry_of(path);
                }
                File::Mode(_)
                | File::Flags
                | File::Give(_)
                | File::Times(_)
                | File::SetAttribute(_)
                | File::RemoveAttribute(_) => self.attributes(path),
                File::Truncate | File::Allocate => self.file(path),
                File::Open(_) => self.opened(event, path, context),
                File::GetAttribute(_)
                | File::ListAttributes
                | File::Access(_)
                | File::Look
                | File::Watch
                | File::OpenHandle
                | File::Enter
                | File::ChangeRoot
                | File::Execute => {}
            },
            Operation::Socket(Socket::Bind) => self.entry_of(path),
            Operation::Kernel(Kernel::Accounting | Kernel::SwapOn) => self.file(path),
            // What is written to was opened for that.
            Operation::Write
            | Operation::Socket(_)
            | Operation::Identity(_)
            | Operation::Task(_)
            | Operation::Memory(_)
            | Operation::Mount(_)
            | Operation::Limit(_)
            | Operation::Kernel(_)
            | Operation::Other => {}
        }
    }

    fn opened(&mut self, event: &Event, path: &PathObject, context: &Context<'_>) {
        let Some(flags) = files::open_flags(event).filter(|flags| files::opens_for_writing(*flags)) else {
            return;
        };
        if files::is_temporary(flags) {
            self.add(&path.path, FileType::Directory);
        } else if files::creates_only(event)
            || (files::may_create(event) && may_write(path.parent.as_deref(), &context.run.identity))
        {
            self.entry_of(path);
        } else {
            self.file(path);
        }
    }

    /// An entry was made, renamed or removed.
    fn entry_of(&mut self, path: &PathObject) {
        self.add(&files::parent(&path.path), FileType::Directory);
    }

    /// A file was written in place.
    fn file(&mut self, path: &PathObject) {
        let file_type = path.inode.as_ref().map_or(FileType::File, |inode| inode.file_type);
        if matches!(file_type, FileType::File | FileType::Directory | FileType::Unknown) {
            self.add(&path.path, file_type);
        }
    }

    /// Something that the inode holds was set: of what can be no mount point, the directory has to be writable.
    fn attributes(&mut self, path: &PathObject) {
        match path.inode.as_ref().map(|inode| inode.file_type) {
            Some(FileType::Symlink | FileType::Socket | FileType::Fifo) => self.entry_of(path),
            _ => self.file(path),
        }
    }

    fn add(&mut self, path: &RawText, file_type: FileType) {
        let is_in = |trees: &[&[u8]]| {
            trees.iter().any(|tree| files::is_below(path.as_bytes(), tree) || path.as_bytes() == *tree)
        };
        if files::is_known(path) && (!is_in(&KERNEL) || is_in(&MEMORY)) {
            self.0.entry(path.clone()).or_insert(Written { path: path.clone(), file_type, made: false });
        }
    }

    /// The places, without those that lie in another one.
    pub fn finish(self, context: &Context<'_>) -> Vec<Written> {
        let mut out: Vec<Written> = Vec::new();
        for (path, mut written) in self.0 {
            let inside = |other: &Written| {
                other.file_type == FileType::Directory
                    && files::is_below(path.as_bytes(), other.path.as_bytes())
            };
            if !out.iter().any(inside) {
                written.made = context.has_made(&path);
                out.push(written);
            }
        }
        out
    }
}

/// Whether the mode of a directory lets the user make entries in it.
fn may_write(directory: Option<&Inode>, identity: &Identity) -> bool {
    directory.is_none_or(|inode| identity.may_write(inode.uid, inode.gid, inode.mode))
}
