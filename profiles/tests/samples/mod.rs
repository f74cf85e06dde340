//! Profiles made by hand, as a run on Debian 12 would give them.
#![allow(dead_code, reason = "each test binary uses its own part of the samples")]

use std::collections::{BTreeMap, BTreeSet};

use nrtrace_profiles::event::{Backend, Exit, FileType, Identity, Inode, Mode, Phase, Protocol, Record};
use nrtrace_profiles::profile::{Listen, Profile, Run, SCHEMA};
use nrtrace_profiles::requirement::{
    Access, Basis, Caller, Evidence, IdentityOperation, KernelOperation, Limit, Need, Requirement, Seconds,
    Severity,
};
use nrtrace_profiles::{Capability, RawText};

pub use Access::{Append, Create, Delete, Own, Read, Search, Write};
pub use FileType::{CharDevice, Directory, File, Socket};

/// Owner, group (name and number) and mode.
pub fn inode(file_type: FileType, user: (&str, u32), group: (&str, u32), mode: u32) -> Inode {
    Inode {
        file_type,
        mode,
        uid: user.1,
        user: Some(user.0.into()),
        gid: group.1,
        group: Some(group.0.into()),
        device: None,
    }
}

pub const ROOT: (&str, u32) = ("root", 0);

pub fn root_directory(mode: u32) -> Inode {
    inode(Directory, ROOT, ROOT, mode)
}

pub fn requirement(need: Need, call: &str, refused: Option<(&str, Inode)>) -> Requirement {
    let (refused_at, refused_inode) = refused.map(|(path, inode)| (RawText::from(path), inode)).unzip();
    Requirement {
        id: need.id(),
        need,
        severity: Severity::Required,
        basis: Basis::Kernel,
        phase: Phase::Startup,
        evidence: Evidence {
            count: 1,
            first: Seconds(12_000_000),
            last: Seconds(12_000_000),
            calls: BTreeSet::from([call.to_owned()]),
            processes: BTreeSet::from([RawText::from("daemon")]),
            callers: BTreeSet::new(),
            refused_at,
            refused_inode,
            checks: BTreeSet::from([Capability::DAC_OVERRIDE]),
            objects: BTreeSet::new(),
            placement: None,
            names: Vec::new(),
            origins: BTreeSet::new(),
            outcomes: BTreeMap::from([("ok".to_owned(), 1)]),
        },
        proof: None,
        way: None,
    }
}

pub fn path_need(path: impl Into<RawText>, file_type: FileType, access: &[Access]) -> Need {
    Need::Path { path: path.into(), file_type, access: access.iter().copied().collect(), pattern: false }
}

pub fn path(path: &str, file_type: FileType, access: &[Access], refused: (&str, Inode)) -> Requirement {
    let call = match (file_type, access.contains(&Create)) {
        (Directory, true) => "mkdir",
        (Socket, true) => "bind",
        _ => "openat",
    };
    requirement(path_need(path, file_type, access), call, Some(refused))
}

pub fn pattern(path: &str, access: &[Access], refused: (&str, Inode)) -> Requirement {
    let access = access.iter().copied().collect();
    let need = Need::Path { path: path.into(), file_type: File, access, pattern: true };
    requirement(need, "openat", Some(refused))
}

pub fn port(protocol: Protocol, address: &str, port: u16) -> Requirement {
    requirement(Need::Port { protocol, address: address.into(), port }, "bind", None)
}

pub fn capability(capability: Capability) -> Requirement {
    requirement(Need::Capability { capability }, "clock_settime", None)
}

pub fn limit(limit: Limit, value: Option<i64>) -> Requirement {
    requirement(Need::Limit { limit, value }, "prlimit64", None)
}

pub fn kernel(operation: KernelOperation, subject: &str, capability: Capability) -> Requirement {
    requirement(Need::Kernel { operation, subject: subject.into(), capability }, "write", None)
}

pub fn identity(operation: IdentityOperation, ids: &[u32], path: Option<&str>) -> Requirement {
    let need = Need::Identity { operation, ids: ids.to_vec(), path: path.map(RawText::from) };
    requirement(need, "setuid", None)
}

pub fn profile(name: &str, command: &[&str], requirements: Vec<Requirement>) -> Profile {
    Profile {
        schema: SCHEMA.into(),
        name: name.into(),
        command: command.iter().map(|word| RawText::from(*word)).collect(),
        executable: Some(command[0].into()),
        unit: None,
        identity: Identity {
            user: name.into(),
            group: name.into(),
            uid: 61184,
            gid: 61184,
            groups: vec![],
            exists: false,
        },
        run: Run {
            id: String::new(),
            mode: Mode::Permissive,
            backend: Backend::Ebpf,
            record: Record::Calls,
            kernel: "6.18.0".into(),
            lost: 0,
            unjudged: 0,
            unresolved: 0,
            complete: true,
            exit: Exit::Stopped { status: Some(0) },
            daemon: false,
            duration: Seconds(5_000_000_000),
            timeline: None,
            greetings: Vec::new(),
            cwd: "/".into(),
            environment: vec![],
            missing_capabilities: vec![],
            given: Vec::new(),
            unprivileged_port_start: 1024,
            attached: None,
            said: Vec::new(),
        },
        container: None,
        requirements,
        listens: vec![],
        writes: vec![],
        programs: vec![],
        unexplained: vec![],
        gave_up: None,
        proof: None,
        knowledge: vec![],
        accesses: None,
        notes: vec![],
        runs: Vec::new(),
    }
}

pub fn nginx() -> Profile {
    let state = || ("/var/lib/nginx", root_directory(0o755));
    let run = || ("/run", root_directory(0o755));
    let log = |name| {
        let file = inode(File, ("www-data", 33), ("adm", 4), 0o640);
        path(name, File, &[Append], (name, file))
    };
    let mut profile = profile(
        "nginx",
        &["/usr/sbin/nginx", "-g", "daemon off;"],
        vec![
            path("/run/nginx.pid", File, &[Create, Delete], run()),
            path("/var/lib/nginx/body", Directory, &[Create], state()),
            path("/var/lib/nginx/fastcgi", Directory, &[Create], state()),
            path("/var/lib/nginx/proxy", Directory, &[Create], state()),
            path("/var/lib/nginx/scgi", Directory, &[Create], state()),
            path("/var/lib/nginx/uwsgi", Directory, &[Create], state()),
            log("/var/log/nginx/access.log"),
            log("/var/log/nginx/error.log"),
            port(Protocol::Tcp, "0.0.0.0", 80),
            port(Protocol::Tcp, "::", 80),
        ],
    );
    profile.listens = ["0.0.0.0", "::"]
        .map(|address| Listen {
            protocol: Protocol::Tcp,
            address: address.into(),
            port: Some(80),
            processes: vec!["nginx".into()],
        })
        .into();
    profile
}

pub fn redis() -> Profile {
    let owner = ("redis", 112);
    let group = ("redis", 117);
    let state = || inode(Directory, owner, group, 0o750);
    let logs = || inode(Directory, owner, ("adm", 4), 0o2750);
    let config = || inode(Directory, owner, group, 0o2770);
    profile(
        "redis-server",
        &["/usr/bin/redis-check-rdb", "/etc/redis/redis.conf"],
        vec![
            path("/etc/redis", Directory, &[Search], ("/etc/redis", config())),
            path(
                "/etc/redis/redis.conf",
                File,
                &[Read],
                ("/etc/redis/redis.conf", inode(File, owner, group, 0o640)),
            ),
            path("/run/redis", Directory, &[Create], ("/run", root_directory(0o755))),
            path("/var/lib/redis", Directory, &[Search, Write], ("/var/lib/redis", state())),
            path(
                "/var/lib/redis/dump.rdb",
                File,
                &[Read],
                ("/var/lib/redis/dump.rdb", inode(File, owner, group, 0o660)),
            ),
            path("/var/log/redis", Directory, &[Search], ("/var/log/redis", logs())),
            path("/var/log/redis/redis-server.log", File, &[Create], ("/var/log/redis", logs())),
        ],
    )
}

pub fn etcd() -> Profile {
    let state = || ("/var/lib/etcd", inode(Directory, ("etcd", 113), ("etcd", 118), 0o700));
    profile(
        "etcd-server",
        &["/usr/bin/etcd"],
        vec![
            path("/var/lib/etcd", Directory, &[Search], state()),
            path("/var/lib/etcd/default", Directory, &[Create], state()),
            path("/var/lib/etcd/.touch", File, &[Create, Delete], state()),
        ],
    )
}

/// A daemon that reads a key of group `ssl-cert`, another that is root's alone, and the journal of shadow.
pub fn tls() -> Profile {
    let group = ("ssl-cert", 106);
    profile(
        "tlsd",
        &["/usr/sbin/tlsd"],
        vec![
            path(
                "/etc/ssl/private",
                Directory,
                &[Search],
                ("/etc/ssl/private", inode(Directory, ROOT, group, 0o710)),
            ),
            path(
                "/etc/ssl/private/host.key",
                File,
                &[Read],
                ("/etc/ssl/private/host.key", inode(File, ROOT, group, 0o640)),
            ),
            path("/etc/tlsd.key", File, &[Read], ("/etc/tlsd.key", inode(File, ROOT, ROOT, 0o600))),
        ],
    )
}

pub fn k0s() -> Profile {
    profile(
        "k0s",
        &["/usr/local/bin/k0s", "controller", "--enable-worker"],
        vec![
            pattern(
                "/run/k0s-*-kubelet-bootstrap-kubeconfig",
                &[Create, Delete, Write],
                ("/run", root_directory(0o755)),
            ),
            path("/usr/libexec/kubernetes", Directory, &[Create], ("/usr/libexec", root_directory(0o755))),
            path("/var/lib/k0s", Directory, &[Own, Write], ("/var/lib/k0s", root_directory(0o755))),
            identity(IdentityOperation::Chown, &[0, u32::MAX], Some("/var/lib/k0s/pki/admin.conf")),
            kernel(
                KernelOperation::Module,
                "/lib/modules/6.1/kernel/net/br_netfilter.ko.xz",
                Capability::SYS_MODULE,
            ),
            kernel(KernelOperation::Cgroup, "/sys/fs/cgroup/k0s", Capability::DAC_OVERRIDE),
            requirement(
                Need::Sysctl { name: "net.ipv4.conf.all.forwarding".into(), value: Some("1\n".into()) },
                "write",
                None,
            ),
        ],
    )
}

/// Needs of every other kind at once.
pub fn everything() -> Profile {
    let tun = inode(CharDevice, ROOT, ("netdev", 101), 0o660);
    let watchdog = inode(CharDevice, ROOT, ROOT, 0o600);
    let device = |path: &str, inode| {
        let access = BTreeSet::from([Read, Write]);
        let need = Need::Device { path: path.into(), file_type: CharDevice, access };
        requirement(need, "openat", Some((path, inode)))
    };
    let mut profile = profile(
        "everyd",
        &["/usr/bin/true", "--all"],
        vec![
            capability(Capability::SYS_TIME),
            capability(Capability::DAC_OVERRIDE),
            device("/dev/net/tun", tun),
            device("/dev/watchdog", watchdog),
            identity(IdentityOperation::SetUser, &[33], None),
            limit(Limit::OpenFiles, Some(65536)),
            limit(Limit::LockedMemory, None),
            limit(Limit::Nice, Some(-5)),
            limit(Limit::OomScore, Some(-900)),
            limit(Limit::Scheduling, Some(50)),
            kernel(KernelOperation::Chroot, "/var/lib/everyd/jail", Capability::SYS_CHROOT),
            kernel(KernelOperation::Mount, "/mnt", Capability::SYS_ADMIN),
            path("/run/everyd.sock", Socket, &[Create], ("/run", root_directory(0o755))),
            path("/etc/passwd", File, &[Write], ("/etc/passwd", inode(File, ROOT, ROOT, 0o644))),
            path("/var/cache/everyd/a", File, &[Create], ("/var/cache/everyd", root_directory(0o755))),
            path("/var/cache/everyd/b", File, &[Create], ("/var/cache/everyd", root_directory(0o755))),
            path("/etc/everyd.conf", File, &[Read], ("/etc/everyd.conf", inode(File, ROOT, ROOT, 0o600))),
        ],
    );
    let mut probe =
        path("/etc/shadow", File, &[Read], ("/etc/shadow", inode(File, ROOT, ("shadow", 42), 0o640)));
    probe.severity = Severity::Probe;
    profile.requirements.push(probe);
    profile.run.cwd = "/srv/every thing".into();
    profile.run.environment = vec![("TMPDIR".into(), "/tmp/100% \"mine\"".into())];
    profile
}

pub fn all() -> Vec<Profile> {
    vec![nginx(), redis(), etcd(), tls(), k0s(), everything(), caller()]
}

/// A need of a program whose file gives rights; `by` is its own.
pub fn exec(
    path: &str,
    capabilities: &[Capability],
    owner: (&str, u32),
    group: (&str, u32),
    mode: u32,
) -> Requirement {
    let need = Need::Exec {
        path: path.into(),
        capabilities: capabilities.iter().copied().collect(),
        set_user: (mode & 0o4000 != 0).then_some(owner.1),
        set_group: (mode & 0o2010 == 0o2010).then_some(group.1),
    };
    let mut out = requirement(need, "execve", Some((path, inode(File, owner, group, mode))));
    out.basis = Basis::Predicted;
    out.evidence.checks.clear();
    out
}

/// A capability that this executable alone used.
pub fn capability_of(path: &str, used: Capability) -> Requirement {
    let mut out = capability(used);
    out.evidence.checks = BTreeSet::from([used]);
    let caller = Caller { name: "tool".into(), executable: Some(path.into()), ancestors: Vec::new() };
    out.evidence.callers = BTreeSet::from([caller]);
    out
}

/// Calls programs whose files give rights, of each kind.
pub fn caller() -> Profile {
    profile(
        "caller",
        &["/usr/sbin/caller"],
        vec![
            exec("/usr/bin/ping", &[Capability::NET_RAW], ROOT, ROOT, 0o755),
            capability_of("/usr/bin/ping", Capability::NET_RAW),
            exec("/usr/bin/dumpcap", &[Capability::NET_ADMIN], ROOT, ROOT, 0o755),
            exec("/usr/sbin/postdrop", &[], ROOT, ("postdrop", 109), 0o2555),
            exec("/usr/bin/chage", &[], ROOT, ("shadow", 42), 0o2755),
            exec("/usr/bin/man", &[], ("man", 6), ROOT, 0o4755),
            exec("/usr/bin/sudo", &[], ROOT, ROOT, 0o4755),
        ],
    )
}

/// Names that break out of a format that does not escape them.
pub const HOSTILE: &[&[u8]] = &[
    b"a b",
    b"line\nend",
    b"line\n",
    b"\nf /etc/owned 0777 root root -",
    b"per%cent%%n%",
    b"quo\"te",
    b"it's",
    b"'; touch /tmp/owned; '",
    b"$(touch owned)`touch owned`${HOME}",
    b"#hash",
    b"# hash",
    b"co:lon",
    b"back\\slash\\",
    b"\\x41\\n",
    b"\x1b[31mred\x07",
    b"\xff\xfe\x80",
    b"gl*b?[a]{b,c}~",
    "\u{202e}rtl\u{200b}\u{2066}\u{2028}\u{61c}\u{feff}\u{e0041}\u{85}".as_bytes(),
    "grün 家".as_bytes(),
    b"- list: {key: [v]}",
    b"tab\tcr\r",
    b"-dash",
    b"true",
    b"a;b|c&d<e>f",
];

/// A profile whose needs are for one hostile name in every place there is.
pub fn hostile(name: &[u8]) -> Profile {
    let join = |start: &str| RawText::new([start.as_bytes(), name].concat());
    let text = || String::from_utf8_lossy(name).into_owned();
    let at = |path: RawText, file_type, access: &[Access], refused: (RawText, Inode)| {
        let mut out = requirement(path_need(path, file_type, access), "openat", None);
        (out.evidence.refused_at, out.evidence.refused_inode) = (Some(refused.0), Some(refused.1));
        out.evidence.processes = BTreeSet::from([RawText::new(name)]);
        out.evidence.calls.insert(text());
        out
    };
    let own_file = join("/var/lib/hostiled/given-");
    let read_file = join("/etc/hostiled-");
    let shared = || (RawText::from("/run"), root_directory(0o755));
    let mut profile = profile(
        "hostiled",
        &["/usr/bin/true"],
        vec![
            at(join("/run/dir-"), Directory, &[Create], shared()),
            at(join("/run/file-"), File, &[Create], shared()),
            at(own_file.clone(), File, &[Write], (own_file, inode(File, ROOT, ROOT, 0o640))),
            at(read_file.clone(), File, &[Read], (read_file, inode(File, ROOT, ROOT, 0o600))),
            at(join("/run/socket-"), Socket, &[Create], shared()),
            requirement(
                Need::Sysctl { name: RawText::new(name), value: Some(RawText::new(name)) },
                "write",
                None,
            ),
            requirement(
                Need::Kernel {
                    operation: KernelOperation::Module,
                    subject: RawText::new(name),
                    capability: Capability::SYS_MODULE,
                },
                "finit_module",
                None,
            ),
            requirement(
                Need::Device { path: join("/dev/"), file_type: CharDevice, access: BTreeSet::from([Read]) },
                "openat",
                None,
            ),
            requirement(Need::Port { protocol: Protocol::Tcp, address: text(), port: 80 }, "bind", None),
            capability(Capability::NET_RAW),
        ],
    );
    profile.command = vec!["/usr/bin/true".into(), RawText::new(name)];
    profile.executable = Some(join("/usr/bin/"));
    profile.run.cwd = join("/srv/");
    profile.run.kernel = text();
    profile.run.environment = vec![(RawText::new(name), RawText::new(name))];
    profile.notes = vec![text()];
    profile.listens = vec![Listen {
        protocol: Protocol::Tcp,
        address: RawText::new(name),
        port: Some(80),
        processes: vec![RawText::new(name)],
    }];
    profile
}
