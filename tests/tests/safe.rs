//! Whatever a program needs, what is written for it takes nothing from others, opens nothing that others obey, and gives
//! the user what it needs and what the report says beyond that, and no more. The kernel judges.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use nrtrace_profiles::RawText;
use nrtrace_profiles::emit::{Format, Treatment, verdict};
use nrtrace_profiles::event::{FileType, Identity, Inode};
use nrtrace_profiles::grants::{Choices, Grants, Method, On, reach};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::{Access, Need, Requirement};
use nrtrace_profiles::ways::plan;
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

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

const SERVICE: u32 = 30_000;
const OTHERS: [(&str, u32); 3] = [("root", 0), ("alice", 30_001), ("www", 30_002)];
const STRANGER: u32 = 30_003;
/// The group that some files of a case belong to, from which its number counts.
const GROUPS: u32 = 40_000;

/// Where trees are: in the first, others run, load or obey what is there.
const OBEYED: [&str; 4] = ["/etc/other", "/usr/lib/other", "/opt/bin", "/var/spool/cron"];
const OPEN: [&str; 4] = ["/srv", "/var/lib", "/opt", "/var/log"];
const TREE: [&str; 7] = ["d0", "d0/f0", "d0/f1", "d0/d1", "d0/d1/f2", "d0/d2", "d0/d2/f3"];

struct Case {
    profile: Profile,
    grants: Grants,
    /// What is there beforehand, and the names that are made.
    there: BTreeMap<String, Inode>,
    made: BTreeSet<String>,
    obeyed: bool,
}

fn is_directory(path: &str) -> bool {
    path.rsplit('/').next().unwrap().starts_with('d')
}

fn tree(random: &mut Random, root: &str, group: (&str, u32)) -> BTreeMap<String, Inode> {
    let mut out: BTreeMap<String, Inode> = BTreeMap::new();
    for name in TREE {
        let directory = is_directory(name);
        // systemd-tmpfiles follows no way from one user to another, so what is in a user's directory is that user's.
        let holder: Option<&Inode> =
            name.rsplit_once('/').and_then(|(above, _)| out.get(&format!("{root}/{above}")));
        let owner = holder.and_then(|holder| OTHERS.iter().find(|(_, uid)| *uid != 0 && *uid == holder.uid));
        let (user, uid) = *owner.unwrap_or_else(|| random.one(&OTHERS));
        let modes: &[u32] =
            if directory { &[0o755, 0o700, 0o711, 0o750] } else { &[0o644, 0o600, 0o640, 0o755] };
        let of_group: &[u32] = if directory { &[0o750, 0o770] } else { &[0o640, 0o660] };
        let shared = random.below(3) == 0;
        let (modes, (group, gid)) = if shared { (of_group, group) } else { (modes, ("root", 0)) };
        let inode = Inode {
            file_type: if directory { FileType::Directory } else { FileType::File },
            mode: *random.one(modes),
            uid,
            user: Some(user.into()),
            gid,
            group: Some(group.into()),
            device: None,
        };
        out.insert(format!("{root}/{name}"), inode);
    }
    out
}

/// The needs of an access, as a recording shows them to a user that is no owner and in no group.
fn needs(there: &BTreeMap<String, Inode>, path: &str, access: Access) -> Vec<Requirement> {
    let mut out = Vec::new();
    let mut need = |path: &str, file_type, access: Access, at: &str, call: &str| {
        let access = BTreeSet::from([access]);
        let need = Need::Path { path: path.into(), file_type, access, pattern: false };
        let text = serde_json::json!({
            "id": need.id(), "need": need, "severity": "required", "basis": "kernel", "phase": "startup",
            "evidence": { "count": 1, "first": 0.0, "last": 0.0, "calls": [call], "processes": ["app"], "checks": [],
                "refused_at": at, "refused_inode": there[at], "outcomes": { "ok": 1 } },
        });
        out.push(serde_json::from_value::<Requirement>(text).unwrap());
    };
    let above = |path: &str| path.rsplit_once('/').unwrap().0.to_owned();
    let mut way = above(path);
    while let Some(inode) = there.get(&way) {
        if inode.mode & 1 == 0 {
            need(&way, FileType::Directory, Access::Search, &way, "openat");
        }
        way = above(&way);
    }
    let parent = above(path);
    match access {
        Access::Create if there[&parent].mode & 2 == 0 => {
            need(path, FileType::File, access, &parent, "openat")
        }
        Access::Delete if there[&parent].mode & 2 == 0 => {
            need(path, FileType::File, access, &parent, "unlink")
        }
        Access::Own => need(path, there[path].file_type, access, path, "chmod"),
        Access::Read | Access::Write if there[path].mode & Access::bits(&[access]) == 0 => {
            need(path, there[path].file_type, access, path, "openat");
        }
        _ => {}
    }
    out
}

fn case(number: u64, empty: &Profile) -> Case {
    let mut random = Random(number);
    let obeyed = random.below(3) == 0;
    let place = if obeyed { random.one(&OBEYED) } else { random.one(&OPEN) };
    let root = format!("{place}/c{number}");
    let there = tree(&mut random, &root, (&format!("g{number}"), GROUPS + number as u32));
    let (mut found, mut made) = (BTreeMap::new(), BTreeSet::new());
    for _ in 0..1 + random.below(4) {
        let name = format!("{root}/{}", random.one(&TREE));
        let (path, access) = match (random.below(6), is_directory(&name)) {
            (0 | 1, false) => (name, Access::Read),
            (2, false) => (name, Access::Write),
            (3, _) => (name, Access::Own),
            (4, false) => (name, Access::Delete),
            (0, true) => (name, Access::Read),
            (_, true) => (format!("{name}/fn"), Access::Create),
            (_, false) => (name, Access::Read),
        };
        if access == Access::Create {
            made.insert(path.clone());
        }
        for need in needs(&there, &path, access) {
            let known: &mut Requirement = found.entry(need.id.clone()).or_insert_with(|| need.clone());
            if let (Need::Path { access: known, .. }, Need::Path { access, .. }) =
                (&mut known.need, need.need)
            {
                known.extend(access);
            }
        }
    }
    let profile = Profile { requirements: found.into_values().collect(), ..empty.clone() };
    let prefer = match random.below(5) {
        2 => vec![Method::Group],
        0 => vec![Method::Own],
        1 => vec![Method::Acl],
        _ => vec![],
    };
    let grants = plan(&profile, &Choices { prefer, ..Choices::default() });
    Case { profile, grants, there, made, obeyed }
}

/// What the user may do with a path afterwards: what it could, its needs, and what is said beyond them.
fn allowed(case: &Case, path: &str, before: &str) -> BTreeSet<char> {
    let mut out: BTreeSet<char> = before.chars().collect();
    let raw = RawText::from(path);
    let mut bits = 0;
    for requirement in &case.profile.requirements {
        let Need::Path { path: needed, access, .. } = &requirement.need else { continue };
        if *needed == raw {
            bits |= Access::bits(access);
            if access.contains(&Access::Create) {
                bits |= 6;
            }
        }
        let changes = access.contains(&Access::Create) || access.contains(&Access::Delete);
        if changes && requirement.evidence.refused_at.as_ref() == Some(&raw) {
            bits |= 3;
        }
    }
    let holder = RawText::from(path.rsplit_once('/').unwrap().0);
    let under = |directory: &RawText| path.starts_with(&format!("{directory}/"));
    let inode = case.there.get(path);
    let joined = |inode: &&Inode| case.grants.groups.values().any(|group| group.gid == inode.gid);
    if let Some(inode) = inode.filter(joined) {
        bits |= inode.mode >> 3 & 7;
    }
    // What is open to everybody below what a group opens is open to its members.
    if !case.grants.groups.is_empty() {
        bits |= inode.map_or(0, |inode| inode.mode & 7);
    }
    let holder_is_shared = case.there.get(holder.as_str().unwrap()).filter(joined);
    if holder_is_shared.is_some_and(|inode| inode.mode & 0o020 != 0) {
        out.insert('d');
    }
    for more in reach(&case.profile, &case.grants) {
        match more.on {
            On::Itself(at, gained) if at == raw => bits |= gained,
            On::Entries(at) if at == holder => drop(out.insert('d')),
            On::Open(at) if under(&at) => bits |= inode.map_or(0, |inode| inode.mode & 7),
            _ => {}
        }
    }
    out.extend(
        [(4, 'r'), (2, 'w'), (1, 'x')].iter().filter(|(bit, _)| bits & bit != 0).map(|(_, letter)| *letter),
    );
    out
}

/// Whether the user can do with a path what a need that the plan says is granted takes; `None` where that is not said.
fn gains(case: &Case, need: &Requirement, after: &BTreeMap<String, String>) -> Option<bool> {
    let granted = |need: &&Requirement| verdict(&case.grants, need) == Treatment::Granted;
    let Need::Path { path, access, .. } = &need.need else { return None };
    let path = path.as_str()?;
    let on_the_way = |other: &&Requirement| {
        let above =
            other.id.strip_prefix("path:").is_some_and(|above| path.starts_with(&format!("{above}/")));
        above || other.id == need.id
    };
    if !case.profile.requirements.iter().filter(on_the_way).all(|need| granted(&need)) {
        return None;
    }
    let can = |path: &str, letter| after.get(path).is_some_and(|can| can.contains(letter));
    let holder = path.rsplit_once('/')?.0;
    let makes = access.contains(&Access::Create);
    Some(access.iter().all(|access| match access {
        Access::Read => can(path, 'r'),
        Access::Write => can(path, 'w'),
        Access::Search => can(path, 'x'),
        Access::Create => can(path, 'w') || can(holder, 'w'),
        // What is made beforehand cannot be removed, as its reason says.
        Access::Delete => makes || can(path, 'd'),
        _ => true,
    }))
}

/// A profile without needs, of a program whose user is there.
fn empty() -> Profile {
    let text = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../profiles/testdata/nginx/profile.json"
    ));
    let mut empty: Profile = serde_json::from_str(&text.unwrap()).unwrap();
    empty.requirements.clear();
    empty.name = "app".into();
    empty.executable = Some("/usr/sbin/app".into());
    empty.identity = Identity {
        user: "app".into(),
        group: "app".into(),
        uid: SERVICE,
        gid: SERVICE,
        groups: vec![],
        exists: true,
    };
    empty
}

/// What users can do with paths, before and after.
type Looks = BTreeMap<u32, (BTreeMap<String, String>, BTreeMap<String, String>)>;

/// Checks one case; how often the user gained something, and how much was looked at.
fn judge(case: &Case, looks: &Looks) -> (usize, usize) {
    let (mut gained, mut checked) = (0, 0);
    for path in case.there.keys().chain(&case.made) {
        for (uid, (before, after)) in looks {
            let (before, after) = (&before[path], &after[path]);
            let told = || format!("{path} for {uid}: {before:?} before, {after:?} after: {:#?}", case.grants);
            checked += 1;
            if *uid != SERVICE {
                assert!(before.chars().all(|letter| after.contains(letter)), "lost: {}", told());
                continue;
            }
            gained += usize::from(before != after);
            let may = allowed(case, path, before);
            assert!(
                after.chars().all(|letter| may.contains(&letter)),
                "more than is said ({may:?}): {}",
                told()
            );
            let writes = |text: &str| text.contains('w') || text.contains('d');
            // What else a group may that was joined for something else, a profile cannot know; the report says so.
            let by_group = [path, path.rsplit_once('/').unwrap().0].iter().any(|path| {
                let raw = RawText::from(*path);
                let at = |need: &Requirement| need.evidence.refused_at.as_ref() == Some(&raw);
                let seen = case.profile.requirements.iter().any(at);
                let gid = case.there.get(*path).map(|inode| inode.gid);
                !seen && case.grants.groups.values().any(|group| Some(group.gid) == gid)
            });
            let opened = case.obeyed && writes(after) && !writes(before) && !by_group;
            assert!(!opened, "others obey it: {}", told());
        }
    }
    for need in &case.profile.requirements {
        let met = gains(case, need, &looks[&SERVICE].1);
        assert!(met != Some(false), "said to be granted, and is not: {}: {:#?}", need.id, case.grants);
    }
    (gained, checked)
}

const CASES: u64 = 1000;

#[test]
fn nobody_loses_nothing_obeyed_is_opened_and_the_user_gains_what_is_said() {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(400));
    let empty = empty();
    let cases: Vec<Case> = (0..CASES).map(|number| case(number, &empty)).collect();
    let (mut make, mut lines, mut paths) = (String::new(), String::new(), String::new());
    for case in &cases {
        for (path, inode) in &case.there {
            let (uid, gid, mode) = (inode.uid, inode.gid, inode.mode);
            let made = if is_directory(path) { "mkdir -p" } else { ":>" };
            writeln!(make, "{made} {path}; chown {uid}:{gid} {path}; chmod {mode:o} {path}").unwrap();
            writeln!(paths, "{path}").unwrap();
        }
        case.made.iter().for_each(|path| writeln!(paths, "{path}").unwrap());
        lines.push_str(&Format::Tmpfiles.emit(&case.profile, &case.grants).text);
    }
    let write = |name: &str, text: &str| std::fs::write(sandbox.out().join(name), text).unwrap();
    write("make", &make);
    write("paths", &paths);
    write("t.conf", &lines);
    let users: Vec<u32> =
        OTHERS.iter().map(|(_, uid)| *uid).filter(|uid| *uid != 0).chain([SERVICE, STRANGER]).collect();
    let all: Vec<String> = users.iter().map(u32::to_string).collect();
    let groups: String = (0..CASES).map(|n| format!("g{n}:x:{}:\n", u64::from(GROUPS) + n)).collect();
    write("groups", &groups);
    let joined: BTreeSet<String> = cases
        .iter()
        .flat_map(|case| case.grants.groups.values().map(|group| group.gid.to_string()))
        .collect();
    let joined = joined.into_iter().collect::<Vec<_>>().join(",");
    let script = format!(
        "umask 022\nfor user in app:{SERVICE} alice:30001 www:30002; do\n\
         echo \"${{user%:*}}:x:${{user#*:}}:${{user#*:}}::/nonexistent:/bin/false\" >>/etc/passwd; echo \"${{user%:*}}:x:${{user#*:}}:\" >>/etc/group; done\n\
         cat {OUT}/groups >>/etc/group\n. {OUT}/make\n\
         look() {{ for uid in {}; do groups=--clear-groups; [ $uid.$1 = {SERVICE}.after ] && groups=--groups={joined}\n\
         xargs -n 4000 setpriv --reuid=$uid --regid=$uid $groups --inh-caps=-all {BIN}/fixture reach <{OUT}/paths >{OUT}/$1.$uid; done; }}\n\
         look before\nsystemd-tmpfiles --create {OUT}/t.conf 2>{OUT}/log || test $? = 73\nlook after\n",
        all.join(" ")
    );
    sandbox.script(&script).unwrap().ok().unwrap();
    let log = std::fs::read_to_string(sandbox.out().join("log")).unwrap();
    // What cannot be applied is not to be written: no way leads from the user to somebody else's.
    if let Some(line) = log.lines().find(|line| line.contains("unsafe path transition")) {
        let number = line.split("/c").filter_map(|part| part.split('/').next()?.parse::<usize>().ok()).next();
        panic!("{line}: {:#?}", number.and_then(|number| cases.get(number)).map(|case| &case.grants));
    }
    let found = |when: &str, uid: u32| -> BTreeMap<String, String> {
        let text = std::fs::read_to_string(sandbox.out().join(format!("{when}.{uid}"))).unwrap();
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(can, path)| (path.into(), can.replace('-', "")))
            .collect()
    };
    let looks: Looks =
        users.iter().map(|uid| (*uid, (found("before", *uid), found("after", *uid)))).collect();
    let (mut gained, mut checked) = (0, 0);
    for case in &cases {
        let (more, looked) = judge(case, &looks);
        (gained, checked) = (gained + more, checked + looked);
    }
    assert!(gained > 500 && checked > 20_000, "{gained} of {checked}");
}
