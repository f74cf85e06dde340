//! What calls want of files.

use crate::Capability;
use crate::event::{Exit, FileType, Object, Phase};
use crate::requirement::{Basis, Evidence, Need, Severity};

use super::build::*;
use super::{lines, needs, run};

const DAC: Capability = Capability::DAC_OVERRIDE;

#[test]
fn open_flags_say_what_is_done() {
    let table = [
        (0, "read"),
        (O_WRONLY, "write"),
        (O_RDWR, "read,write"),
        (O_WRONLY | O_APPEND, "append"),
        (O_RDWR | O_APPEND, "read,append"),
        (O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, "write,append"),
        (O_TRUNC, "read,write"),
        (3, "read,write"),
    ];
    for (flags, access) in table {
        let event = open("/srv/x", flags).check(DAC, OPEN).at("/srv/x", FileType::File, 0o644);
        needs(&trace("x", [event]), &[&format!("path:/srv/x file {access}")]);
    }
}

#[test]
fn a_call_that_hides_its_flags_is_told_by_the_capability() {
    let open = |capability: Capability| {
        call("openat2", &[]).on("/srv/x").check(capability, OPEN).at("/srv/x", FileType::File, 0o600)
    };
    needs(&trace("x", [open(Capability::DAC_READ_SEARCH)]), &["path:/srv/x file read"]);
    needs(&trace("x", [open(DAC)]), &["path:/srv/x file write"]);
}

#[test]
fn calls_say_what_is_done() {
    let here = |name: &str, args: &[u64], frames: &str| {
        let event = call(name, args).on("/srv/x").check(DAC, frames);
        event.at("/srv/x", FileType::File, 0o600)
    };
    let table = [
        (here("truncate", &[0], "generic_permission inode_permission vfs_truncate"), "write"),
        (here("faccessat2", &[0, 0, 5], ACCESS), "read,execute?"),
        (here("execve", &[], OPEN), "execute"),
        (here("setxattr", &[], "generic_permission inode_permission xattr_permission"), "write"),
        (here("utimensat", &[0, 0, 0], "generic_permission may_setattr notify_change"), "write"),
    ];
    for (event, access) in table {
        needs(&trace("x", [event]), &[&format!("path:/srv/x file {access}")]);
    }
    let socket = call("connect", &[])
        .unix("/run/docker.sock")
        .check(DAC, "generic_permission inode_permission unix_find_other");
    needs(&trace("x", [socket]), &["path:/run/docker.sock socket write"]);
    let temporary =
        call("openat", &[0, 0, 0o20_200_002]).on("/var/lib/x").there(FileType::Directory, 0o755, 0);
    let temporary = temporary.check(DAC, "generic_permission inode_permission vfs_tmpfile path_openat");
    needs(&trace("x", [temporary]), &["path:/var/lib/x directory write"]);
}

#[test]
fn what_is_made_has_its_type() {
    let make = |name: &str, args: &[u64]| {
        call(name, args).on("/run/x").check(DAC, "generic_permission may_create").in_directory("/run")
    };
    let table = [
        (make("mkdirat", &[]), "directory"),
        (make("mknod", &[0, 0o010_600]), "fifo"),
        (make("mknodat", &[0, 0, 0o140_600]), "socket"),
        (make("creat", &[]), "file"),
        (call("bind", &[]).unix("/run/x").check(DAC, MKNOD).in_directory("/run"), "socket"),
        (
            call("symlink", &[]).two("/run/x", "/srv/y").check(DAC, "generic_permission vfs_symlink"),
            "symlink",
        ),
        (call("link", &[]).two("/srv/y", "/run/x").check(DAC, "generic_permission vfs_link"), "file"),
    ];
    for (event, file_type) in table {
        needs(&trace("x", [event]), &[&format!("path:/run/x {file_type} create")]);
    }
}

#[test]
fn a_check_on_the_directory_of_a_file_that_is_there_is_moot() {
    let log = open("/var/log/x.log", O_WRONLY | O_CREAT | O_APPEND)
        .there(FileType::File, 0o640, 0)
        .check(DAC, O_CREATE)
        .in_directory("/var/log");
    // Somebody else's file was there before.
    needs(&trace("x", [log.clone()]), &[]);
    let log = log.check(DAC, OPEN).at("/var/log/x.log", FileType::File, 0o640);
    needs(&trace("x", [log]), &["path:/var/log/x.log file append"]);
}

#[test]
fn a_file_made_and_removed_is_one_need() {
    let events = [
        open("/run/x.pid", O_WRONLY | O_CREAT).check(DAC, O_CREATE).in_directory("/run"),
        call("unlink", &[]).on("/run/x.pid").check(DAC, UNLINK).in_directory("/run").phase(Phase::Shutdown),
    ];
    let profile = run(&trace("x", events));
    assert_eq!(lines(&profile), ["path:/run/x.pid file create,delete"]);
    assert_eq!(profile.requirements[0].phase, Phase::Startup);
}

#[test]
fn what_is_below_a_directory_of_the_runs_own_making_is_the_users() {
    let inside = open("/run/x/sub/file", O_WRONLY | O_CREAT).check(DAC, O_CREATE).in_directory("/run/x/sub");
    needs(&trace("x", [mkdir("/run/x").in_directory("/run"), inside]), &["path:/run/x directory create"]);
}

#[test]
fn a_path_through_a_link_names_both() {
    let event = open("/etc/alternatives/x", 0).check(Capability::DAC_READ_SEARCH, OPEN).at(
        "/opt/x/secret",
        FileType::File,
        0o600,
    );
    let profile = run(&trace("x", [event]));
    assert_eq!(lines(&profile), ["path:/opt/x/secret file read"]);
    assert!(profile.requirements[0].evidence.objects.contains(&"/etc/alternatives/x".into()));
}

#[test]
fn a_path_that_is_not_known_is_not_made_up() {
    let mut event = open("conf", 0).check(DAC, OPEN);
    if let crate::event::Object::Path(path) = &mut event.0.object {
        path.resolved = false;
    }
    let profile = run(&trace("x", [event]));
    assert_eq!((lines(&profile).len(), profile.unexplained.len()), (0, 1));
    assert_eq!(profile.unexplained[0].object, "conf".into());
}

#[test]
fn objects_are_limited() {
    let events = (0..100).map(|number| {
        open(&format!("/srv/dir/{number}"), 0).check(Capability::DAC_READ_SEARCH, SEARCH).at(
            "/srv/dir",
            FileType::Directory,
            0o700,
        )
    });
    assert_eq!(run(&trace("x", events)).requirements[0].evidence.objects.len(), Evidence::OBJECTS);
}

#[test]
fn names_that_repeat_with_a_difference_are_one_pattern() {
    let make = |name: &str| {
        open(&format!("/run/{name}"), O_WRONLY | O_CREAT).check(DAC, O_CREATE).in_directory("/run")
    };
    needs(
        &trace("x", ["w-1.sock", "w-2.sock", "w-13.sock", "w.pid"].map(make)),
        &["path:/run/w-*.sock file create", "path:/run/w.pid file create"],
    );
    needs(
        &trace("x", ["a.sock", "b.sock", "redis_6379.pid", "redis_6380.pid"].map(make)),
        &[
            "path:/run/a.sock file create",
            "path:/run/b.sock file create",
            "path:/run/redis_6379.pid file create",
            "path:/run/redis_6380.pid file create",
        ],
    );
}

#[test]
fn a_name_that_was_there_is_no_pattern_and_one_with_stars_is_escaped() {
    let read =
        open("/srv/6b2a9f41-4c1e-4b52-9a0e-0d5a3c1f7e11/key", 0).check(Capability::DAC_READ_SEARCH, OPEN);
    needs(&trace("x", [read]), &["path:/srv/6b2a9f41-4c1e-4b52-9a0e-0d5a3c1f7e11/key file read"]);
    let made = open("/run/a[*]?-123456789", O_WRONLY | O_CREAT).check(DAC, O_CREATE).in_directory("/run");
    let profile = run(&trace("x", [made]));
    let Need::Path { path, pattern, .. } = &profile.requirements[0].need else { panic!("not a path") };
    assert_eq!((path, *pattern), (&"/run/a[[][*]][?]-*".into(), true));
}

#[test]
fn kernel_files_are_no_files() {
    let write = |path: &str| open(path, O_WRONLY).check(DAC, OPEN).at(path, FileType::File, 0o644);
    let events = [
        write("/sys/fs/cgroup/x/cgroup.procs"),
        // A pod's own group, which the kubelet made: other ids in the next run, and still the same need.
        write("/sys/fs/cgroup/pod6b2a9f41-4c1e-4b52-9a0e-0d5a3c1f7e11/cpu.max"),
        write("/sys/fs/cgroup/pod0d5a3c1f-4c1e-4b52-9a0e-6b2a9f417e11/cpu.max"),
        write("/sys/fs/cgroup/kubepods-pod0d5a3c1f_4c1e_4b52_9a0e_6b2a9f417e11.slice/cpu.max"),
        write("/sys/kernel/mm/transparent_hugepage/enabled"),
        // No check: /proc/sys goes by root's uid.
        open("/proc/sys/vm/overcommit_memory", O_WRONLY).fails(EACCES),
        open("/sys/kernel/debug/x", 0).check(Capability::DAC_READ_SEARCH, OPEN).at(
            "/sys/kernel/debug/x",
            FileType::File,
            0o400,
        ),
    ];
    needs(
        &trace("x", events),
        &[
            "path:/sys/kernel/debug/x file read",
            "sysctl:vm.overcommit_memory",
            "kernel:cgroup:CAP_DAC_OVERRIDE:/sys/fs/cgroup/kubepods-pod*.slice/cpu.max",
            "kernel:cgroup:CAP_DAC_OVERRIDE:/sys/fs/cgroup/pod*/cpu.max",
            "kernel:cgroup:CAP_DAC_OVERRIDE:/sys/fs/cgroup/x/cgroup.procs",
            "kernel:sysfs:CAP_DAC_OVERRIDE:/sys/kernel/mm/transparent_hugepage/enabled",
        ],
    );
}

/// An open that finds no directory to make its file in.
fn no_directory(path: &str) -> Make {
    let mut open = open(path, O_WRONLY | O_CREAT).fails(ENOENT);
    if let Object::Path(object) = &mut open.0.object {
        object.parent = None;
    }
    open
}

#[test]
fn a_missing_directory_is_a_need_when_the_program_fails() {
    let mut died = trace("x", [no_directory("/run/x/x.pid")]);
    died.end.exit = Exit::Exited { status: 1 };
    needs(&died, &["path:/run/x directory create"]);
    let profile = run(&died);
    assert!(profile.gave_up.is_some(), "what it said last is still shown");
    assert_eq!(profile.requirements[0].basis, Basis::Denied);
    // One that goes on lives without.
    let lives = run(&trace("x", [no_directory("/run/x/x.pid")]));
    assert_eq!(lives.requirements[0].severity, Severity::Probe);
    assert!(lives.gave_up.is_none());
}

#[test]
fn a_directory_that_the_program_makes_afterwards_is_not_missing() {
    let mut later = trace("x", [no_directory("/srv/x/a/b"), call("mkdir", &[]).on("/srv/x/a")]);
    later.end.exit = Exit::Exited { status: 1 };
    needs(&later, &[]);
    // The directory is there, the file is not, as below /proc/sys; or it is the kernel's.
    let mut other =
        trace("x", [open("/srv/x/a", O_WRONLY | O_CREAT).fails(ENOENT), no_directory("/sys/a/b")]);
    other.end.exit = Exit::Exited { status: 1 };
    needs(&other, &[]);
}

#[test]
fn what_is_made_in_the_root_for_want_of_a_home_is_said() {
    let mut trace = trace("x", [mkdir("/.config").in_directory("/"), mkdir("/data").in_directory("/")]);
    assert_eq!(run(&trace).notes, [""; 0]);
    trace.run.environment = vec![("HOME".into(), "/".into())];
    let notes = run(&trace).notes;
    assert!(notes[0].starts_with("made in / since its user has no home: /.config;"), "{notes:?}");
}
