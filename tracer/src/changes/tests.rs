//! Random trees, random profiles, applied and taken back in random order and interrupted anywhere: in the end the tree is as
//! it was, and nothing outside of it was ever touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nrtrace_profiles::RawText;
use nrtrace_profiles::changes::{Action, Change, Changes, Make, SCHEMA};
use proptest::prelude::*;
use rustix::fs::{XattrFlags, lgetxattr, setxattr};

use super::{Error, Job, Selection};
use crate::acl::{ACCESS, Acl, Tag};

const USERS: [&str; 3] = ["daemon", "bin", "www-data"];

fn text(path: &Path) -> RawText {
    RawText::new(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))
}

/// All that there is to know of a tree.
type Snapshot = BTreeMap<PathBuf, (u32, u32, u32, u64, Vec<u8>, Vec<Vec<u8>>)>;

fn snapshot(root: &Path) -> Snapshot {
    let mut out = Snapshot::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let facts = path.symlink_metadata().unwrap();
        let content = if facts.is_file() {
            fs::read(&path).unwrap()
        } else if facts.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else {
            let names = fs::read_dir(&path).into_iter().flatten();
            todo.extend(names.map(|entry| entry.unwrap().path()));
            Vec::new()
        };
        let attributes = [ACCESS, "security.capability"].map(|name| {
            let mut value = [0; 1024];
            lgetxattr(&path, name, &mut value).map(|length| value[..length].to_vec()).unwrap_or_default()
        });
        let links = if facts.is_dir() { 0 } else { facts.nlink() };
        out.insert(path, (facts.mode(), facts.uid(), facts.gid(), links, content, attributes.into()));
    }
    out
}

/// Something of a tree: in which of the directories before it, what, whose, its mode, and what else it has.
#[derive(Clone, Debug)]
struct Item {
    parent: usize,
    kind: u8,
    owner: usize,
    mode: u32,
    more: u8,
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let item = (
        0_usize..8,
        0_u8..7,
        0_usize..4,
        prop::sample::select(&[0o700, 0o755, 0o2775, 0o640, 0o600, 0o4755, 0o777][..]),
        0_u8..6,
    )
        .prop_map(|(parent, kind, owner, mode, more)| Item { parent, kind, owner, mode, more });
    prop::collection::vec(item, 1..14)
}

/// Builds a tree; what is in it, by what it is.
fn build(root: &Path, outside: &Path, items: &[Item]) -> Vec<PathBuf> {
    let mut directories = vec![root.to_owned()];
    let mut all = Vec::new();
    for (n, item) in items.iter().enumerate() {
        let path = directories[item.parent % directories.len()].join(format!("n{n}"));
        match item.kind {
            0..=2 => fs::create_dir(&path).unwrap(),
            3 | 4 => fs::write(&path, format!("content {n}")).unwrap(),
            5 => symlink(outside.join("canary"), &path).unwrap(),
            _ => fs::hard_link(outside.join("linked"), &path).unwrap(),
        }
        all.push(path.clone());
        if item.kind > 4 {
            continue;
        }
        let uid = [0, 1, 2, 33][item.owner];
        lchown(&path, Some(uid), Some(uid)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(item.mode)).unwrap();
        if item.more == 1 {
            let mut acl = Acl::from_mode(item.mode);
            acl.set(Tag::User(7), 7);
            acl.set(Tag::Mask, 4);
            setxattr(&path, ACCESS, &acl.encode(), XattrFlags::empty()).unwrap();
        }
        if item.kind > 2 && item.more == 2 {
            let value = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            setxattr(&path, "security.capability", &value, XattrFlags::empty()).unwrap();
        }
        if item.kind <= 2 {
            directories.push(path);
        }
    }
    all
}

/// What a profile does with something of the tree, or with a new name in it.
type Wish = (usize, u8, bool, u32);

fn changes(user: &str, wishes: &[Wish], all: &[PathBuf], root: &Path) -> Changes {
    let action = |(at, kind, new, mode): &Wish| {
        let mut path = all.get(at % (all.len() + 1)).cloned().unwrap_or_else(|| root.to_owned());
        if *new {
            path = path.join(format!("new{kind}")).join("below");
        }
        let (path, mode, group) = (text(&path), *mode, None);
        match kind {
            0 => Action::Directory { path, mode, group },
            1 => Action::File {
                path,
                make: Make::Regular,
                mode: Some(mode),
                group,
                existed: !new,
                owned: true,
            },
            2 => Action::File { path, make: Make::Nothing, mode: None, group, existed: true, owned: true },
            3 => {
                Action::File { path, make: Make::Fifo, mode: Some(mode), group, existed: false, owned: true }
            }
            4 => Action::Acl { path, bits: mode >> 6 & 7 },
            _ => Action::FileCapabilities {
                path: Some(path),
                capabilities: BTreeSet::from(["CAP_NET_BIND_SERVICE".parse().unwrap()]),
            },
        }
    };
    let change = |wish| Change { needs: BTreeSet::new(), reason: String::new(), action: action(wish) };
    Changes {
        schema: SCHEMA.into(),
        name: "x".into(),
        program: "/x".into(),
        user: user.into(),
        uid: None,
        group: user.into(),
        gid: None,
        changes: wishes.iter().map(change).collect(),
        file_capabilities: Vec::new(),
        on_file: false,
    }
}

/// Applies or undoes, until it is killed after so many steps.
fn act(changes: &Changes, state: &Path, undo: bool, steps: usize) -> Result<(), Error> {
    let mut left = steps;
    let mut step = || {
        left = left.checked_sub(1).ok_or(Error::Interrupted)?;
        Ok(())
    };
    let job = Job::open(changes, Selection::default(), state, &mut step)?;
    if undo { job.undo().map(drop) } else { job.apply().map(drop) }
}

struct World {
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["tree", "outside"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        for name in ["canary", "linked"] {
            fs::write(directory.path().join("outside").join(name), name).unwrap();
            let closed = fs::Permissions::from_mode(0o600);
            fs::set_permissions(directory.path().join("outside").join(name), closed).unwrap();
        }
        Self { directory }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn wishes() -> impl Strategy<Value = Vec<Vec<Wish>>> {
    let wish =
        (0_usize..16, 0_u8..6, any::<bool>(), prop::sample::select(&[0o700, 0o750, 0o600, 0o640, 0o400][..]));
    prop::collection::vec(prop::collection::vec(wish, 1..6), 2..5)
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("CASES").map_or(256, |n| n.parse().unwrap()), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_is_as_it_was(
        items in items(),
        wishes in wishes(),
        acts in prop::collection::vec((0_usize..5, any::<bool>(), 0_usize..12), 1..12),
    ) {
        if !is_root() {
            return Ok(());
        }
        let world = World::new();
        let (tree, state) = (world.at("tree"), world.at("state"));
        let all = build(&tree, &world.at("outside"), &items);
        let before = (snapshot(&tree), snapshot(&world.at("outside")));
        let of = |n: usize| changes(USERS[n % USERS.len()], &wishes[n], &all, &tree);
        for (which, undo, steps) in acts {
            let now = snapshot(&tree);
            match act(&of(which % wishes.len()), &state, undo, steps) {
                Ok(()) | Err(Error::Interrupted | Error::Stuck(_)) => {}
                Err(Error::Refused(_) | Error::NothingToUndo { .. }) => prop_assert_eq!(now, snapshot(&tree)),
                Err(error) => prop_assert!(false, "{}", error),
            }
            prop_assert_eq!(&before.1, &snapshot(&world.at("outside")));
        }
        // The last first, as somebody would; the order does not matter.
        for n in (0..wishes.len()).rev() {
            match act(&of(n), &state, true, usize::MAX) {
                Ok(()) | Err(Error::NothingToUndo { .. }) => {}
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
        prop_assert_eq!(&before.0, &snapshot(&tree));
        prop_assert_eq!(&before.1, &snapshot(&world.at("outside")));
        prop_assert!(!state.exists());
    }

    /// A service that puts links to what it may not touch in place of what it was given gains nothing by that.
    #[test]
    fn nothing_outside_is_touched(
        items in items(),
        wishes in wishes(),
        acts in prop::collection::vec((0_usize..5, 0_u8..3, 0_usize..16, 0_u8..4), 1..16),
    ) {
        if !is_root() {
            return Ok(());
        }
        let world = World::new();
        let (tree, state, outside) = (world.at("tree"), world.at("state"), world.at("outside"));
        let all = build(&tree, &outside, &items);
        let links = |snapshot: &Snapshot| {
            let mut out = snapshot.clone();
            out.values_mut().for_each(|facts| facts.3 = 0);
            out
        };
        let before = links(&snapshot(&outside));
        for (which, what, at, how) in acts {
            let changes = changes(USERS[which % USERS.len()], &wishes[which % wishes.len()], &all, &tree);
            match what {
                0 => drop(act(&changes, &state, false, usize::MAX)),
                1 => drop(act(&changes, &state, true, usize::MAX)),
                _ => plant(&all[at % all.len()], &outside, how, at),
            }
            prop_assert_eq!(&before, &links(&snapshot(&outside)));
        }
    }
}

/// What a service that owns the directory could do to a name in it.
fn plant(path: &Path, outside: &Path, how: u8, n: usize) {
    let aside = path.with_file_name(format!("aside{n}"));
    let here = path.parent().and_then(|parent| parent.canonicalize().ok());
    let is_there = here.is_some_and(|here| here.is_dir() && Some(here.as_path()) == path.parent());
    if !is_there || aside.symlink_metadata().is_ok() {
        return;
    }
    if path.symlink_metadata().is_ok() {
        fs::rename(path, aside).unwrap();
    }
    match how {
        0 => symlink(outside.join("canary"), path).unwrap(),
        1 => symlink(outside, path).unwrap(),
        2 => fs::hard_link(outside.join("linked"), path).unwrap(),
        _ => fs::create_dir(path).unwrap(),
    }
}

#[test]
fn one_profile_of_a_program_follows_another() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let (tree, state) = (world.at("tree"), world.at("state"));
    let root = Item { parent: 0, kind: 3, owner: 0, mode: 0o600, more: 0 };
    let all = build(&tree, &world.at("outside"), &[root.clone(), root]);
    let before = snapshot(&tree);
    let first = changes("daemon", &[(0, 1, false, 0o640), (1, 1, false, 0o640)], &all, &tree);
    let second = changes("daemon", &[(1, 1, false, 0o600)], &all, &tree);
    act(&first, &state, false, usize::MAX).unwrap();
    act(&second, &state, false, usize::MAX).unwrap();
    assert_eq!(fs::metadata(&all[0]).unwrap().uid(), 0, "no longer wanted");
    assert_eq!(fs::metadata(&all[1]).unwrap().mode() & 0o777, 0o600);
    // Another program's user cannot have what this one has.
    let other = changes("bin", &[(1, 1, false, 0o600)], &all, &tree);
    let refused = act(&other, &state, false, usize::MAX).unwrap_err();
    assert!(matches!(refused, Error::Refused(_)), "{refused}");
    act(&second, &state, true, usize::MAX).unwrap();
    assert_eq!(before, snapshot(&tree));
    assert!(matches!(act(&second, &state, true, usize::MAX), Err(Error::NothingToUndo { .. })));
}

#[test]
fn what_was_just_made_again_when_it_was_killed_is_taken_back() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let (tree, state) = (world.at("tree"), world.at("state"));
    let before = snapshot(&tree);
    // Whom the ACL lets in could put something there, too.
    let changes = changes("daemon", &[(0, 4, false, 0o700), (0, 0, true, 0o700)], &[], &tree);
    act(&changes, &state, false, usize::MAX).unwrap();
    let below = tree.join("new0").join("below");
    let number_in_use = fs::File::open(&below).unwrap();
    assert!(matches!(act(&changes, &state, true, 1), Err(Error::Interrupted)));
    assert!(!below.exists());
    assert!(matches!(act(&changes, &state, false, 0), Err(Error::Interrupted)));
    fs::create_dir(&below).unwrap();
    act(&changes, &state, true, usize::MAX).unwrap();
    assert_eq!(before, snapshot(&tree));
    drop(number_in_use);
}

#[test]
fn the_state_of_an_older_version_is_not_mixed_up() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("nginx")).unwrap();
    let error = act(&changes("daemon", &[], &[], Path::new("/x")), directory.path(), false, 0).unwrap_err();
    assert!(error.to_string().contains("older nrtrace kept nginx"), "{error}");
    fs::remove_dir(directory.path().join("nginx")).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = act(&changes("daemon", &[], &[], Path::new("/x")), directory.path(), false, 0).unwrap_err();
    assert!(error.to_string().contains("cannot be trusted"), "{error}");
}
