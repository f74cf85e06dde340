//! What is there already: groups, owners, ACL entries, modes, copies.

use super::give::{give, inside_own};
use super::groups::{is_dangerous, join, join_on_demand};
use super::owners::{foreign_owner, note_owner};
use super::tally::Wish;
use crate::RawText;
use crate::event::FileType;
use crate::grants::{Acl, Act, Credential, File, FileKind, Grants, Method, Refusal, Way, Why, safe_name};
use crate::place::{Class, Secret, Setting, Whose, is_at_root, is_below, is_home, secret};
use crate::requirement::Access;

/// Opens something that is there already.
pub(super) fn open(wish: &Wish, grants: &mut Grants) {
    if inside_own(wish, grants) {
        return;
    }
    let ways = ways(wish, grants);
    let taken = grants.choose([wish.id], wish.way, ways);
    match taken {
        Some(Method::Own) => note_owner(wish.path, wish.inode(), [wish.id], grants),
        Some(Method::Credential) => {
            let name = credential_name(wish.path, grants);
            let path = wish.path;
            grants.take(
                wish.id,
                Way::setting(format!(
                    "have the program read {path} from $CREDENTIALS_DIRECTORY/{name} (in the unit: %d/{name})"
                )),
            );
        }
        None if wish.writes() && foreign(wish, grants) => {
            note_owner(wish.path, wish.inode(), [wish.id], grants)
        }
        _ => {}
    }
}

fn foreign(wish: &Wish, grants: &Grants) -> bool {
    wish.inode().is_some_and(|inode| foreign_owner(wish.path, inode, grants).is_some())
}

/// The ways to open what is there, least first; a refusal alone, where there is none.
fn ways(wish: &Wish, grants: &Grants) -> Vec<Way> {
    let mut ways: Vec<Way> = group(wish, grants).into_iter().collect();
    let private = is_private(wish, grants);
    let given = give(wish, grants);
    let own = given.as_ref().ok().filter(|_| private).cloned();
    let alone = alone(wish, private, grants);
    let entry = alone.as_ref().ok().cloned();
    if wish.writes() {
        ways.extend(own.into_iter().chain(entry));
    } else {
        ways.extend(entry.into_iter().chain(own));
    }
    ways.extend(copy(wish, grants));
    if ways.is_empty() {
        let refused = alone.err().flatten().map(Way::from);
        ways.push(refused.unwrap_or_else(|| given.unwrap_or_else(Way::from)));
    }
    ways
}

/// The group that has the access already. None makes an owner; and none that opens much else is joined only to write, or
/// to read what is a secret of the machine.
fn group(wish: &Wish, grants: &Grants) -> Option<Way> {
    let inode = wish.inode()?;
    let asks = grants.choices.prefer.first() == Some(&Method::Group);
    let closed = matches!(secret(wish.path, Some(inode), &grants.world), Some(Secret::Closed(_)));
    let much = |way: &Way| matches!(&way.act, Act::Join(_, group) if group.caution.is_some());
    let fits = |way: &Way| !(wish.has(Access::Own) || much(way) && (wish.writes() || closed && !asks));
    join(inode, wish.bits(), grants).filter(fits).or_else(|| {
        let socket = asks && wish.file_type == FileType::Socket;
        socket.then(|| join_on_demand(inode, wish.bits())).flatten()
    })
}

/// Whether it is the service's own, as a thing that can change hands.
fn is_private(wish: &Wish, grants: &Grants) -> bool {
    matches!(grants.world.place(wish.path), Whose::Private(class) if class != Class::Config)
        && wish.file_type != FileType::Socket
        && (wish.is_directory() || !is_at_root(wish.path))
        && !foreign(wish, grants)
        && wish.inode().is_none_or(|inode| inode.file_type != FileType::File || inode.mode & 0o6111 == 0)
}

/// The way that opens it to the user alone, owner and mode left as they are; else why there is none, where there is more
/// to say of it than of its change of hands.
fn alone(wish: &Wish, private: bool, grants: &Grants) -> Result<Way, Option<Refusal>> {
    if wish.file_type == FileType::Socket {
        return Err(Some(socket(wish)));
    }
    if wish.writes() {
        let can = private && !wish.has(Access::Own);
        return if can { Ok(entry(wish, wish.bits(), None, WRITES)) } else { Err(None) };
    }
    if let Some(closed) = closed(wish, grants) {
        return Err(Some(closed));
    }
    if is_kernel_tree(wish.path) {
        return attribute(wish, grants).map_err(Some);
    }
    // A script is read by its interpreter, and a directory that is listed is also passed through.
    let with = u32::from(wish.bits() & 5 != 0 && wish.is_directory());
    let caution = match secret(wish.path, wish.inode(), &grants.world) {
        Some(Secret::Credential(why)) => Some(why),
        _ => None,
    };
    let because = format!("the user alone may {} it", verbs(wish.bits()));
    Ok(entry(wish, wish.bits() | with, caution, &because))
}

/// Whether a directory is another user's, and closed to everybody else: its mode is what keeps the files in it.
fn is_anothers_alone(wish: &Wish, grants: &Grants) -> bool {
    let closed = wish.inode().is_some_and(|inode| inode.mode & 0o077 == 0);
    wish.is_directory() && closed && foreign(wish, grants)
}

const WRITES: &str = "the user alone may write it; its owner and mode stay";

/// An entry for the user in the access control list.
fn entry(wish: &Wish, bits: u32, caution: Option<&'static str>, because: &str) -> Way {
    Way::new(Act::Acl(wish.path.clone(), Acl { bits, caution, why: Why::default() }), because)
}

fn socket(wish: &Wish) -> Refusal {
    let danger = wish.inode().is_some_and(|inode| is_dangerous(inode) && inode.gid != 0);
    let reason =
        if danger { "its group amounts to root" } else { "the service that owns it makes it anew each time" };
    Refusal::new(reason, "change mode or group in the configuration of the service that owns the socket")
}

/// The refusal to read what is a secret of the machine or somebody's home.
fn closed(wish: &Wish, grants: &Grants) -> Option<Refusal> {
    let listed = wish.is_directory() && wish.bits() & 4 != 0 && is_home(wish.path, &grants.world);
    let reason = match secret(wish.path, wish.inode(), &grants.world) {
        Some(Secret::Closed(why)) if !wish.is_directory() => why,
        _ if listed => "it is the home of somebody else, and what is in it is nobody's business",
        _ if is_anothers_alone(wish, grants) => {
            "it belongs to another service's user, who keeps all others out of it"
        }
        _ => return None,
    };
    Some(Refusal::new(
        reason,
        if wish.is_directory() {
            "have the program keep what it needs in a directory of its own"
        } else {
            "do without it, or have systemd hand over a copy (--prefer credential)"
        },
    ))
}

/// An attribute below `/sys` is opened to the user's group; what the kernel shows in `/proc` is not.
fn attribute(wish: &Wish, grants: &Grants) -> Result<Way, Refusal> {
    let opens = wish.path.as_bytes().starts_with(b"/sys/")
        && grants.world.setting == Setting::Host
        && wish.bits() == 4
        && wish.file_type == FileType::File;
    let inode = wish.inode().filter(|inode| opens && inode.uid == 0 && inode.mode & 0o400 != 0);
    let Some(inode) = inode else {
        return Err(Refusal::new(
            "the kernel shows it to root, and nrtrace does not know that another mode would be kept",
            "do without it, or have a helper read it",
        ));
    };
    let file = File {
        kind: FileKind::Attribute,
        mode: Some(inode.mode & 0o777 | 0o040),
        group: Some(grants.account.group.clone()),
        existed: true,
        why: Why::default(),
    };
    Ok(Way::new(Act::File(wish.path.clone(), file), "it stays root's, and the user's group may read it"))
}

/// systemd reads the file and hands a copy over. A secret of the machine is handed over for who asks for that, and not
/// because nothing else is left.
fn copy(wish: &Wish, grants: &Grants) -> Option<Way> {
    let closed = matches!(secret(wish.path, wish.inode(), &grants.world), Some(Secret::Closed(_)));
    let asked = !closed || grants.choices.prefer.contains(&Method::Credential);
    // A copy makes nobody the owner of what is looked at.
    let plain = wish.bits() == 4
        && wish.file_type == FileType::File
        && !wish.has(Access::Own)
        && !is_kernel_tree(wish.path);
    let copy = Credential { path: wish.path.clone(), why: Why::default() };
    (plain && asked).then(|| {
        let because = "systemd reads it as root and hands a copy over, which only this service sees";
        Way::new(Act::Credential(credential_name(wish.path, grants), copy), because)
    })
}

/// A name for the copy of a file that no other file's copy has.
fn credential_name(path: &RawText, grants: &Grants) -> String {
    let name = path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let mut name = safe_name(&String::from_utf8_lossy(name));
    while grants.credentials.get(&name).is_some_and(|present| present.path != *path) {
        name.push('_');
    }
    name
}

fn is_kernel_tree(path: &RawText) -> bool {
    ["/proc", "/sys"].iter().any(|tree| is_below(path.as_bytes(), tree.as_bytes()))
}

fn verbs(bits: u32) -> String {
    let words = [(4, "read"), (2, "write"), (1, "pass through or run")];
    let words: Vec<&str> = words.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, word)| *word).collect();
    if words.is_empty() { "use".into() } else { words.join(" and ") }
}
