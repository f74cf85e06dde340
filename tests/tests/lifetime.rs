//! What turns against nrtrace, or is done to it: nothing outlives the run, nothing freezes, and it is said.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use nrtrace_tests::record;
use nrtrace_tests::sandbox::{BIN, Sandbox};

const BACKENDS: [&str; 2] = ["ebpf", "ptrace"];
/// What a tracee writes is seen outside.
const PLACES: [&str; 2] = ["--share \"$OUT\"", "--in-place"];

/// Bash: `beats` is how often the tracee has left a sign of life; `silent` fails if it still does.
const PRELUDE: &str = r#"
    beats() { wc -l <"$OUT"/beats; }
    beating() { for _ in $(seq 200); do test "$(beats)" -gt 10 && return; sleep 0.05; done; exit 1; }
    silent() {
        local before=$(beats); sleep 0.3
        test "$before" = "$(beats)"
        # What was killed may yet have to be reaped.
        for _ in $(seq 100); do
            pgrep -x 'survivor|fixture|guardian|keeper|watchdog|nrtrace-ptrace' >/dev/null || return 0
            sleep 0.05
        done
        ps -e >&2; return 1
    }
"#;

fn sandbox() -> Sandbox {
    Sandbox::new().unwrap().deadline(Duration::from_secs(120))
}

#[test]
fn a_tree_that_kills_its_guardian_is_ended_and_told_of() {
    for (backend, place) in BACKENDS.into_iter().flat_map(|backend| PLACES.map(|place| (backend, place))) {
        for order in ["guardian-first", "keeper-first", "stop-first", "daemon"] {
            let sandbox = sandbox();
            let script = format!(
                "{PRELUDE}
                touch \"$OUT\"/beats; chmod 666 \"$OUT\"/beats
                status=0
                timeout -k 3 30 nrtrace run -q {place} --backend {backend} --for 20s -o \"$OUT\"/result \\
                    -- fixture survive {order} \"$OUT\"/beats || status=$?
                silent
                exit $status"
            );
            let finished = sandbox.script(&script).unwrap();
            assert_eq!(finished.status, 3, "{backend}, {place}, {order}: {finished}");
            let said = String::from_utf8_lossy(&finished.stderr);
            assert!(
                said.contains("error: nrtrace's guardian was killed"),
                "{backend}, {place}, {order}: {finished}"
            );
            let profile = record::written(&sandbox, "result").unwrap();
            assert!(!profile.run.complete, "{backend}, {place}, {order}");
            assert!(profile.notes.iter().any(|note| note.contains("was cut off")), "{:?}", profile.notes);
        }
    }
}

#[test]
fn stopped_helpers_go_on() {
    for (backend, order) in [("ebpf", "stop-alone"), ("ptrace", "stop-alone")] {
        let sandbox = sandbox();
        let script = format!(
            "{PRELUDE}
            touch \"$OUT\"/beats; chmod 666 \"$OUT\"/beats
            timeout -k 3 30 nrtrace run -q --share \"$OUT\" --backend {backend} --for 4s --grace 500ms -o \"$OUT\"/result \\
                -- fixture survive {order} \"$OUT\"/beats &
            nrtrace=$!
            beating
            SECONDS=0
            wait $nrtrace
            test $SECONDS -lt 7
            silent"
        );
        sandbox.script(&script).unwrap().ok().unwrap();
        assert!(record::written(&sandbox, "result").unwrap().run.complete, "{backend}, {order}");
    }
}

/// `--ready-notify`, with a stranger who calls again and again if `stranger` is their user.
fn notified(backend: &str, stranger: Option<u32>, program: &str) -> bool {
    let sandbox = sandbox();
    let stranger = stranger.map_or(String::new(), |uid| {
        format!(
            "(for _ in $(seq 30); do setpriv --reuid {uid} --regid {uid} --clear-groups fixture ready; sleep 0.1; done) &"
        )
    });
    let script = format!(
        "{stranger}
        exec timeout -k 3 30 nrtrace run --backend {backend} --as 54321 --ready-notify --ready-timeout 3s --settle 100ms \\
            --exercise true -o \"$OUT\"/result -- bash -c '{program}' {BIN}/fixture"
    );
    let finished = sandbox.script(&script).unwrap();
    let profile = record::written(&sandbox, "result").unwrap();
    let ready = profile.run.timeline.is_some_and(|timeline| timeline.ready.is_some());
    assert_eq!(finished.status, if ready { 0 } else { 1 }, "{backend}: {finished}");
    ready
}

#[test]
fn only_the_tree_says_that_it_is_ready() {
    for backend in BACKENDS {
        for stranger in [54321, 54322, 0] {
            assert!(!notified(backend, Some(stranger), "sleep 600"), "{backend}, {stranger}");
        }
        // Each sender has ended, and has been reaped, when it is heard.
        for program in ["$0 ready; sleep 600", "($0 ready &); sleep 600", "$0 ready & wait; sleep 600"] {
            assert!(notified(backend, None, program), "{backend}, {program}");
        }
    }
}

#[test]
fn a_process_without_its_first_thread_is_stopped() {
    for backend in BACKENDS {
        let script = format!(
            "{PRELUDE}
            touch \"$OUT\"/beats; chmod 666 \"$OUT\"/beats
            timeout -k 3 30 nrtrace run -q --share \"$OUT\" --backend {backend} --for 1s --grace 300ms \\
                -- fixture headless \"$OUT\"/beats
            test \"$(beats)\" -gt 10
            silent"
        );
        sandbox().script(&script).unwrap().ok().unwrap();
    }
}

#[test]
fn a_low_limit_of_open_files_is_told() {
    let sandbox = sandbox();
    let script = r#"
        sleep 600 & pid=$!
        cd /tmp; nrtrace run -q -o kept -- true
        for limit in $(seq 4 40); do
            for words in "run --backend ebpf -- true" "run --backend ptrace -- true" \
                "run --minimize --settle 100ms -- true" "verify kept/profile.json -- true" \
                "attach --backend ptrace --for 100ms $pid" "attach --backend ebpf --for 100ms $pid"; do
                status=0
                said=$(bash -c "ulimit -n $limit; exec nrtrace $words" 2>&1) || status=$?
                if grep -q 'error while loading shared libraries' <<<"$said"; then continue; fi
                test $status = 3 || { echo "$limit, $words: $status: $said"; exit 1; }
                grep -q "of the $limit that .ulimit -n. allows" <<<"$said" || { echo "$limit, $words: $said"; exit 1; }
            done
        done
        # What it asks for suffices.
        free=$((64 + $(ls /proc/self/fd | wc -l)))
        for words in "run --backend ebpf -- true" "run --backend ptrace -- true" "verify kept/profile.json -- true"; do
            bash -c "ulimit -n $free; exec nrtrace $words"
        done"#;
    sandbox.script(script).unwrap().ok().unwrap();
}

#[test]
fn a_stopped_tracer_does_not_freeze_what_it_traces() {
    let sandbox = sandbox();
    let script = format!(
        r#"{PRELUDE}
        touch "$OUT"/beats; chmod 666 "$OUT"/beats
        bash -c 'while :; do echo alive; sleep 0.02; done' >"$OUT"/beats & pid=$!
        descendants() {{ for child in $(pgrep -P $1); do descendants $child; done; echo $1; }}
        for whom in tracer all; do
            nrtrace attach --backend ptrace -o "$OUT"/$whom $pid 2>"$OUT"/log & nrtrace=$!
            for _ in $(seq 200); do grep -q 'attached to' "$OUT"/log && break; sleep 0.05; done
            case $whom in
                tracer) kill -STOP $(pgrep -x nrtrace-ptrace) ;;
                # One of them may have ended since it was listed.
                all) kill -STOP $(descendants $nrtrace) || : ;;
            esac
            sleep 0.5
            before=$(beats); sleep 1; test "$(beats)" -gt $((before + 5))
            kill -CONT $nrtrace; kill -TERM $nrtrace; wait $nrtrace
            # What was killed may take a moment to go.
            for left in watchdog nrtrace-ptrace; do
                for _ in $(seq 50); do pgrep -x $left >/dev/null || break; sleep 0.1; done
                if pgrep -x $left; then exit 1; fi
            done
        done
        kill -9 $pid"#
    );
    sandbox.script(&script).unwrap().ok().unwrap();
    assert!(record::written(&sandbox, "all").unwrap().run.complete);
}
