//! Both backends on one table of scenarios: equal requirements, and what cannot be equal.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use nrtrace_profiles::event::Backend;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::{Basis, Need, Requirement, Severity, word};
use nrtrace_tests::compare::line_of;
use nrtrace_tests::sandbox::{BIN, OUT, Sandbox};
use nrtrace_tests::scenario::PREPARE;
use nrtrace_tests::service::quote;

/// Scenarios and services show none of what differs in the nature of the backends, which is listed with its reasons in
/// `docs/backends.md`, and are compared without exceptions.
const BACKENDS: [&str; 2] = ["ebpf", "ptrace"];

/// Requirements as lines, with their severity, and the values of limits.
fn found(profile: &Profile) -> BTreeSet<String> {
    let line = |one: &Requirement| {
        let value = if let Need::Limit { value, .. } = one.need { value } else { None };
        let value = value.map(|value| format!(" = {value}")).unwrap_or_default();
        format!("{}{value} ({})", line_of(one), word(&one.severity))
    };
    profile.requirements.iter().map(line).collect()
}

fn profile_at(path: &Path) -> Profile {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The profile of a fixture under one backend.
fn record(backend: &str, options: &str, words: &[&str], prepare: &str) -> Profile {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(120));
    let place = nrtrace_tests::scenario::place(words);
    let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
    let script = format!(
        "{PREPARE}\n{prepare}\ncd /\n{BIN}/nrtrace run {place} -o {OUT}/result --backend {backend} {options} -- \
         {BIN}/fixture {}",
        words.join(" ")
    );
    let finished = sandbox.script(&script).unwrap().ok().unwrap_or_else(|error| panic!("{backend}: {error}"));
    let profile = profile_at(&sandbox.out().join("result/profile.json"));
    assert_eq!((profile.run.lost, profile.run.unresolved), (0, 0), "{backend}: {finished}");
    assert!(profile.unexplained.is_empty(), "{backend}: {:#?}", profile.unexplained);
    profile
}

/// Both backends, in each way of recording, find the same, and predictions are called so.
fn compare(scenario: &str, words: &[&str], prepare: &str, required: &[&str]) {
    for options in ["--record calls", "--record needs"] {
        let [ebpf, ptrace] = BACKENDS.map(|backend| record(backend, options, words, prepare));
        assert_eq!((ebpf.run.backend, ptrace.run.backend), (Backend::Ebpf, Backend::Ptrace));
        let (left, right) = (found(&ebpf), found(&ptrace));
        assert_eq!(left, right, "{scenario} {options}: eBPF on the left, ptrace on the right");
        if options == "--record calls" {
            let lines = nrtrace_tests::compare::lines(&ptrace, Severity::Required);
            assert_eq!(lines, required.iter().map(|line| (*line).to_owned()).collect(), "{scenario}");
        }
        assert!(
            ptrace.requirements.iter().all(|need| {
                // What nrtrace answers in the kernel's place is no prediction.
                need.basis != Basis::Kernel || matches!(need.need, Need::Identity { .. })
            }),
            "{scenario}: {:#?}",
            ptrace.requirements
        );
    }
}

macro_rules! equal {
    ($($name:ident: [$($word:expr),*] after $prepare:literal => [$($need:expr),* $(,)?];)*) => {
        $(#[test] fn $name() { compare(stringify!($name), &[$($word),*], $prepare, &[$($need),*]); })*
    };
}

nrtrace_tests::scenarios!(equal);

/// No capability is consulted for it: a refusal, or the oracle, tells.
#[test]
fn a_kernel_parameter_that_is_roots_alone() {
    for backend in BACKENDS {
        for options in ["--record calls", "--enforce", "--as-root"] {
            let profile = record(backend, options, &["sysctl-of-root"], "");
            let ids: Vec<&str> = profile.requirements.iter().map(|need| need.id.as_str()).collect();
            assert_eq!(ids, ["sysctl:vm.overcommit_memory"], "{backend} {options}");
        }
    }
}

/// Takes away what eBPF needs.
const WITHOUT_EBPF: &str =
    "setpriv --bounding-set=-bpf,-perfmon,-sys_admin --inh-caps=-bpf,-perfmon,-sys_admin nrtrace";

#[test]
fn auto_falls_back_and_says_why() {
    let sandbox = Sandbox::new().unwrap();
    let script =
        format!("{PREPARE}\ncd /\n{WITHOUT_EBPF} run -q -o {OUT}/result -- fixture write /srv/guarded/file");
    let finished = sandbox.script(&script).unwrap().ok().unwrap();
    let said = String::from_utf8_lossy(&finished.stderr).into_owned();
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("backend")).collect();
    assert!(matches!(lines[..], [line] if line.contains("ptrace") && line.contains("CAP_BPF")), "{finished}");
    let profile = profile_at(&sandbox.out().join("result/profile.json"));
    assert_eq!(profile.run.backend, Backend::Ptrace);
    assert!(found(&profile).contains("path:/srv/guarded/file [write] file (required)"), "{profile:#?}");
    let refused = sandbox.script(&format!("{WITHOUT_EBPF} run --backend ebpf -- true")).unwrap();
    assert_eq!(refused.status, 3, "{refused}");
}

#[test]
fn the_first_choice_is_told_unless_quiet() {
    let sandbox = Sandbox::new().unwrap();
    let silent = sandbox.script("nrtrace run -q -- true").unwrap().ok().unwrap();
    assert!(silent.stderr.is_empty(), "{silent}");
    let told = sandbox.script("nrtrace run -- true").unwrap().ok().unwrap();
    let lines = String::from_utf8_lossy(&told.stderr).into_owned();
    let lines: Vec<&str> = lines.lines().filter(|line| line.contains("backend: eBPF")).collect();
    assert!(matches!(lines[..], [line] if line.contains("works here")), "{told}");
    let asked = sandbox.script("nrtrace run -v --backend ptrace -- true").unwrap().ok().unwrap();
    assert!(String::from_utf8_lossy(&asked.stderr).contains("backend: ptrace"), "{asked}");
}

#[test]
fn doctor_is_content_with_either_backend() {
    let sandbox = Sandbox::new().unwrap();
    let both = sandbox.script("nrtrace doctor").unwrap().ok().unwrap();
    assert!(String::from_utf8_lossy(&both.stdout).contains("auto takes ebpf"), "{both}");
    let one = sandbox.script(&format!("{WITHOUT_EBPF} doctor")).unwrap().ok().unwrap();
    assert!(String::from_utf8_lossy(&one.stdout).contains("auto takes ptrace"), "{one}");
}

/// What `nrtrace doctor`, started by `script`, says of each mode in the first line, with its status and all its words.
fn doctor(script: &str) -> (Vec<String>, i32, String) {
    let finished = Sandbox::new().unwrap().script(script).unwrap();
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "too wide: {text}");
    let modes = text.lines().filter(|line| line.starts_with("nrtrace "));
    let modes = modes.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    (modes, finished.status, text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn doctor_tells_an_ordinary_user_what_is_left() {
    let user = "setpriv --reuid 61190 --regid 61190 --clear-groups --inh-caps=-all --bounding-set=-all";
    let (modes, status, text) = doctor(&format!("{user} nrtrace doctor"));
    assert_eq!(status, 3, "{text}");
    assert!(modes[0].starts_with("nrtrace run MISSING all needs in one run: eBPF lacks"), "{modes:#?}");
    assert!(modes[1].starts_with("nrtrace run --enforce works"), "{modes:#?}");
    for words in [
        "What works for you: nrtrace run --enforce by ptrace (as yourself)",
        "by ptrace (as yourself); eBPF lacks CAP_BPF, CAP_PERFMON",
        "eBPF lacks privileges, CAP_BPF, CAP_PERFMON; ptrace lacks privileges",
        "start nrtrace with sudo",
        "grant CAP_BPF and CAP_PERFMON",
        "have no effect below it",
    ] {
        assert!(text.contains(words), "no word of {words}: {text}");
    }
}

#[test]
fn doctor_says_what_to_do_without_type_information() {
    let (modes, status, text) = doctor("mount -t tmpfs none /sys/kernel/btf; nrtrace doctor");
    assert_eq!((status, modes.len()), (0, 4), "{text}");
    for words in [
        "BTF not here",
        "CONFIG_DEBUG_INFO_BTF",
        "from Debian 11",
        "What works for you: all of it, by ptrace (needs are predicted).",
    ] {
        assert!(text.contains(words), "no word of {words}: {text}");
    }
}

#[test]
fn doctor_tells_what_a_containers_filter_takes_away() {
    let (modes, status, text) = doctor("fixture contained nrtrace doctor");
    assert_eq!(status, 3, "{text}");
    assert!(modes.iter().all(|mode| !mode.contains("works")), "{modes:#?}");
    for fix in [
        "seccomp of nrtrace note",
        "seccomp=unconfined",
        "no_new_privs note",
        "neither eBPF nor ptrace works",
    ] {
        assert!(text.contains(fix), "no word of {fix}: {text}");
    }
}

#[test]
fn doctor_tells_of_a_lockdown() {
    let lock = "mount -t tmpfs none /sys/kernel/security; echo 'none integrity [confidentiality]' >/sys/kernel/security/lockdown";
    let (_, _, text) = doctor(&format!("{lock}\nnrtrace doctor"));
    assert!(text.contains("lockdown note confidentiality: eBPF may not read kernel memory"), "{text}");
    // With nothing else missing, this is why a program is refused.
    let (_, _, text) = doctor(&format!("{lock}\nfixture contained nrtrace doctor"));
    assert!(text.contains("the kernel is locked down for confidentiality"), "{text}");
}

#[test]
fn a_tree_under_ptrace_is_stopped_whole() {
    let sandbox = Sandbox::new().unwrap();
    let script =
        "nrtrace run -q --backend ptrace --for 500ms --grace 300ms -o \"$OUT\"/result -- fixture stay
        ! pgrep -x 'fixture|nrtrace-ptrace'";
    sandbox.script(script).unwrap().ok().unwrap();
}

/// In a root directory of nrtrace's own that is not the mount namespace's, paths are what one sees there, and what was
/// refused is found there.
#[test]
fn a_changed_root() {
    for backend in BACKENDS {
        let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(120));
        let script = format!(
            r#"mkdir -p /srv/tree/below && mount --rbind / /srv/tree/below && mount -t tmpfs -o mode=755 tmpfs /srv/tree/below/var/lib
            ln -s /var/lib/made /srv/tree/below/var/lib/link
            chroot /srv/tree/below {BIN}/nrtrace run -o {OUT}/{backend} --backend {backend} -- \
                sh -c 'cd /var/lib; mkdir made; echo 1 >made/file; chmod 600 link/file; cat /etc/shadow'"#
        );
        let finished = sandbox.script(&script).unwrap().ok().unwrap();
        let profile = profile_at(&sandbox.out().join(backend).join("profile.json"));
        let expected =
            ["path:/etc/shadow [read] file (required)", "path:/var/lib/made [create] directory (required)"];
        assert_eq!(found(&profile), expected.map(str::to_owned).into(), "{backend}: {finished}");
    }
}
