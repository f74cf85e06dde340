//! How the program starts: credentials, environment, errors.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::driver::{describe, processes, python, run, start_behind};

pub const TESTS: &[(&str, fn())] = &[
    ("credentials_of_a_permissive_run", credentials_of_a_permissive_run),
    ("credentials_of_the_other_modes", credentials_of_the_other_modes),
    ("access_consults_capabilities", access_consults_capabilities),
    ("environment_is_a_services", environment_is_a_services),
    ("signals_are_as_the_caller_had_them", signals_are_as_the_caller_had_them),
    ("commands_that_cannot_be_started", commands_that_cannot_be_started),
    ("a_source_that_fails_leaves_nothing", a_source_that_fails_leaves_nothing),
    ("without_privilege_it_says_so", without_privilege_it_says_so),
    ("in_a_pid_namespace", in_a_pid_namespace),
    ("file_capabilities_are_noted", file_capabilities_are_noted),
];

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).unwrap().trim()
}

fn credentials_of_a_permissive_run() {
    let outcome = run(json!({ "groups": ["adm", "daemon"] }), &["cat", "/proc/self/status"]);
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let (status, uid) = (&outcome.stdout, field(&outcome.stdout, "Uid").split('\t').next().unwrap());
    assert!((61184..=65519).contains(&uid.parse::<u32>().unwrap()));
    assert_eq!(field(status, "Uid"), [uid; 4].join("\t"));
    assert_eq!(field(status, "Gid"), [uid; 4].join("\t"));
    assert_eq!(field(status, "Groups"), "1 4");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(status, set), field(&own, "CapPrm"), "{set}");
    }
    assert_eq!((field(status, "NoNewPrivs"), field(status, "Seccomp")), ("0", "2"));
    assert_eq!(outcome.value["watched"], outcome.value["started"]);
    let held = u64::from_str_radix(field(&own, "CapPrm"), 16).unwrap().count_ones() as usize;
    let last: usize =
        std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
    assert_eq!(outcome.value["missing"].as_array().unwrap().len(), last + 1 - held);
}

fn credentials_of_the_other_modes() {
    let enforced = run(json!({ "credentials": "enforced", "as": "daemon" }), &["cat", "/proc/self/status"]);
    assert_eq!(field(&enforced.stdout, "Uid"), "1\t1\t1\t1");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(&enforced.stdout, set), "0000000000000000", "{set}");
    }
    let unchanged = run(json!({ "credentials": "unchanged" }), &["cat", "/proc/self/status"]);
    assert_eq!(field(&unchanged.stdout, "Uid"), "0\t0\t0\t0");
    assert_eq!(field(&unchanged.stdout, "Seccomp"), "0");
}

fn access_consults_capabilities() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "").unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let path = directory.path().join("file").display().to_string();
    let script = "import os, sys; print(os.access(sys.argv[1], os.W_OK), os.getuid())";
    let permissive = python(json!({ "as": "61999" }), script, &[&path]);
    assert_eq!(permissive.stdout, "True 61999\n");
    let enforced = python(json!({ "as": "61999", "credentials": "enforced" }), script, &[&path]);
    assert_eq!(enforced.stdout, "False 61999\n");
}

fn environment_is_a_services() {
    let outcome =
        run(json!({}), &["sh", "-c", "echo $0 $HOME $USER $LOGNAME $SHELL $PATH; ulimit -n; pwd; umask"]);
    let mut lines = outcome.stdout.lines();
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(lines.next().unwrap(), format!("sh / sh sh /bin/sh {path}"));
    let cwd = std::env::current_dir().unwrap().display().to_string();
    assert_eq!(lines.nth(1), Some(cwd.as_str()));
    assert_eq!(outcome.value["program"], "/usr/bin/sh");
    assert_eq!(outcome.value["environment"][0], json!(["HOME", "/"]));
}

fn signals_are_as_the_caller_had_them() {
    let outcome = run(json!({}), &["cat", "/proc/self/status"]);
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    // The C library keeps the signals 32 and 33 to itself.
    let set =
        |status: &str, name: &str| u64::from_str_radix(field(status, name), 16).unwrap() & !(0b11 << 31);
    // Rust's runtime ignores SIGPIPE in this process and in nrtrace.
    let pipe = 1 << (nix::libc::SIGPIPE - 1);
    assert_eq!(set(&own, "SigIgn") & pipe, pipe);
    assert_eq!(set(&outcome.stdout, "SigIgn"), set(&own, "SigIgn") & !pipe);
    assert_eq!(set(&outcome.stdout, "SigBlk"), set(&own, "SigBlk"));
    let prefix = ["env", "--ignore-signal=HUP"];
    let nohup = start_behind(&prefix, json!({}), &["cat", "/proc/self/status"]).wait();
    assert_eq!(set(&nohup.stdout, "SigIgn"), set(&outcome.stdout, "SigIgn") | 1);
}

fn commands_that_cannot_be_started() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    let no_interpreter = file("no-interpreter", "#!/no/such/interpreter\n");
    let no_format = file("no-format", "plain text\n");
    let cases = [
        ("no-such-command", 127, "command not found (searched "),
        ("/no/such/file", 127, "command not found"),
        ("/etc/passwd", 126, "execute permission"),
        ("/etc", 126, "directory"),
        (&no_interpreter, 127, "the interpreter in its first line"),
        (&no_format, 126, "start it by its interpreter"),
    ];
    for (command, status, message) in cases {
        let outcome = run(json!({}), &[command]);
        assert_eq!(outcome.status, status, "{command}");
        assert!(outcome.error().contains(message), "{}", outcome.error());
    }
    let root = run(json!({ "as": "root" }), &["true"]);
    assert_eq!(root.status, 2);
    assert!(root.error().contains("is root"));
}

fn a_source_that_fails_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let marker = directory.path().join("ran").display().to_string();
    let outcome = run(json!({ "watch_fails": true }), &["touch", &marker]);
    assert_eq!(outcome.status, 3);
    assert!(outcome.error().contains("no probe today"));
    assert!(!std::path::Path::new(&marker).exists());
    assert_eq!(processes(&marker), [0; 0]);
}

fn without_privilege_it_says_so() {
    // Where the unprivileged user can execute this binary and write the results.
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let (own, out) = (directory.path().join("own"), directory.path().join("out"));
    std::fs::copy(std::env::current_exe().unwrap(), &own).unwrap();
    let inner = describe(json!({}), &out);
    let outcome = run(json!({ "credentials": "enforced", "inner": inner }), &[own.to_str().unwrap(), "true"]);
    assert_eq!(outcome.status, 3, "{}", outcome.stderr);
    let text = std::fs::read_to_string(out).unwrap();
    assert!(text.contains("CAP_SETUID") && text.contains("--enforce"), "{text}");
}

fn in_a_pid_namespace() {
    let prefix = ["unshare", "-pf", "--mount-proc"];
    let script = "import os; os.setuid(5); print(os.getuid(), os.getppid()); os.chown('/etc/passwd', 7, 7)";
    let command = ["/usr/bin/python3", "-c", script];
    let outcome = start_behind(&prefix, json!({ "as": "61999" }), &command).wait();
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "61999 3\n"), "{}", outcome.stderr);
    let calls = outcome.calls();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert_eq!(calls[0]["pid"], outcome.value["started"]);
    assert_eq!(calls[1]["object"]["path"]["path"], "/etc/passwd");
    let daemon = ["sh", "-c", "(setsid sleep 3611 &)"];
    let outcome = start_behind(&prefix, json!({ "for": 300 }), &daemon).wait();
    assert_eq!(outcome.value["exit"], json!({ "how": "stopped", "status": 0 }));
}

fn file_capabilities_are_noted() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("true");
    std::fs::copy("/usr/bin/true", &copy).unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let set =
        std::process::Command::new("/usr/sbin/setcap").arg("cap_net_raw+ep").arg(&copy).status().unwrap();
    assert!(set.success());
    let outcome = run(json!({}), &[copy.to_str().unwrap()]);
    assert_eq!(outcome.status, 0);
    assert!(outcome.value["notes"][0].as_str().unwrap().contains("carries file capabilities"));
}
