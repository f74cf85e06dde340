//! What is granted for profiles of known services.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod samples;

use nrtrace_profiles::emit::{Treatment, done};
use nrtrace_profiles::event::{FileType, Protocol};
use nrtrace_profiles::grants::{FileKind, Grants};
use nrtrace_profiles::profile::Listen;
use nrtrace_profiles::requirement::{Access, IdentityOperation, KernelOperation, Limit, Need, Severity};
use nrtrace_profiles::ways::grants;
use nrtrace_profiles::{Capability, RawText};
use proptest::prelude::*;
use samples::*;

/// The plan in one line for each grant, as a person would note it.
fn outline(grants: &Grants) -> Vec<String> {
    let group = |group: &Option<String>| group.clone().unwrap_or_else(|| "own".into());
    let mut out = Vec::new();
    for (path, d) in &grants.directories {
        out.push(format!("d {path} {:o} {}", d.mode, group(&d.group)));
    }
    for (path, file) in &grants.files {
        let letter = match file.kind {
            FileKind::Regular => "f",
            FileKind::Fifo => "p",
            FileKind::Existing | FileKind::Attribute => "z",
        };
        out.push(format!("{letter} {path} {:o} {}", file.mode.unwrap_or(0), group(&file.group)));
    }
    out.extend(grants.acls.iter().map(|(path, acl)| format!("a {path} {}", acl.text())));
    out.extend(grants.groups.keys().map(|group| format!("g {group}")));
    out.extend(grants.capabilities.keys().map(ToString::to_string));
    out.extend(grants.unmet.iter().map(|unmet| format!("unmet {}", unmet.need)));
    out
}

fn check(profile: &nrtrace_profiles::profile::Profile, expected: &[&str]) {
    assert_eq!(outline(&grants(profile)), expected);
}

#[test]
fn nginx_gets_its_directories_its_logs_its_pid_file_and_its_port() {
    check(
        &nginx(),
        &[
            "d /var/lib/nginx/body 700 own",
            "d /var/lib/nginx/fastcgi 700 own",
            "d /var/lib/nginx/proxy 700 own",
            "d /var/lib/nginx/scgi 700 own",
            "d /var/lib/nginx/uwsgi 700 own",
            "f /run/nginx.pid 640 own",
            "f /var/log/nginx/access.log 640 adm",
            "f /var/log/nginx/error.log 640 adm",
            "CAP_NET_BIND_SERVICE",
        ],
    );
}

#[test]
fn one_directory_in_a_package_directory_is_made_by_itself() {
    let mut profile = nginx();
    profile.requirements.retain(|r| r.id == "path:/var/lib/nginx/body");
    check(&profile, &["d /var/lib/nginx/body 700 own"]);
}

#[test]
fn redis_reads_its_configuration_through_its_group_and_owns_its_state() {
    check(
        &redis(),
        &[
            "d /run/redis 700 own",
            "d /var/lib/redis 750 redis",
            "d /var/log/redis 2750 adm",
            "f /var/lib/redis/dump.rdb 660 redis",
            "g redis",
        ],
    );
    let tips: Vec<String> = grants(&redis()).present_owners.keys().cloned().collect();
    assert_eq!(tips, ["redis"]);
}

#[test]
fn etcd_owns_its_data_directory() {
    check(&etcd(), &["d /var/lib/etcd 700 etcd"]);
}

#[test]
fn a_key_is_read_through_its_group_or_an_acl() {
    check(&tls(), &["a /etc/tlsd.key r--", "g ssl-cert"]);
    let membership = &grants(&tls()).groups["ssl-cert"];
    assert!(membership.why.needs.contains("path:/etc/ssl/private"));
    assert!(membership.why.needs.contains("path:/etc/ssl/private/host.key"));
    assert!(membership.caution.is_some());
}

#[test]
fn a_file_that_is_to_be_owned_changes_hands_and_no_copy_stands_in_for_it() {
    let conf = "/etc/watcher/conf";
    let need = |access: &[Access]| {
        path(conf, FileType::File, access, (conf, inode(FileType::File, ROOT, ROOT, 0o600)))
    };
    let watcher = |access: &[Access]| profile("watcher", &["/usr/sbin/watcher"], vec![need(access)]);
    check(&watcher(&[Access::Read]), &["a /etc/watcher/conf r--"]);
    let owned = watcher(&[Access::Read, Access::Own]);
    check(&owned, &["f /etc/watcher/conf 600 root"]);
    assert!(grants(&owned).credentials.is_empty());
}

#[test]
fn a_random_name_in_a_shared_directory_is_said_to_be_unsafe() {
    check(
        &k0s(),
        &[
            "d /var/lib/k0s 755 root",
            "unmet path:/run/k0s-*-kubelet-bootstrap-kubeconfig",
            "unmet path:/usr/libexec/kubernetes",
        ],
    );
    let plan = grants(&k0s());
    assert_eq!(plan.modules.keys().collect::<Vec<_>>(), ["br_netfilter"]);
    assert_eq!(plan.sysctls["net.ipv4.conf.all.forwarding"].value, "1");
    assert!(plan.delegate.is_some());
    assert!(plan.advice[0].reason.contains("belongs to k0s beforehand"), "{:?}", plan.advice);
}

#[test]
fn needs_of_every_other_kind() {
    check(
        &everything(),
        &[
            "d /var/cache/everyd 755 root",
            "a /dev/watchdog rw-",
            "a /etc/everyd.conf r--",
            "g netdev",
            "CAP_SYS_CHROOT",
            "CAP_SYS_TIME",
            "unmet capability:CAP_DAC_OVERRIDE",
            "unmet kernel:mount:CAP_SYS_ADMIN:/mnt",
            "unmet path:/etc/passwd",
            "unmet path:/run/everyd.sock",
        ],
    );
    let plan = grants(&everything());
    assert_eq!(plan.optional.len(), 1);
    assert_eq!(plan.nice.as_ref().map(|(value, _)| *value), Some(-5));
    assert_eq!(plan.devices.len(), 2);
    assert_eq!(plan.limits.len(), 3);
}

#[test]
fn dangerous_groups_are_not_joined() {
    let socket = || inode(Socket, ROOT, ("docker", 999), 0o660);
    let disk = || inode(File, ROOT, ("disk", 6), 0o660);
    let reads = inode(File, ROOT, ("disk", 6), 0o640);
    let profile = profile(
        "agent",
        &["/usr/bin/agent"],
        vec![
            path("/run/docker.sock", Socket, &[Write], ("/run/docker.sock", socket())),
            path("/var/lib/agent/image", File, &[Write], ("/var/lib/agent/image", disk())),
            path("/etc/agent.key", File, &[Read], ("/etc/agent.key", reads)),
        ],
    );
    check(
        &profile,
        &["f /var/lib/agent/image 660 disk", "a /etc/agent.key r--", "unmet path:/run/docker.sock"],
    );
}

#[test]
fn shared_directories_are_never_made_writable() {
    for shared in [
        "/",
        "/run",
        "/etc",
        "/usr",
        "/usr/lib",
        "/usr/local/share",
        "/var",
        "/var/lib",
        "/var/log",
        "/var/cache",
        "/var/run",
        "/tmp",
        "/var/tmp",
        "/dev",
        "/dev/shm",
        "/opt",
        "/srv",
        "/home",
        "/home/alice",
        "/root",
        "/run/lock",
        "/var/lib/misc",
        "/etc/ssl",
        "/etc/cron.d",
        "/usr/bin",
        "/proc",
        "/sys",
        "/boot",
        "/run/systemd",
        "/mnt",
    ] {
        let inside = format!("{}/random-*", shared.trim_end_matches('/'));
        let refused = || (shared, root_directory(0o755));
        let profile = profile(
            "thing",
            &["/usr/bin/thing"],
            vec![
                path(shared, Directory, &[Write], refused()),
                path(&format!("{shared}/x").replace("//", "/"), Socket, &[Create], refused()),
                pattern(&inside, &[Create], refused()),
            ],
        );
        let plan = grants(&profile);
        assert_eq!(plan.unmet.len(), 3, "{shared}: {:?}", outline(&plan));
        assert!(plan.directories.is_empty() && plan.acls.is_empty() && plan.groups.is_empty(), "{shared}");
    }
}

#[test]
fn what_decides_over_root_is_never_given_away() {
    for path_text in [
        "/etc/passwd",
        "/etc/cron.d/job",
        "/etc/ld.so.preload",
        "/usr/bin/tool",
        "/boot/vmlinuz",
        "/etc/shadow-",
    ] {
        for access in [Create, Write, Own] {
            let refused = (path_text, inode(File, ROOT, ROOT, 0o644));
            let profile =
                profile("thing", &["/usr/bin/thing"], vec![path(path_text, File, &[access], refused)]);
            check(&profile, &[format!("unmet path:{path_text}").as_str()]);
        }
    }
}

#[test]
fn the_data_of_another_service_stays_its_own() {
    let mysql = || inode(Directory, ("mysql", 120), ("mysql", 120), 0o700);
    let needs = vec![
        path("/var/lib/mysql", Directory, &[Write], ("/var/lib/mysql", mysql())),
        path("/var/lib/mysql/x", File, &[Create], ("/var/lib/mysql", mysql())),
    ];
    check(
        &profile("php-fpm", &["/usr/sbin/php-fpm"], needs),
        &["unmet path:/var/lib/mysql", "unmet path:/var/lib/mysql/x"],
    );
}

#[test]
fn a_capability_for_a_file_that_stays_closed_is_not_granted() {
    let closed = || ("/proc/1/environ", inode(File, ROOT, ROOT, 0o400));
    let file = path("/proc/1/environ", File, &[Read], closed());
    let need = Need::Capability { capability: Capability::SYS_PTRACE };
    let needs = vec![file, requirement(need, "openat", Some(closed()))];
    check(
        &profile("thing", &["/usr/bin/thing"], needs),
        &["unmet capability:CAP_SYS_PTRACE", "unmet path:/proc/1/environ"],
    );
}

#[test]
fn others_reach_the_socket_in_a_directory_that_is_made() {
    let made = || path("/run/thing", Directory, &[Create], ("/run", root_directory(0o755)));
    let mut profile = profile("thing", &["/usr/bin/thing"], vec![made()]);
    check(&profile, &["d /run/thing 700 own"]);
    profile.listens.push(Listen {
        protocol: Protocol::Unix,
        address: "/run/thing/control".into(),
        port: None,
        processes: vec![],
    });
    check(&profile, &["d /run/thing 755 own"]);
}

#[test]
fn a_limit_of_unknown_value_is_advised_and_root_is_nobodys_to_become() {
    let needs = vec![
        limit(Limit::OpenFiles, None),
        identity(IdentityOperation::SetUser, &[u32::MAX, 0, u32::MAX], None),
        identity(IdentityOperation::SetUser, &[33], None),
    ];
    let plan = grants(&profile("thing", &["/usr/bin/thing"], needs));
    assert_eq!(plan.unmet, []);
    let advice = |id: &str| &plan.advice.iter().find(|why| why.needs.contains(id)).unwrap().reason;
    assert!(advice("limit:open-files").contains("raise it in the unit"));
    assert!(advice("identity:set-user:-,0,-").contains("cannot become root"));
    assert!(advice("identity:set-user:33").contains("remove the option"));
}

#[test]
fn a_group_that_may_write_a_directory_is_enough() {
    let bind = || inode(Directory, ROOT, ("bind", 115), 0o775);
    let needs = vec![
        path("/var/cache/bind/managed-keys.bind.jnl", File, &[Create, Delete], ("/var/cache/bind", bind())),
        path("/var/cache/bind/tmp", File, &[Create], ("/var/cache/bind", bind())),
    ];
    check(&profile("named", &["/usr/sbin/named"], needs), &["g bind"]);
}

#[test]
fn a_rename_or_a_random_name_takes_the_private_directory() {
    let state = || ("/var/lib/thing", root_directory(0o755));
    let mut rename = path("/var/lib/thing/state", File, &[Create], state());
    rename.evidence.calls = ["rename".to_owned()].into();
    check(&profile("thing", &["/usr/bin/thing"], vec![rename]), &["d /var/lib/thing 755 root"]);
    let random = pattern("/var/lib/thing/tmp-*", &[Create], state());
    check(&profile("thing", &["/usr/bin/thing"], vec![random]), &["d /var/lib/thing 755 root"]);
}

#[test]
fn a_data_directory_in_which_several_entries_are_made_is_owned() {
    let data = |user: (&'static str, u32)| ("/var/lib/thing/data", inode(Directory, user, user, 0o755));
    let made = |entries: &[(&str, FileType)], user| {
        let need = |(name, kind): &(&str, FileType)| {
            path(&format!("/var/lib/thing/data/{name}"), *kind, &[Create], data(user))
        };
        profile("thing", &["/usr/bin/thing"], entries.iter().map(need).collect())
    };
    let (wal, heads, lock) = (("wal", Directory), ("heads", Directory), ("lock", File));
    let service = ("thing", 120);
    // It was made for the service's user, or there are files beside directories: more may follow.
    check(&made(&[wal, heads], service), &["d /var/lib/thing/data 755 own"]);
    check(&made(&[wal, heads, lock], service), &["d /var/lib/thing/data 755 own"]);
    check(&made(&[wal, lock], ROOT), &["d /var/lib/thing/data 755 root"]);
    // What is always the same can be made beforehand.
    check(&made(&[wal], service), &["d /var/lib/thing/data/wal 700 own"]);
    check(
        &made(&[wal, heads], ROOT),
        &["d /var/lib/thing/data/heads 700 own", "d /var/lib/thing/data/wal 700 own"],
    );
    // Nobody is given a directory that many share, whatever is made in it.
    let shared =
        |name: &str, kind| path(&format!("/run/{name}"), kind, &[Create], ("/run", root_directory(0o755)));
    check(
        &profile("thing", &["/usr/bin/thing"], vec![shared("a", Directory), shared("b.pid", File)]),
        &["d /run/a 700 own", "f /run/b.pid 640 own"],
    );
}

#[test]
fn set_user_id_programs_are_not_given_away() {
    let suid = inode(File, ROOT, ROOT, 0o4755);
    let needs = vec![path("/opt/thing/helper", File, &[Write], ("/opt/thing/helper", suid))];
    check(&profile("thing", &["/usr/bin/thing"], needs), &["unmet path:/opt/thing/helper"]);
}

#[test]
fn paths_that_no_file_can_name_are_unmet() {
    for bad in ["relative", "/a/../b", "/a//b", "/a/.", "", "/a\0b", "/a/"] {
        let profile =
            profile("thing", &["/x"], vec![path(bad, File, &[Create], ("/", root_directory(0o755)))]);
        check(&profile, &[format!("unmet path:{bad}").as_str()]);
    }
}

#[test]
fn every_required_need_is_granted_advised_or_unmet() {
    for profile in all().into_iter().chain(HOSTILE.iter().map(|name| hostile(name))) {
        let plan = grants(&profile);
        for requirement in &profile.requirements {
            let verdicts: Vec<Treatment> =
                done(&plan, requirement).into_iter().map(|remedy| remedy.verdict).collect();
            assert!(!verdicts.is_empty(), "{}: nothing said about {}", profile.name, requirement.id);
            let optional = requirement.severity != Severity::Required;
            assert_eq!(verdicts.contains(&Treatment::Optional), optional, "{}", requirement.id);
        }
    }
}

#[test]
fn the_order_of_requirements_changes_nothing() {
    for mut profile in all() {
        let before = grants(&profile);
        profile.requirements.reverse();
        assert_eq!(grants(&profile), before);
    }
}

#[test]
fn no_profile_leads_to_a_capability_that_opens_every_file_or_changes_identity() {
    let never = [
        Capability::DAC_OVERRIDE,
        Capability::DAC_READ_SEARCH,
        Capability::SETUID,
        Capability::SETGID,
        Capability::CHOWN,
        Capability::FOWNER,
        Capability::from_number(60),
    ];
    for capability_wanted in never {
        let operations = [KernelOperation::Sysfs, KernelOperation::Mount, KernelOperation::Cgroup];
        let mut needs: Vec<_> =
            operations.map(|operation| kernel(operation, "/sys/x", capability_wanted)).into();
        needs.push(capability(capability_wanted));
        assert!(grants(&profile("thing", &["/x"], needs)).capabilities.is_empty(), "{capability_wanted}");
    }
}

#[test]
fn names_that_are_no_user_names_are_replaced() {
    let mut profile = nginx();
    profile.name = "../../etc/x\ny".into();
    profile.identity.user = "root:x\nr - 0".into();
    profile.identity.group = "1000".into();
    let plan = grants(&profile);
    assert_eq!(plan.name, "etc-x-y");
    assert_eq!((plan.account.user.as_str(), plan.account.group.as_str()), ("root-x-r---0", "_1000"));
    assert!(plan.unmet.iter().any(|unmet| unmet.need == "identity"));
    assert!(!plan.directories.contains_key(&RawText::from("/")));
}

#[test]
fn groups_of_the_run_are_kept() {
    let mut profile = tls();
    profile.identity.groups = vec![0, 106, 4242];
    let plan = grants(&profile);
    assert_eq!(plan.groups.keys().collect::<Vec<_>>(), ["4242", "ssl-cert"]);
    assert!(plan.unmet.iter().any(|unmet| unmet.reason.contains("group root")));
}

const COMPONENTS: &[&str] = &[
    "var", "lib", "log", "run", "etc", "usr", "bin", "thing", "data", "mysql", "x", "a*b", "passwd", "tmp",
    "proc", "dev",
];

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(COMPONENTS), 0..5)
        .prop_map(|parts| format!("/{}", parts.join("/")))
}

fn any_need() -> impl Strategy<Value = nrtrace_profiles::requirement::Requirement> {
    let accesses = [Read, Write, Append, Access::Execute, Search, Create, Delete, Own];
    let types = [File, Directory, Socket, FileType::Symlink, FileType::Fifo, CharDevice, FileType::Unknown];
    let owners = [("root", 0), ("thing", 901), ("mysql", 902), ("disk", 6), ("adm", 4)];
    let access = prop::sample::subsequence(accesses.to_vec(), 0..=8);
    let file_type = prop::sample::select(types.to_vec());
    let owner = prop::sample::select(owners.to_vec());
    let refusal = (0..3_u8, file_type.clone(), owner.clone(), owner, 0..0o10000_u32);
    (any_path(), access, file_type, any::<bool>(), refusal).prop_map(
        |(path, access, file_type, pattern, (refused, refused_type, user, group, mode))| {
            let at = match refused {
                0 => None,
                1 => Some(path.clone()),
                _ => Some(
                    path.rsplit_once('/')
                        .map_or("/", |(parent, _)| if parent.is_empty() { "/" } else { parent })
                        .into(),
                ),
            };
            let access = access.into_iter().collect();
            let need = Need::Path { path: path.as_str().into(), file_type, access, pattern };
            let refused = at.as_deref().map(|at| (at, inode(refused_type, user, group, mode)));
            requirement(need, "openat", refused)
        },
    )
}

/// Directories that many services share, by a rule of thumb that is not the planner's.
fn is_shared(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let top = matches!(parts[..], [] | ["var" | "run" | "etc" | "usr" | "bin" | "tmp" | "proc" | "dev"]);
    let second = matches!(parts[..], ["usr", "lib" | "bin"] | ["var", "lib" | "log" | "run" | "tmp"]);
    let whole = matches!(parts[..], ["bin" | "proc", ..] | ["usr", "bin", ..] | ["etc", "passwd", ..]);
    top || second || whole
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_needs_give_a_plan_that_answers_each_and_opens_nothing_shared(needs in prop::collection::vec(any_need(), 1..8)) {
        let profile = profile("thing", &["/usr/bin/thing"], needs);
        let plan = grants(&profile);
        for requirement in &profile.requirements {
            prop_assert!(!done(&plan, requirement).is_empty(), "nothing said about {:?}", requirement);
        }
        for path in plan.directories.keys() {
            prop_assert!(!is_shared(&path.to_text()), "{path} is given away");
        }
        for (path, acl) in &plan.acls {
            prop_assert!(acl.bits & 2 == 0 || !is_shared(&path.to_text()), "{path} is made writable");
        }
        for (path, file) in &plan.files {
            prop_assert!(file.mode.is_none_or(|mode| mode & 0o6000 == 0), "{path} runs as another user");
            prop_assert!(!plan.directories.contains_key(path), "{path} is file and directory");
        }
        prop_assert!(plan.groups.keys().all(|group| group != "root" && group != "disk"));
    }
}
