//! The sandbox itself: what is inside, and that nothing of it stays.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nrtrace_tests::sandbox::{OUT, Sandbox, sibling};

#[test]
fn looks_like_a_debian_machine_that_has_just_started() {
    let sandbox = Sandbox::bare().unwrap();
    let script = r#"
        test "$(id -u)" = 0
        test "$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)" = 1024
        test "$(hostname)" = sandbox
        test "$$" -lt 10
        test "$(ls -A /run)" = lock
        test -z "$(ls -A /tmp)$(ls -A /dev/shm)"
        test "$(stat -c %a /run /tmp /dev/shm /run/lock | tr '\n' ' ')" = '755 1777 1777 1777 '
        exec 3<>/dev/null 4</dev/urandom
        # Loopback works, the machine's interfaces are not here; another one is for programs that refuse loopback.
        test "$(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | sort | tr '\n' ' ')" = 'lo veth0 veth1 '
        if (exec 5<>/dev/tcp/127.0.0.1/9) 2>"$OUT"/refused; then exit 1; fi
        grep -q 'Connection refused' "$OUT"/refused
    "#;
    sandbox.script(script).unwrap().ok().unwrap();
}

#[test]
fn ordinary_permissions_and_acls_hold() {
    let sandbox = Sandbox::bare().unwrap();
    let script = r#"
        user() { setpriv --reuid 61184 --regid 61184 --clear-groups --inh-caps=-all "$@"; }
        echo secret >/etc/guarded
        chmod 600 /etc/guarded
        if user cat /etc/guarded; then exit 1; fi
        setfacl -m u:61184:r /etc/guarded
        user cat /etc/guarded
        # The same on a file of the machine, which the overlay copies first.
        if user cat /etc/shadow >/dev/null; then exit 1; fi
        setfacl -m u:61184:r /etc/shadow
        user cat /etc/shadow >/dev/null
        if user bash -c ': >/run/x'; then exit 1; fi
        user bash -c ': >/tmp/x'
    "#;
    let finished = sandbox.script(script).unwrap().ok().unwrap();
    assert_eq!(finished.stdout, b"secret\n");
}

#[test]
fn changes_stay_inside_and_results_come_out() {
    let sandbox = Sandbox::bare().unwrap();
    sandbox
        .script("touch /etc/only-inside /var/only-inside; echo kept >\"$OUT\"/result")
        .unwrap()
        .ok()
        .unwrap();
    assert_eq!(std::fs::read_to_string(sandbox.out().join("result")).unwrap(), "kept\n");
    assert!(!std::path::Path::new("/etc/only-inside").exists());
    let again =
        sandbox.script(&format!("test ! -e /etc/only-inside; cat {OUT}/result")).unwrap().ok().unwrap();
    assert_eq!(again.stdout, b"kept\n");
}

#[test]
fn status_and_signal_come_out() {
    let sandbox = Sandbox::bare().unwrap();
    assert_eq!(sandbox.script("exit 7").unwrap().status, 7);
    assert_eq!(sandbox.script("kill -SEGV $$").unwrap().status, 128 + libc::SIGSEGV);
}

#[test]
fn a_late_command_is_killed_with_all_it_started() {
    let marker = "7354.25";
    let sandbox = Sandbox::bare().unwrap().deadline(Duration::from_millis(500));
    let start = Instant::now();
    let script = format!("setsid sleep {marker} & trap '' TERM INT HUP; sleep {marker}");
    let error = sandbox.script(&script).unwrap_err().to_string();
    assert!(error.contains("still running after 500 ms"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(running(marker), 0);
}

#[test]
fn nothing_outlives_the_process_that_wanted_it() {
    let marker = "7354.75";
    // A process of its own that starts a sandbox, so that it can be killed.
    let sandbox = Sandbox::bare().unwrap();
    let mut plan = serde_json::to_value(sandbox.plan()).unwrap();
    plan["layout"]["parent"] = "@PARENT@".into();
    plan["command"] = serde_json::json!(["/bin/sleep", marker]);
    let plan = plan.to_string().replace("\"@PARENT@\"", "$$");
    let script = format!("sandbox=$1; \"$sandbox\" \"$(cat <<X\n{plan}\nX\n)\" & wait");
    let mut starter = Command::new("/bin/bash")
        .args(["-c", &script, "starter"])
        .arg(sibling("sandbox").unwrap())
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    wait_until(|| running(marker) == 1);
    starter.kill().unwrap();
    starter.wait().unwrap();
    wait_until(|| running(marker) == 0);
    assert!(!std::fs::read_to_string("/proc/self/mounts").unwrap().contains("upperdir=/mnt/"));
}

fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited in vain");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How many processes of the machine are a `sleep` for that long.
fn running(duration: &str) -> usize {
    let wanted = format!("sleep\0{duration}\0");
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|line| line.ends_with(wanted.as_bytes()))
        .count()
}
