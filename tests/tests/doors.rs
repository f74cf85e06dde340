//! What a program with every capability tries in the sandbox does not reach the machine, and is recorded as a need all the
//! same.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::Finding;
use nrtrace_tests::sandbox::{BIN, OUT, Sandbox, sibling};

fn tried(backend: &str) {
    let sandbox = Sandbox::new().unwrap().bind(sibling("doors").unwrap(), format!("{BIN}/doors"));
    // A sandbox of the test stands for the machine, with an nrtrace whose mode can be changed.
    let script = format!(
        r#"
        mknod -m 600 /dev/disk b 254 0
        cp {BIN}/nrtrace /opt/nr
        snapshot() {{
            stat -c '%n %a %u %s %Y' /opt/nr; sha256sum /opt/nr
            find /usr/lib /usr/bin /usr/sbin /opt -xdev -perm /7000 -printf '%p %m %u\n' | sort
            stat -c '%n %a %u %t:%T' /dev/*
            cut -d' ' -f3- /proc/self/mountinfo | sort
            python3 -c 'import ctypes; t = (ctypes.c_long * 64)(); ctypes.CDLL(None).adjtimex(t); print(t[4])'
        }}
        snapshot >{OUT}/before
        cd /
        exec 7</
        /opt/nr run --verify -q --backend {backend} --settle 30s -o {OUT}/result -- {BIN}/doors >{OUT}/told 2>{OUT}/errors || true
        exec 7<&-
        snapshot >{OUT}/after
        diff {OUT}/before {OUT}/after
        "#
    );
    let finished = sandbox.script(&script).unwrap();
    let read = |name: &str| std::fs::read_to_string(sandbox.out().join(name)).unwrap_or_default();
    let told = format!("{}{}", read("told"), read("errors"));
    assert_eq!(finished.status, 0, "{finished}\n{told}");
    let (refused, unknown) = (format!("errno {}", libc::EPERM), format!("errno {}", libc::ENOSYS));
    let no_device = "No such device or address (os error 6)";
    let expected = [
        ("writable 1", "false"),
        ("node of a disk", "0"),
        ("node of null", "0"),
        ("/tmp/disk", "No such file or directory (os error 2)"),
        ("/dev/disk", no_device),
        ("/dev/kmsg", no_device),
        ("device /dev/disk", "0"),
        ("mount ext4", &refused),
        ("mount devtmpfs", &refused),
        ("mount cgroup2", &refused),
        ("mount sysfs", &refused),
        ("mount tmpfs", "0"),
        ("remount /sys", "0"),
        ("fsopen", &unknown),
        ("tick", "true"),
        ("adjtimex", "0"),
        ("clock_settime", "0"),
        ("init_module", "0"),
        ("reboot", "0"),
        ("swapon", "0"),
        ("bpf", &refused),
        ("syslog", "0"),
        ("iopl", &refused),
        ("open by handle", &refused),
        ("inherited", &format!("errno {}", libc::EBADF)),
        ("sysrq-trigger", "covered"),
        ("kcore", "covered"),
    ];
    for (door, outcome) in expected {
        let line = format!("{door}: {outcome}");
        assert!(told.lines().any(|told| told == line), "wanted {line}:\n{told}");
    }
    assert!(!told.contains("cgroup: true"), "{told}");
    let text = read("result/profile.json");
    let profile = Profile::from_json(&text).unwrap_or_else(|error| panic!("{error}: {told}\n{finished}"));
    let ids: Vec<&str> = profile.requirements.iter().map(|need| need.id.as_str()).collect();
    for capability in
        ["SYS_TIME", "SYS_BOOT", "SYS_RAWIO", "SYS_ADMIN", "MKNOD", "SYSLOG", "BPF", "SYS_MODULE"]
    {
        let wanted = format!("CAP_{capability}");
        let consulted = profile.requirements.iter().flat_map(|need| &need.evidence.checks);
        assert!(consulted.map(ToString::to_string).any(|name| name == wanted), "{wanted}: {ids:?}\n{told}");
    }
}

#[test]
fn each_door_is_shut_under_ebpf() {
    tried("ebpf");
}

#[test]
fn each_door_is_shut_under_ptrace() {
    tried("ptrace");
}

/// A program that sets the clock: the trial that grants it is answered, the one without is refused, and the clock is as it
/// was.
#[test]
fn what_is_answered_is_proved_by_removal() {
    for backend in ["ebpf", "ptrace"] {
        let sandbox = Sandbox::new().unwrap().bind(sibling("doors").unwrap(), format!("{BIN}/doors"));
        let script = format!(
            "cd /\n{BIN}/nrtrace run --minimize -q --backend {backend} --ready-log '^serving$' --settle 100ms -o {OUT}/result -- \
             {BIN}/doors clock\n"
        );
        let finished = sandbox.script(&script).unwrap().ok().unwrap();
        let text = std::fs::read_to_string(sandbox.out().join("result/profile.json")).unwrap();
        let profile = Profile::from_json(&text).unwrap();
        let found =
            profile.requirements.iter().map(|need| (need.id.as_str(), need.proof.as_ref().unwrap().finding));
        assert_eq!(found.collect::<Vec<_>>(), [("capability:CAP_SYS_TIME", Finding::Removal)], "{finished}");
    }
}

/// Where `/proc/sys` is a mount by itself, as in a container, the network's parameters are as outside all the same.
#[test]
fn the_first_free_port_is_as_outside() {
    for bind in ["", "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys"] {
        let sandbox = Sandbox::new().unwrap();
        let script = format!(
            "echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start\n{bind}\ncd /\n\
             {BIN}/nrtrace run --minimize -q --settle 100ms --ready-port 80 -o {OUT}/result -- python3 -m http.server 80\n"
        );
        let finished = sandbox.script(&script).unwrap().ok().unwrap();
        let text = std::fs::read_to_string(sandbox.out().join("result/profile.json")).unwrap();
        let profile = Profile::from_json(&text).unwrap();
        let ports = profile.requirements.iter().filter(|need| need.id.starts_with("port:")).count();
        assert_eq!((ports, profile.run.unprivileged_port_start), (0, 0), "{bind}: {finished}");
    }
}
