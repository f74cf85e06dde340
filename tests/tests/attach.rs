//! Attaching to what runs already: nothing is missed, nothing is disturbed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use nrtrace_profiles::event::{Exit, Mode};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::Requirement;
use nrtrace_tests::record;
use nrtrace_tests::sandbox::Sandbox;

const BACKENDS: [&str; 2] = ["ebpf", "ptrace"];

/// Bash: a guarded file, and what the tests share. `attach ARGUMENTS` starts nrtrace and waits until it is attached.
const PRELUDE: &str = r#"
    mkdir -p /srv/guarded; touch /srv/guarded/file; chmod 755 /srv/guarded; chmod 644 /srv/guarded/file
    as_user() { exec setpriv --reuid 54321 --regid 54321 --clear-groups "$@"; }
    attach() {
        : >"$OUT"/log
        nrtrace attach "$@" 2>>"$OUT"/log & nrtrace=$!
        for _ in $(seq 600); do
            grep -q 'attached to' "$OUT"/log && return
            kill -0 $nrtrace || break
            sleep 0.05
        done
        cat "$OUT"/log >&2; exit 1
    }
    untouched() {
        grep -H 'TracerPid:.*[1-9]' /proc/$1/task/*/status && exit 1
        grep -H 'State:.*[Tt] (' /proc/$1/task/*/status && exit 1
        kill -0 $1
    }
    settle() { for _ in $(seq 40); do (untouched $1) >/dev/null 2>&1 && return; sleep 0.05; done; untouched $1; }
"#;

fn sandbox(seconds: u64) -> Sandbox {
    Sandbox::new().unwrap().deadline(Duration::from_secs(seconds))
}

fn script(sandbox: &Sandbox, text: &str) -> String {
    sandbox.script(&format!("{PRELUDE}\n{text}")).unwrap().ok().unwrap().to_string()
}

fn profile(sandbox: &Sandbox, name: &str) -> Profile {
    record::written(sandbox, name).unwrap()
}

fn need<'a>(profile: &'a Profile, id: &str) -> &'a Requirement {
    record::need(profile, id).unwrap()
}

#[test]
fn every_thread_is_seen_and_none_is_disturbed() {
    let sandbox = sandbox(120);
    script(
        &sandbox,
        r#"
        as_user fixture threads 100 /tmp/tally & pid=$!
        sleep 1
        for backend in ebpf ptrace; do
            attach --backend $backend --for 4s -o "$OUT"/$backend $pid
            wait $nrtrace
            settle $pid
            before=$(cat /tmp/tally); sleep 0.5; test "$(cat /tmp/tally)" -gt "$before"
        done
        kill $pid
        "#,
    );
    for backend in BACKENDS {
        let profile = profile(&sandbox, backend);
        assert_eq!(
            (profile.run.mode, profile.run.lost, profile.run.exit),
            (Mode::Enforced, 0, Exit::Running),
            "{backend}"
        );
        let file = need(&profile, "path:/srv/guarded/file");
        let threads = file.evidence.processes.iter().filter(|name| name.to_text().starts_with("t-")).count();
        assert_eq!(threads, 100, "{backend}: {:?}", file.evidence.processes);
    }
}

#[test]
fn nothing_of_a_fork_storm_is_missed_or_lost() {
    let sandbox = sandbox(120);
    script(
        &sandbox,
        r#"
        for backend in ebpf ptrace; do
            rm -f /tmp/now
            as_user fixture storm /tmp/now 1000 & pid=$!
            sleep 0.5
            attach --backend $backend -o "$OUT"/$backend $pid
            touch /tmp/now
            wait $pid
            wait $nrtrace
        done
        "#,
    );
    for backend in BACKENDS {
        let profile = profile(&sandbox, backend);
        assert_eq!((profile.run.lost, profile.run.exit), (0, Exit::Exited { status: 0 }), "{backend}");
        assert_eq!(need(&profile, "path:/srv/guarded/file").evidence.count, 1000, "{backend}");
    }
}

#[test]
fn a_kill_of_nrtrace_disturbs_nothing() {
    script(
        &sandbox(280),
        r#"
        as_user fixture threads 100 /tmp/tally & pid=$!
        as_user fixture storm /tmp/never 0 & storm=$!
        sleep 1
        for round in $(seq 25); do
            for backend in ebpf ptrace; do
                nrtrace attach -q --backend $backend $pid 2>/dev/null & one=$!
                nrtrace attach -q --backend $backend $storm 2>/dev/null & two=$!
                sleep 0.$((RANDOM % 900 + 100))
                kill -9 $one $two
                wait $one $two || true
                settle $pid
                before=$(cat /tmp/tally); sleep 0.2; test "$(cat /tmp/tally)" -gt "$before"
                settle $storm
            done
        done
        kill $pid $storm
        "#,
    );
}

#[test]
fn a_running_nginx_is_judged_for_another_user_and_goes_on_serving() {
    let sandbox = sandbox(120);
    script(
        &sandbox,
        r#"
        nginx -g 'daemon off;' & sleep 1
        pid=$(cat /run/nginx.pid)
        for backend in ebpf ptrace; do
            attach --backend $backend --for 6s -o "$OUT"/$backend $pid
            nginx -s reload
            sleep 1
            curl -s -o /dev/null http://127.0.0.1/
            wait $nrtrace
            settle $pid
            test "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/)" = 200
        done
        kill $pid
        "#,
    );
    for backend in BACKENDS {
        let profile = profile(&sandbox, backend);
        assert_eq!(profile.run.mode, Mode::Observation, "{backend}");
        need(&profile, "path:/var/log/nginx/access.log");
        need(&profile, "identity:set-user:33");
    }
}

#[test]
fn control_groups_and_units_are_found_and_waited_for() {
    let sandbox = sandbox(120);
    script(
        &sandbox,
        r#"
        root=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)
        # The control groups are the machine's, and each sandbox counts its processes from one.
        name=nrtrace-test-$(tr -d - </proc/sys/kernel/random/uuid | head -c 12)
        group=$root/$name.slice; unit=$group/$name.service
        trap 'rmdir $unit/below $unit $group 2>/dev/null || true' EXIT
        mkdir $group $unit $unit/below
        inside() { exec bash -c 'echo $$ >'"$1"'/cgroup.procs; shift; exec "$@"' -- "$@"; }
        inside $unit setpriv --reuid 54321 --regid 54321 --clear-groups fixture threads 2 /tmp/tally & pid=$!
        sleep 1
        for backend in ebpf ptrace; do
            attach --backend $backend --for 2s -o "$OUT"/unit-$backend --unit $name
            wait $nrtrace
            attach --backend $backend --for 2s -o "$OUT"/group-$backend --cgroup ${group#$root}
            wait $nrtrace
        done
        kill $pid; wait $pid || true
        rmdir $unit/below $unit
        nrtrace attach --wait -q -o "$OUT"/waited --unit $name & nrtrace=$!
        sleep 4
        mkdir $unit
        (inside $unit setpriv --reuid 54321 --regid 54321 --clear-groups fixture storm /srv/guarded/file 3)
        wait $nrtrace
        "#,
    );
    for backend in BACKENDS {
        for target in ["unit", "group"] {
            let profile = profile(&sandbox, &format!("{target}-{backend}"));
            need(&profile, "path:/srv/guarded/file");
        }
    }
    let waited = profile(&sandbox, "waited");
    assert!(waited.run.attached.as_ref().unwrap().from_start && waited.run.complete);
    assert_eq!(need(&waited, "path:/srv/guarded/file").evidence.count, 3);
}
