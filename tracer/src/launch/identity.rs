//! Whom the program runs as.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use nrtrace_profiles::event::Identity;

use super::Error;
use crate::accounts;
use crate::status::Status;

/// Where a fresh uid is taken from: the range systemd gives to dynamic users (systemd's UIDS-GIDS.md), which no
/// package uses.
pub const FRESH_UIDS: RangeInclusive<u32> = 61184..=65519;

/// Longest user name, in bytes (systemd's strict rule, which leaves room in `utmp`).
const NAME_MAX: usize = 31;

/// Works out the identity.
///
/// `as_` is `USER`, `USER:GROUP`, `UID` or `UID:GID`. Without it the identity is the first uid of [`FRESH_UIDS`] that
/// neither a user, nor a group, nor a running process has; the gid is the same. The supplementary groups are those of
/// `groups` (names or numbers) and no others: what a user's membership elsewhere would open is not taken for granted.
///
/// An identity without an account is named after the program (see [`name_for`]); a name that this machine already has
/// gets `-nonroot` appended, so that what is generated never redefines an existing user. A uid without an account is
/// allowed, its gid is the same number unless given.
///
/// # Errors
/// An unknown name, a malformed text, or root.
pub fn resolve(as_: Option<&str>, groups: &[String], program_name: &str) -> Result<Identity, Error> {
    let mut identity = match as_ {
        Some(text) => named(text, program_name)?,
        None => fresh(program_name)?,
    };
    let groups: BTreeSet<u32> = groups.iter().map(|group| group_id(group)).collect::<Result<_, _>>()?;
    identity.groups = groups.into_iter().collect();
    Ok(identity)
}

/// The identity of the caller, with all its groups: the only one that a program can be run as without privileges.
///
/// # Errors
/// [`Error::OnlyOneself`] when another user or other groups are asked for.
pub fn own(as_: Option<&str>, groups: &[String], program_name: &str) -> Result<Identity, Error> {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let account = accounts::user_by_uid(uid);
    let exists = account.is_some();
    let user = account.map_or_else(|| unused_name(program_name), |account| account.name);
    let group = accounts::group_by_gid(gid).map_or_else(|| user.clone(), |group| group.name);
    let other = |text: &str| named(text, program_name).map(|asked| (asked.uid, asked.gid) != (uid, gid));
    if !groups.is_empty() || as_.map(other).transpose()?.unwrap_or(false) {
        return Err(Error::OnlyOneself { user });
    }
    let groups: BTreeSet<u32> = nix::unistd::getgroups()
        .map_err(|errno| Error::system("reading", "the caller's groups", errno))?
        .into_iter()
        .map(nix::unistd::Gid::as_raw)
        .collect();
    Ok(Identity { user, group, uid, gid, groups: groups.into_iter().collect(), exists })
}

fn fresh(program_name: &str) -> Result<Identity, Error> {
    let in_use = ids_in_use();
    let is_free = |id: &u32| {
        !in_use.contains(id) && accounts::user_by_uid(*id).is_none() && accounts::group_by_gid(*id).is_none()
    };
    let id = FRESH_UIDS
        .clone()
        .find(is_free)
        .ok_or(Error::NoFreeUid { first: *FRESH_UIDS.start(), last: *FRESH_UIDS.end() })?;
    let name = unused_name(program_name);
    Ok(Identity { user: name.clone(), group: name, uid: id, gid: id, groups: Vec::new(), exists: false })
}

fn named(text: &str, program_name: &str) -> Result<Identity, Error> {
    let bad = |reason| Error::BadIdentity { text: text.to_owned(), reason };
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    if user.is_empty() {
        return Err(bad("the user is missing"));
    }
    if group.is_some_and(|group| group.is_empty() || group.contains(':')) {
        return Err(bad("the group is missing or holds a colon"));
    }
    let (uid, account) = match number(user) {
        Some(uid) => (uid.ok_or_else(|| bad("the number is no user id"))?, None),
        None => {
            let account =
                accounts::user_by_name(user).ok_or_else(|| Error::UnknownUser { name: user.to_owned() })?;
            (account.uid.as_raw(), Some(account))
        }
    };
    if uid == 0 {
        return Err(Error::RootIdentity { text: text.to_owned() });
    }
    let account = account.or_else(|| accounts::user_by_uid(uid));
    let gid = match group {
        Some(group) => group_id(group)?,
        None => account.as_ref().map_or(uid, |account| account.gid.as_raw()),
    };
    let exists = account.is_some();
    let user = account.map_or_else(|| unused_name(program_name), |account| account.name);
    let group = accounts::group_by_gid(gid).map_or_else(|| user.clone(), |group| group.name);
    Ok(Identity { user, group, uid, gid, groups: Vec::new(), exists })
}

/// Names of a user and of a group, where this machine has some.
pub fn names_of(uid: u32, gid: u32) -> (Option<String>, Option<String>) {
    (accounts::user_by_uid(uid).map(|user| user.name), accounts::group_by_gid(gid).map(|group| group.name))
}

/// A number, if the text is one: `Some(None)` for a number that is no id.
fn number(text: &str) -> Option<Option<u32>> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // The highest value means "unchanged" to the kernel.
    digits.then(|| text.parse().ok().filter(|id| *id != u32::MAX))
}

fn group_id(text: &str) -> Result<u32, Error> {
    match number(text) {
        Some(Some(gid)) => Ok(gid),
        Some(None) => Err(Error::BadIdentity { text: text.to_owned(), reason: "the number is no group id" }),
        None => accounts::group_by_name(text)
            .map(|group| group.gid.as_raw())
            .ok_or_else(|| Error::UnknownGroup { name: text.to_owned() }),
    }
}

/// A valid name for a user of that program: `[a-z_][a-z0-9_-]*`, at most 31 bytes, which both shadow and systemd
/// accept. `/usr/sbin/nginx` gives `nginx`, `My.App` gives `my-app`, `7zip` gives `_7zip`.
pub fn name_for(program_name: &str) -> String {
    let base = program_name.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default();
    let mut name = String::new();
    for character in base.chars().map(|character| character.to_ascii_lowercase()) {
        match character {
            'a'..='z' | '_' => name.push(character),
            '0'..='9' if name.is_empty() => name.extend(['_', character]),
            '0'..='9' => name.push(character),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    name.truncate(NAME_MAX);
    match name.trim_end_matches('-') {
        "" => "service".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

fn unused_name(program_name: &str) -> String {
    let is_used =
        |name: &str| accounts::user_by_name(name).is_some() || accounts::group_by_name(name).is_some();
    first_unused(&name_for(program_name), is_used)
}

fn first_unused(name: &str, is_used: impl Fn(&str) -> bool) -> String {
    let suffixes = ["".to_owned(), "-nonroot".to_owned()];
    let more = (2u32..).map(|number| format!("-nonroot{number}"));
    let mut candidates = suffixes.into_iter().chain(more).map(|suffix| {
        let room = NAME_MAX - suffix.len();
        format!("{}{suffix}", &name[..name.len().min(room)])
    });
    // The numbers never end, so there is always one.
    candidates.find(|candidate| !is_used(candidate)).unwrap_or_default()
}

/// Every user and group id that a running process has, of whatever kind.
fn ids_in_use() -> BTreeSet<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(Status::of)
        .flat_map(|status| ["Uid", "Gid", "Groups"].map(|name| status.numbers(name)).concat())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_users() {
        let long = "x".repeat(80);
        let cases = [
            ("/usr/sbin/nginx", "nginx"),
            ("redis-server", "redis-server"),
            ("python3.11", "python3-11"),
            ("My..App!", "my-app"),
            ("7zip", "_7zip"),
            ("[", "service"),
            ("", "service"),
            ("/", "service"),
            ("Ünïcode", "n-code"),
            ("-x-", "x"),
            ("a\nb;c", "a-b-c"),
            (long.as_str(), &long[..31]),
        ];
        for (program, expected) in cases {
            assert_eq!(name_for(program), expected, "{program:?}");
        }
    }

    #[test]
    fn a_used_name_gets_a_suffix() {
        assert_eq!(first_unused("redis", |_| false), "redis");
        assert_eq!(first_unused("redis", |name| name == "redis"), "redis-nonroot");
        assert_eq!(first_unused("redis", |name| !name.ends_with('3')), "redis-nonroot3");
        let long = "x".repeat(31);
        assert_eq!(first_unused(&long, |name| name == long), format!("{}-nonroot", "x".repeat(23)));
    }

    #[test]
    fn a_fresh_identity_belongs_to_nobody() {
        let identity = resolve(None, &[], "/usr/bin/Some Program").unwrap();
        assert!(FRESH_UIDS.contains(&identity.uid) && identity.uid == identity.gid);
        assert!(!identity.exists && identity.groups.is_empty());
        assert!(accounts::user_by_uid(identity.uid).is_none());
        assert_eq!((identity.user.as_str(), identity.group.as_str()), ("some-program", "some-program"));
        assert_eq!(resolve(None, &[], "root").unwrap().user, "root-nonroot");
    }

    #[test]
    fn identities_by_name_and_number() {
        let of = |text: &str| resolve(Some(text), &[], "prog").unwrap();
        let daemon = of("daemon");
        assert_eq!((daemon.uid, daemon.gid, daemon.exists), (1, 1, true));
        assert_eq!(of("1"), daemon);
        let mixed = of("daemon:adm");
        assert_eq!((mixed.uid, mixed.gid, mixed.group.as_str()), (1, 4, "adm"));
        let number = of("54321");
        assert_eq!((number.uid, number.gid, number.exists), (54321, 54321, false));
        assert_eq!((number.user.as_str(), number.group.as_str()), ("prog", "prog"));
        let both = of("54321:0");
        assert_eq!((both.gid, both.group.as_str()), (0, "root"));
        let groups = ["adm".to_owned(), "7".to_owned(), "4".to_owned()];
        assert_eq!(resolve(Some("daemon"), &groups, "prog").unwrap().groups, [4, 7]);
    }

    #[test]
    fn mistakes_are_explained() {
        let error = |text: &str| resolve(Some(text), &[], "prog").unwrap_err();
        for text in ["0", "root", "0:5", "00"] {
            assert!(matches!(error(text), Error::RootIdentity { .. }), "{text}");
        }
        for text in ["", ":", "daemon:", ":adm", "1:2:3", "4294967295", "99999999999", "1:4294967295"] {
            assert!(matches!(error(text), Error::BadIdentity { .. }), "{text}");
        }
        assert!(matches!(error("no such user"), Error::UnknownUser { .. }));
        assert!(matches!(error("daemon:no-such-group"), Error::UnknownGroup { .. }));
        assert!(matches!(
            resolve(None, &["no-such-group".to_owned()], "prog"),
            Err(Error::UnknownGroup { .. })
        ));
    }
}
