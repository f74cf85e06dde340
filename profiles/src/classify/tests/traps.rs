//! Traps met on real services: each is a test.

use crate::Capability;
use crate::event::{Backend, Cause, Exit, FileType, Outcome, Protocol};
use crate::requirement::{Basis, Need, Severity};

use super::build::*;
use super::{lines, needs, run};

const DAC: Capability = Capability::DAC_OVERRIDE;
const ADMIN: Capability = Capability::SYS_ADMIN;

#[test]
fn overcommit_is_no_need() {
    let stack = "cap_vm_enough_memory security_vm_enough_memory_mm";
    needs(
        &trace(
            "x",
            ["mmap", "brk", "clone", "execve"]
                .map(|name| call(name, &[]).check(ADMIN, &format!("{stack} {name}"))),
        ),
        &[],
    );
    // Where the kernel hides its symbols, the call tells.
    needs(
        &trace("x", ["mmap", "brk", "clone", "page-fault"].map(|name| call(name, &[]).check(ADMIN, ""))),
        &[],
    );
    // A mount does not look like it.
    let mount = call("mount", &[]).on("/mnt").check(ADMIN, "");
    needs(&trace("x", [mount]), &["kernel:mount:CAP_SYS_ADMIN:/mnt"]);
}

#[test]
fn checks_without_audit_are_no_need() {
    let read = open("/proc/sys/net/core/somaxconn", 0).check(
        Capability::NET_ADMIN,
        "ns_capable_noaudit net_ctl_permissions proc_sys_permission inode_permission may_open path_openat",
    );
    let seen_by_option = call("ioctl", &[]).check(ADMIN, "capable some_function").not_audited();
    let jit = call("seccomp", &[])
        .check(ADMIN, "ns_capable bpf_int_jit_compile bpf_prog_select_runtime do_seccomp");
    needs(&trace("x", [read, seen_by_option, jit]), &[]);
}

#[test]
fn a_write_to_a_network_sysctl_depends_on_a_check_without_audit() {
    let path = "/proc/sys/net/ipv4/conf/eth0.1/forwarding";
    let stack =
        "ns_capable_noaudit net_ctl_permissions proc_sys_permission inode_permission may_open path_openat";
    let trace = trace(
        "x",
        [open(path, O_WRONLY).check(Capability::NET_ADMIN, stack), call("write", &[3]).on(path).wrote("1\n")],
    );
    needs(&trace, &["sysctl:net.ipv4.conf.eth0/1.forwarding=1"]);
}

#[test]
fn a_larger_socket_buffer_is_a_remark() {
    let option = |name: u64| {
        call("setsockopt", &[3, 1, name])
            .check(Capability::NET_ADMIN, "ns_capable sockopt_ns_capable sk_setsockopt")
    };
    let profile = run(&trace("x", [option(32), option(33)]));
    assert_eq!(lines(&profile), [""; 0]);
    assert!(profile.notes[0].contains("net.core.rmem_max"), "{:?}", profile.notes);
    // SO_MARK has no such twin.
    needs(&trace("x", [option(36)]), &["capability:CAP_NET_ADMIN"]);
}

#[test]
fn a_gift_of_a_random_name_is_the_same_every_time() {
    let gift = |name: &str| call("fchown", &[]).gift(name, 0, 0).answered();
    let one = |name: &str| run(&trace("x", [mkdir(name).in_directory("/srv"), gift(&format!("{name}/key"))]));
    let ids = |name: &str| one(name).requirements.iter().map(|r| r.id.clone()).collect::<Vec<_>>();
    let (first, second) = (ids("/srv/tmp-a8Xk29Qz"), ids("/srv/tmp-Zt51pWq0"));
    assert_eq!(first, second);
    assert!(first.contains(&"identity:chown:0,0:/srv/tmp-*/key".to_owned()), "{first:?}");
}

#[test]
fn a_seccomp_filter_without_no_new_privs_is_a_remark() {
    let install = call("seccomp", &[1]).check(ADMIN, "ns_capable_noaudit do_seccomp");
    let profile = run(&trace("x", [install]));
    assert_eq!(lines(&profile), [""; 0]);
    assert!(profile.notes[0].contains("NoNewPrivileges=yes"), "{:?}", profile.notes);
}

#[test]
fn overlayfs_at_work_is_no_need() {
    let lower =
        "capable_wrt_inode_uidgid generic_permission inode_permission lookup_one ovl_lookup path_openat";
    let create =
        "capable_wrt_inode_uidgid generic_permission inode_permission may_create vfs_create ovl_create_real";
    let attribute = "ns_capable xattr_permission vfs_getxattr ovl_check_protattr";
    // As seen on 6.18: the layer's inode, asked for with the mounter's credentials.
    let layer = "generic_permission inode_permission ovl_permission inode_permission may_open path_openat";
    needs(
        &trace(
            "x",
            [
                open("/srv/a", O_WRONLY | O_CREAT)
                    .check(DAC, lower)
                    .check(DAC, create)
                    .check(ADMIN, attribute),
                open("/srv/b", 0).check(DAC, OPEN).foreign(),
                open("/srv/c", 0).check(Capability::DAC_READ_SEARCH, layer),
            ],
        ),
        &[],
    );
}

#[test]
fn overlayfs_asks_for_its_callers_too() {
    let file =
        "capable_wrt_inode_uidgid generic_permission ovl_permission inode_permission may_open path_openat";
    let mode = "ns_capable inode_owner_or_capable setattr_prepare ovl_setattr notify_change chmod_common";
    needs(
        &trace(
            "x",
            [
                open("/srv/key", 0).check(Capability::DAC_READ_SEARCH, file).at(
                    "/srv/key",
                    FileType::File,
                    0o600,
                ),
                call("chmod", &[])
                    .on("/srv/dir")
                    .there(FileType::Directory, 0o755, 0)
                    .check(Capability::FOWNER, mode),
            ],
        ),
        &["path:/srv/dir directory own", "path:/srv/key file read"],
    );
}

#[test]
fn a_core_dump_is_the_kernels() {
    let stack =
        "generic_permission inode_permission path_openat do_filp_open filp_open vfs_coredump get_signal";
    let abort = call("tgkill", &[]).check(DAC, stack).outcome(Outcome::Unknown);
    needs(&trace("x", [abort]), &[]);
}

#[test]
fn set_id_bits_are_dropped_silently() {
    let stack = "capable_wrt_inode_uidgid in_group_or_capable setattr_prepare notify_change chmod_common";
    let events =
        ["chmod", "chown", "write"].map(|name| call(name, &[]).on("/srv/x").check(Capability::FSETID, stack));
    needs(&trace("x", events), &[]);
}

#[test]
fn a_namespace_of_ones_own_gives_its_own_rights() {
    let mount =
        call("mount", &[]).on("/mnt").check(ADMIN, "ns_capable may_mount path_mount").child_namespace();
    needs(&trace("x", [mount]), &[]);
    let unshare =
        call("unshare", &[0x4002_0000]).check(ADMIN, "ns_capable unshare_nsproxy_namespaces ksys_unshare");
    needs(&trace("x", [unshare]), &["kernel:namespace:CAP_SYS_ADMIN:mount,net"]);
}

#[test]
fn one_directory_that_refuses_again_and_again_is_one_need() {
    let files = ["member/snap/db", "member/wal/0000000000000000-0000000000000000.wal", "member"];
    let events = files.map(|name| {
        open(&format!("/var/lib/etcd/{name}"), O_RDWR)
            .check(Capability::DAC_READ_SEARCH, SEARCH)
            .at("/var/lib/etcd", FileType::Directory, 0o700)
            .times(7)
    });
    let profile = run(&trace("etcd", events));
    assert_eq!(lines(&profile), ["path:/var/lib/etcd directory search"]);
    let evidence = &profile.requirements[0].evidence;
    assert_eq!((evidence.count, evidence.objects.len()), (21, 3));
    assert_eq!(evidence.refused_at, Some("/var/lib/etcd".into()));
}

#[test]
fn two_capabilities_asked_in_turn_are_one_need_of_one_call() {
    let read = open("/etc/shadow", 0)
        .check(Capability::DAC_READ_SEARCH, OPEN)
        .refused()
        .at("/etc/shadow", FileType::File, 0o640)
        .check(DAC, OPEN)
        .at("/etc/shadow", FileType::File, 0o640);
    let profile = run(&trace("x", [read]));
    assert_eq!(lines(&profile), ["path:/etc/shadow file read"]);
    let requirement = &profile.requirements[0];
    assert_eq!((requirement.evidence.count, requirement.evidence.checks.len()), (1, 2));
    // The second granted what the first refused.
    assert_eq!((requirement.basis, requirement.severity), (Basis::Kernel, Severity::Required));
}

#[test]
fn names_renamed_at_once_belong_to_their_directory() {
    for temporary in ["tmp-k3Jx0Qzv", "apache2.BEjDmtprfM", "state.json.new"] {
        let from = format!("/var/lib/x/{temporary}");
        let events = [
            open(&from, O_WRONLY | O_CREAT).check(DAC, O_CREATE).in_directory("/var/lib/x"),
            call("chmod", &[0, 0o600]).on(&from),
            rename(&from, "/var/lib/x/state.json").in_directory("/var/lib/x"),
            call("unlink", &[]).on("/var/lib/x/state.json").check(DAC, UNLINK).in_directory("/var/lib/x"),
        ];
        let profile = run(&trace("x", events));
        assert_eq!(lines(&profile), ["path:/var/lib/x directory write"]);
        let objects = &profile.requirements[0].evidence.objects;
        assert_eq!(objects.len(), 2, "{objects:?}");
    }
}

#[test]
fn a_rename_between_directories_is_about_the_one_that_refused() {
    let source = || call("rename", &[]).two("/srv/a/x", "/srv/b/x").check(DAC, RENAME_OLD);
    needs(&trace("x", [source().in_directory("/srv/a")]), &["path:/srv/a/x file delete"]);
    // Replacing what is there asks may_delete for the new name as well.
    needs(&trace("x", [source().in_directory("/srv/b")]), &["path:/srv/b/x file create"]);
    // Where the component is a guess, it is the same for both.
    let both = rename("/srv/a/x", "/srv/b/x").in_directory("/srv/a");
    let replaced = source().in_directory("/srv/a").check(DAC, RENAME_OLD).in_directory("/srv/a");
    for event in [both, replaced] {
        needs(&trace("x", [event]), &["path:/srv/a/x file delete", "path:/srv/b/x file create"]);
    }
}

#[test]
fn a_read_only_mount_is_not_an_owner() {
    let profile = run(&trace("x", [call("mkdir", &[0, 0o755]).on("/usr/lib/x").fails(EROFS)]));
    assert_eq!(lines(&profile), [""; 0]);
    let obstacle = profile.unexplained[0].obstacle.as_ref().unwrap();
    assert_eq!((obstacle.cause, &obstacle.at), (Cause::ReadOnlyMount, &None));
}

#[test]
fn the_kernel_log_takes_a_capability_whatever_its_mode() {
    let log = open("/dev/kmsg", 0).there(FileType::CharDevice, 0o644, 0).check(
        Capability::SYSLOG,
        "capable check_syslog_permissions devkmsg_open chrdev_open do_dentry_open",
    );
    needs(&trace("x", [log]), &["capability:CAP_SYSLOG"]);
}

#[test]
fn a_device_is_no_ordinary_file() {
    let tun = open("/dev/net/tun", O_RDWR).check(DAC, OPEN).at("/dev/net/tun", FileType::CharDevice, 0o600);
    needs(&trace("x", [tun]), &["device:/dev/net/tun read,write"]);
}

#[test]
fn standard_streams_opened_again_are_the_runs_own() {
    let names = [
        "/dev/stderr",
        "/dev/stdout",
        "/dev/fd/2",
        "/proc/self/fd/1",
        "/proc/77/fd/1",
        "/dev/tty",
        "/dev/pts/4",
    ];
    needs(&trace("x", names.map(|name| open(name, O_WRONLY | O_APPEND).check(DAC, OPEN))), &[]);
    let led_there = open("/proc/4242/fd/2", O_WRONLY).given("/dev/stderr").fails(EACCES);
    let refused = run(&trace("x", [led_there]));
    // What is really refused is not passed over, and why is said.
    assert_eq!((lines(&refused).len(), refused.unexplained.len()), (0, 1));
    assert!(refused.notes.iter().any(|note| note.contains("opens /dev/stderr again")), "{:?}", refused.notes);
    // A file behind it is a file.
    let behind = open("/root/log", O_WRONLY).given("/dev/stdout").check(DAC, OPEN);
    needs(&trace("x", [behind.at("/root/log", FileType::File, 0o600)]), &["path:/root/log file write"]);
    // The name alone does not do it.
    let file =
        open("/srv/dev/stderr", O_WRONLY).check(DAC, OPEN).at("/srv/dev/stderr", FileType::File, 0o644);
    needs(&trace("x", [file]), &["path:/srv/dev/stderr file write"]);
}

#[test]
fn a_search_of_path_is_the_callers() {
    let look = |path: &str, errno: i32| {
        call("execve", &[])
            .on(path)
            .check(Capability::DAC_READ_SEARCH, SEARCH)
            .in_directory("/root")
            .fails(errno)
    };
    let found = call("execve", &[]).on("/usr/bin/id");
    needs(&trace("x", [look("/root/.local/bin/id", ENOENT), look("/root/go/id", EACCES), found]), &[]);
    // A program that is nowhere else is wanted there.
    let only = look("/root/app/run", ENOENT);
    needs(&trace("x", [only]), &["path:/root directory search?"]);
}

#[test]
fn a_process_may_look_at_itself() {
    let events = [
        open("/proc/self/mem", O_RDWR).check(DAC, OPEN),
        open("/proc/4242/environ", 0).check(Capability::SYS_PTRACE, "ns_capable ptrace_may_access mm_access"),
    ];
    needs(&trace("x", events), &[]);
    let other =
        open("/proc/1/environ", 0).check(Capability::SYS_PTRACE, "ns_capable __ptrace_may_access mm_access");
    needs(&trace("x", [other]), &["capability:CAP_SYS_PTRACE"]);
    let score = call("write", &[3])
        .on("/proc/self/oom_score_adj")
        .wrote("-999\n")
        .check(Capability::SYS_RESOURCE, "capable __set_oom_adj oom_score_adj_write vfs_write");
    needs(&trace("x", [score]), &["limit:oom-score -999"]);
}

#[test]
fn the_working_directory_comes_from_the_caller() {
    let relative = open("/root/work/conf", 0).given("conf").check(Capability::DAC_READ_SEARCH, SEARCH).at(
        "/root",
        FileType::Directory,
        0o700,
    );
    let mut trace = trace("x", [relative]);
    trace.run.cwd = "/root/work".into();
    let profile = run(&trace);
    assert_eq!(lines(&profile), [""; 0]);
    assert!(profile.notes[0].contains("WorkingDirectory="), "{:?}", profile.notes);
    trace.run.cwd = "/srv".into();
    assert_eq!(lines(&run(&trace)), ["path:/root directory search"]);
}

#[test]
fn dac_capabilities_are_a_need_only_where_there_is_no_path() {
    let events = [
        call("open_by_handle_at", &[])
            .check(Capability::DAC_READ_SEARCH, "capable handle_to_path do_handle_open"),
        call("io_uring_enter", &[]).check(DAC, OPEN),
    ];
    let profile = run(&trace("x", events));
    assert_eq!(lines(&profile), ["capability:CAP_DAC_READ_SEARCH"]);
    assert_eq!(profile.unexplained.len(), 1);
}

#[test]
fn a_refusal_without_a_check_is_not_guessed_at() {
    let refused = || open("/srv/x", 0).there(FileType::File, 0o600, 0).fails(EACCES);
    let mut trace = trace("x", [refused(), refused()]);
    let profile = run(&trace);
    assert_eq!((lines(&profile).len(), profile.unexplained[0].count), (0, 2));
    // A backend that does not see checks leaves owner and mode to explain it.
    trace.run.backend = Backend::Ptrace;
    let profile = run(&trace);
    assert_eq!(lines(&profile), ["path:/srv/x file read"]);
    assert_eq!((profile.requirements[0].basis, profile.unexplained.len()), (Basis::Denied, 0));
}

#[test]
fn a_capability_that_could_not_be_given_was_really_refused() {
    let limit = call("prlimit64", &[0, 7, 0x7000, 0])
        .check(Capability::SYS_RESOURCE, "capable do_prlimit __do_sys_prlimit64")
        .refused()
        .fails(EPERM);
    let profile = run(&trace("x", [limit]));
    assert_eq!(lines(&profile), ["limit:open-files"]);
    assert_eq!(
        (profile.requirements[0].basis, profile.requirements[0].severity),
        (Basis::Denied, Severity::Required)
    );
}

#[test]
fn what_would_have_failed_anyway_is_a_probe() {
    let look = open("/root/.config/x", 0).check(Capability::DAC_READ_SEARCH, SEARCH).in_directory("/root");
    needs(&trace("x", [look.clone().fails(ENOENT)]), &["path:/root directory search?"]);
    // One success is enough, and where the outcome is not known it counts.
    needs(&trace("x", [look.clone().fails(ENOENT), look.clone()]), &["path:/root directory search"]);
    needs(&trace("x", [look.outcome(Outcome::Unknown)]), &["path:/root directory search"]);
}

#[test]
fn a_program_that_lives_or_was_refused_did_not_give_up() {
    let mut trace = trace("x", [call("stat", &[]).on("/srv/x")]);
    assert_eq!(run(&trace).gave_up, None);
    trace.end.exit = Exit::Exited { status: 2 };
    assert!(run(&trace).gave_up.is_some());
    // A limit that may not be raised is made do with.
    let limit = call("prlimit64", &[0, 7])
        .check(Capability::SYS_RESOURCE, "capable do_prlimit")
        .refused()
        .fails(EPERM);
    trace.events.extend(super::build::trace("x", [limit]).events);
    assert!(run(&trace).gave_up.is_some());
    trace.events.extend(super::build::trace("x", [call("setuid", &[7]).ids(&[7]).fails(EPERM)]).events);
    assert_eq!(run(&trace).gave_up, None);
}

#[test]
fn every_address_is_listed_but_those_of_clients() {
    let listen = |make: Make| {
        let mut make = make;
        make.0.call.name = "listen".into();
        make
    };
    let events = [
        bind(Protocol::Tcp, "127.0.0.1", 6379),
        listen(bind(Protocol::Tcp, "0.0.0.0", 40_001)),
        bind(Protocol::Udp, "0.0.0.0", 41_000),
        bind(Protocol::Udp, "0.0.0.0", 53).fails(EACCES).check(Capability::NET_BIND_SERVICE, BIND).refused(),
        bind(Protocol::Netlink, "", 0),
        call("bind", &[]).unix("/run/x.sock"),
    ];
    let profile = run(&trace("x", events));
    let listens: Vec<String> =
        profile.listens.iter().map(|at| format!("{} {:?}", at.address, at.port)).collect();
    assert_eq!(listens, ["0.0.0.0 Some(40001)", "127.0.0.1 Some(6379)", "/run/x.sock None"]);
    assert!(matches!(&profile.requirements[0].need, Need::Port { port: 53, .. }));
}

#[test]
fn what_programs_go_on_without_is_a_remark() {
    const O_NOATIME: u64 = 0o1_000_000;
    let seen = open("/etc/hosts", O_NOATIME)
        .check(Capability::FOWNER, "inode_owner_or_capable may_open path_openat")
        .at("/etc/hosts", FileType::File, 0o644);
    let profile = run(&trace("x", [seen]));
    assert!(lines(&profile).is_empty() && profile.notes.iter().any(|note| note.contains("O_NOATIME")));
    let own_group = call("kill", &[0, 10]).check(Capability::KILL, "ns_capable kill_ok_by_cred");
    needs(&trace("x", [own_group]), &[]);
    let others = call("kill", &[1, 10]).check(Capability::KILL, "ns_capable kill_ok_by_cred");
    needs(&trace("x", [others]), &["capability:CAP_KILL"]);
}

#[test]
fn an_echo_socket_takes_a_range_of_groups() {
    let echo = || call("socket", &[2, 2, 1]).fails(EACCES);
    needs(&trace("x", [echo()]), &["sysctl:net.ipv4.ping_group_range=0 2147483647"]);
    // A raw socket does for it.
    let raw = call("socket", &[2, 3, 1]).check(Capability::NET_RAW, "ns_capable inet_create");
    let profile = run(&trace("x", [echo(), raw]));
    let severities: Vec<_> =
        profile.requirements.iter().map(|need| (need.id.as_str(), need.severity)).collect();
    assert!(severities.contains(&("sysctl:net.ipv4.ping_group_range", Severity::Probe)), "{severities:?}");
    // Other sockets are not for that.
    assert_eq!(lines(&run(&trace("x", [call("socket", &[2, 2, 17]).fails(EACCES)]))), [""; 0]);
}

#[test]
fn a_program_need_not_be_read() {
    let frames = "capable_wrt_inode_uidgid generic_permission inode_permission begin_new_exec";
    let run_it = || call("execve", &[]).on("/srv/app/b");
    let looked = run_it().check(Capability::DAC_READ_SEARCH, frames).at("/srv/app/b", FileType::File, 0o711);
    needs(&trace("x", [looked]), &[]);
    let executed = run_it().check(DAC, OPEN).at("/srv/app/b", FileType::File, 0o700);
    needs(&trace("x", [executed]), &["path:/srv/app/b file execute"]);
}

/// A real-time class of input and output takes CAP_SYS_NICE or CAP_SYS_ADMIN, and the kernel asks for the mightier one
/// first; where another call asks for that, nothing less does.
#[test]
fn the_least_of_two_capabilities_that_answer_is_needed() {
    let ids = |events: Vec<Make>| -> Vec<String> {
        run(&trace("/usr/bin/backup", events)).requirements.into_iter().map(|known| known.id).collect()
    };
    let ionice =
        || call("ioprio_set", &[1, 0, 1 << 13]).check(Capability::SYS_ADMIN, "capable ioprio_check_cap");
    assert_eq!(ids(vec![ionice()]), ["capability:CAP_SYS_NICE"]);
    let name = call("sethostname", &[0, 4]).check(Capability::SYS_ADMIN, "ns_capable __do_sys_sethostname");
    assert_eq!(ids(vec![ionice(), name]), ["capability:CAP_SYS_ADMIN", "capability:CAP_SYS_NICE"]);
}
