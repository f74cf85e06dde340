//! What the recorders of `deploy/` leave in their logs is fetched as `docs/nodes.md` says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::Path;
use std::time::Duration;

use nrtrace_profiles::profile::Profile;
use nrtrace_tests::sandbox::{OUT, Sandbox};
use serde::Deserialize;
use serde_json::Value;

/// A file of the repository.
fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// What the container of a recorder runs.
fn script(manifest: &str) -> String {
    let text = read(manifest);
    let document = serde_norway::Deserializer::from_str(&text).next().unwrap();
    let document = Value::deserialize(document).unwrap();
    document["spec"]["template"]["spec"]["containers"][0]["command"][2].as_str().unwrap().to_owned()
}

/// The commands of `docs/nodes.md` that fetch the profiles.
fn fetch() -> String {
    let page = read("docs/nodes.md");
    let mut blocks = page.split("```");
    let block = blocks.find(|block| block.contains("get pods -o name")).unwrap();
    block.split_once('\n').unwrap().1.to_owned()
}

/// A recorder that has found something, one of a Job that has failed, and one that still waits; a kubectl that shows their logs.
const STUBS: &str = r#"
    mkdir -p /tmp/stub /tmp/real /tmp/logs /tmp/here
    $BIN/nrtrace run --quiet --for 500ms -o /tmp/real -- /bin/sleep 5
    cat >/tmp/stub/nrtrace <<'END'
#!/bin/sh
for out; do :; done
echo "what was found, on standard output"
echo "nrtrace: what was noted, on standard error" >&2
[ "$CONTAINER" != none ] || exit 2
mkdir -p "$out" && cp /tmp/real/profile.json "$out"
exit 1
END
    cat >/tmp/stub/kubectl <<'END'
#!/bin/sh
case "$*" in
    *"get pods"*) cd /tmp/logs && ls -d * | sed 's,^,pod/,' ;;
    *" logs "*) cat "/tmp/logs/${4#pod/}" ;;
esac
END
    # The DaemonSet's waits for ever.
    printf '#!/bin/sh\n' >/tmp/stub/sleep
    chmod +x /tmp/stub/*
    export NODE_NAME=node DURATION=1s OPTIONS="--record calls" CONTAINER=web
    record() { status=0; PATH=/tmp/stub:$PATH sh -c "$2" >/tmp/logs/$1 2>&1 || status=$?; echo "$1 $status"; }
"#;

#[test]
fn profiles_are_fetched_from_the_logs() {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(60));
    std::fs::write(sandbox.out().join("job"), script("deploy/job.yaml")).unwrap();
    std::fs::write(sandbox.out().join("daemonset"), script("deploy/daemonset.yaml")).unwrap();
    std::fs::write(sandbox.out().join("fetch"), fetch()).unwrap();
    let text = format!(
        r#"{STUBS}
        record nrtrace-job "$(cat {OUT}/job)"
        CONTAINER=none record nrtrace-none "$(cat {OUT}/job)"
        record nrtrace-daemon "$(cat {OUT}/daemonset)"
        echo 'nrtrace: waiting for container web' >/tmp/logs/nrtrace-waits
        cd /tmp/here
        rm /tmp/stub/nrtrace /tmp/stub/sleep; PATH=/tmp/stub:$PATH
        . {OUT}/fetch
        ls
        cp kube-scheduler.json {OUT}/
        cmp nrtrace-job.json /tmp/real/profile.json
        "#
    );
    let done = sandbox.script(&text).unwrap().ok().unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    // The Job ends as the recording does.
    for line in ["nrtrace-job 1", "nrtrace-none 2", "nrtrace-daemon 0"] {
        assert!(said.lines().any(|known| known == line), "{said}");
    }
    let fetched: Vec<&str> = said.lines().filter(|line| line.ends_with(".json")).collect();
    assert_eq!(fetched, ["kube-scheduler.json", "nrtrace-daemon.json", "nrtrace-job.json"]);
    let merged = std::fs::read_to_string(sandbox.out().join("kube-scheduler.json")).unwrap();
    assert!(Profile::from_json(&merged).is_ok(), "{merged}");
}
