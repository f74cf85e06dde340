//! What the run itself causes, and the program does not need.

use crate::Capability;
use crate::RawText;
use crate::calls::{File, Identity, Operation};
use crate::event::{Backend, Check, Event, Outcome, PathObject};

use super::context::Context;
use super::denial;
use super::errno;
use super::files;
use super::finding::{Judged, Source, Unplaced};
use super::path;
use super::site::CheckSite;

/// Whether the whole event is the run's doing.
pub fn whole_event(event: &Event, context: &Context<'_>) -> bool {
    let (Some(path), _) = files::of(&event.object) else { return false };
    (is_stdio(path) && asks_for_files(event))
        || is_own_process(event, path, context)
        || is_path_search(event, path, context)
}

/// Whether nothing but the rights on files was asked for.
fn asks_for_files(event: &Event) -> bool {
    event.checks.iter().all(|check| {
        check.capability.is_dac() || matches!(check.capability, Capability::FOWNER | Capability::SYS_PTRACE)
    })
}

/// The pipes and terminal that the caller gave, opened again by name. Where a file is behind it, that is the path.
fn is_stdio(path: &PathObject) -> bool {
    const NAMES: &[&[u8]] = &[b"/dev/stdin", b"/dev/stdout", b"/dev/stderr", b"/dev/tty", b"/dev/console"];
    let bytes = path.path.as_bytes();
    NAMES.contains(&bytes)
        || is_numbered(bytes, b"/dev/fd/")
        || is_numbered(bytes, b"/dev/pts/")
        || is_process_fd(bytes)
}

/// The remark on a pipe, a socket or a terminal of standard input or output that is opened again by its name, which its
/// owner decides on as for any file; and, where it was refused, that.
pub fn reopened(event: &Event, context: &Context<'_>, out: &mut Judged) {
    const ENDS: [&[u8]; 7] =
        [b"/dev/stdin", b"/dev/stdout", b"/dev/stderr", b"/fd/0", b"/fd/1", b"/fd/2", b"/dev/tty"];
    let Some(path) = files::of(&event.object).0.filter(|path| is_stdio(path)) else { return };
    let standard = ENDS.iter().any(|end| path.path.as_bytes().ends_with(end));
    let asked = event.checks.iter().any(|check| check.capability.is_dac());
    let refused = matches!(event.outcome, Outcome::Failure { errno } if errno::is_refusal(errno));
    if !(standard && files::open_flags(event).is_some() && (asked || refused)) {
        return;
    }
    out.notes.insert(format!(
        "{} opens {} again by its name: a pipe or a terminal of somebody else's is refused to the user, and under systemd \
         it is a socket, which nobody can open; have it write to the descriptor, or to a file or syslog",
        event.process.name, path.given
    ));
    if refused {
        let source = Source { event, check: None, site: CheckSite::Other, context };
        out.unexplained.push(Unplaced::of(&source));
    }
}

fn is_numbered(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(is_number)
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// `/proc/self/fd/1` and `/proc/123/fd/1`.
fn is_process_fd(path: &[u8]) -> bool {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    match parts[..] {
        [b"", b"proc", process, b"fd", fd] => (process == b"self" || is_number(process)) && is_number(fd),
        _ => false,
    }
}

/// What a process does with its own directory in `/proc`, except lowering its OOM score.
fn is_own_process(event: &Event, path: &PathObject, context: &Context<'_>) -> bool {
    // What a link there leads to is no part of it.
    let names = if path.path.as_bytes().ends_with(path.seen.as_bytes()) {
        [&path.seen, &path.path]
    } else {
        [&path.path, &path.path]
    };
    let own = names.into_iter().any(|name| {
        let Some(below) = name.as_bytes().strip_prefix(b"/proc/") else { return false };
        let process = below.split(|byte| *byte == b'/').next().unwrap_or_default();
        matches!(process, b"self" | b"thread-self") || context.is_own_pid(process)
    });
    own && asks_for_files(event) && !files::is_oom_score(path)
}

/// A look in one directory of `PATH` for a program that is found in another, or nowhere.
fn is_path_search(event: &Event, path: &PathObject, context: &Context<'_>) -> bool {
    if context.is_run(&path.path) {
        return false;
    }
    let elsewhere = context.is_run_elsewhere(&path.path);
    let listed = is_program_directory(&files::parent(&path.path), context);
    let looks = matches!(event.call.operation(), Operation::File(File::Look | File::Access(_)));
    match event.outcome {
        Outcome::Failure { errno: errno::ENOENT } if files::is_exec(event) => elsewhere || listed,
        Outcome::Failure { errno: errno::EACCES } if files::is_exec(event) => elsewhere,
        Outcome::Unknown if files::is_exec(event) => elsewhere && listed,
        Outcome::Failure { errno: errno::ENOENT | errno::EACCES } if looks => elsewhere && listed,
        _ => false,
    }
}

/// A directory of `PATH`, where that is known, or one that is called as such directories are.
fn is_program_directory(directory: &RawText, context: &Context<'_>) -> bool {
    let path = context.run.environment.iter().find(|(name, _)| name.as_bytes() == b"PATH");
    let listed = path.is_some_and(|(_, value)| {
        value.as_bytes().split(|byte| *byte == b':').any(|entry| entry == directory.as_bytes())
    });
    listed || matches!(files::name(directory), b"bin" | b"sbin" | b"games")
}

/// Whether a check was about the files of whom the program ran as in place of the user: for these the oracle was asked.
pub fn own_rights(event: &Event, check: &Check, context: &Context<'_>) -> bool {
    context.is_foretold_for(event)
        && check.predicted.is_none()
        && (check.capability.is_dac() || check.capability == Capability::FOWNER)
}

/// Whether times are set to now on a file that the user may write to, which is as good as owning it; the kernel asks for the
/// owner's right first.
pub fn may_touch(event: &Event, site: CheckSite, context: &Context<'_>) -> bool {
    const WRITE: u32 = 2;
    let (path, _) = files::of(&event.object);
    let inode = path.and_then(|path| path.inode.as_ref());
    site == CheckSite::Touch
        && inode.is_some_and(|inode| denial::allows(inode, event, &context.run.identity, WRITE))
}

/// The remark on a program that installs a seccomp filter where its refusals are not seen: a call that the filter answers
/// by itself never gets to a tracer (seccomp(2)).
pub fn filter_note(event: &Event, context: &Context<'_>) -> Option<String> {
    let installs = event.call.operation() == Operation::Identity(Identity::Filter)
        && matches!(event.outcome, Outcome::Success { .. });
    (installs && context.run.backend == Backend::Ptrace).then(|| {
        format!(
            "{} installs a seccomp filter, and what the filter refuses is not seen with the ptrace backend: use --backend ebpf",
            event.process.name
        )
    })
}

/// Whether a check was about passing through the working directory that the program was started in.
pub fn working_directory(event: &Event, check: &Check, site: CheckSite, context: &Context<'_>) -> bool {
    let (first, second) = files::of(&event.object);
    let relative =
        [first, second].into_iter().flatten().any(|path| path.given.as_bytes().first() != Some(&b'/'));
    let source = Source { event, check: Some(check), site, context };
    site == CheckSite::Search
        && relative
        && path::searched(&source)
            .is_some_and(|directory| files::is_at_or_below(context.run.cwd.as_bytes(), directory.as_bytes()))
}

/// The remark on it.
pub fn working_directory_note(context: &Context<'_>) -> String {
    format!(
        "it was started in {}, which the user cannot search, and uses relative paths: set WorkingDirectory=",
        context.run.cwd
    )
}
