//! Profiles proved by the kernel: `run --minimize` and `verify` on real services and on fixtures built to mislead.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::time::Duration;

use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::proof::{Finding, ProfileProof};
use nrtrace_profiles::requirement::{Access, Requirement, Severity};
use nrtrace_tests::sandbox::{BIN, Finished, OUT, Sandbox};
use nrtrace_tests::service::quote;
use nrtrace_tests::truth::{Grant, Truth};

const PREPARE: &str = "mkdir -m 755 /srv/guarded; for n in a b c; do echo data >/srv/guarded/$n; done";

fn run(script: &str) -> (Finished, Sandbox) {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(240));
    let finished = sandbox.script(script).unwrap();
    (finished, sandbox)
}

fn profile_of(sandbox: &Sandbox, finished: &Finished) -> Profile {
    let path = sandbox.out().join("result/profile.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}: {finished}"));
    Profile::from_json(&text).unwrap()
}

fn all_applied(proof: &ProfileProof) -> bool {
    proof.not_applied.is_empty()
}

fn ids(profile: &Profile, severity: Severity) -> BTreeSet<&str> {
    profile.requirements.iter().filter(|r| r.severity == severity).map(|r| r.id.as_str()).collect()
}

/// `run --minimize` of a service ends with what is fatal by `tests/truths.rs`, which removes each entry by hand.
fn service(name: &str) -> (Profile, Finished) {
    let truth = Truth::load(name).unwrap();
    let words: Vec<String> = truth.advised_command().iter().map(|word| quote(word)).collect();
    let (finished, sandbox) = run(&format!(
        "{}\n{}\ncd /\n{BIN}/nrtrace run --minimize --as 61184 --ready {} --settle 200ms --grace 2s -v -o {OUT}/result -- {}\n",
        truth.prepare,
        truth.advice.prepare,
        quote(&format!("bash -euo pipefail -c {}", quote(&truth.exercise))),
        words.join(" ")
    ));
    assert_eq!(finished.status, 0, "{name}: {finished}");
    let profile = profile_of(&sandbox, &finished);
    let granted = |need: &&nrtrace_tests::truth::KnownNeed| need.grant != Grant::Advice;
    let fatal: BTreeSet<&str> =
        truth.needs.iter().filter(granted).filter(|need| need.fatal).map(|need| need.id.as_str()).collect();
    let harmless: BTreeSet<&str> =
        truth.needs.iter().filter(granted).filter(|need| !need.fatal).map(|need| need.id.as_str()).collect();
    assert_eq!(ids(&profile, Severity::Required), fatal, "{name}: {finished}");
    assert!(ids(&profile, Severity::Tolerated).is_superset(&harmless), "{name}: {finished}");
    for requirement in profile.requirements.iter().filter(|r| r.severity == Severity::Required) {
        let proof = requirement.proof.as_ref().unwrap();
        assert!(proof.finding == Finding::Removal && proof.failed >= 2, "{name}: {requirement:?}");
    }
    let proof = profile.proof.as_ref().unwrap();
    assert!(proof.lives && proof.minimal && all_applied(proof), "{name}: {proof:?}");
    (profile, finished)
}

macro_rules! services {
    ($($function:ident = $name:literal),* $(,)?) => {
        $(#[test] fn $function() { service($name); })*
    };
}

services! {
    apache2_with_a_private_key = "apache2",
    dnsmasq = "dnsmasq",
    etcd_written_in_go = "etcd-server",
    knot_that_switches_user = "knot",
    lighttpd = "lighttpd",
    redis_a_database = "redis-server",
    unbound_that_switches_user = "unbound",
}

#[test]
fn nginx_with_the_unlink_of_its_pid_file_tolerated() {
    let (profile, finished) = service("nginx");
    let pid = profile.requirements.iter().find(|r| r.id == "path:/run/nginx.pid").unwrap();
    assert_eq!(pid.proof.as_ref().unwrap().tolerated, BTreeSet::from([Access::Delete]), "{finished}");
    assert_eq!(profile.requirements.len(), 10, "{finished}");
}

/// A need's id, its severity, and what is proved of it.
type Proved = (String, Severity, Option<Finding>);

/// `run --minimize` of a fixture; its needs with what is proved of them.
fn fixture(words: &str, options: &str) -> (Vec<Proved>, Profile, Finished) {
    let (finished, sandbox) = run(&format!(
        "{PREPARE}\ncd /\n{BIN}/nrtrace run --minimize --ready-log '^serving$' {options} -v -o {OUT}/result -- {BIN}/fixture {words}\n"
    ));
    assert_eq!(finished.status, 0, "{words}: {finished}");
    let profile = profile_of(&sandbox, &finished);
    let facts = |r: &Requirement| (r.id.clone(), r.severity, r.proof.as_ref().map(|proof| proof.finding));
    (profile.requirements.iter().map(facts).collect(), profile, finished)
}

fn required(name: &str) -> Proved {
    (format!("path:/srv/guarded/{name}"), Severity::Required, Some(Finding::Removal))
}

fn tolerated(id: &str) -> Proved {
    (id.into(), Severity::Tolerated, Some(Finding::Tolerated))
}

/// As monit does, which ends where its user has no name.
#[test]
fn one_that_asks_who_it_is_has_a_name() {
    let (finished, sandbox) = run(&format!(
        "{PREPARE}\ncd /\n{BIN}/nrtrace run --minimize --ready-log '^serving$' --settle 200ms -o {OUT}/result -- \
         sh -c 'test \"$(id -un):$(id -gn)\" = sh:sh && echo >/srv/guarded/a && echo serving && exec sleep 60'"
    ));
    assert_eq!(finished.status, 0, "{finished}");
    let profile = profile_of(&sandbox, &finished);
    assert!(!profile.identity.exists, "{finished}");
    assert_eq!(
        profile.requirements.iter().map(|need| need.id.as_str()).collect::<Vec<_>>(),
        ["path:/srv/guarded/a"]
    );
}

#[test]
fn another_path_when_refused_makes_the_first_no_less_needed() {
    let (found, _, finished) = fixture("falls-back /srv/guarded/a /srv/guarded/b", "--settle 200ms");
    assert_eq!(found, [required("a")], "{finished}");
}

#[test]
fn what_is_missed_only_later_is_not_left_out() {
    // The trials are over long before it dies; the last one, which lasts longer, is not.
    let (found, profile, finished) = fixture("dies-late /srv/guarded/a 800", "--settle 300ms");
    assert_eq!(found, [required("a")], "{finished}");
    assert!(profile.proof.unwrap().settled.0 > 800_000_000, "{finished}");
}

#[test]
fn what_is_opened_and_not_needed_is_not_granted() {
    let (found, _, finished) = fixture("looks-only /srv/guarded/a /srv/guarded/b", "--settle 200ms");
    assert_eq!(found, [required("a"), tolerated("path:/srv/guarded/b")], "{finished}");
}

#[test]
fn a_refused_setgroups_that_is_ignored_is_tolerated() {
    let (found, _, finished) = fixture("leaves-groups /srv/guarded/a", "--settle 200ms");
    assert_eq!(found, [required("a"), tolerated("identity:set-groups:33")], "{finished}");
}

#[test]
fn what_lives_only_mostly_is_not_proved() {
    // The first run of all may be one of the bad ones, and a lucky search is one that saw none.
    let flaky = "flaky /srv/guarded/a /srv/guarded/b";
    let (finished, sandbox) = run(&format!(
        "{PREPARE}\ncd /\nfor n in 1 2 3 4 5 6 7 8; do\n  {BIN}/nrtrace run --minimize --ready-log '^serving$' --settle 100ms -v \
         -o {OUT}/result -- {BIN}/fixture {flaky} && continue\n  grep -q '\"flaked\"' {OUT}/result/profile.json && exit 0\ndone\nexit 1\n"
    ));
    assert_eq!(finished.status, 0, "{finished}");
    let profile = profile_of(&sandbox, &finished);
    let proof = profile.proof.as_ref().unwrap();
    assert!(!proof.lives && !proof.minimal && proof.flaked > 0, "{proof:?}: {finished}");
}

/// `run --minimize` of a shell script that is a service; how it ended, and its profile.
fn served(prepare: &str, script: &str, options: &str) -> (Profile, Finished) {
    let (finished, sandbox) = run(&format!(
        "{PREPARE}\n{prepare}\nprintf '%s\\n' '#!/bin/sh' {} >/usr/local/sbin/served; chmod 755 /usr/local/sbin/served\ncd /\n\
         {BIN}/nrtrace run --minimize {options} -v -o {OUT}/result -- /usr/local/sbin/served\n",
        quote(script)
    ));
    assert_eq!(finished.status, 0, "{finished}");
    (profile_of(&sandbox, &finished), finished)
}

const WEB: &str = "useradd -r web; install -d /srv/web; install -o web -m 600 /dev/null /srv/web/key";

#[test]
fn the_owner_of_its_files_is_whom_it_runs_as() {
    let script = "cat /srv/web/key && echo >/srv/guarded/a && echo serving && exec sleep 60";
    let options = "--ready-log '^serving$' --settle 200ms";
    let (profile, finished) = served(WEB, script, options);
    assert_eq!(profile.identity.user, "web", "{finished}");
    assert_eq!(ids(&profile, Severity::Required), BTreeSet::from(["path:/srv/guarded/a"]), "{finished}");
    let told = "as web, who owns what it uses: 1 need; as a new user: 2 needs";
    assert!(profile.notes.iter().any(|note| note == told), "{:?}\n{finished}", profile.notes);
    // Who is asked for is the only one.
    let (profile, finished) = served(WEB, script, &format!("{options} --as 61184"));
    assert_eq!(profile.identity.uid, 61184, "{finished}");
    assert_eq!(ids(&profile, Severity::Required).len(), 2, "{finished}");
}

#[test]
fn a_unit_names_whom_it_runs_as_and_what_is_made_for_it() {
    let unit = "[Service]\nUser=web\nRuntimeDirectory=served\nExecStart=/usr/local/sbin/served\n";
    let prepare = format!("{WEB}; printf '%b' {} >/etc/systemd/system/served.service", quote(unit));
    let script =
        "test \"$(id -un)\" = web || exit 1; test -d /run/served || exit 2; echo serving; exec sleep 60";
    let (profile, finished) = served(&prepare, script, "--ready-log '^serving$' --settle 200ms");
    assert_eq!(profile.identity.user, "web", "{finished}");
    assert_eq!(ids(&profile, Severity::Required), BTreeSet::from(["path:/run/served"]), "{finished}");
}

#[test]
fn what_it_looked_at_last_and_does_not_own_is_tried() {
    let script = "test -O /srv/guarded/a || exit 1; echo serving; exec sleep 60";
    let (profile, finished) = served("", script, "--ready-log '^serving$' --settle 200ms");
    let own = profile.requirements.iter().find(|known| known.id == "path:/srv/guarded/a").unwrap();
    assert_eq!(own.proof.as_ref().unwrap().finding, Finding::Removal, "{finished}");
    assert_eq!(ids(&profile, Severity::Required).len(), 1, "{finished}");
}

#[test]
fn a_change_of_groups_that_must_succeed_is_answered_by_the_unit() {
    let script = "setpriv --clear-groups true || exit 1; echo serving; exec sleep 60";
    let (profile, finished) = served("", script, "--ready-log '^serving$' --settle 200ms");
    let groups =
        profile.requirements.iter().find(|known| known.id.starts_with("identity:set-groups")).unwrap();
    assert_eq!(groups.way, Some(nrtrace_profiles::grants::Method::Unit), "{finished}");
    assert_eq!(groups.proof.as_ref().unwrap().finding, Finding::Removal, "{finished}");
}

#[test]
fn one_that_insists_on_root_is_told_that_it_is() {
    let script =
        "test \"$(id -u)\" = 0 || exit 1; echo >/srv/guarded/a || exit 2; echo serving; exec sleep 60";
    let (profile, finished) = served("", script, "--ready-log '^serving$' --settle 200ms");
    let required = BTreeSet::from(["identity:be-root:0", "path:/srv/guarded/a"]);
    assert_eq!(ids(&profile, Severity::Required), required, "{finished}");
}

#[test]
fn a_signal_to_its_process_group_reaches_nobody_else() {
    let script = "trap '' TERM; kill -TERM 0; echo >/srv/guarded/a; echo serving; exec sleep 60";
    let (profile, finished) = served("", script, "--ready-log '^serving$' --settle 200ms");
    assert_eq!(profile.requirements.len(), 1, "{finished}");
}

#[test]
fn one_that_had_to_be_stopped_does_not_live_when_it_ends_with_success() {
    let script = "echo >/srv/guarded/a || exit 0; sleep 60";
    let (profile, finished) = served("", script, "--for 1s");
    assert_eq!(ids(&profile, Severity::Required), BTreeSet::from(["path:/srv/guarded/a"]), "{finished}");
}

#[test]
fn a_port_that_a_run_bound_is_bound_in_its_trials() {
    let script = "socat TCP-LISTEN:70,fork,reuseaddr /dev/null & sleep 60; wait";
    let (profile, finished) = served("", script, "--for 1s");
    assert_eq!(ids(&profile, Severity::Required).len(), 1, "{finished}");
    assert!(ids(&profile, Severity::Required).iter().all(|id| id.starts_with("port:tcp:")), "{finished}");
}

/// A profile from which the need for one file was taken away, then `verify` with and without `--update`.
#[test]
fn verify_names_what_is_missing_and_adds_it() {
    let verify = format!("{BIN}/nrtrace verify {OUT}/result/profile.json --ready-log serving --settle 200ms");
    let (finished, sandbox) = run(&format!(
        r#"{PREPARE}
        cd /
        {BIN}/nrtrace run -q --ready-log serving --for 1s -o {OUT}/result -- {BIN}/fixture falls-back /srv/guarded/a /srv/guarded/b
        sed -i 's/"severity": "required"/"severity": "tolerated"/' {OUT}/result/profile.json
        code=0; {verify} || code=$?; echo "plain $code"
        code=0; {verify} --format json >{OUT}/verify.json || code=$?; echo "json $code"
        code=0; {verify} --update || code=$?; echo "update $code"
        code=0; {verify} || code=$?; echo "again $code"
        code=0; {verify} -q -- {BIN}/fixture looks-only /srv/guarded/c /srv/guarded/c || code=$?; echo "other $code"
        code=0; {verify} -q -- /nowhere || code=$?; echo "nowhere $code"
        code=0; {BIN}/nrtrace verify {OUT}/missing.json || code=$?; echo "missing $code"
        "#
    ));
    assert_eq!(finished.status, 0, "{finished}");
    let out = String::from_utf8_lossy(&finished.stdout);
    for line in ["plain 1", "json 1", "update 0", "again 0", "other 1", "nowhere 127", "missing 2"] {
        assert!(out.lines().any(|found| found == line), "wanted {line}: {finished}");
    }
    let told = String::from_utf8_lossy(&finished.stderr);
    assert!(told.contains("Missing: path:/srv/guarded/b [write] file, refused in openat"), "{finished}");
    // The last refusal is the fatal one: the first path stays closed.
    let profile = profile_of(&sandbox, &finished);
    assert_eq!(ids(&profile, Severity::Required), BTreeSet::from(["path:/srv/guarded/b"]), "{finished}");
    assert_eq!(ids(&profile, Severity::Tolerated), BTreeSet::from(["path:/srv/guarded/a"]), "{finished}");
    let told: serde_json::Value =
        serde_json::from_slice(&std::fs::read(sandbox.out().join("verify.json")).unwrap()).unwrap();
    assert_eq!(
        (told["lives"].as_bool(), told["missing"][0]["id"].as_str()),
        (Some(false), Some("path:/srv/guarded/b"))
    );
}

/// A program that fails whatever it is granted, though there is something that it needs.
#[test]
fn a_run_that_fails_with_every_right_proves_nothing() {
    let program = "/bin/sh -c 'echo x >/srv/guarded/a; cat /no/backend; exit 3'";
    let nrtrace = format!("{BIN}/nrtrace");
    let (finished, sandbox) = run(&format!(
        r#"{PREPARE}
        cd /
        code=0; {nrtrace} run --verify -v --ready-port 80 -o {OUT}/result -- {program} || code=$?; echo "verify $code"
        code=0; {nrtrace} run --minimize -v --ready-port 80 -- {program} || code=$?; echo "minimize $code"
        code=0; {nrtrace} run --verify --format json --ready-port 80 -- {program} >{OUT}/verify.json || code=$?; echo "json $code"
        echo '--- again' >&2
        code=0; {nrtrace} verify {OUT}/result/profile.json --ready-port 80 || code=$?; echo "again $code"
        "#
    ));
    assert_eq!(finished.status, 0, "{finished}");
    let out = String::from_utf8_lossy(&finished.stdout);
    for line in ["verify 1", "minimize 1", "json 1", "again 1"] {
        assert!(out.lines().any(|found| found == line), "wanted {line}: {finished}");
    }
    let told = String::from_utf8_lossy(&finished.stderr);
    let (runs, again) = told.split_once("--- again").unwrap();
    let failed = |line: &&str| {
        line.contains("the recorded run itself, with every right, ended with status 3 after")
            && line.contains("before it was ready (it said last: cat: /no/backend: No such file or directory): no grant can mend that")
    };
    assert!(runs.lines().filter(failed).count() >= 3 && !runs.contains("trial 1"), "{finished}");
    assert!(again.contains("the recorded run, with every right, exited with status 3 as well"), "{finished}");
    let profile = profile_of(&sandbox, &finished);
    assert_eq!(ids(&profile, Severity::Required), BTreeSet::from(["path:/srv/guarded/a"]), "{finished}");
    assert!(
        profile.proof.is_none() && profile.notes.iter().any(|note| note.contains("ended with status 3")),
        "{profile:?}"
    );
    let json = std::fs::read(sandbox.out().join("verify.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(
        (&json["lives"], &json["said"], &json["trials"]),
        (&false.into(), &"cat: /no/backend: No such file or directory".into(), &0.into())
    );
}

#[test]
fn a_port_that_a_socket_unit_would_have_bound_is_told_apart() {
    let (finished, _sandbox) = run(&format!(
        "cd /\n{BIN}/nrtrace run --verify --prefer socket --ready-port 80 --settle 100ms -- /usr/sbin/nginx -g 'daemon off;'\n"
    ));
    assert_eq!(finished.status, 1, "{finished}");
    let told = String::from_utf8_lossy(&finished.stderr);
    let port = "Refused: port:tcp:0.0.0.0:80: systemd would have bound it by the socket unit";
    assert!(told.contains(port) && !told.contains("refused all the same"), "{finished}");
}

#[test]
fn readiness_by_notification_and_without_the_tools_of_systemd() {
    let (finished, sandbox) = run(&format!(
        "{PREPARE}\nrm /usr/bin/systemd-tmpfiles /usr/bin/systemd-sysusers\ncd /\n\
         {BIN}/nrtrace run -q --ready-notify --for 1s -o {OUT}/notifies -- {BIN}/fixture notifies\n\
         {BIN}/nrtrace run --verify --ready-log serving --settle 200ms -o {OUT}/result -- {BIN}/fixture looks-only /srv/guarded/a /srv/guarded/b\n"
    ));
    assert_eq!(finished.status, 0, "{finished}");
    let proof = profile_of(&sandbox, &finished).proof.unwrap();
    assert!(proof.lives && all_applied(&proof), "{proof:?} {finished}");
    let text = std::fs::read_to_string(sandbox.out().join("notifies/profile.json")).unwrap();
    let timeline = Profile::from_json(&text).unwrap().run.timeline.unwrap();
    assert!(timeline.ready.is_some() && timeline.notified, "{timeline:?}");
}

#[test]
fn an_interrupted_search_goes_on_where_it_was() {
    let minimize = format!(
        "{BIN}/nrtrace minimize {OUT}/result/profile.json --ready-log serving --settle 200ms -v -o {OUT}/min -- \
         {BIN}/fixture looks-only /srv/guarded/a /srv/guarded/b"
    );
    let (finished, _sandbox) = run(&format!(
        "{PREPARE}\ncd /\n{BIN}/nrtrace run -q --ready-log serving --for 1s -o {OUT}/result -- {BIN}/fixture looks-only /srv/guarded/a /srv/guarded/b\n\
         {minimize} & search=$!\nuntil [ -e {OUT}/min/minimize.journal ]; do sleep 0.02; done\nkill -9 $search\nwait $search || true\n\
         test -z \"$(ps -C fixture -o pid=)\"\n{minimize}\ntest ! -e {OUT}/min/minimize.journal\n"
    ));
    assert_eq!(finished.status, 0, "{finished}");
    assert!(String::from_utf8_lossy(&finished.stderr).contains("trials of an earlier search"), "{finished}");
}

/// Many sandboxed runs and kills, inside a sandbox of the test that stands for the machine.
#[test]
fn the_machine_is_as_it_was_after_many_trials_and_kills() {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(240));
    let script = format!(
        r#"{PREPARE}
        cd /
        # The groups of what is started here are in one of their own: trials of other tests have groups, too.
        hierarchy=$(awk '$3 == "cgroup2" && $2 ~ "^/sys/fs/cgroup" {{ print $2; exit }}' /proc/mounts)
        own=$hierarchy$(sed -n 's/^0:://p' /proc/self/cgroup)/machine-$$-$RANDOM
        [ -z "$hierarchy" ] || ! mkdir "$own" 2>/dev/null || {{ echo $$ >"$own"/cgroup.procs
            trap 'echo $$ >"${{own%/*}}"/cgroup.procs; rmdir "$own"' EXIT; }}
        snapshot() {{
            cut -d' ' -f3- /proc/self/mountinfo | sort
            find /etc /run /tmp /var/lib /var/log /srv /dev -xdev -printf '%p %u %g %m %y\n' | sort
            [ ! -d "$own" ] || find "$own" -type d | sort
            getcap -r /usr/sbin /opt 2>/dev/null || true
            ps -eo comm= | grep -E '^(fixture|guardian|nrtrace)$' || true
        }}
        {BIN}/nrtrace run -q --ready-log serving --for 500ms -o {OUT}/result -- {BIN}/fixture looks-only /srv/guarded/a /srv/guarded/b
        chmod 644 /srv/guarded/*
        snapshot >{OUT}/before
        verify() {{ {BIN}/nrtrace verify -q --backend ptrace {OUT}/result/profile.json --ready-log serving --settle 20ms --network private; }}
        for n in $(seq 50); do verify & one=$!; verify & other=$!; wait $one; wait $other; done
        for n in $(seq 20); do
            verify & victim=$!
            sleep 0.$((n % 10))$((n * 7 % 10))
            kill -9 $victim 2>/dev/null || true
            wait $victim 2>/dev/null || true
        done
        for n in $(seq 100); do [ -z "$(ps -C fixture,guardian,nrtrace -o pid=)" ] && break; sleep 0.05; done
        snapshot >{OUT}/after
        diff {OUT}/before {OUT}/after
        "#
    );
    let finished = sandbox.script(&script).unwrap();
    assert_eq!(finished.status, 0, "{finished}");
}

/// Data that a service has gone on to write since its recorded run made the directory.
const CANARY: &str = r#"
    useradd -r -M svc
    mkdir -m 755 /srv/db /srv/own
    ln -s db /srv/link
    cat >/opt/prog <<'X'
#!/bin/sh
[ -e /srv/db/data/table ] || { mkdir /srv/db/data && echo row >/srv/db/data/table; } || exit 1
[ -e /srv/own/made ] || echo x >/srv/own/made || exit 1
X
    chmod 755 /opt/prog
    snapshot() {
        find /srv -printf '%p %u %g %m %y %s %T@ %i\n' | sort
        find /srv -type f -exec sha256sum {} + | sort
        getfacl -Rp /srv; getcap -r /srv
        python3 -c 'import os; print(os.listxattr("/srv/db/data/table"))'
    }
    precious() {
        echo precious >>/srv/db/data/table
        echo other >/srv/db/data/file2
        mkdir -p /srv/db/data/sub && ln -sf /etc/shadow /srv/db/data/sub/link
        chown -R svc:daemon /srv/db/data && chmod 700 /srv/db/data && chmod 4711 /srv/db/data/file2
        setfacl -m u:daemon:rx /srv/db/data/sub
        python3 -c 'import os; os.setxattr("/srv/db/data/table", "trusted.canary", b"alive")'
        setcap cap_net_raw=ep /srv/db/data/table
    }
"#;

/// `--share` shows living data: the program may write there, nrtrace may not.
#[test]
fn what_is_shared_is_neither_cleared_away_nor_changed() {
    let (finished, sandbox) = run(&format!(
        r#"{CANARY}
        cd /
        {BIN}/nrtrace run -q --in-place --as svc -o {OUT}/result -- /opt/prog
        precious
        snapshot >{OUT}/before
        each() {{ echo "== $*" >>{OUT}/log; "$@" --settle 50ms >>{OUT}/log 2>&1 && echo "status 0" >>{OUT}/log || echo "status $?" >>{OUT}/log
            snapshot >{OUT}/after; diff {OUT}/before {OUT}/after; }}
        for share in /srv/db /srv/link /srv/db/../db/data /srv /srv/db/data/table; do
            each {BIN}/nrtrace verify {OUT}/result/profile.json --share $share
            each {BIN}/nrtrace minimize {OUT}/result/profile.json --restart -o {OUT}/min --share $share
            cp {OUT}/min/profile.json {OUT}/min-${{share##*/}}.json
        done
        mv /usr/bin/systemd-tmpfiles /usr/bin/systemd-tmpfiles.away
        each {BIN}/nrtrace verify {OUT}/result/profile.json --share /srv/db
        each {BIN}/nrtrace verify {OUT}/result/profile.json --share /srv/db --file-capabilities --update
        each {BIN}/nrtrace run --verify --as svc --share /srv/db -- /opt/prog
        each {BIN}/nrtrace run --minimize --as svc --share /srv/db --share /srv/db/data -- /opt/prog
        "#
    ));
    let log = std::fs::read_to_string(sandbox.out().join("log")).unwrap_or_default();
    assert_eq!(finished.status, 0, "{finished}\n{log}");
    let not_applied = "path:/srv/db/data, as it lies on what --share shows of the machine";
    assert!(log.contains(not_applied) && log.contains("of which nothing is proved"), "{log}");
    let text = std::fs::read_to_string(sandbox.out().join("min-db.json")).unwrap();
    let profile = Profile::from_json(&text).unwrap();
    let data = profile.requirements.iter().find(|need| need.id == "path:/srv/db/data").unwrap();
    assert!(data.severity == Severity::Required && data.proof.is_none(), "{data:?}\n{log}");
    let own = profile.requirements.iter().find(|need| need.id.starts_with("path:/srv/own")).unwrap();
    assert_eq!(own.proof.as_ref().map(|proof| proof.finding), Some(Finding::Removal), "{own:?}\n{log}");
    let proof = profile.proof.as_ref().unwrap();
    assert!(!proof.minimal && proof.not_applied.iter().any(|text| text == not_applied), "{proof:?}");
}

/// Trials make users, and the sandbox's `/proc` is another.
#[test]
fn what_holds_the_accounts_cannot_be_shared() {
    let (finished, _sandbox) = run(&format!(
        r#"ln -s /etc /srv/link
        sha256sum /etc/passwd /etc/group /etc/shadow >{OUT}/sums
        for share in / /etc /etc/passwd /srv/link /proc /sys /dev; do
            code=0; {BIN}/nrtrace run --verify --share $share --settle 1ms -- /bin/mkdir /var/lib/zed || code=$?
            echo "$share $code"
        done
        sha256sum -c --quiet {OUT}/sums
        "#
    ));
    assert_eq!(finished.status, 0, "{finished}");
    let out = String::from_utf8_lossy(&finished.stdout);
    assert!(out.lines().count() == 7 && out.lines().all(|line| line.ends_with(" 2")), "{finished}");
    let told = String::from_utf8_lossy(&finished.stderr);
    assert!(told.contains("--share /srv/link: it holds /etc/passwd"), "{finished}");
}
