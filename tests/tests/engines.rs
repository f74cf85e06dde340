//! Engines that keep their containers elsewhere than by default: docker and containerd, the real ones.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use nrtrace_profiles::profile::Profile;
use nrtrace_tests::record;
use nrtrace_tests::sandbox::Sandbox;

/// Bash: a docker with all its directories and its socket elsewhere, and an image of a shell and `sleep`.
const PRELUDE: &str = r#"
    at=/srv/engine; mkdir -p $at /var/lib/docker; mount -t tmpfs tmpfs $at
    dockerd --storage-driver vfs --iptables=false --bridge=none --data-root $at/data --exec-root $at/exec -p $at/pid \
        -H unix://$at/api.sock >"$OUT"/dockerd.log 2>&1 & daemon=$!
    docker() { command docker -H unix://$at/api.sock "$@"; }
    end() {
        docker rm -f $(docker ps -aq) >/dev/null 2>&1 || true
        kill $daemon; wait $daemon || true
        find /sys/fs/cgroup -mindepth 2 -maxdepth 4 -depth -type d \( -path "*/docker*" -o -path "*/$space*" \) -empty -exec rmdir {} + 2>/dev/null || true
    }
    space=shop-$(tr -d - </proc/sys/kernel/random/uuid | head -c 12)
    trap end EXIT
    for _ in $(seq 300); do docker version >/dev/null 2>&1 && break; sleep 0.1; done
    root=/tmp/tiny; mkdir -p $root/{usr/bin,usr/lib,usr/lib64,tmp,proc,sys,dev,etc}
    for link in bin lib lib64; do ln -s usr/$link $root/$link; done
    for program in dash sleep mkdir; do
        install -D /usr/bin/$program $root/usr/bin/$program
        ldd /usr/bin/$program | grep -o '/[^ ]*' | while read -r file; do install -D "$(readlink -f $file)" $root/usr${file#/usr}; done
    done
    ln -s dash $root/usr/bin/sh
    tar -C $root -c . | docker import - tiny >/dev/null
    options="--network none --ulimit nofile=1024:1024"
    ctr() { command ctr -a $at/exec/containerd/containerd.sock -n $space "$@"; }
    # waits ARGUMENTS: nrtrace waits for a container.
    waits() {
        : >"$OUT"/log
        echo "waiting: $*"
        nrtrace attach --wait "$@" 2>>"$OUT"/log & nrtrace=$!
        for _ in $(seq 600); do grep -q 'waiting for' "$OUT"/log && sleep 0.5 && return; sleep 0.05; done
        cat "$OUT"/log; exit 1
    }
    # ended STATUS…: nrtrace has ended with one of them, in time.
    ended() {
        for _ in $(seq 300); do kill -0 $nrtrace 2>/dev/null || break; sleep 0.1; done
        kill -0 $nrtrace 2>/dev/null && { echo "still waiting"; cat "$OUT"/log; exit 1; }
        status=0; wait $nrtrace || status=$?
        case " $* " in *" $status "*) ;; *) echo "status $status"; cat "$OUT"/log; exit 1 ;; esac
    }
"#;

fn script(text: &str) -> Sandbox {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(240));
    sandbox.script(&format!("{PRELUDE}\n{text}")).unwrap().ok().unwrap();
    sandbox
}

fn profile(sandbox: &Sandbox, name: &str) -> Profile {
    record::written(sandbox, name).unwrap()
}

#[test]
fn a_docker_that_keeps_all_elsewhere_is_asked() {
    let sandbox = script(
        r#"
        docker run -d --name here $options tiny sh -c 'while sleep 0.2; do mkdir -p /srv/made; done' >/dev/null
        nrtrace attach --container here --for 1s -o "$OUT"/here 2>"$OUT"/log
        waits --container later --for 2s -o "$OUT"/later
        docker run -d --name later $options tiny sh -c 'mkdir -p /srv/made; exec sleep 100' >/dev/null
        ended 0
        # One that has ended and stays ends the waiting, too, whether or not it could be watched.
        waits --backend ptrace --container brief -o "$OUT"/brief
        docker run --name brief $options tiny sleep 0 >/dev/null
        ended 0 3
        "#,
    );
    for (name, from_start) in [("here", false), ("later", true)] {
        let profile = profile(&sandbox, name);
        let container = profile.container.as_ref().unwrap();
        assert_eq!((container.name.as_deref(), container.image.as_deref()), (Some(name), Some("tiny")));
        assert_eq!(container.engine.as_deref(), Some("docker"));
        assert_eq!(profile.run.attached.as_ref().unwrap().from_start, from_start, "{name}");
    }
    assert!(record::need(&profile(&sandbox, "later"), "path:/srv").is_ok());
}

#[test]
fn a_container_of_any_namespace_of_containerd_is_found_and_its_end_ends_the_waiting() {
    let sandbox = script(
        r#"
        for backend in ebpf ptrace; do
            waits --backend $backend --container job --for 1s -o "$OUT"/$backend
            ctr run -d --rootfs $root job /usr/bin/sleep 100
            ended 0
            ctr task kill -s KILL job; sleep 0.5; ctr task rm job >/dev/null 2>&1 || true; ctr container rm job
        done
        waits --backend ptrace --container job -o "$OUT"/stays
        ctr run -d --rootfs $root job /usr/bin/sleep 0
        ended 0 3
        ctr task rm job >/dev/null 2>&1 || true; ctr container rm job
        # With eBPF the whole of it is seen.
        waits --backend ebpf --container job -o "$OUT"/whole
        ctr run --rm --rootfs $root job /usr/bin/sleep 0.2
        ended 0
        "#,
    );
    for backend in ["ebpf", "ptrace"] {
        let profile = profile(&sandbox, backend);
        assert_eq!(profile.container.as_ref().unwrap().engine.as_deref(), Some("containerd"), "{backend}");
    }
    assert!(profile(&sandbox, "whole").run.attached.as_ref().unwrap().from_start);
}
