//! Whom what already runs is judged for.

use std::collections::BTreeMap;

use nrtrace_profiles::container::{Container, inside, outside};
use nrtrace_profiles::event::{Identity, Mode};

use super::process::{self, Facts};
use crate::launch::{Error, identity};

/// Users of containers that have no account, by custom: of distroless images, the first of a Linux system.
const CUSTOMARY: [u32; 2] = [65_532, 1000];

/// How it is judged, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// How the program runs.
    pub mode: Mode,
    /// The user, with the ids that the program sees.
    pub identity: Identity,
    /// The same user with the ids that the host sees.
    pub on_host: Identity,
    /// Whether processes that are not root are judged by their real refusals.
    pub own_refusals: bool,
    /// Names of users, where they are not this machine's.
    pub users: Option<BTreeMap<u32, String>>,
    /// Names of groups, where they are not this machine's.
    pub groups: Option<BTreeMap<u32, String>>,
}

/// What the processes run as decides: root is judged for `target` (a fresh user unless one is given), others by what they
/// are really refused, unless `target` names another user. One that is refused nothing, because it holds the
/// capabilities that override permissions, is in a permissive run.
///
/// # Errors
/// An unknown user or group, a malformed text, or root.
pub fn judge(
    main: &Facts,
    others: &[Facts],
    container: Option<&Container>,
    target: Option<&str>,
    groups: &[String],
) -> Result<Judged, Error> {
    let names = container.map(|_| Accounts::of(main.pid));
    let any_root = main.is_root() || others.iter().any(Facts::is_root);
    let own = own_identity(main, names.as_ref());
    let asked = match target {
        Some(text) => Some(named(text, groups, main, names.as_ref())?),
        None if any_root => Some(fresh(groups, main)?),
        None => None,
    };
    let differs = asked.as_ref().filter(|asked| {
        any_root
            || (asked.uid, asked.gid) != (own.uid, own.gid)
            || (!groups.is_empty() && asked.groups != own.groups)
    });
    let (mode, identity) = match differs {
        Some(asked) => (Mode::Observation, asked.clone()),
        None if main.overrides() => (Mode::Permissive, own),
        None => (Mode::Enforced, own),
    };
    let (users, group_names) = names.map_or((None, None), |names| (Some(names.users), Some(names.groups)));
    Ok(Judged {
        mode,
        on_host: on_host(&identity, main)?,
        identity,
        own_refusals: target.is_none(),
        users,
        groups: group_names,
    })
}

/// The accounts of a container.
struct Accounts {
    users: BTreeMap<u32, String>,
    /// Primary groups by user id.
    primary: BTreeMap<u32, u32>,
    groups: BTreeMap<u32, String>,
}

impl Accounts {
    fn of(pid: i32) -> Self {
        let passwd = process::file(pid, "/etc/passwd").unwrap_or_default();
        let mut primary = BTreeMap::new();
        for line in String::from_utf8_lossy(&passwd).lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [_, _, uid, gid, ..] = fields[..]
                && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
            {
                primary.entry(uid).or_insert(gid);
            }
        }
        let group = process::file(pid, "/etc/group").unwrap_or_default();
        Self { users: process::names(&passwd), primary, groups: process::names(&group) }
    }
}

fn number_of(names: &BTreeMap<u32, String>, text: &str) -> Option<u32> {
    text.parse().ok().or_else(|| names.iter().find(|(_, name)| *name == text).map(|(id, _)| *id))
}

/// The user that a text names: for a container among its own accounts.
fn named(text: &str, groups: &[String], main: &Facts, names: Option<&Accounts>) -> Result<Identity, Error> {
    let Some(names) = names else { return identity::resolve(Some(text), groups, &main.program()) };
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let unknown = |name: &str| Error::UnknownGroup { name: format!("{name} (in the container)") };
    let uid = number_of(&names.users, user)
        .ok_or_else(|| Error::UnknownUser { name: format!("{user} (in the container)") })?;
    let gid = match group {
        Some(group) => number_of(&names.groups, group).ok_or_else(|| unknown(group))?,
        None => names.primary.get(&uid).copied().unwrap_or(uid),
    };
    let groups: Result<Vec<u32>, Error> =
        groups.iter().map(|group| number_of(&names.groups, group).ok_or_else(|| unknown(group))).collect();
    // Checks that the numbers are ids, and no root's.
    let checked = identity::resolve(Some(&format!("{uid}:{gid}")), &[], &main.program())?;
    let mut groups = groups?;
    groups.sort_unstable();
    groups.dedup();
    Ok(Identity { groups, ..with_names(checked, Some(names), main) })
}

fn fresh(groups: &[String], main: &Facts) -> Result<Identity, Error> {
    let fresh = identity::resolve(None, groups, &main.program())?;
    let fits = |id: &u32| outside(&main.uid_map, *id).is_some() && outside(&main.gid_map, *id).is_some();
    let id = std::iter::once(fresh.uid).chain(CUSTOMARY).find(fits).unwrap_or(fresh.uid);
    Ok(Identity { uid: id, gid: id, ..fresh })
}

fn own_identity(main: &Facts, names: Option<&Accounts>) -> Identity {
    let uid = inside(&main.uid_map, main.uid).unwrap_or(main.uid);
    let gid = inside(&main.gid_map, main.gid).unwrap_or(main.gid);
    let mut groups: Vec<u32> =
        main.groups.iter().map(|group| inside(&main.gid_map, *group).unwrap_or(*group)).collect();
    groups.sort_unstable();
    groups.dedup();
    let bare = Identity { user: String::new(), group: String::new(), uid, gid, groups, exists: false };
    with_names(bare, names, main)
}

/// The identity with the names of its user and group, where they have some.
fn with_names(identity: Identity, names: Option<&Accounts>, main: &Facts) -> Identity {
    let (user, group) = match names {
        Some(names) => (names.users.get(&identity.uid).cloned(), names.groups.get(&identity.gid).cloned()),
        None => identity::names_of(identity.uid, identity.gid),
    };
    let exists = user.is_some();
    let user = user.unwrap_or_else(|| identity::name_for(&main.program()));
    let group = group.unwrap_or_else(|| user.clone());
    Identity { user, group, exists, ..identity }
}

fn on_host(identity: &Identity, main: &Facts) -> Result<Identity, Error> {
    let not_mapped = |id: u32| Error::NotMapped { id, pid: main.pid };
    let uid = outside(&main.uid_map, identity.uid).ok_or_else(|| not_mapped(identity.uid))?;
    let gid = outside(&main.gid_map, identity.gid).ok_or_else(|| not_mapped(identity.gid))?;
    let groups = identity.groups.iter().filter_map(|group| outside(&main.gid_map, *group)).collect();
    Ok(Identity { uid, gid, groups, ..identity.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nrtrace_profiles::container::IdRange;

    fn facts(uid: u32, capabilities: u64) -> Facts {
        let pid = std::process::id() as i32;
        Facts { pid, uid, gid: uid, capabilities, exe: Some("/usr/bin/app".into()), ..Facts::default() }
    }

    fn judged(main: &Facts, others: &[Facts], target: Option<&str>) -> Judged {
        judge(main, others, None, target, &[]).unwrap()
    }

    #[test]
    fn root_is_judged_for_a_fresh_user_and_others_by_their_refusals() {
        let all = u64::MAX;
        let root = judged(&facts(0, all), &[], None);
        assert_eq!((root.mode, root.own_refusals), (Mode::Observation, true));
        assert!(identity::FRESH_UIDS.contains(&root.identity.uid));
        let user = judged(&facts(54_321, 0), &[], None);
        assert_eq!((user.mode, user.identity.uid, user.identity.exists), (Mode::Enforced, 54_321, false));
        assert_eq!(user.identity.user, "app");
        // Who holds all capabilities is refused nothing, as in a permissive run.
        assert_eq!(judged(&facts(54_321, all), &[], None).mode, Mode::Permissive);
        // A worker of root's is no reason to believe that root is refused anything.
        assert_eq!(judged(&facts(54_321, 0), &[facts(0, all)], None).mode, Mode::Observation);
    }

    #[test]
    fn another_user_is_asked_for_only_when_it_differs() {
        let main = facts(54_321, 0);
        assert_eq!(judged(&main, &[], Some("54321")).mode, Mode::Enforced);
        let other = judged(&main, &[], Some("1234:99"));
        assert_eq!((other.mode, other.own_refusals), (Mode::Observation, false));
        assert_eq!((other.identity.uid, other.identity.gid), (1234, 99));
        assert!(matches!(judge(&main, &[], None, Some("root"), &[]), Err(Error::RootIdentity { .. })));
    }

    #[test]
    fn ids_are_those_of_the_user_namespace() {
        let map = vec![IdRange { inside: 0, outside: 100_000, length: 65_536 }];
        let mapped = |uid| Facts { uid_map: map.clone(), gid_map: map.clone(), ..facts(uid, 0) };
        let root = judged(&mapped(100_000), &[], None);
        assert_eq!(root.mode, Mode::Observation);
        assert_eq!(root.on_host.uid, root.identity.uid + 100_000);
        let user = judged(&mapped(101_000), &[], None);
        assert_eq!((user.identity.uid, user.on_host.uid), (1000, 101_000));
        let beyond = judge(&mapped(100_000), &[], None, Some("70000"), &[]);
        assert!(matches!(beyond, Err(Error::NotMapped { id: 70_000, .. })));
    }

    #[test]
    fn users_of_a_container_are_its_own() {
        let container = Container::default();
        let found =
            judge(&facts(0, u64::MAX), &[], Some(&container), Some("daemon:adm"), &["sys".into()]).unwrap();
        assert_eq!((found.identity.uid, found.identity.gid, found.identity.groups), (1, 4, vec![3]));
        assert_eq!((found.identity.user.as_str(), found.identity.exists), ("daemon", true));
        let unknown = judge(&facts(0, u64::MAX), &[], Some(&container), Some("no-such"), &[]);
        assert!(matches!(unknown, Err(Error::UnknownUser { .. })));
    }
}
