//! `nrtrace plan`: after its files are applied, the kernel grants each component exactly what it does, and nobody else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use nrtrace_profiles::RawText;
use nrtrace_profiles::accesses::FileAccess;
use nrtrace_profiles::event::FileType;
use nrtrace_profiles::glob::Pattern;
use nrtrace_profiles::plan::{Arrangement, Component, Grouping, Options, Owner, Owners, emit, plan};
use nrtrace_profiles::requirement::Access;
use nrtrace_tests::sandbox::{BIN, OUT, Sandbox};

/// Numbers that look random and are the same every time (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// Components that do this and that with the files of a small tree.
fn matrix(seed: u64, root: &str) -> (Vec<Component>, Vec<String>) {
    let mut random = Random(seed);
    let directories = ["d0", "d0/d1", "d2"];
    let files = ["d0/f0", "d0/f1", "d0/d1/f2", "d0/d1/f3", "d2/f4", "d2/f5"];
    let path = |name: &&str| format!("{root}/{name}");
    let count = 2 + random.below(4) as usize;
    let mut components = Vec::new();
    for index in 0..count {
        let mut done = Vec::new();
        for name in &directories {
            let what: &[Access] = match random.below(12) {
                0 => &[Access::Read],
                1 => &[Access::Write],
                2 => &[Access::Search],
                _ => &[],
            };
            done.push((path(name), FileType::Directory, what));
        }
        for name in &files {
            let what: &[Access] = match random.below(9) {
                0 | 1 => &[Access::Read],
                2 => &[Access::Write],
                3 => &[Access::Read, Access::Write],
                4 if random.below(3) == 0 => &[Access::Delete],
                _ => &[],
            };
            done.push((path(name), FileType::File, what));
        }
        let used = done.into_iter().filter(|(_, _, what)| !what.is_empty());
        let files = used.map(|(path, file_type, what)| FileAccess {
            path: RawText::from(path.as_str()),
            file_type,
            access: what.iter().copied().collect(),
            inode: None,
        });
        components.push(Component {
            name: format!("c{index}"),
            files: files.collect(),
            ..Component::default()
        });
    }
    let all = directories.iter().chain(&files).map(path).collect();
    (components, all)
}

/// What a component must be able to do with a path, in the letters of the fixture.
fn expected(
    arrangement: &Arrangement,
    component: Option<usize>,
    path: &str,
    components: &[Component],
) -> String {
    let directory = path.rsplit('/').next().unwrap().starts_with('d');
    let raw = RawText::from(path);
    let (Some(component), Some(entry)) = (component, arrangement.entries.get(&raw)) else {
        // Nobody but root; and what nobody uses can still be removed by who writes in its directory.
        return removal(arrangement, component, path, Owner::Root, components);
    };
    let surplus = arrangement.surplus.iter().filter(|s| s.component == component && s.path == raw);
    let more = surplus.fold(0, |bits, s| bits | s.bits);
    let bits = entry.uses.get(&component).copied().unwrap_or(0) | more;
    let mut letters: String = [(4, 'r'), (2, 'w'), (1, 'x')]
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, letter)| letter)
        .collect();
    if !directory {
        letters
            .push_str(removal(arrangement, Some(component), path, entry.owner, components).trim_matches('-'));
    }
    if letters.is_empty() { "-".into() } else { letters }
}

/// `d` for who may remove it: who writes in its directory and does remove it, owns it, or is told of as surplus.
fn removal(
    arrangement: &Arrangement,
    component: Option<usize>,
    path: &str,
    owner: Owner,
    components: &[Component],
) -> String {
    let (parent, name) = path.rsplit_once('/').unwrap();
    let Some(component) = component.filter(|_| name.starts_with('f')) else { return "-".into() };
    let holder = arrangement.entries.get(&RawText::from(parent));
    let writes = holder.is_some_and(|entry| entry.uses.get(&component).is_some_and(|bits| bits & 2 != 0));
    let raw = RawText::from(path);
    let does =
        components[component].files.iter().any(|f| f.path == raw && f.access.contains(&Access::Delete));
    let told = arrangement.surplus.iter().any(|s| s.component == component && s.path == raw && s.bits == 0);
    // Where one removes what is not its own, a conflict tells that the directory cannot be sticky.
    let open = holder.is_some_and(|entry| entry.mode & 0o1000 == 0);
    let untouched = !arrangement.entries.contains_key(&raw);
    let can = does || told || owner == Owner::Component(component) || (open && untouched);
    if writes && can { "d".into() } else { "-".into() }
}

fn options(prefix: &str, root: &str, owners: Owners, taken: &BTreeSet<u32>) -> Options {
    Options {
        prefix: prefix.into(),
        uids: 101..=999,
        gids: 101..=999,
        taken_uids: taken.clone(),
        taken_gids: taken.clone(),
        given: BTreeMap::new(),
        owners,
        grouping: Grouping::Set,
        paths: vec![Pattern::new(&RawText::from(format!("{root}/**").as_str())).unwrap()],
    }
}

/// Ids of this machine.
fn taken() -> BTreeSet<u32> {
    let ids = |file: &str| std::fs::read_to_string(file).unwrap();
    let text = ids("/etc/passwd") + &ids("/etc/group");
    text.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect()
}

const MATRICES: u64 = 24;

#[test]
fn the_kernel_grants_exactly_what_was_planned() {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(300));
    let mut taken = taken();
    let mut script = format!("mkdir -p {OUT}/found\n");
    let mut cases = Vec::new();
    for number in 0..MATRICES {
        let (root, prefix) = (format!("/srv/m{number}"), format!("m{number}-"));
        let (components, paths) = matrix(number, &root);
        let owners = if number % 2 == 0 { Owners::Root } else { Owners::Component };
        let arrangement = plan(&components, &options(&prefix, &root, owners, &taken)).unwrap();
        taken.extend(arrangement.users.iter().flat_map(|user| [user.uid, user.gid]));
        taken.extend(arrangement.groups.iter().map(|group| group.gid));
        let write = |name: String, text: String| std::fs::write(sandbox.out().join(name), text).unwrap();
        write(format!("u{number}.conf"), emit::sysusers(&arrangement, "plan"));
        write(format!("t{number}.conf"), emit::tmpfiles(&arrangement, "plan"));
        let all = paths.join(" ");
        let directories: Vec<&String> = paths.iter().filter(|path| is_directory(path)).collect();
        let files: Vec<&String> = paths.iter().filter(|path| !is_directory(path)).collect();
        for directory in directories {
            writeln!(script, "install -d -m 700 {directory}").unwrap();
        }
        for file in files {
            writeln!(script, "install -m 600 /dev/null {file}").unwrap();
        }
        writeln!(script, "chmod 755 {root}; systemd-sysusers {OUT}/u{number}.conf; systemd-tmpfiles --create {OUT}/t{number}.conf").unwrap();
        for user in &arrangement.users {
            writeln!(
                script,
                "setpriv --reuid={0} --regid={0} --init-groups --inh-caps=-all {BIN}/fixture reach {all} >{OUT}/found/{0}",
                user.name
            )
            .unwrap();
        }
        writeln!(
            script,
            "setpriv --reuid=61190 --regid=61190 --clear-groups --inh-caps=-all {BIN}/fixture reach {all} >{OUT}/found/{prefix}stranger"
        )
        .unwrap();
        cases.push((arrangement, components, paths, prefix));
    }
    let log = sandbox.script(&script).unwrap().ok().unwrap().to_string();
    assert!(!log.contains("unsafe path transition"), "{log}");
    let mut shared = 0;
    for (arrangement, components, paths, prefix) in &cases {
        shared += arrangement.groups.len();
        let users =
            arrangement.users.iter().enumerate().map(|(index, user)| (Some(index), user.name.clone()));
        for (component, name) in users.chain([(None, format!("{prefix}stranger"))]) {
            let found = std::fs::read_to_string(sandbox.out().join("found").join(&name)).unwrap();
            let wanted: Vec<String> = paths
                .iter()
                .map(|path| format!("{} {path}", expected(arrangement, component, path, components)))
                .collect();
            let found: Vec<&str> = found.lines().collect();
            assert_eq!(found, wanted, "{name}: {}\n{log}", emit::markdown(arrangement, "plan"));
        }
    }
    assert!(shared > 20, "the matrices share too little: {shared} groups");
}

fn is_directory(path: &str) -> bool {
    path.rsplit('/').next().unwrap().starts_with('d')
}
