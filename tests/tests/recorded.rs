//! `nrtrace service record`, `finish`, `status` and `undo`, on a systemctl that is the test's; `cargo xtask vm --recorded` does it
//! under systemd itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::Basis;
use nrtrace_tests::record;
use nrtrace_tests::sandbox::{Finished, Sandbox};

const SYSTEMCTL: &str = include_str!("../src/systemctl.py");

/// Bash: a service that writes where root alone may, running, with a user of its own where `$1` names one.
const PRELUDE: &str = r#"
    mkdir -p /run/systemd/system /etc/systemd/system /srv/guarded
    chmod 755 /srv/guarded
    printf '#!/bin/sh\nrm -f /srv/guarded/made\necho x >/srv/guarded/made\nexec sleep 1000\n' >/usr/local/bin/probe
    chmod 755 /usr/local/bin/probe /usr/local/sbin/systemctl
    # Control groups are the whole machine's.
    unit=probe-$(cut -d- -f1 /proc/sys/kernel/random/uuid)
    trap 'systemctl stop $unit.service' EXIT
    service() {
        printf '[Service]\n%s\nExecStart=/usr/local/bin/probe a b\n' "$1" >/etc/systemd/system/$unit.service
        systemctl start $unit.service
    }
    status() { local wanted=$1; shift; "$@" && got=0 || got=$?; [ $got = $wanted ] || { echo "$got, not $wanted: $*" >&2; exit 1; }; }
    # What is on the machine, and whether the service runs.
    left() { find /run/systemd/system /run/nrtrace -name '*record*' -o -name "$unit*" -path '*nrtrace*'; }
    as_it_was() { [ -z "$(left)" ] || { left >&2; exit 1; }; [ "$(systemctl show -p ActiveState $unit.service)" = active ]; }
    drop_in=/run/systemd/system/$unit.service.d/zz-nrtrace-record.conf
"#;

fn run(script: &str) -> (Finished, Sandbox) {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(240));
    let text =
        format!("set -e\ncat >/usr/local/sbin/systemctl <<'PYTHON'\n{SYSTEMCTL}PYTHON\n{PRELUDE}\n{script}");
    let finished = sandbox.script(&text).unwrap();
    (finished, sandbox)
}

fn profile(sandbox: &Sandbox, finished: &Finished) -> Profile {
    assert_eq!(finished.status, 0, "{finished}");
    record::written(sandbox, "result").unwrap()
}

#[test]
fn a_service_of_roots_is_recorded_over_a_restart_and_is_as_it_was() {
    let (finished, sandbox) = run(r#"
        service ''
        status 2 nrtrace service finish $unit -o "$OUT"/none
        status 1 nrtrace service status $unit
        nrtrace service record $unit
        status 2 nrtrace service record $unit
        cp $drop_in "$OUT"/drop-in
        nrtrace service status $unit >"$OUT"/status
        sleep 1
        systemctl restart $unit.service
        sleep 1
        status 2 nrtrace service finish $unit
        nrtrace service finish $unit -o "$OUT"/result
        as_it_was
        status 2 nrtrace service undo $unit
    "#);
    let profile = profile(&sandbox, &finished);
    let made = record::need(&profile, "path:/srv/guarded/made").unwrap();
    // Recorded: the first start, the restart, and the one that ends it.
    assert!(made.evidence.count >= 3, "{made:?}");
    let command: Vec<String> = profile.command.iter().map(ToString::to_string).collect();
    assert_eq!(command, ["/usr/local/bin/probe", "a", "b"]);
    assert!(profile.run.attached.as_ref().unwrap().from_start && profile.proof.is_none());
    assert!(profile.unit.as_ref().unwrap().directives.is_empty(), "{:?}", profile.unit);
    assert!(profile.identity.user.starts_with("probe-"), "{}", profile.identity.user);
    let read = |name: &str| std::fs::read_to_string(sandbox.out().join(name)).unwrap();
    assert!(!read("drop-in").contains("[Service]"), "{}", read("drop-in"));
    assert!(read("status").contains("is recorded since") && read("status").contains("12 calls"));
    let said = String::from_utf8_lossy(&finished.stderr);
    assert!(said.contains("Not proved: what one run") && said.contains("nrtrace service probe-"), "{said}");
    assert!(said.contains("is being recorded: finish") && said.contains("say where, -o DIR"), "{said}");
    assert!(!sandbox.out().join("none").exists());
}

#[test]
fn a_service_of_a_user_is_refused_nothing_meanwhile() {
    let (finished, sandbox) = run(r#"
        service 'User=54321'
        nrtrace service record $unit
        cp $drop_in "$OUT"/drop-in
        sleep 1
        status 2 nrtrace service finish $unit -o "$OUT"/result --no-restart
        rm /srv/guarded/made
        nrtrace service finish $unit -o "$OUT"/result
        as_it_was
        # It has its own rights again.
        [ ! -e /srv/guarded/made ]
    "#);
    let profile = profile(&sandbox, &finished);
    assert_eq!(profile.identity.uid, 54321);
    let need = |id: &str| record::need(&profile, id).unwrap();
    assert_eq!(need("path:/srv/guarded/made").basis, Basis::Kernel, "{finished}");
    let drop_in = std::fs::read_to_string(sandbox.out().join("drop-in")).unwrap();
    assert!(drop_in.contains("\nAmbientCapabilities=~\nCapabilityBoundingSet=~\n"), "{drop_in}");
}

#[test]
fn a_recorder_that_is_killed_leaves_the_service_as_it_was() {
    let (finished, _) = run(r#"
        service ''
        nrtrace service record $unit
        before=$(cat /tmp/systemctl/$unit.service.pid)
        kill -9 $(cat /tmp/systemctl/nrtrace-record-$unit.service.pid)
        for _ in $(seq 100); do [ -e $drop_in ] || break; sleep 0.1; done
        [ ! -e $drop_in ]
        [ "$before" = "$(cat /tmp/systemctl/$unit.service.pid)" ]
        status 1 nrtrace service status $unit
        status 3 nrtrace service finish $unit -o "$OUT"/result
        as_it_was
        nrtrace service record $unit --as nobody
        nrtrace service undo $unit
        as_it_was
    "#);
    assert_eq!(finished.status, 0, "{finished}");
    let said = String::from_utf8_lossy(&finished.stderr);
    assert!(said.contains("was recorded: "), "{said}");
    assert!(String::from_utf8_lossy(&finished.stdout).contains("is no longer recorded"), "{finished}");
}

#[test]
fn a_record_that_does_not_come_about_is_taken_back() {
    let (finished, _) = run(r#"
        service ''
        # It is cancelled while the unit restarts.
        touch /tmp/systemctl/hang-restart
        nrtrace service record $unit & nrtrace=$!
        for _ in $(seq 100); do grep -q "^restart $unit" /tmp/systemctl.log && break; sleep 0.1; done
        kill -TERM $nrtrace
        status 3 wait $nrtrace
        rm /tmp/systemctl/hang-restart
        as_it_was
        # The recorder does not start.
        printf '#!/bin/sh\ncase "$*" in *start\\ nrtrace-*) echo no >&2; exit 1;; esac\nexec /usr/local/sbin/systemctl "$@"\n' >/usr/local/bin/refuses
        mkdir /usr/local/refuses; mv /usr/local/bin/refuses /usr/local/refuses/systemctl; chmod 755 /usr/local/refuses/systemctl
        PATH=/usr/local/refuses:$PATH status 3 nrtrace service record $unit
        as_it_was
    "#);
    assert_eq!(finished.status, 0, "{finished}");
    let said = String::from_utf8_lossy(&finished.stderr);
    assert!(said.contains("interrupted: probe-") && said.contains("it cannot be recorded"), "{said}");
}

#[test]
fn what_cannot_be_recorded_is_refused_with_a_word() {
    let (finished, _) = run(r#"
        service ''
        printf '[Service]\nExecStart=/bin/true\n' >/etc/systemd/system/template@.service
        printf '[Service]\nUser=nobody-there\nExecStart=/bin/true\n' >/etc/systemd/system/user.service
        printf '[Service]\nRootDirectory=/srv\nExecStart=/bin/true\n' >/etc/systemd/system/rooted.service
        for name in template@ none rooted /etc/systemd/system/user.service x.socket; do status 2 nrtrace service record $name; done
        ! nrtrace service record user || exit 1
        status 2 nrtrace service record $unit --as root
        chmod 755 /opt /opt/nrtrace
        status 2 setpriv --reuid 54321 --regid 54321 --clear-groups nrtrace service record $unit
        as_it_was
        systemctl stop $unit.service
        nrtrace service record $unit.service
        nrtrace service undo $unit
        mv /run/systemd/system /run/systemd/elsewhere
        status 3 nrtrace service record $unit
        mv /run/systemd/elsewhere /run/systemd/system
    "#);
    assert_eq!(finished.status, 0, "{finished}");
    let said = String::from_utf8_lossy(&finished.stderr);
    for expected in [
        "template@.service is a template",
        "there is no none.service",
        "RootDirectory=",
        "a unit that lives has a name",
        "x.socket is no service",
        "it takes root",
        "its next start is what is seen: sudo systemctl restart probe-",
        "the living unit is systemd's, and process 1 is not",
    ] {
        assert!(said.contains(expected), "{expected}: {finished}");
    }
}
