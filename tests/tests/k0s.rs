//! The showcase: a single-node k0s without root (k0s issue 5910), on a fixture that makes the calls of the real one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::path::Path;

use nrtrace_profiles::profile::Profile;
use nrtrace_tests::sandbox::{BIN, OUT, Sandbox};
use nrtrace_tests::service::{Rights, Trial, start_and_exercise};
use nrtrace_tests::truth::Truth;
use nrtrace_tests::unit::DropIn;

const BOOTSTRAP: &str = "path:/run/k0s-*-kubelet-bootstrap-kubeconfig";

/// A machine on which k0s has never run. The users that `k0s install` makes are not there, but etcd's.
const PREPARE: &str =
    "rm -rf /var/lib/k0s /etc/k0s /usr/libexec/k0s /usr/libexec/kubernetes /opt/containerd /var/lib/kubelet";

fn truth() -> Truth {
    let text = r#"
        command = ["/opt/nrtrace/bin/k0s", "controller", "--enable-worker"]
        exercise = '''
        test "$(curl -s --http0.9 --max-time 2 --unix-socket /var/lib/k0s/run/status.sock http://k0s/)" = ok
        (exec 3<>/dev/tcp/127.0.0.1/6443)
        '''
    "#;
    Truth { name: "k0s".into(), prepare: PREPARE.into(), ..toml::from_str(text).unwrap() }
}

/// What a run shows; the files it writes are in `OUT/result`.
fn record(options: &str) -> (Sandbox, Profile, String) {
    let sandbox = Sandbox::new().unwrap();
    let script = format!(
        "{PREPARE}\ncd /\n{BIN}/nrtrace run -q --for 3s {options} -o {OUT}/result -- {BIN}/k0s controller --enable-worker\n\
         {BIN}/nrtrace report {OUT}/result/profile.json"
    );
    let finished = sandbox.script(&script).unwrap().ok().unwrap();
    let text = std::fs::read_to_string(sandbox.out().join("result/profile.json")).unwrap();
    (sandbox, Profile::from_json(&text).unwrap(), String::from_utf8(finished.stdout).unwrap())
}

#[test]
fn a_run_tells_what_issue_5910_is_about() {
    let (sandbox, profile, report) = record("--env TMPDIR=/var/tmp");
    let needs: BTreeSet<&str> = profile.requirements.iter().map(|need| need.id.as_str()).collect();
    for known in [
        BOOTSTRAP,
        "path:/var/lib/k0s",
        "path:/etc/k0s",
        "path:/usr/libexec/kubernetes",
        "path:/usr/libexec/k0s",
        "path:/var/log/pods",
        "path:/opt/containerd",
        "path:/run/containerd",
        "path:/run/nri",
        "path:/var/lib/kubelet",
        "identity:chown:0,-:/var/lib/k0s/pki/.admin.conf.*.tmp",
        "sysctl:net.ipv4.conf.all.forwarding",
        "kernel:mount:CAP_SYS_ADMIN:/var/lib/k0s/kubelet",
    ] {
        assert!(needs.contains(known), "{known} is not among {needs:#?}");
    }
    // It is not root, so its run directory is in the data directory.
    assert!(needs.iter().all(|need| !need.contains("/run/k0s/")), "{needs:#?}");
    let told = profile.knowledge.iter().find(|fact| fact.needs.contains(BOOTSTRAP)).unwrap();
    assert_eq!(told.remedies[0].text, "set `XDG_RUNTIME_DIR=/run/k0s` in its environment");
    assert!(told.note.as_ref().unwrap().contains("TMPDIR is not used for this file (k0s issue 5910)"));
    let plugins = profile.knowledge.iter().find(|fact| fact.program == "kube-controller-manager").unwrap();
    assert_eq!((plugins.fatal, plugins.needs.contains("path:/usr/libexec/kubernetes")), (Some(false), true));
    let notes = profile.notes.join("\n");
    assert!(
        notes.contains("TMPDIR=/var/tmp was set, and the program used it, but not for /run/k0s-*"),
        "{notes}"
    );
    assert!(report.contains("XDG_RUNTIME_DIR"), "{report}");
    let unit = drop_in_text(&sandbox.out().join("result"));
    assert!(unit.contains("\nEnvironment=XDG_RUNTIME_DIR=/run/k0s\n"), "{unit}");
    assert!(unit.contains("\nRuntimeDirectory=k0s\n"), "{unit}");
    assert!(unit.contains("\nSystemCallFilter=~chown:ENOSYS "), "{unit}");
    assert!(!unit.lines().any(|line| line.starts_with("AmbientCapabilities=CAP")), "{unit}");
}

fn drop_in_text(result: &Path) -> String {
    std::fs::read_to_string(result.join("k0s.service.d/50-nonroot.conf")).unwrap()
}

fn start(sandbox: &Sandbox, unit: &DropIn, rights: &Rights) -> Trial {
    let setup = format!(
        "systemd-sysusers {OUT}/result/sysusers.d/nrtrace-k0s.conf\nsystemd-tmpfiles --create {OUT}/result/tmpfiles.d/nrtrace-k0s.conf\n{}\n",
        unit.setup
    );
    start_and_exercise(sandbox, &truth(), false, &setup, rights).unwrap()
}

#[test]
fn with_what_the_run_wrote_it_starts_as_that_user() {
    let (sandbox, ..) = record("");
    let unit = DropIn::find(&sandbox.out().join("result")).unwrap();
    assert_eq!(unit.rights.capabilities, Vec::<String>::new());
    if let Trial::Failed(finished) = start(&sandbox, &unit, &unit.rights) {
        panic!("{finished}\n{}", drop_in_text(&sandbox.out().join("result")));
    }
    // Without the variable, TMPDIR or not, it dies of the bootstrap kubeconfig.
    let environment = vec!["TMPDIR=/tmp".to_owned()];
    let without = Rights { environment, ..unit.rights.clone() };
    let Trial::Failed(finished) = start(&sandbox, &unit, &without) else {
        panic!("it lives without the variable")
    };
    assert!(
        finished.to_string().contains("failed to write bootstrap kubeconfig: open /run/k0s-"),
        "{finished}"
    );
    // Without the filter it dies of a file that it may not give to root.
    let without = Rights { wrapper: Vec::new(), ..unit.rights.clone() };
    let Trial::Failed(finished) = start(&sandbox, &unit, &without) else {
        panic!("it lives without the filter")
    };
    assert!(finished.to_string().contains("chown /var/lib/k0s/pki/.admin.conf."), "{finished}");
}

/// The trials apply the filter, without which it dies of its kubeconfigs; what it tolerates is not granted.
#[test]
fn it_is_proved_without_a_capability() {
    let sandbox = Sandbox::new().unwrap().deadline(std::time::Duration::from_secs(240));
    let ready = r#"test "$(curl -s --http0.9 --max-time 2 --unix-socket /var/lib/k0s/run/status.sock http://k0s/)" = ok"#;
    let script = format!(
        "{PREPARE}\ncd /\n{BIN}/nrtrace run --minimize --ready '{ready}' --settle 300ms --grace 2s -v -o {OUT}/result -- \
         {BIN}/k0s controller --enable-worker"
    );
    let finished = sandbox.script(&script).unwrap();
    assert_eq!(finished.status, 0, "{finished}");
    let unit = drop_in_text(&sandbox.out().join("result"));
    assert!(unit.contains("\nSystemCallFilter=~chown:ENOSYS "), "{unit}");
    assert!(unit.contains("\nEnvironment=XDG_RUNTIME_DIR=/run/k0s\n"), "{unit}");
    assert!(!unit.lines().any(|line| line.starts_with("AmbientCapabilities=CAP")), "{unit}");
}

/// `UPDATE=1` writes the page anew.
#[test]
fn the_page_is_what_a_run_says() {
    let (_sandbox, profile, _) = record("");
    let found = nrtrace_tests::page::page(&profile);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/k0s.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &found).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&file).unwrap_or_default(),
        found,
        "docs/k0s.md is stale; UPDATE=1 writes it anew"
    );
}
