//! What turns against nrtrace, or is done to it: nothing outlives the run, nothing freezes, and it is said.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use nrtrace_tests::record;
use nrtrace_tests::sandbox::Sandbox;

const BACKENDS: [&str; 2] = ["ebpf", "ptrace"];

/// Bash: `beats` is how often the tracee has left a sign of life; `silent` fails if it still does.
const PRELUDE: &str = r#"
    beats() { wc -l <"$OUT"/beats; }
    beating() { for _ in $(seq 200); do test "$(beats)" -gt 10 && return; sleep 0.05; done; exit 1; }
    silent() {
        local before=$(beats); sleep 0.3
        test "$before" = "$(beats)"
        ! pgrep -x 'survivor|fixture|guardian|keeper|watchdog|nrtrace-ptrace'
    }
"#;

fn sandbox() -> Sandbox {
    Sandbox::new().unwrap().deadline(Duration::from_secs(120))
}

#[test]
fn a_tree_that_kills_its_guardian_is_ended_and_told_of() {
    for backend in BACKENDS {
        for order in ["guardian-first", "keeper-first", "stop-first", "daemon"] {
            let sandbox = sandbox();
            let script = format!(
                "{PRELUDE}
                touch \"$OUT\"/beats; chmod 666 \"$OUT\"/beats
                status=0
                timeout -k 3 30 nrtrace run -q --backend {backend} --for 20s -o \"$OUT\"/result \\
                    -- fixture survive {order} \"$OUT\"/beats || status=$?
                silent
                exit $status"
            );
            let finished = sandbox.script(&script).unwrap();
            assert_eq!(finished.status, 3, "{backend}, {order}: {finished}");
            let said = String::from_utf8_lossy(&finished.stderr);
            assert!(said.contains("error: nrtrace's guardian was killed"), "{backend}, {order}: {finished}");
            let profile = record::written(&sandbox, "result").unwrap();
            assert!(!profile.run.complete, "{backend}, {order}");
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
            timeout -k 3 30 nrtrace run -q --backend {backend} --for 4s --grace 500ms -o \"$OUT\"/result \\
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

#[test]
fn a_process_without_its_first_thread_is_stopped() {
    for backend in BACKENDS {
        let script = format!(
            "{PRELUDE}
            touch \"$OUT\"/beats; chmod 666 \"$OUT\"/beats
            timeout -k 3 30 nrtrace run -q --backend {backend} --for 1s --grace 300ms \\
                -- fixture headless \"$OUT\"/beats
            test \"$(beats)\" -gt 10
            silent"
        );
        sandbox().script(&script).unwrap().ok().unwrap();
    }
}
