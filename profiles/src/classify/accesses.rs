//! What a run did with the files under the paths of `--paths`.

use std::collections::{BTreeMap, BTreeSet};

use crate::RawText;
use crate::accesses::{Accesses, FileAccess};
use crate::calls::{File, Operation, Socket};
use crate::event::{Event, FileType, Inode, Object, Outcome, PathObject};
use crate::glob::Pattern;
use crate::paths::is_below;
use crate::requirement::Access;

use super::context::Context;
use super::{errno, files};

/// Gathers all accesses to files that the patterns of the run cover; nothing for a run without any.
pub fn gather(events: &[&Event], context: &Context<'_>) -> Option<Accesses> {
    let patterns: Vec<Pattern> =
        context.run.paths.iter().filter_map(|text| Pattern::new(text).ok()).collect();
    if patterns.is_empty() {
        return None;
    }
    let mut found = Accessed {
        patterns,
        files: BTreeMap::new(),
        renamed: Vec::new(),
        dropped: context.end.dropped_calls,
        uid: context.run.identity.uid,
    };
    for event in events.iter().filter(|event| counts(event)) {
        found.event(event);
    }
    found.fold_temporary();
    let files = found.files.into_iter().map(|(path, (file_type, access, inode))| FileAccess {
        path,
        file_type,
        access,
        inode,
    });
    Some(Accesses {
        paths: context.run.paths.iter().cloned().collect(),
        dropped: found.dropped,
        files: files.collect(),
    })
}

/// Whether the call did something, or would have if it had been allowed to.
fn counts(event: &Event) -> bool {
    match event.outcome {
        Outcome::Success { .. } | Outcome::Answered => true,
        Outcome::Failure { errno } => errno::is_refusal(errno),
        // The ptrace backend does not wait for the result of a call that is allowed: what is there tells.
        Outcome::Unknown => {
            let (first, second) = files::of(&event.object);
            second.is_some()
                || first.is_some_and(|path| path.inode.is_some())
                || event.call.operation().makes_new()
        }
    }
}

type Seen = (FileType, BTreeSet<Access>, Option<Inode>);

struct Accessed {
    patterns: Vec<Pattern>,
    files: BTreeMap<RawText, Seen>,
    /// Old and new names, in their order.
    renamed: Vec<(RawText, RawText)>,
    dropped: u64,
    uid: u32,
}

impl Accessed {
    fn event(&mut self, event: &Event) {
        let (first, second) = files::of(&event.object);
        if let (Some(from), Some(to)) = (first, second) {
            let file_type = files::made_type(event);
            match event.call.operation() {
                Operation::File(File::MakeLink) => self.add(from, FileType::Symlink, [Access::Create]),
                Operation::File(File::Link) => {
                    self.add(from, files::file_type(event, from), [Access::Read]);
                    self.add(to, file_type, [Access::Create]);
                }
                Operation::File(File::Rename) => {
                    self.add(from, file_type, [Access::Delete]);
                    self.add(to, file_type, [Access::Create]);
                    self.renamed.push((from.path.clone(), to.path.clone()));
                }
                _ => {}
            }
            return;
        }
        let Some(path) = first else { return };
        let access = self.access(event, path);
        let file_type = if access.contains(&Access::Create) && path.inode.is_none() {
            files::made_type(event)
        } else {
            files::file_type(event, path)
        };
        self.add(path, file_type, access);
    }

    /// What a call with one path does with the file.
    fn access(&self, event: &Event, path: &PathObject) -> BTreeSet<Access> {
        if matches!(event.object, Object::Gift { .. }) {
            return BTreeSet::new();
        }
        let used = || {
            let file_type = files::file_type(event, path);
            let mut access = files::access(event, file_type, true);
            let own = path.inode.as_ref().is_none_or(|inode| inode.uid == self.uid);
            if files::creates_only(event) || (files::may_create(event) && own) {
                access.insert(Access::Create);
            }
            access
        };
        match event.call.operation() {
            Operation::File(file) => match file {
                File::MakeDirectory(_) | File::MakeNode(_) | File::MakeLink => [Access::Create].into(),
                File::Remove(_) => [Access::Delete].into(),
                File::Mode(_) | File::Flags => [Access::Own].into(),
                File::Times(_) if !event.call.sets_times_to_now() => [Access::Own].into(),
                File::Give(_) | File::Look | File::ListAttributes => BTreeSet::new(),
                File::Watch => [Access::Read].into(),
                File::Open(_)
                | File::Link
                | File::Rename
                | File::Times(_)
                | File::Truncate
                | File::Allocate
                | File::SetAttribute(_)
                | File::RemoveAttribute(_)
                | File::GetAttribute(_)
                | File::Access(_)
                | File::OpenHandle
                | File::Enter
                | File::ChangeRoot
                | File::Execute => used(),
            },
            Operation::Socket(Socket::Bind) => [Access::Create].into(),
            Operation::Socket(_)
            | Operation::Identity(_)
            | Operation::Task(_)
            | Operation::Memory(_)
            | Operation::Mount(_)
            | Operation::Limit(_)
            | Operation::Kernel(_)
            | Operation::Write
            | Operation::Other => used(),
        }
    }

    fn add(&mut self, path: &PathObject, file_type: FileType, access: impl IntoIterator<Item = Access>) {
        if !path.resolved || !files::is_known(&path.path) {
            return;
        }
        self.note(&path.path, file_type, access.into_iter().collect(), path.inode.as_deref());
        if let Some(parent) = &path.parent {
            self.note(&files::parent(&path.path), FileType::Directory, BTreeSet::new(), Some(parent));
        }
        // A path through symbolic links takes to pass through their directories too.
        if path.seen != path.path && files::is_known(&path.seen) {
            self.note(&path.seen, FileType::Unknown, BTreeSet::new(), None);
        }
    }

    fn note(&mut self, path: &RawText, file_type: FileType, access: BTreeSet<Access>, inode: Option<&Inode>) {
        if !self.patterns.iter().any(|pattern| pattern.covers(path.as_bytes())) {
            return;
        }
        if !self.files.contains_key(path) && self.files.len() >= Accesses::MOST {
            self.dropped += 1;
            return;
        }
        let seen = self.files.entry(path.clone()).or_insert((FileType::Unknown, BTreeSet::new(), None));
        if seen.0 == FileType::Unknown {
            seen.0 = file_type;
        }
        if let Some(inode) = inode {
            seen.0 = inode.file_type;
            seen.2.get_or_insert_with(|| inode.clone());
        }
        seen.1.extend(access);
    }

    /// What was made and removed again is a matter of its directory alone; what was made in a directory that was given its
    /// name later is there under that name.
    fn fold_temporary(&mut self) {
        let is_temporary = |(_, (file_type, access, _)): &(&RawText, &Seen)| {
            *file_type != FileType::Socket
                && access.contains(&Access::Create)
                && access.contains(&Access::Delete)
        };
        let temporary: Vec<RawText> =
            self.files.iter().filter(is_temporary).map(|(path, _)| path.clone()).collect();
        let renamed = std::mem::take(&mut self.renamed);
        for (from, to) in renamed.iter().filter(|(from, _)| temporary.contains(from)) {
            self.move_below(from, to);
        }
        // What is in a directory before the directory itself, which would come back otherwise.
        for path in temporary.iter().rev() {
            let removed = self.files.remove(path);
            if removed.is_some() {
                self.note(&files::parent(path), FileType::Directory, BTreeSet::from([Access::Write]), None);
            }
        }
    }

    /// Takes what is in a directory to the directory's new name, but for what was removed there.
    fn move_below(&mut self, from: &RawText, to: &RawText) {
        let below: Vec<RawText> =
            self.files.keys().filter(|path| is_below(path.as_bytes(), from.as_bytes())).cloned().collect();
        for path in below {
            let Some((file_type, access, inode)) = self.files.remove(&path) else { continue };
            let rest = &path.as_bytes()[from.as_bytes().len()..];
            let moved = RawText::from([to.as_bytes(), rest].concat().as_slice());
            if access.contains(&Access::Delete) {
                self.note(&files::parent(&moved), FileType::Directory, BTreeSet::from([Access::Write]), None);
            } else {
                self.note(&moved, file_type, access, inode.as_ref());
            }
            // Its type is not known by a name that was never opened.
            if let Some(directory) = self.files.get_mut(to) {
                directory.0 = FileType::Directory;
            }
        }
    }
}
