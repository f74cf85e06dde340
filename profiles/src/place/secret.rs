//! What is read by whom it was not made for: the secrets of the machine, and those of other users.

use super::{World, real};
use crate::RawText;
use crate::event::Inode;
use crate::paths::is_below;

/// Why a file is not opened by an entry for the user like any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secret {
    /// It is the machine's or another person's: it stays refused, unless systemd is to hand over a copy.
    Closed(&'static str),
    /// It looks like a credential: who is given it is warned.
    Credential(&'static str),
}

const PASSWORDS: &str = "it holds the password hashes of the machine";
const HOST_KEY: &str = "whoever reads it can pose as this machine";
const ROOT: &str = "it is in root's home";
const HOME: &str = "it is a key in somebody else's home";
const RIGHTS: &str = "it says who may become root";
const TUNNEL: &str = "it holds the private keys of the machine's tunnels";

/// Trees and names that are closed whoever asks, but for the program that they are named after.
const CLOSED: &[(&str, &str)] = &[
    ("/etc/shadow", PASSWORDS),
    ("/etc/shadow-", PASSWORDS),
    ("/etc/gshadow", PASSWORDS),
    ("/etc/gshadow-", PASSWORDS),
    ("/etc/security/opasswd", PASSWORDS),
    ("/etc/sudoers", RIGHTS),
    ("/etc/sudoers.d", RIGHTS),
    ("/etc/wireguard", TUNNEL),
    ("/root", ROOT),
];

/// Parts of the names that credentials have.
const TELLING: &[&str] = &[
    "key",
    "secret",
    "passw",
    "token",
    "credential",
    ".pem",
    ".p12",
    ".pfx",
    "keytab",
    "private",
    "htpasswd",
];

/// What kind of secret a file is that is to be read, if it is one.
pub(crate) fn secret(path: &RawText, inode: Option<&Inode>, world: &World) -> Option<Secret> {
    let real = real(path);
    let bytes = real.as_bytes();
    let closed = CLOSED.iter().find(|(tree, _)| bytes == tree.as_bytes() || is_below(bytes, tree.as_bytes()));
    if let Some((_, why)) = closed {
        return Some(Secret::Closed(why));
    }
    let name = bytes.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if bytes.starts_with(b"/etc/ssh/ssh_host_") && !name.ends_with(b".pub") {
        return Some(Secret::Closed(HOST_KEY));
    }
    let of_ssh = bytes.windows(6).any(|part| part == b"/.ssh/") && !name.ends_with(b".pub");
    if of_ssh && !inode.is_some_and(|inode| inode.user.as_deref().is_some_and(|user| world.is_own_user(user)))
    {
        return Some(Secret::Closed(HOME));
    }
    let inode = inode?;
    let lower = String::from_utf8_lossy(name).to_lowercase();
    let (private, in_etc) = (inode.mode & 0o077 == 0, is_below(bytes, b"/etc"));
    let telling = TELLING.iter().any(|part| lower.contains(part)) || is_below(bytes, b"/etc/ssl/private");
    match (private, inode.uid) {
        (true, 0) if in_etc && telling => {
            Some(Secret::Credential("it looks like a credential: systemd can hand over a copy instead"))
        }
        (true, uid) if uid != 0 && !inode.user.as_deref().is_some_and(|user| world.is_own_user(user)) => {
            Some(Secret::Credential("its owner keeps it from everybody else"))
        }
        _ => None,
    }
}

/// Whether a directory is passed through only for something in it that is granted: root's home, and those of others.
pub(crate) fn is_home(path: &RawText, world: &World) -> bool {
    let bytes = path.as_bytes();
    let home = bytes.strip_prefix(b"/home/").filter(|rest| !rest.is_empty());
    let user = home.map(|rest| rest.split(|byte| *byte == b'/').next().unwrap_or_default());
    bytes == b"/root"
        || is_below(bytes, b"/root")
        || user.is_some_and(|user| std::str::from_utf8(user).map_or(true, |user| !world.is_user(user)))
}
