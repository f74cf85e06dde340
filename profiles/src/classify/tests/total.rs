//! The classifier is total, and does not depend on how equal events were counted.

use proptest::prelude::*;
use proptest::sample::select;

use crate::event::*;
use crate::profile::Profile;
use crate::requirement::{Evidence, Need};
use crate::{Capability, RawText};

use super::build;
use super::run;

const CALLS: &[&str] = &[
    "openat",
    "open",
    "creat",
    "openat2",
    "mkdir",
    "mknod",
    "symlink",
    "link",
    "rename",
    "renameat2",
    "unlink",
    "rmdir",
    "chmod",
    "chown",
    "fchownat",
    "utimensat",
    "truncate",
    "setxattr",
    "listxattr",
    "access",
    "faccessat",
    "chdir",
    "chroot",
    "execve",
    "bind",
    "connect",
    "listen",
    "setuid",
    "setgroups",
    "mount",
    "unshare",
    "clone",
    "prlimit64",
    "setrlimit",
    "setpriority",
    "nice",
    "mlock",
    "prctl",
    "seccomp",
    "write",
    "page-fault",
    "",
];

const PATHS: &[&[u8]] = &[
    b"/",
    b"",
    b"x",
    b"//",
    b"/run",
    b"/run/",
    b"/run/x.pid",
    b"/run/tmp.aB3dE9",
    b"/run/tmpab12_xyz",
    b"/run/k0s-1234567890-x",
    b"/run/6b2a9f41-4c1e-4b52-9a0e-0d5a3c1f7e11",
    b"/proc/sys",
    b"/proc/sys/net/ipv4/x",
    b"/proc/self/oom_score_adj",
    b"/proc/7/oom_score_adj",
    b"/proc/self/fd/1",
    b"/sys/fs/cgroup/a/b",
    b"/sys/x",
    b"/dev/null",
    b"/usr/bin/x",
    b"/bin/x",
    b"/root/a/b",
    b"/run/w-1",
    b"/run/w-2",
    b"/run/w-3",
    b"/a*[?]\xff\n",
];

const ASKED: &[Asked] =
    &[Asked::Search, Asked::File, Asked::Create, Asked::Delete, Asked::Entry, Asked::Sticky, Asked::Other];

const FRAMES: &[&str] = &[
    "generic_permission",
    "link_path_walk",
    "may_open",
    "path_openat",
    "may_create",
    "may_delete",
    "vfs_rename",
    "setattr_prepare",
    "may_setattr",
    "ns_capable_noaudit",
    "net_ctl_permissions",
    "do_seccomp",
    "ovl_permission",
    "ovl_setattr",
    "ovl_lookup",
    "__check_sticky",
    "security_vm_enough_memory_mm",
    "inet_bind_sk",
    "vfs_tmpfile",
    "?",
];

fn path() -> impl Strategy<Value = RawText> {
    prop_oneof![
        8 => select(PATHS).prop_map(RawText::from),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(RawText::new),
    ]
}

fn inode() -> impl Strategy<Value = Option<Inode>> {
    let types =
        [FileType::File, FileType::Directory, FileType::CharDevice, FileType::Socket, FileType::Unknown];
    let some = (select(types.to_vec()), any::<u32>(), select(vec![0, build::UID, u32::MAX]))
        .prop_map(|(file_type, mode, uid)| build::inode(file_type, mode, uid));
    proptest::option::of(some)
}

prop_compose! {
    fn object_path()(given in path(), path in path(), parent in inode(), inode in inode(), resolved: bool) -> PathObject {
        PathObject { given, seen: path.clone(), path, parent: parent.map(Box::new), inode: inode.map(Box::new), resolved }
    }
}

fn object() -> impl Strategy<Value = Object> {
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Unix, Protocol::Raw, Protocol::Netlink];
    prop_oneof![
        1 => Just(Object::Nothing),
        6 => object_path().prop_map(Object::Path),
        3 => (object_path(), object_path()).prop_map(|(from, to)| Object::TwoPaths { from: from.into(), to: to.into() }),
        1 => (select(protocols.to_vec()), path(), any::<Option<u16>>(), proptest::option::of(object_path()))
            .prop_map(|(protocol, address, port, path)| Object::Socket(SocketObject { protocol, address, port, path })),
        1 => proptest::collection::vec(any::<u32>(), 0..4).prop_map(|ids| Object::Ids { ids }),
        1 => (object_path(), proptest::collection::btree_set(0u8..64, 0..3)).prop_map(|(path, numbers)| {
            let capabilities = numbers.into_iter().map(Capability::from_number).collect();
            Object::Program { path, capabilities }
        }),
        1 => (object_path(), any::<u32>(), any::<u32>()).prop_map(|(path, uid, gid)| Object::Gift { path, uid, gid }),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Success { value: 0 }),
        3 => select(vec![1, 2, 13, 17, 30]).prop_map(|errno| Outcome::Failure { errno }),
        1 => any::<i32>().prop_map(|errno| Outcome::Failure { errno }),
        1 => Just(Outcome::Answered),
        1 => Just(Outcome::Unknown),
    ]
}

prop_compose! {
    fn check()(
        number in prop_oneof![8 => 0_u8..41, 1 => 41_u8..64],
        frames in proptest::collection::vec(select(FRAMES), 0..5),
        component in proptest::option::of((path(), inode())),
        granted in proptest::bool::weighted(0.8),
        marks in proptest::collection::vec(proptest::bool::weighted(0.1), 3),
        predicted in proptest::option::weighted(0.2, select(ASKED)),
    ) -> Check {
        Check {
            capability: Capability::from_number(number),
            granted,
            frames: frames.into_iter().map(Into::into).collect(),
            component: component.and_then(|(path, inode)| Some(Component { path, inode: inode? })),
            foreign: marks[0],
            not_audited: marks[1],
            child_namespace: marks[2],
            predicted,
        }
    }
}

prop_compose! {
    fn event()(
        name in select(CALLS),
        args in proptest::array::uniform6(prop_oneof![0_u64..0o2000, any::<u64>()]),
        data in proptest::option::of(path()),
        object in object(),
        outcome in outcome(),
        checks in proptest::collection::vec(check(), 0..4),
        count in prop_oneof![1_u64..9, Just(u64::MAX)],
        last in any::<u64>(),
        pid in select(vec![7, 33, 4242]),
        phase in select(vec![Phase::Startup, Phase::Steady, Phase::Shutdown]),
        cause in proptest::option::weighted(0.2, select(vec![Cause::Seccomp, Cause::Policy, Cause::ReadOnlyMount])),
        at in proptest::option::of(path()),
    ) -> Event {
        let mut event = build::call(name, &args).by(pid, "x").0;
        event.call.data = data;
        let obstacle = cause.map(|cause| Obstacle { cause, at });
        Event { object, outcome, checks, count, last, phase, obstacle, ..event }
    }
}

prop_compose! {
    fn any_trace()(
        events in proptest::collection::vec(event(), 0..24),
        backend in select(vec![Backend::Ebpf, Backend::Ptrace]),
        mode in select(vec![Mode::Permissive, Mode::Enforced, Mode::Observation]),
        cwd in path(),
        environment in proptest::collection::vec((select(vec!["TMPDIR", "PATH"]), path()), 0..2),
        status: i32,
    ) -> Trace {
        let mut trace = build::trace("x", events.into_iter().map(build::Make));
        trace.run.backend = backend;
        trace.run.mode = mode;
        trace.run.cwd = cwd;
        trace.run.environment = environment.into_iter().map(|(name, value)| (name.into(), value)).collect();
        trace.end.exit = Exit::Exited { status };
        trace
    }
}

fn assert_sound(profile: &Profile) -> Result<(), TestCaseError> {
    let mut ids: Vec<&str> = profile.requirements.iter().map(|requirement| &*requirement.id).collect();
    ids.sort_unstable();
    let number = ids.len();
    ids.dedup();
    prop_assert_eq!(ids.len(), number, "an id occurs twice");
    for requirement in &profile.requirements {
        prop_assert_eq!(&requirement.id, &requirement.need.id());
        prop_assert!(requirement.evidence.objects.len() <= Evidence::OBJECTS);
        if let Need::Capability { capability } = requirement.need {
            let by_handle = requirement.evidence.calls.iter().eq(["open_by_handle_at"]);
            prop_assert!(!capability.is_dac() || by_handle);
        }
        if let Need::Path { path, access, .. } = &requirement.need {
            prop_assert!(path.as_bytes().starts_with(b"/"), "{path} is not absolute");
            prop_assert!(
                !access.is_empty() || requirement.evidence.calls.iter().any(|call| call.contains("access"))
            );
        }
    }
    let text = serde_json::to_string(profile).unwrap();
    prop_assert_eq!(serde_json::to_string(&serde_json::from_str::<Profile>(&text).unwrap()).unwrap(), text);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_trace_gives_a_sound_profile(trace in any_trace()) {
        assert_sound(&run(&trace))?;
    }

    #[test]
    fn it_is_the_same_however_equal_events_were_counted(trace in any_trace(), halves: Vec<bool>) {
        let mut split = trace.clone();
        split.events.clear();
        for (event, halve) in trace.events.iter().zip(halves.into_iter().chain(std::iter::repeat(true))) {
            let half = event.count / 2;
            if halve && half > 0 && event.count < u64::MAX {
                split.events.push(Event { count: half, ..event.clone() });
                split.events.push(Event { count: event.count - half, ..event.clone() });
            } else {
                split.events.push(event.clone());
            }
        }
        prop_assert_eq!(run(&split), run(&trace));
    }

    #[test]
    fn it_is_the_same_in_whatever_order_events_arrive(trace in any_trace(), keys in proptest::collection::vec(any::<u8>(), 24)) {
        let mut shuffled = trace.clone();
        let mut keyed: Vec<(u8, Event)> = keys.into_iter().zip(shuffled.events).collect();
        keyed.sort_by_key(|(key, _)| *key);
        shuffled.events = keyed.into_iter().map(|(_, event)| event).collect();
        prop_assert_eq!(run(&shuffled), run(&trace));
    }
}
