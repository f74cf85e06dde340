//! Runs with the user's rights alone, and with root's: what refuses, what is said of it, and what is predicted.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;

use nrtrace_profiles::event::{Backend, Cause, Exit, Mode};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::{Basis, Requirement, Severity};
use nrtrace_tests::compare::{line, line_of, lines};
use nrtrace_tests::sandbox::{Finished, OUT, Sandbox};
use nrtrace_tests::service::quote;
use nrtrace_tests::truth::Truth;

/// Files every fixture finds: see the `fixture` program.
const PREPARE: &str = "mkdir -m 755 /srv/guarded; echo data >/srv/guarded/file; chmod 644 /srv/guarded/file
    mkdir -m 777 /srv/open; touch /srv/open/file; chmod 666 /srv/open/file";
/// The need of who writes to the guarded file.
const WRITE: &str = "path:/srv/guarded/file [write] file";

/// What a run left: its profile, and what it said.
struct Outcome {
    profile: Profile,
    finished: Finished,
}

/// Runs `nrtrace run` with these words, in a fresh sandbox, after `prepare` (bash, as root), with bash behind it.
fn run(prepare: &str, words: &str, after: &str) -> Outcome {
    let sandbox = Sandbox::new().unwrap();
    let script = format!(
        "{PREPARE}\n{prepare}\ncd /\nset +e\nnrtrace run -o {OUT}/result {words} </dev/null\nstatus=$?\n{after}\nexit $status"
    );
    let finished = sandbox.script(&script).unwrap();
    let path = sandbox.out().join("result/profile.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}: {finished}"));
    let profile: Profile = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(profile.run.complete, "{finished}");
    Outcome { profile, finished }
}

impl Outcome {
    fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.finished.stderr);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// What no right of the user mends: the cause, and where.
    fn obstacles(&self) -> Vec<(Cause, String)> {
        let obstacles = self.profile.unexplained.iter().filter_map(|entry| entry.obstacle.as_ref());
        obstacles
            .map(|one| (one.cause, one.at.as_ref().map(ToString::to_string).unwrap_or_default()))
            .collect()
    }

    fn required(&self) -> BTreeSet<String> {
        lines(&self.profile, Severity::Required)
    }
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn nginx_ends_at_its_first_refusal() {
    let truth = Truth::load("nginx").unwrap();
    let outcome = run(&truth.prepare, &format!("--enforce --as 61190 -- {}", words(&truth.command)), "");
    let Outcome { profile, finished } = &outcome;
    assert_eq!(finished.status, 1, "{finished}");
    assert_eq!((profile.run.mode, profile.run.exit), (Mode::Enforced, Exit::Exited { status: 1 }));
    // It goes on without its error log, and ends for want of the first of five directories.
    let required = outcome.required();
    assert!(required.contains("path:/var/lib/nginx/body [create] directory"), "{required:#?}\n{finished}");
    assert!(!required.iter().any(|line| line.contains("proxy") || line.contains("port")), "{required:#?}");
    let mkdir = profile.requirements.iter().find(|one| one.id == "path:/var/lib/nginx/body").unwrap();
    assert_eq!(mkdir.basis, Basis::Denied);
    assert_eq!(
        mkdir.evidence.refused_at.as_ref().map(ToString::to_string).as_deref(),
        Some("/var/lib/nginx")
    );
    assert!(profile.gave_up.is_none() && profile.unexplained.is_empty(), "{profile:#?}");
    let said = outcome.said();
    assert!(said.contains("was not seen"), "{said}");
    assert!(said.contains("sudo nrtrace run -- /usr/sbin/nginx -g 'daemon off;'"), "{said}");
}

#[test]
fn redis_goes_on_without_what_it_is_refused() {
    let truth = Truth::load("redis-server").unwrap();
    let words = format!("--enforce --for 3s -- {}", words(&truth.command));
    let outcome = run(&truth.prepare, &words, "");
    let known: BTreeSet<String> =
        truth.needs.iter().map(|need| line(&need.id, need.file_type, &need.access)).collect();
    let found: BTreeSet<String> = outcome.profile.requirements.iter().map(line_of).collect();
    assert!(!found.is_empty() && found.is_subset(&known), "{found:#?} of {known:#?}\n{}", outcome.finished);
    let failed = matches!(outcome.profile.run.exit, Exit::Exited { status: 1.. });
    assert_eq!(!outcome.required().is_empty(), failed, "{}", outcome.finished);
    assert!(outcome.profile.requirements.iter().all(|one| one.basis == Basis::Denied));
}

#[test]
fn a_refusal_by_owner_and_mode_is_the_need_of_a_permissive_run() {
    for backend in ["ebpf", "ptrace"] {
        let words = format!("--enforce --backend {backend} -- fixture write /srv/guarded/file");
        let outcome = run("", &words, "");
        assert_eq!(outcome.finished.status, 99, "{backend}: {}", outcome.finished);
        assert_eq!(outcome.required(), set(&[WRITE]), "{backend}: {}", outcome.finished);
        let need = &outcome.profile.requirements[0];
        assert_eq!(need.basis, Basis::Denied, "{backend}");
        let at = need.evidence.refused_at.as_ref().map(ToString::to_string);
        assert_eq!(at.as_deref(), Some("/srv/guarded/file"), "{backend}");
        assert_eq!(outcome.obstacles(), [], "{backend}");
    }
}

#[test]
fn a_port_is_refused() {
    let outcome = run("", "--enforce -- fixture ports", "");
    assert_eq!(outcome.required(), set(&["port:tcp:127.0.0.1:81"]), "{}", outcome.finished);
    assert_eq!(outcome.profile.requirements[0].basis, Basis::Denied);
}

#[test]
fn a_refusal_that_is_outlived_is_a_probe() {
    // The first program is refused and its failure ignored; the second goes on for longer than a last word takes.
    let script = "/opt/nrtrace/bin/fixture write /srv/guarded/file; sleep 2.5; exit 3";
    let outcome = run("", &format!("--enforce -- bash -c {}", quote(script)), "");
    assert_eq!(outcome.finished.status, 3, "{}", outcome.finished);
    assert!(outcome.required().is_empty(), "{}", outcome.finished);
    assert!(lines(&outcome.profile, Severity::Probe).contains(WRITE), "{}", outcome.finished);
    let outcome =
        run("", "--enforce -- bash -c '/opt/nrtrace/bin/fixture write /srv/guarded/file; exit 0'", "");
    assert!(outcome.required().is_empty(), "{}", outcome.finished);
    assert!(outcome.said().contains("refused, and it goes on"), "{}", outcome.finished);
}

/// Refused by something that no owner or mode mends: said so, in every mode, and no grant is written.
fn hindered(prepare: &str, words: &str, cause: Cause, at: &str, after: &str) {
    let each = ["--enforce --backend ebpf", "--enforce --backend ptrace", "--backend ebpf", "--as-root"];
    for options in each.into_iter().filter(|options| cause != Cause::Seccomp || !options.contains("ptrace")) {
        let outcome = run(prepare, &format!("{options} -- {words}"), after);
        assert_ne!(outcome.finished.status, 0, "{options}: {}", outcome.finished);
        assert_eq!(outcome.obstacles(), [(cause, at.to_owned())], "{options}: {}", outcome.finished);
        assert!(outcome.profile.requirements.is_empty(), "{options}: {}", outcome.finished);
        assert!(outcome.profile.gave_up.is_none(), "{options}: {}", outcome.finished);
        let reason: String = cause.reason().chars().take(20).collect();
        assert!(outcome.said().contains(reason.trim()), "{options}: {}", outcome.finished);
    }
}

#[test]
fn an_immutable_file() {
    let loose = "chattr -i /srv/open/file";
    hindered(
        "chattr +i /srv/open/file",
        "fixture write /srv/open/file",
        Cause::Immutable,
        "/srv/open/file",
        loose,
    );
    hindered(
        "chattr +i /srv/open/file",
        "fixture unlink /srv/open/file",
        Cause::Immutable,
        "/srv/open/file",
        loose,
    );
    let within = "chattr +i /srv/open";
    hindered(within, "fixture create /srv/open/new", Cause::Immutable, "/srv/open", "chattr -i /srv/open");
}

#[test]
fn an_append_only_file() {
    let loose = "chattr -a /srv/open/file";
    hindered(
        "chattr +a /srv/open/file",
        "fixture write /srv/open/file",
        Cause::AppendOnly,
        "/srv/open/file",
        loose,
    );
}

#[test]
fn a_mount_without_execution() {
    let prepare = "mkdir /srv/mount; mount -t tmpfs -o noexec,mode=777 none /srv/mount
        mkdir -m 777 /srv/mount/in; install -m 755 /bin/true /srv/mount/in/true";
    hindered(prepare, "fixture spawn /srv/mount/in/true", Cause::NoExec, "/srv/mount", "");
}

#[test]
fn a_mount_without_devices() {
    let prepare = "mkdir /srv/mount; mount -t tmpfs -o nodev,mode=777 none /srv/mount
        mknod -m 666 /srv/mount/null c 1 3";
    hindered(prepare, "fixture read /srv/mount/null", Cause::NoDev, "/srv/mount", "");
}

#[test]
fn a_read_only_mount() {
    let prepare = "mkdir /srv/mount; mount -t tmpfs -o mode=777 none /srv/mount
        mkdir -m 777 /srv/mount/in; touch /srv/mount/in/file; chmod 666 /srv/mount/in/file
        mount -o remount,ro /srv/mount";
    for words in ["create /srv/mount/in/new", "write /srv/mount/in/file", "unlink /srv/mount/in/file"] {
        hindered(prepare, &format!("fixture {words}"), Cause::ReadOnlyMount, "/srv/mount", "");
    }
}

#[test]
fn a_seccomp_filter() {
    hindered("", "fixture filtered /srv/open/new", Cause::Seccomp, "", "");
    let outcome = run("", "--enforce --backend ptrace -- fixture filtered /srv/open/new", "");
    assert!(outcome.said().contains("seccomp filter"), "{}", outcome.finished);
}

#[test]
fn without_root_the_caller_is_judged_by_ptrace() {
    let user = "setpriv --reuid 61190 --regid 61191 --groups 4,24 --inh-caps=-all";
    let sandbox = Sandbox::new().unwrap();
    let script = |options: &str| {
        format!(
            "{PREPARE}\ncd /\nchmod 777 {OUT}\n{user} nrtrace run {options} -o {OUT}/result -- fixture write /srv/guarded/file"
        )
    };
    let finished = sandbox.script(&script("--enforce")).unwrap();
    assert_eq!(finished.status, 99, "{finished}");
    let text = std::fs::read_to_string(sandbox.out().join("result/profile.json"))
        .unwrap_or_else(|error| panic!("{error}: {finished}"));
    let profile: Profile = serde_json::from_str(&text).unwrap();
    assert_eq!((profile.run.mode, profile.run.backend), (Mode::Enforced, Backend::Ptrace), "{finished}");
    let identity = &profile.identity;
    assert_eq!((identity.uid, identity.gid, identity.groups.as_slice()), (61190, 61191, [4, 24].as_slice()));
    assert_eq!(lines(&profile, Severity::Required), set(&[WRITE]), "{finished}");

    let other = sandbox.script(&script("--enforce --as www-data")).unwrap();
    assert_eq!(other.status, 3, "{other}");
    assert!(String::from_utf8_lossy(&other.stderr).contains("leave --as"), "{other}");
    for options in ["", "--as-root"] {
        let refused = sandbox.script(&script(options)).unwrap();
        assert_eq!(refused.status, 3, "{options}: {refused}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("--enforce"), "{options}: {refused}");
    }
}

/// With root's rights the same needs are found, but for what is in the nature of such a run.
fn as_root_agrees(name: &str) {
    let truth = Truth::load(name).unwrap();
    let command = words(
        &truth.options.iter().cloned().chain(["--".into()]).chain(truth.command.clone()).collect::<Vec<_>>(),
    );
    let prepare = format!(
        "{}\nset +e\n(for i in $(seq 40); do sleep 0.1; timeout 5 bash -c {}; done) >/dev/null 2>&1 &",
        truth.prepare,
        quote(&truth.exercise)
    );
    let outcome = run(&prepare, &format!("--as-root --for {}s {command}", truth.seconds), "");
    let profile = &outcome.profile;
    assert_eq!(profile.run.mode, Mode::Observation);
    // Who is root switches user and gives its files away, where others do without: the program looks at its own id.
    let of_root = |id: &str| id.starts_with("identity:");
    let known = truth.needs.iter().filter(|need| need.severity == Severity::Required && !of_root(&need.id));
    let known: BTreeSet<String> = known.map(|need| line(&need.id, need.file_type, &need.access)).collect();
    let found =
        profile.requirements.iter().filter(|one| one.severity == Severity::Required && !of_root(&one.id));
    let found: BTreeSet<String> = found.map(line_of).collect();
    assert_eq!(found, known, "{name}: {}", outcome.finished);
    let required = |one: &&Requirement| one.severity == Severity::Required && one.id.starts_with("path:");
    let paths = profile.requirements.iter().filter(required);
    assert!(paths.into_iter().all(|one| one.basis == Basis::Predicted), "{name}: {}", outcome.finished);
    assert!(profile.unexplained.is_empty(), "{name}: {}", outcome.finished);
    assert!(outcome.said().contains("geteuid"), "{name}: {}", outcome.finished);
}

#[test]
fn nginx_as_root() {
    as_root_agrees("nginx");
}

#[test]
fn redis_as_root() {
    as_root_agrees("redis-server");
}

#[test]
fn etcd_as_root() {
    as_root_agrees("etcd-server");
}

/// One row for each fixture: words, preparation, needs.
const AS_ROOT: &[(&str, &str, &[&str])] = &[
    ("write /srv/guarded/file", "", &[WRITE]),
    ("read /srv/guarded/file", "", &[]),
    ("read /srv/guarded/file", "chmod 600 /srv/guarded/file", &["path:/srv/guarded/file [read] file"]),
    ("create /srv/guarded/new", "", &["path:/srv/guarded/new [create] file"]),
    ("create /srv/open/new", "", &[]),
    ("create /srv/alias/new", "ln -s guarded /srv/alias", &["path:/srv/guarded/new [create] file"]),
    (
        "read /srv/guarded/inner/a",
        "mkdir /srv/guarded/inner; touch /srv/guarded/inner/a; chmod 700 /srv/guarded",
        &["path:/srv/guarded [search] directory"],
    ),
    ("unlink /srv/guarded/file", "", &["path:/srv/guarded/file [delete] file"]),
    ("unlink /tmp/theirs", "touch /tmp/theirs", &["path:/tmp/theirs [own] file"]),
    ("truncate /srv/guarded/file", "", &[WRITE]),
    ("touch /srv/guarded/file", "chmod 666 /srv/guarded/file", &["path:/srv/guarded/file [own] file"]),
    ("make-and-own", "mkdir -m 755 /srv/guarded/there", &["path:/srv/guarded/there [own] directory"]),
    ("symlink", "", &["path:/srv/guarded/link [create] symlink"]),
    ("link", "", &["path:/srv/guarded/hard [create] file"]),
    ("socket", "", &["path:/run/fixture.sock [create] socket"]),
    ("rename", "", &["path:/srv/guarded [write] directory"]),
    ("random-name", "", &["path:/run/k0s-*-kubelet-bootstrap-kubeconfig [create delete] file"]),
    ("may-write /srv/guarded", "", &[]),
    ("read-write /dev/guarded", "", &["device:/dev/guarded [read write] char-device"]),
    ("relative 10", "", &[WRITE]),
    ("dirfd 10", "", &[WRITE]),
    ("ports", "", &["port:tcp:127.0.0.1:81", "port:tcp:::1:82", "port:udp:0.0.0.0:83"]),
    ("mount", "", &["kernel:mount:CAP_SYS_ADMIN:/tmp/mounted"]),
];

#[test]
fn fixtures_as_root() {
    for (words, prepare, required) in AS_ROOT {
        let outcome = run(prepare, &format!("--as-root -- fixture {words}"), "");
        assert_eq!(outcome.finished.status, 0, "{words}: {}", outcome.finished);
        assert_eq!(outcome.required(), set(required), "{words}: {}", outcome.finished);
        assert!(outcome.profile.unexplained.is_empty(), "{words}: {}", outcome.finished);
    }
}

/// Who owns a file may not give it away either, and whoever may needs no more than that.
#[test]
fn gifts_as_root() {
    let command = "sh -c 'mkdir /srv/guarded/d && >/srv/guarded/d/f && chown nobody /srv/guarded/d && \
                   chown nobody:games /srv/guarded/d/f && chown nobody /srv/guarded/file'";
    let expected = set(&[
        "identity:chown:65534,-:/srv/guarded/d",
        "identity:chown:65534,-:/srv/guarded/file",
        "identity:chown:65534,60:/srv/guarded/d/f",
        "path:/srv/guarded/d [create] directory",
    ]);
    for backend in ["ebpf", "ptrace"] {
        let outcome = run("", &format!("--as-root --backend {backend} -- {command}"), "");
        assert_eq!(outcome.required(), expected, "{backend}: {}", outcome.finished);
    }
}

fn words(command: &[String]) -> String {
    command.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}
