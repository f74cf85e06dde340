//! A service traced on this machine, and an image of it with the lines of its Containerfile: it serves as its user, in a
//! container without capabilities.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use nrtrace_tests::podman::ENGINE;
use nrtrace_tests::record::record;
use nrtrace_tests::sandbox::{BIN, OUT, Sandbox};
use nrtrace_tests::service::quote;
use nrtrace_tests::truth::Truth;

/// Bash: an image, as `base`, of this machine's own files of a service, a shell, and what an image's `RUN` lines call.
const BASE: &str = r#"
    base() {
        root=/tmp/root
        mkdir -p $root/{usr/bin,usr/sbin,usr/lib,usr/lib64,run,tmp,proc,sys,dev}
        for link in bin sbin lib lib64; do ln -s usr/$link $root/$link; done
        chmod 1777 $root/tmp
        cp -a --parents /usr/bin/{sh,dash,install,chown,chmod,chgrp,grep,mkfifo} /etc/{passwd,group,nsswitch.conf} "$@" $root
        find $root/usr -type f -perm /111 -exec ldd {} + 2>/dev/null | grep -o '/[^ ]*[^ :]' | sort -u | while read -r file; do
            case $file in $root/*) continue ;; esac
            install -D "$(readlink -f $file)" $root/usr${file#/usr}
        done
        tar -C $root -c . | podman import - base >/dev/null
        rm -r $root
    }
"#;

/// Records the service, builds its image from `files`, and exercises it in a container with `options`.
fn check(name: &str, files: &str, options: &str) {
    let truth = Truth::load(name).unwrap();
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(180));
    let (profile, _) = record(&truth, &sandbox, "ebpf").unwrap();
    let words: Vec<String> = truth.command.iter().map(|word| quote(word)).collect();
    let script = format!(
        r#"{ENGINE}{BASE}{prepare}
        base {files}
        mkdir /tmp/context
        {{ echo FROM localhost/base; {BIN}/nrtrace emit --format containerfile {OUT}/result/profile.json; }} >/tmp/context/Containerfile
        cat /tmp/context/Containerfile
        run() {{
            podman run -d --name service --network none --cap-drop all --security-opt no-new-privileges \
                --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 "$@" >/dev/null
        }}
        serves() {{
            for _ in $(seq 100); do
                pid=$(podman inspect -f '{{{{.State.Pid}}}}' service)
                [ "$pid" != 0 ] || return 1
                nsenter -t $pid -n timeout 5 bash -euo pipefail -c {exercise} >{OUT}/exercise.log 2>&1 && return
                sleep 0.1
            done
            return 1
        }}
        # The image as it was is not enough.
        run --user {uid}:{gid} {options} base {command}
        ! serves
        podman rm -f service >/dev/null
        podman build -q --isolation chroot --layers=false -t image /tmp/context
        run {options} image {command}
        serves || {{ podman logs service; cat {OUT}/exercise.log; exit 1; }}
        grep -E '^(Uid|Gid|CapEff|NoNewPrivs)' /proc/$pid/status >{OUT}/status
        "#,
        prepare = truth.prepare,
        exercise = quote(&truth.exercise),
        command = words.join(" "),
        uid = profile.identity.uid,
        gid = profile.identity.gid,
    );
    let log = sandbox.script(&script).unwrap().ok().unwrap();
    let status = std::fs::read_to_string(sandbox.out().join("status")).unwrap();
    let uid = profile.identity.uid;
    for line in [&format!("Uid:\t{uid}\t{uid}"), "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "wanted {line} in {status}: {log}");
    }
}

#[test]
fn nginx() {
    check(
        "nginx",
        "/usr/sbin/nginx /etc/nginx /usr/share/nginx /var/lib/nginx /var/log/nginx /var/www",
        "--sysctl net.ipv4.ip_unprivileged_port_start=80",
    );
}

#[test]
fn redis() {
    // Its group reads the configuration, and an image's numeric user has no groups: the Containerfile says to add it.
    check(
        "redis-server",
        "/usr/bin/redis-{server,check-rdb} /etc/redis /var/lib/redis /var/log/redis",
        "--group-add $(getent group redis | cut -d: -f3)",
    );
}
