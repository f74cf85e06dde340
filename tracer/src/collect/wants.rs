//! What calls want of the files they name, as questions for the access oracle.

use nrtrace_profiles::event::{Call, Event, Object, PathObject};

use super::calls::Traits;
use super::structure;
use crate::oracle::{Victim, Want};

/// A file, and what is wanted of it.
pub struct Wanted<'a> {
    /// The file.
    pub object: &'a PathObject,
    /// What is wanted.
    pub want: Want,
    /// Whether a symbolic link at its end is followed.
    pub follow: bool,
    /// Whether nothing but the file decides on the call; else there are rules that the oracle does not know.
    pub exact: bool,
}

/// What `event` wants; nothing for a call that is about no file.
pub fn wants<'a>(event: &'a Event, traits: Traits) -> Vec<Wanted<'a>> {
    let args = &structure::in_place(&event.call.name, &event.call.args, &event.call.structure);
    let wanted = |object: &'a PathObject, want| {
        let follow = traits.follows(args);
        Wanted { object, want, follow, exact: is_exact(&event.call.name) }
    };
    match &event.object {
        Object::Path(path) | Object::Program { path, .. } | Object::Gift { path, .. } => {
            want(&event.call).map(|want| vec![wanted(path, want)]).unwrap_or_default()
        }
        Object::Socket(socket) => {
            let Some(path) = &socket.path else { return Vec::new() };
            match &*event.call.name {
                "bind" => vec![wanted(path, Want::Create { directory: false })],
                _ => vec![wanted(path, Want::Connect)],
            }
        }
        Object::TwoPaths { from, to } => match &*event.call.name {
            "symlink" | "symlinkat" => vec![wanted(from, Want::Create { directory: false })],
            "link" | "linkat" => {
                vec![wanted(from, Want::Link), wanted(to, Want::Create { directory: false })]
            }
            name if name.starts_with("rename") => {
                vec![wanted(from, Want::Delete(Victim::Any)), wanted(to, Want::Replace(Victim::Any))]
            }
            _ => Vec::new(),
        },
        Object::Nothing | Object::Ids { .. } => Vec::new(),
    }
}

/// Attributes and hard links have rules of their own; so have the calls that take privileges beyond files.
fn is_exact(name: &str) -> bool {
    const OTHERS: &[&str] = &["xattr", "link", "chown", "mount", "swap", "acct", "statfs", "chroot", "_tree"];
    name.starts_with("unlink")
        || name.starts_with("symlink")
        || !OTHERS.iter().any(|part| name.contains(part))
}

/// What a call with one path wants of it.
fn want(call: &Call) -> Option<Want> {
    let args = &call.args;
    // Flags and modes are 32 bits wide.
    let arg = |index: usize| args[index] as i32;
    Some(match &*call.name {
        "open" => Want::Open(arg(1)),
        "openat" => Want::Open(arg(2)),
        "creat" => Want::Open(libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC),
        "openat2" => Want::Open(*call.structure.first()? as i32),
        "mkdir" | "mkdirat" => Want::Create { directory: true },
        "mknod" | "mknodat" => Want::Create { directory: false },
        "unlink" => Want::Delete(Victim::File),
        "unlinkat" if arg(2) & libc::AT_REMOVEDIR == 0 => Want::Delete(Victim::File),
        "unlinkat" | "rmdir" => Want::Delete(Victim::Directory),
        "utime" | "utimes" if args[1] == 0 => Want::Touch,
        "utimensat" | "utimensat_time64" | "futimesat" if args[2] == 0 => Want::Touch,
        "utime" | "utimes" | "utimensat" | "utimensat_time64" | "futimesat" => Want::Own,
        "truncate" | "truncate64" => Want::Truncate,
        "access" => Want::Access(arg(1)),
        "faccessat" | "faccessat2" => Want::Access(arg(2)),
        "chdir" | "fchdir" | "chroot" => Want::Search,
        "execve" | "execveat" => Want::Execute,
        "inotify_add_watch" => Want::Access(libc::R_OK),
        "stat" | "stat64" | "lstat" | "lstat64" | "newfstatat" | "fstatat64" | "statx" | "readlink"
        | "readlinkat" | "statfs" | "statfs64" | "name_to_handle_at" => Want::Reach,
        name if name.contains("chmod") || name.contains("chown") => Want::Own,
        name if name.contains("setxattr") || name.contains("removexattr") => Want::Access(libc::W_OK),
        name if name.contains("getxattr") || name.contains("listxattr") => Want::Access(libc::R_OK),
        _ => return None,
    })
}
