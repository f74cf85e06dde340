//! The command line: statuses, streams, identity, signals.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use nrtrace_profiles::event::Exit;
use nrtrace_profiles::profile::Profile;
use nrtrace_tests::sandbox::{Finished, OUT, Sandbox};

/// Runs a script in which `nrtrace` and `fixture` are found.
fn run(script: &str) -> Finished {
    Sandbox::new().unwrap().deadline(Duration::from_secs(40)).script(script).unwrap()
}

fn stderr(finished: &Finished) -> String {
    String::from_utf8_lossy(&finished.stderr).into_owned()
}

fn stdout(finished: &Finished) -> String {
    String::from_utf8_lossy(&finished.stdout).into_owned()
}

#[test]
fn the_status_of_the_program_is_passed_on() {
    assert_eq!(run("nrtrace run -- fixture exit 0").status, 0);
    assert_eq!(run("nrtrace run -- fixture exit 42").status, 42);
    assert_eq!(run("nrtrace run -- fixture die 6").status, 128 + 6);
    assert_eq!(run("nrtrace run --ready-log serving -- fixture exit 0").status, 1, "it was never ready");
    assert_eq!(run("nrtrace run --ready-log serving -- fixture exit 42").status, 42);
    assert_eq!(run("nrtrace run --ready-log serving --ignore-status -- fixture exit 0").status, 0);
}

#[test]
fn what_cannot_be_started_has_the_status_of_a_shell() {
    let missing = run("nrtrace run -- no-such-program");
    assert_eq!(missing.status, 127, "{missing}");
    assert!(stderr(&missing).contains("no-such-program"), "{missing}");
    let closed = run("nrtrace run -- /etc/passwd");
    assert_eq!(closed.status, 126, "{closed}");
    assert!(stderr(&closed).contains("/etc/passwd"), "{closed}");
}

#[test]
fn bad_usage_has_status_2() {
    for words in [
        "",
        "run",
        "run --for soon -- true",
        "run --identity maybe -- true",
        "emit /no/such/profile --format setcap",
    ] {
        let finished = run(&format!("nrtrace {words}"));
        assert_eq!(finished.status, 2, "nrtrace {words}: {finished}");
        assert!(!finished.stderr.is_empty(), "nrtrace {words} says nothing");
    }
    let finished = run("nrtrace run --as nobody-of-that-name -- true");
    assert!([2, 3].contains(&finished.status), "{finished}");
    assert!(stderr(&finished).contains("nobody-of-that-name"), "{finished}");
}

#[test]
fn without_root_it_says_what_to_do() {
    let finished =
        run("setpriv --reuid 61190 --regid 61190 --clear-groups --inh-caps=-all nrtrace run -- true");
    assert_eq!(finished.status, 3, "{finished}");
    assert!(stderr(&finished).contains("--enforce"), "{finished}");
}

#[test]
fn the_program_runs_as_it_was_said() {
    let account = "useradd --system --uid 777 --no-create-home --home-dir /var/empty runner; groupadd --gid 778 extra\n";
    let said = run(&format!(
        "{account} cd /root; nrtrace run -q --cwd /usr --as runner --groups extra -e EXTRA=yes -- fixture whoami"
    ));
    let said = stdout(&said.ok().unwrap());
    let gid = said.lines().find_map(|line| line.strip_prefix("Gid:\t")).unwrap().to_owned();
    assert!(said.contains("Uid:\t777\t777\t777\t777\n"), "{said}");
    assert!(!gid.contains("0\t0"), "{said}");
    assert!(said.contains("Groups:\t778 \n"), "{said}");
    for line in [
        "HOME=/var/empty\n",
        "USER=runner\n",
        "LOGNAME=runner\n",
        "EXTRA=yes\n",
        "cwd=/usr\n",
        "NoNewPrivs:\t0\n",
    ] {
        assert!(said.contains(line), "{line:?} is not in {said}");
    }
    let sets: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("Cap")?.split_once(":\t"))
        .map(|(_, set)| set)
        .collect();
    assert_eq!(sets.len(), 5, "{said}");
    assert!(sets.iter().all(|set| *set == sets[0]), "not all capability sets are alike: {said}");

    let fresh = stdout(&run("nrtrace run -q -- fixture whoami").ok().unwrap());
    let uid: u32 =
        fresh.lines().find_map(|line| line.strip_prefix("Uid:\t")?.split('\t').next()?.parse().ok()).unwrap();
    assert!((61_184..=65_519).contains(&uid), "{fresh}");
    assert!(fresh.contains("Groups:\t \n") || fresh.contains("Groups:\t\n"), "{fresh}");

    let numbers = stdout(&run("nrtrace run -q --as 4000:5000 -- fixture whoami").ok().unwrap());
    assert!(numbers.contains("Uid:\t4000\t") && numbers.contains("Gid:\t5000\t"), "{numbers}");
}

#[test]
fn standard_streams_are_the_programs_own() {
    let finished = run("echo in | nrtrace run -q -- sh -c 'cat; echo err >&2'").ok().unwrap();
    assert_eq!(stdout(&finished), "in\n");
    assert!(stderr(&finished).contains("err\n"), "{finished}");
}

/// The profile of a run that was stopped, after which nothing of the program is left.
fn stopped(how: &str, status: i32) -> Profile {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(40));
    let script = format!(
        "set +e; {how}; status=$?\n\
         left=$(grep -lz '^stay$' /proc/[0-9]*/cmdline 2>/dev/null | grep -vc /$$/)\n\
         echo \"status $status left $left\""
    );
    let finished = sandbox.script(&script).unwrap();
    assert!(stdout(&finished).contains(&format!("status {status} left 0")), "{how}: {finished}");
    let text = std::fs::read_to_string(sandbox.out().join("profile.json")).unwrap();
    assert!(!text.contains("guardian"), "nrtrace's own helper was traced: {text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_run_ends_after_its_time_with_all_it_started() {
    let profile = stopped(&format!("nrtrace run --for 1s --grace 500ms -o {OUT} -- fixture stay"), 0);
    assert!(matches!(profile.run.exit, Exit::Stopped { .. }), "{:?}", profile.run.exit);
}

#[test]
fn interrupting_a_run_stops_the_program_and_still_reports() {
    // To nrtrace alone, and to the whole group as a terminal does.
    for (signal, whom) in [("INT", "$run"), ("INT", "-$run"), ("TERM", "$run")] {
        let how = format!(
            "set -m; nrtrace run --grace 500ms -o {OUT} -- fixture stay >/tmp/said & run=$!\n\
             until grep -q staying /tmp/said; do sleep 0.05; done\n\
             kill -{signal} -- {whom}; wait $run"
        );
        let profile = stopped(&how, 0);
        assert!(matches!(profile.run.exit, Exit::Stopped { .. }), "{signal} {whom}: {:?}", profile.run.exit);
    }
}

#[test]
fn children_it_did_not_start_are_left_alone() {
    // A shell that replaces itself hands its children over.
    let finished = run("bash -c 'sleep 300 & exec nrtrace run -q -- fixture exit 5' || echo status $?
        pgrep -x sleep >/dev/null && echo still sleeping");
    assert_eq!(stdout(&finished), "status 5\nstill sleeping\n", "{finished}");
}

#[test]
fn killing_nrtrace_leaves_nothing_behind() {
    let script = "nrtrace run -q -- fixture stay >/tmp/said & run=$!\n\
                  until grep -q staying /tmp/said; do sleep 0.05; done\n\
                  kill -KILL $run; wait $run || true; sleep 0.5\n\
                  if grep -lz '^stay$' /proc/[0-9]*/cmdline 2>/dev/null; then exit 1; fi";
    run(script).ok().unwrap();
}

#[test]
fn a_saved_profile_can_be_reported_and_emitted() {
    let script = "mkdir -m 755 /srv/guarded; touch /srv/guarded/file\n\
                  nrtrace run -q -o \"$OUT\" -- fixture write /srv/guarded/file\n\
                  nrtrace report --format json \"$OUT\"/profile.json | cmp - \"$OUT\"/profile.json\n\
                  nrtrace report \"$OUT\"/profile.json | grep -q /srv/guarded/file\n\
                  nrtrace emit -o /tmp/again \"$OUT\"/profile.json\n\
                  diff -r \"$OUT\" /tmp/again\n\
                  nrtrace doctor | grep -qi bpf";
    run(script).ok().unwrap();
}

#[test]
fn a_reader_that_leaves_early_does_no_harm() {
    let script = "set +e; nrtrace run -o \"$OUT\" -- seq 1000000 2>/tmp/said | head -n 1; echo ${PIPESTATUS[0]}\n\
                  grep panicked /tmp/said; test -s \"$OUT\"/profile.json || echo no profile";
    let finished = run(script);
    // The program's own end by SIGPIPE.
    assert_eq!(stdout(&finished), "1\n141\n", "{finished}");
    for (command, status) in [
        ("nrtrace run -v -- sh -c 'sleep 0.3; exit 4' 2>&1", 4),
        ("nrtrace run -q --format json -- true", 0),
        ("nrtrace doctor", 0),
        ("nrtrace --help", 0),
        ("nrtrace run -- no-such-program 2>&1", 127),
    ] {
        let finished = run(&format!("{command} | sleep 0; exit ${{PIPESTATUS[0]}}"));
        assert_eq!(finished.status, status, "{command}: {finished}");
        assert!(!stderr(&finished).contains("panicked"), "{command}: {finished}");
    }
}

#[test]
fn closed_streams_are_no_hindrance() {
    let script = "set +e\n\
                  nrtrace run -q -- fixture exit 5 <&-; echo $?\n\
                  nrtrace run -- fixture exit 6 >&-; echo $?\n\
                  nrtrace run -- fixture exit 7 2>&-; echo $?\n\
                  nrtrace run -- fixture exit 8 <&- >&- 2>&-; echo $?\n\
                  nrtrace run -q --format json -- true >/dev/full; echo $?";
    let finished = run(script);
    assert_eq!(stdout(&finished), "5\n6\n7\n8\n3\n", "{finished}");
}

#[test]
fn under_nohup_a_hangup_passes_by() {
    let script = "set -m; nohup nrtrace run -q -- sh -c 'echo ready; sleep 1; echo done' >/tmp/said 2>&1 & run=$!\n\
                  until grep -q ready /tmp/said; do sleep 0.05; done\n\
                  kill -HUP -- -$run; wait $run; cat /tmp/said";
    let finished = run(script).ok().unwrap();
    assert!(stdout(&finished).contains("ready\ndone\n"), "{finished}");
}

#[test]
fn under_timeout_the_run_ends_in_time() {
    // Politely; and by SIGKILL to the whole process group.
    let script = "set +e\n\
                  timeout --preserve-status 4 nrtrace run -q --grace 1s -o \"$OUT\" -- sh -c 'trap \"exit 9\" TERM; \
                  while :; do sleep 0.1; done'; echo $?\n\
                  timeout -s KILL 4 nrtrace run -q -- fixture stay >/tmp/said; cat /tmp/said | sort -u; sleep 0.5\n\
                  grep -lz '^stay$' /proc/[0-9]*/cmdline 2>/dev/null; true";
    let finished = run(script);
    assert_eq!(stdout(&finished), "0\nstaying\n", "{finished}");
}

#[test]
fn a_set_user_id_program_can_be_run() {
    // As `sudo` is: it becomes root by its file, and nrtrace says what that means.
    let script = "cp \"$(command -v id)\" /usr/local/bin/as-root; chmod 4755 /usr/local/bin/as-root\n\
                  nrtrace run -- as-root -u; nrtrace run -q -- sh -c 'as-root -u; exit 3' || echo $?";
    let finished = run(script).ok().unwrap();
    assert_eq!(stdout(&finished), "0\n0\n3\n", "{finished}");
    assert!(stderr(&finished).contains("set-user-ID"), "{finished}");
}
