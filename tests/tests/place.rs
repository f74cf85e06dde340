//! Where a run happens: a plain one leaves the machine as it was, `--in-place` keeps what it did, and it is said which.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::{Duration, Instant};

use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::Basis;
use nrtrace_tests::record::written;
use nrtrace_tests::sandbox::{Finished, Sandbox};
use nrtrace_tests::service::quote;
use nrtrace_tests::truth::Truth;

/// `state FILE` writes down the machine's files: names, owners, modes, sizes, times.
const STATE: &str = r#"
    state() {
        find /etc /run /srv /tmp/ /var/cache /var/log /var/lib/nginx \
            -not -path /tmp/ -printf '%p %U:%G %m %s %T@ %C@\n' | sort >"$OUT"/"$1"
    }
"#;

fn run(script: &str) -> (Finished, Sandbox) {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(120));
    let finished = sandbox.script(&format!("{STATE}\ncd /\n{script}")).unwrap();
    (finished, sandbox)
}

fn said(finished: &Finished) -> String {
    String::from_utf8_lossy(&finished.stderr).into_owned()
}

/// What a profile says that is not about the one run.
fn found(profile: &Profile) -> String {
    format!(
        "{:#?}\n{:#?}",
        profile.requirements.iter().map(|need| &need.need).collect::<Vec<_>>(),
        profile.notes
    )
}

/// Two runs, with a client from outside; nothing is there afterwards that was not there before.
fn leaves_nothing(name: &str, backend: &str) {
    let truth = Truth::load(name).unwrap();
    let words: Vec<String> = truth.command.iter().map(|word| quote(word)).collect();
    let script = format!(
        r#"{prepare}
        state before
        for which in one two; do
            nrtrace run -q --backend {backend} --for 4s -o "$OUT"/$which -- {words} </dev/null & run=$!
            served=no
            for _ in $(seq 100); do
                if timeout 5 bash -euo pipefail -c {exercise} 2>/dev/null; then served=yes; break; fi; sleep 0.1
            done
            wait $run
            echo $served
        done
        state after
        diff "$OUT"/before "$OUT"/after"#,
        prepare = truth.prepare,
        words = words.join(" "),
        exercise = quote(&truth.exercise),
    );
    let (finished, sandbox) = run(&script);
    let finished = finished.ok().unwrap();
    assert_eq!(finished.stdout, b"yes\nyes\n", "{name}: {finished}");
    let [one, two] = ["one", "two"].map(|which| written(&sandbox, which).unwrap());
    assert!(!one.requirements.is_empty(), "{name}: {finished}");
    assert_eq!(found(&one), found(&two), "{name}");
}

#[test]
fn a_second_run_finds_what_the_first_found() {
    leaves_nothing("nginx", "ebpf");
    leaves_nothing("lighttpd", "ebpf");
}

#[test]
fn by_ptrace_too() {
    leaves_nothing("nginx", "ptrace");
}

#[test]
fn in_place_its_effects_stay() {
    for options in ["", "--enforce --as 4000", "--as-root", "--backend ptrace"] {
        let (finished, _) = run(&format!(
            r#"mkdir -m 777 /srv/open
            nrtrace run {options} -- touch /srv/open/made
            test ! -e /srv/open/made
            nrtrace run --in-place {options} -- touch /srv/open/made
            stat -c %u /srv/open/made"#
        ));
        let finished = finished.ok().unwrap();
        let owner = match options {
            "--as-root" => "0\n",
            "--enforce --as 4000" => "4000\n",
            _ => "61184\n",
        };
        assert_eq!(String::from_utf8_lossy(&finished.stdout), owner, "{options}: {finished}");
        let said = said(&finished);
        assert!(said.starts_with("nrtrace: in a sandbox: "), "{options}: {said}");
        assert!(said.contains("\nnrtrace: in place, as --in-place asks: "), "{options}: {said}");
    }
}

#[test]
fn where_there_is_no_sandbox_it_says_so() {
    let user = "setpriv --reuid 4000 --regid 4000 --clear-groups --inh-caps=-all";
    let (finished, _) =
        run(&format!("{user} nrtrace run --enforce -- true; {user} nrtrace run -q --enforce -- true"));
    let told = said(&finished.ok().unwrap());
    assert!(told.starts_with("nrtrace: in place, since a sandbox takes root: "), "{told}");
    assert_eq!(told.matches("in place").count(), 1, "{told}");

    // As in a container; it is told to those who want to hear nothing, too, for they may rely on a sandbox.
    let without = "setpriv --bounding-set=-sys_admin --inh-caps=-all";
    let words = "--backend ptrace --identity switch -- touch /tmp/made";
    let (finished, _) = run(&format!("{without} nrtrace run -q {words}; stat -c %u /tmp/made"));
    let finished = finished.ok().unwrap();
    assert_eq!(finished.stdout, b"61184\n", "{finished}");
    let told = said(&finished);
    assert!(told.starts_with("nrtrace: in place, since no sandbox can be made here ("), "{told}");

    // What was asked of the sandbox cannot be had without.
    for options in ["--share /srv", "--network private"] {
        let (finished, _) = run(&format!("{without} nrtrace run {options} {words}"));
        assert_eq!(finished.status, 3, "{finished}");
        let (finished, _) = run(&format!("nrtrace run --in-place {options} {words}"));
        assert_eq!(finished.status, 2, "{finished}");
    }
}

#[test]
fn who_has_others_work_is_not_proved() {
    let started = Instant::now();
    for (command, told) in [
        ("podman build .", "a proof is of podman run"),
        ("runc run image", "in a container"),
        ("/usr/bin/docker run image", "a daemon"),
        ("systemctl start nginx", "attach --unit"),
        ("systemd-run true", "attach --unit"),
    ] {
        for how in ["run --minimize", "run --verify", "run --minimize --as daemon"] {
            let (finished, _) = run(&format!("nrtrace {how} -- {command}"));
            assert_eq!(finished.status, 2, "{how} {command}: {finished}");
            assert!(said(&finished).contains(told), "{how} {command}: {finished}");
        }
    }
    assert!(started.elapsed() < Duration::from_secs(60), "it waited: {:?}", started.elapsed());
    let (finished, _) = run("nrtrace run -q -o /tmp/out -- true; for how in verify minimize; do
            status=0; nrtrace $how /tmp/out/profile.json -- docker run image || status=$?; echo $status
        done
        nrtrace run -- systemctl --version >/dev/null");
    let finished = finished.ok().unwrap();
    assert_eq!(finished.stdout, b"2\n2\n", "{finished}");
    assert!(
        said(&finished).contains("nrtrace: in place, since systemctl has its work done by others"),
        "{finished}"
    );
}

#[test]
fn the_program_has_what_its_caller_gives() {
    let (finished, _) = run(r#"nrtrace run -q -- cat <(echo from a descriptor)
        echo from standard input | nrtrace run -q -- cat
        (umask 027; nrtrace run -q -- sh -c umask)
        (exec 3</etc/hostname; nrtrace run -q -- sh -c 'test -e /proc/self/fd/3 && echo third')
        (cd /usr; nrtrace run -q -- pwd; nrtrace run -q --cwd /usr -- pwd)"#);
    let finished = finished.ok().unwrap();
    let expected = "from a descriptor\nfrom standard input\n0027\nthird\n/\n/usr\n";
    assert_eq!(String::from_utf8_lossy(&finished.stdout), expected, "{finished}");
}

/// At a terminal, Ctrl-C reaches the whole group: the program gets it once, and what it needs is shown all the same.
#[test]
fn at_a_terminal_it_is_interrupted_once() {
    let (finished, _) = run(r#"cat >/tmp/terminal.py <<'X'
import os, pty, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("nrtrace", ["nrtrace", "run", "--", "sh", "-c",
        "trap 'echo cau\"\"ght; n=$((n+1)); test $n = 1 && sleep 1 && exit 5' INT; echo rea''dy; while :; do sleep 0.1; done"])
said = b""
sent = False
while True:
    try:
        part = os.read(terminal, 4096)
    except OSError:
        break
    if not part:
        break
    said += part
    if b"ready" in said and not sent:
        sent = True
        time.sleep(0.3)
        os.write(terminal, b"\x03")
_, status = os.waitpid(pid, 0)
print(said.count(b"caught"), os.waitstatus_to_exitcode(status), b"What sh needs" in said, said.count(b"started, pid"))
sys.stderr.write(said.decode(errors="replace"))
X
        python3 /tmp/terminal.py"#);
    let finished = finished.ok().unwrap();
    let told = String::from_utf8_lossy(&finished.stdout).into_owned();
    assert!(told.starts_with("1 0 True"), "{finished}");
}

#[test]
fn what_the_sandbox_keeps_from_it_is_told() {
    let (finished, sandbox) = run(r#"cat >/srv/talk.py <<'X'
import socket, sys
talk = socket.socket(socket.AF_UNIX)
if sys.argv[1] == "listen":
    talk.bind("/run/talk.sock"); talk.listen(); print("listening", flush=True)
    while True: talk.accept()[0].send(b"hello")
talk.connect("/run/talk.sock"); print(talk.recv(5).decode())
X
        umask 0; python3 /srv/talk.py listen >/tmp/said & until grep -q listening /tmp/said; do sleep 0.05; done
        nrtrace run -q -o "$OUT"/apart -- sh -c 'python3 /srv/talk.py connect 2>/dev/null; mkdir /sys/fs/cgroup/made; true'
        nrtrace run -q --share /run/talk.sock -o "$OUT"/shared -- python3 /srv/talk.py connect
        nrtrace run -q --in-place -o "$OUT"/in-place -- python3 /srv/talk.py connect
        kill %1"#);
    assert_eq!(finished.stdout, b"hello\nhello\n", "{finished}");
    let notes = |which| written(&sandbox, which).unwrap().notes.join("\n");
    let told = notes("apart");
    assert!(told.contains("/run/talk.sock on this machine cannot be reached from the sandbox"), "{told}");
    assert!(told.contains("the sandbox keeps /sys/fs/cgroup read-only"), "{told}");
    // What the machine would have refused the user is a need all the same.
    let apart = written(&sandbox, "apart").unwrap();
    let cgroup = apart.requirements.iter().find(|need| need.id.starts_with("kernel:cgroup:"));
    assert!(cgroup.is_some_and(|need| need.basis == Basis::Predicted), "{:?}", apart.requirements);
    for which in ["shared", "in-place"] {
        assert!(!notes(which).contains("the sandbox"), "{which}: {}", notes(which));
    }
}

/// Some programs end at the end of a pipe that is their standard input (Samba's); a service has no such.
#[test]
fn a_trial_has_the_standard_input_of_a_service() {
    let asks = r#"test "$(readlink /proc/self/fd/0)" = /dev/null"#;
    let (finished, _sandbox) =
        run(&format!("true | nrtrace run -q --verify --settle 100ms -- sh -c {}", quote(asks)));
    assert_eq!(finished.status, 0, "{finished}");
}
