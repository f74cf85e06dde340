//! Containers of the real podman, with nginx in them: what fails at its start, and the remedy that makes it serve.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use nrtrace_profiles::container::Place;
use nrtrace_profiles::event::Mode;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::{Access, Need, Requirement};
use nrtrace_tests::podman::{ENGINE, NGINX};
use nrtrace_tests::record;
use nrtrace_tests::sandbox::Sandbox;

/// Bash: how containers of it are run, and what is waited for.
const PRELUDE: &str = r#"
    options="--network=host --ulimit nofile=1024:1024 --ulimit nproc=4096:4096"
    waits() { for _ in $(seq 600); do grep -q 'waiting for' "$OUT"/log && return; sleep 0.05; done; cat "$OUT"/log; exit 1; }
    serves() { for _ in $(seq 100); do test "$(curl -s http://127.0.0.1/)" = served && return; sleep 0.1; done; exit 1; }
"#;

/// Each test names its container otherwise: the probe of another one, which waits for the name, sees it too.
fn script(text: &str) -> Sandbox {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(180));
    sandbox.script(&format!("{ENGINE}\n{NGINX}\n{PRELUDE}\n{text}")).unwrap().ok().unwrap();
    sandbox
}

fn profile(sandbox: &Sandbox, name: &str) -> Profile {
    record::written(sandbox, name).unwrap()
}

fn need<'a>(profile: &'a Profile, id: &str) -> &'a Requirement {
    record::need(profile, id).unwrap()
}

fn place(profile: &Profile, id: &str) -> Place {
    need(profile, id).evidence.placement.as_ref().unwrap_or_else(|| panic!("{id} has no place")).place
}

#[test]
fn a_container_that_fails_at_its_start_is_seen_from_there() {
    let sandbox = script(
        r#"
        fails() {
            name=$1; shift
            : >"$OUT"/log
            nrtrace attach --container failing --wait -o "$OUT"/$name 2>>"$OUT"/log & nrtrace=$!
            waits
            podman run --name failing --user 1000:1000 $options --tmpfs /tmp "$@" nginx nginx -g 'daemon off;' \
                2>"$OUT"/$name.log || true
            wait $nrtrace
            podman rm failing >/dev/null
        }
        # The remedy for each: a directory that belongs to the user.
        install -d -o 1000 -g 1000 -m 0700 /srv/cache /srv/data /srv/run
        cache="-v /srv/cache:/var/cache/nginx"
        fails first -v data:/data
        fails second -v data:/data $cache
        given="$cache -v /srv/data:/data -v /srv/run:/run"
        fails third $given
        # With the remedies for all, it starts and serves, on a root file system that is read-only.
        podman run -d --name failing --user 1000:1000 $options --read-only --tmpfs /tmp $given \
            --cap-add=net_bind_service nginx nginx -g 'daemon off;' >/dev/null
        serves
        "#,
    );
    let said = |name: &str| std::fs::read_to_string(sandbox.out().join(format!("{name}.log"))).unwrap();
    let first = profile(&sandbox, "first");
    assert_eq!((first.run.mode, first.identity.uid), (Mode::Enforced, 1000));
    assert!(first.run.attached.as_ref().unwrap().from_start);
    assert_eq!(place(&first, "path:/var/cache/nginx/client_temp"), Place::Image);
    assert!(
        said("first").contains("mkdir() \"/var/cache/nginx/client_temp\" failed (13"),
        "{}",
        said("first")
    );
    let container = first.container.as_ref().unwrap();
    assert_eq!((container.name.as_deref(), container.engine.as_deref()), (Some("failing"), Some("podman")));
    let second = profile(&sandbox, "second");
    assert_eq!(place(&second, "path:/data/access.log"), Place::Volume);
    let volume = need(&second, "path:/data/access.log").evidence.placement.as_ref().unwrap();
    assert_eq!(volume.volume.as_deref(), Some("data"));
    assert!(said("second").contains("open() \"/data/access.log\" failed (13"), "{}", said("second"));
    let third = profile(&sandbox, "third");
    need(&third, "port:tcp:0.0.0.0:80");
    assert!(said("third").contains("bind() to 0.0.0.0:80 failed (13"), "{}", said("third"));
}

#[test]
fn a_permissive_container_shows_all_its_needs_at_once() {
    let sandbox = script(
        r#"
        set +e
        nrtrace run --for 6s -o "$OUT"/run -- podman --runtime runc --cgroup-manager cgroupfs --events-backend file \
            run --user 1000 --cap-add=all $options -v data:/data --tmpfs /tmp nginx nginx -g 'daemon off;' & nrtrace=$!
        (serves) && touch "$OUT"/served
        wait $nrtrace
        "#,
    );
    assert!(sandbox.out().join("served").exists());
    let profile = profile(&sandbox, "run");
    assert_eq!((profile.run.mode, profile.identity.uid), (Mode::Permissive, 1000));
    assert_eq!(place(&profile, "path:/data/access.log"), Place::Volume);
    assert_eq!(place(&profile, "path:/var/cache/nginx/client_temp"), Place::Image);
    assert_eq!(place(&profile, "path:/run/nginx.pid"), Place::Image);
    need(&profile, "port:tcp:0.0.0.0:80");
    let paths: Vec<&str> = profile.requirements.iter().map(|need| need.id.as_str()).collect();
    assert!(
        !paths.iter().any(|id| id.contains("/proc") || id.contains("containers")),
        "the runtime's own: {paths:?}"
    );
}

#[test]
fn a_running_container_of_roots_is_judged_for_another_user() {
    let sandbox = script(
        r#"
        podman run -d --name web $options -v data:/data --tmpfs /tmp nginx nginx -g 'daemon off;' >/dev/null
        serves
        id=$(podman inspect -f '{{.Id}}' web)
        for backend in ebpf ptrace; do
            : >"$OUT"/log
            nrtrace attach --container ${id:0:12} --backend $backend --target-user web --for 4s -o "$OUT"/$backend \
                2>>"$OUT"/log & nrtrace=$!
            for _ in $(seq 400); do grep -q 'attached to' "$OUT"/log && break; sleep 0.05; done
            kill -HUP $(pgrep -o nginx)
            sleep 1
            wait $nrtrace
            serves
        done
        "#,
    );
    for backend in ["ebpf", "ptrace"] {
        let profile = profile(&sandbox, backend);
        assert_eq!((profile.run.mode, profile.identity.uid), (Mode::Observation, 1000), "{backend}");
        assert_eq!(place(&profile, "path:/data/access.log"), Place::Volume, "{backend}");
        assert_eq!(profile.run.unprivileged_port_start, 1024, "{backend}");
    }
}

#[test]
fn the_runtime_wrapper_gives_ambient_capabilities() {
    let sandbox = script(
        r#"
        ln -s "$BIN"/nrtrace /usr/local/bin/nrtrace-oci-runtime
        export RUNTIME=/usr/local/bin/nrtrace-oci-runtime
        podman run -d --name web --user 1000 $options -v data:/data --tmpfs /tmp nginx nginx -g 'daemon off;' >/dev/null
        serves
        grep CapAmb /proc/$(pgrep -o nginx)/status >"$OUT"/ambient
        grep Uid /proc/$(pgrep -o nginx)/status >>"$OUT"/ambient
        "#,
    );
    let status = std::fs::read_to_string(sandbox.out().join("ambient")).unwrap();
    assert!(!status.contains("CapAmb:\t0000000000000000") && status.contains("Uid:\t1000"), "{status}");
}

/// Of a container with a user namespace the engine runs the runtime in a mount namespace of its own; ids are the
/// container's, also of a program that has ended before it could be looked at.
#[test]
fn a_container_with_a_user_namespace_is_seen_from_its_start() {
    let sandbox = script(
        r#"
        ids="--uidmap 0:100000:65536 --gidmap 0:100000:65536"
        apart="--network=none --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 --tmpfs /tmp"
        for backend in ebpf ptrace; do
            for user in 0 1000; do
                : >"$OUT"/log
                nrtrace attach --backend $backend --container mapped --wait --for 3s -o "$OUT"/$backend-$user 2>>"$OUT"/log & nrtrace=$!
                waits
                start=run; [ $backend = ebpf ] || start=create
                podman $start --name mapped --user $user $ids $apart -v data:/data nginx nginx -g 'daemon off;' >"$OUT"/web.log 2>&1 &
                if [ $backend = ptrace ]; then
                    wait $!; podman init mapped >/dev/null
                    for _ in $(seq 200); do grep -q 'attached to' "$OUT"/log && break; sleep 0.05; done
                    podman start mapped >/dev/null
                fi
                wait $nrtrace
                # It may have ended, and then be unmounted only now.
                for _ in $(seq 50); do podman rm -f mapped >/dev/null 2>&1 && break; sleep 0.1; done
                podman volume rm data >/dev/null
            done
        done
        "#,
    );
    for backend in ["ebpf", "ptrace"] {
        let root = profile(&sandbox, &format!("{backend}-0"));
        assert_eq!(
            (root.run.mode, root.executable.as_ref().unwrap()),
            (Mode::Observation, &"/usr/sbin/nginx".into())
        );
        let paths =
            root.requirements.iter().map(|need| need.id.as_str()).filter(|id| id.starts_with("path:"));
        let expected = ["path:/data/access.log", "path:/run/nginx.pid", "path:/var/cache/nginx/client_temp"];
        assert_eq!(paths.collect::<Vec<_>>(), expected, "{backend}");
        assert_eq!(place(&root, "path:/data/access.log"), Place::Volume, "{backend}");
        let access = &need(&root, "path:/data/access.log").need;
        assert!(
            matches!(access, Need::Path { access, .. } if *access == [Access::Create].into()),
            "{backend}: {access:?}"
        );
        let user = profile(&sandbox, &format!("{backend}-1000"));
        assert_eq!((user.run.mode, user.identity.uid), (Mode::Enforced, 1000), "{backend}");
        let ids: Vec<&str> = user.requirements.iter().map(|need| need.id.as_str()).collect();
        assert_eq!(ids, ["path:/var/cache/nginx/client_temp"], "{backend}");
        assert_eq!(user.unexplained, [], "{backend}");
    }
}
