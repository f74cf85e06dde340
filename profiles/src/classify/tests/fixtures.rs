//! Services, as strace on Debian 12 shows what they do, with the checks of a permissive run.

use crate::Capability;
use crate::event::{Exit, FileType, Phase, Protocol, Trace};

use super::build::*;
use super::check;

const DAC: Capability = Capability::DAC_OVERRIDE;

fn log(path: &str) -> Make {
    open(path, O_WRONLY | O_CREAT | O_APPEND).there(FileType::File, 0o640, 0).check(DAC, OPEN).at(
        path,
        FileType::File,
        0o640,
    )
}

fn listen(make: Make) -> Make {
    let mut listen = make.clone();
    listen.0.call.name = "listen".into();
    listen.0.checks.clear();
    listen
}

/// `nginx -g 'daemon off;'` with stock configuration.
pub fn nginx() -> Trace {
    let port = |address: &str| bind(Protocol::Tcp, address, 80).check(Capability::NET_BIND_SERVICE, BIND);
    let temporary = |name: &str| mkdir(&format!("/var/lib/nginx/{name}")).in_directory("/var/lib/nginx");
    let events = [
        log("/var/log/nginx/error.log"),
        open("/etc/nginx/nginx.conf", 0).there(FileType::File, 0o644, 0),
        temporary("body"),
        temporary("proxy"),
        temporary("fastcgi"),
        temporary("uwsgi"),
        temporary("scgi"),
        port("0.0.0.0"),
        listen(port("0.0.0.0")),
        port("::"),
        listen(port("::")),
        log("/var/log/nginx/access.log"),
        log("/var/log/nginx/error.log"),
        call("mmap", &[])
            .check(Capability::SYS_ADMIN, "cap_vm_enough_memory security_vm_enough_memory_mm mmap_region")
            .times(90),
        open("/run/nginx.pid", O_RDWR | O_CREAT | O_TRUNC)
            .there(FileType::File, 0o644, UID)
            .check(DAC, O_CREATE)
            .in_directory("/run"),
        call("unlink", &[])
            .on("/run/nginx.pid")
            .check(DAC, UNLINK)
            .in_directory("/run")
            .phase(Phase::Shutdown),
    ];
    trace(
        "/usr/sbin/nginx -g daemon off;",
        events.map(|event| {
            let pid = event.0.process.pid;
            event.by(pid, "nginx")
        }),
    )
}

#[test]
fn nginx_needs_what_was_found_by_hand() {
    check(
        "nginx",
        &nginx(),
        &[
            "path:/run/nginx.pid file create,delete",
            "path:/var/lib/nginx/body directory create",
            "path:/var/lib/nginx/fastcgi directory create",
            "path:/var/lib/nginx/proxy directory create",
            "path:/var/lib/nginx/scgi directory create",
            "path:/var/lib/nginx/uwsgi directory create",
            "path:/var/log/nginx/access.log file append",
            "path:/var/log/nginx/error.log file append",
            "port:tcp:0.0.0.0:80",
            "port:tcp::::80",
        ],
    );
}

/// k0s makes its children's bootstrap configuration under a random name in /run.
#[test]
fn k0s_makes_a_random_name_in_a_shared_directory() {
    let path = "/run/k0s-2957104368-kubelet-bootstrap-kubeconfig";
    let mut trace = trace(
        "/usr/local/bin/k0s controller",
        [
            open(path, O_RDWR | O_CREAT | O_EXCL).check(DAC, O_CREATE).in_directory("/run"),
            call("unlinkat", &[u64::MAX - 99, 0x7000, 0]).on(path).check(DAC, UNLINK).in_directory("/run"),
        ],
    );
    trace.run.environment = vec![("TMPDIR".into(), "/var/tmp/k0s".into())];
    check("k0s", &trace, &["path:/run/k0s-*-kubelet-bootstrap-kubeconfig file create,delete"]);
}

/// postgres wants its data directory to be its own, and finds out with stat.
#[test]
fn postgres_gives_up_without_a_refusal() {
    let data = "/var/lib/postgresql/15/main";
    let stat = |path: &str, mode: u32, uid: u32| {
        call("newfstatat", &[]).on(path).there(FileType::Directory, mode, uid)
    };
    let mut trace = trace(
        "/usr/lib/postgresql/15/bin/postgres",
        [
            open("/lib/x86_64-linux-gnu/libc.so.6", 0),
            open("/usr/lib/locale/locale-archive", 0),
            open("/etc/postgresql/15/main/postgresql.conf", 0).there(FileType::File, 0o644, 107),
            stat(data, 0o700, 107)
                .check(Capability::DAC_READ_SEARCH, SEARCH)
                .in_directory("/var/lib/postgresql/15"),
        ],
    );
    trace.end.exit = Exit::Exited { status: 1 };
    trace.end.stderr = vec![
        "FATAL:  data directory \"/var/lib/postgresql/15/main\" has wrong ownership".into(),
        "HINT:  The server must be started by the user that owns the data directory.".into(),
    ];
    check("postgres", &trace, &["path:/var/lib/postgresql/15 directory search"]);
}

/// haproxy with `user haproxy`, `group haproxy` and `chroot`.
#[test]
fn haproxy_changes_its_identity() {
    let events = [
        call("bind", &[])
            .unix("/run/haproxy/admin.sock.3217.tmp")
            .check(DAC, MKNOD)
            .in_directory("/run/haproxy"),
        rename("/run/haproxy/admin.sock.3217.tmp", "/run/haproxy/admin.sock").in_directory("/run/haproxy"),
        bind(Protocol::Tcp, "0.0.0.0", 443).check(Capability::NET_BIND_SERVICE, BIND),
        call("chroot", &[])
            .on("/var/lib/haproxy")
            .check(Capability::SYS_CHROOT, "ns_capable __do_sys_chroot"),
        call("setgroups", &[1]).ids(&[115]).answered(),
        call("setgid", &[115]).ids(&[115]).answered(),
        call("setuid", &[108]).ids(&[108]).answered(),
    ];
    check(
        "haproxy",
        &trace("/usr/sbin/haproxy", events.map(|event| event.by(3217, "haproxy"))),
        &[
            "path:/run/haproxy directory write",
            "port:tcp:0.0.0.0:443",
            "identity:set-group:115",
            "identity:set-groups:115",
            "identity:set-user:108",
            "kernel:chroot:CAP_SYS_CHROOT:/var/lib/haproxy",
        ],
    );
}

/// redis writes its dump under a name with its child's pid and renames it.
#[test]
fn redis_renames_a_temporary_dump() {
    let directory = "/var/lib/redis";
    let (temporary, dump) = ("/var/lib/redis/temp-33.rdb", "/var/lib/redis/dump.rdb");
    let events = [
        call("chdir", &[])
            .on(directory)
            .there(FileType::Directory, 0o750, 106)
            .check(
                Capability::DAC_READ_SEARCH,
                "capable_wrt_inode_uidgid generic_permission inode_permission __x64_sys_chdir",
            )
            .at(directory, FileType::Directory, 0o750),
        open(temporary, O_WRONLY | O_CREAT | O_TRUNC)
            .check(DAC, O_CREATE)
            .in_directory(directory)
            .by(33, "redis-server"),
        rename(temporary, dump).in_directory(directory).by(33, "redis-server"),
    ];
    check("redis", &trace("/usr/bin/redis-server", events), &["path:/var/lib/redis directory write,search"]);
}

/// named asks with access(2) whether it may write its working directory.
#[test]
fn named_asks_before_it_writes() {
    let cache = "/var/cache/bind";
    let events = [
        call("access", &[0x7000, 2])
            .on(cache)
            .there(FileType::Directory, 0o775, 0)
            .check(DAC, ACCESS)
            .in_directory(cache),
        open("/etc/bind/rndc.key", 0).check(Capability::DAC_READ_SEARCH, OPEN).at(
            "/etc/bind/rndc.key",
            FileType::File,
            0o640,
        ),
        bind(Protocol::Udp, "127.0.0.1", 53).check(Capability::NET_BIND_SERVICE, BIND),
        bind(Protocol::Udp, "0.0.0.0", 45_321),
    ];
    check(
        "named",
        &trace("/usr/sbin/named -f", events),
        &[
            "path:/etc/bind/rndc.key file read",
            "path:/var/cache/bind directory write?",
            "port:udp:127.0.0.1:53",
        ],
    );
}

/// chronyd sets the clock, locks memory and asks for a real-time priority.
#[test]
fn chrony_sets_the_clock() {
    let events = [
        call("adjtimex", &[0x7000])
            .check(Capability::SYS_TIME, "capable ntp_validate_timex do_adjtimex")
            .times(12),
        call("clock_settime", &[0])
            .check(Capability::SYS_TIME, "capable security_settime64 do_sys_settimeofday64"),
        call("mlockall", &[3]).check(Capability::IPC_LOCK, "capable can_do_mlock __do_sys_mlockall"),
        call("sched_setscheduler", &[0, 1]).check(Capability::SYS_NICE, "capable __sched_setscheduler"),
        call("setpriority", &[0, 0, (-10_i32) as u32 as u64])
            .check(Capability::SYS_NICE, "capable set_one_prio"),
        mkdir("/run/chrony").in_directory("/run"),
        call("bind", &[]).unix("/run/chrony/chronyd.sock"),
        bind(Protocol::Udp, "127.0.0.1", 323).check(Capability::NET_BIND_SERVICE, BIND),
        call("chown", &[0x7000, 110, 117]).gift("/run/chrony", 110, 117).answered(),
    ];
    check(
        "chrony",
        &trace("/usr/sbin/chronyd -d", events),
        &[
            "path:/run/chrony directory create",
            "port:udp:127.0.0.1:323",
            "capability:CAP_SYS_TIME",
            "identity:chown:110,117:/run/chrony",
            "limit:locked-memory",
            "limit:nice -10",
            "limit:scheduling",
        ],
    );
}
