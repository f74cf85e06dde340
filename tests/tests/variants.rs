//! Calls that do the same bring the same need, on both backends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::time::Duration;

use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::word;
use nrtrace_tests::compare::line_of;
use nrtrace_tests::sandbox::{BIN, OUT, Sandbox};

/// Variants of one deed, and what each is known to need of the files in its directory.
const DEEDS: &[(&[&str], &[&str])] = &[
    (&["open", "openat", "openat2", "creat", "truncate"], &["file [write] file"]),
    (&["mkdir", "mkdirat"], &["new [create] directory"]),
    (&["mknod", "mknodat"], &["new [create] fifo"]),
    (&["symlink", "symlinkat"], &["new [create] symlink"]),
    (&["link", "linkat"], &["file [read write] file", "new [create] file"]),
    (&["rename", "renameat", "renameat2"], &[" [write] directory"]),
    (&["unlink", "unlinkat"], &["file [delete] file"]),
    (&["chmod", "fchmod", "fchmodat", "fchmodat2"], &["file [own] file"]),
    (&["chown", "lchown", "fchown", "fchownat"], &["file [own] file"]),
    (&["utime", "utimes", "futimesat", "utimensat", "utimensat-descriptor"], &["file [own] file"]),
    (&["setxattr", "lsetxattr", "fsetxattr"], &["file [write] file"]),
    (&["access", "faccessat", "faccessat2"], &["file [write] file"]),
];

/// What each variant was found to need, by its name.
fn found(backend: &str, names: &[&str]) -> Vec<BTreeSet<String>> {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(120));
    let names_text = names.join(" ");
    let script = format!(
        "for name in {names_text}; do install -d -m 755 /srv/variants/$name; install -m 644 /etc/hostname \
         /srv/variants/$name/file; done\ncd /\n{BIN}/nrtrace run -o {OUT}/result --record calls --backend {backend} \
         --for 60s -- {BIN}/fixture variants {names_text}"
    );
    let finished = sandbox.script(&script).unwrap().ok().unwrap_or_else(|error| panic!("{backend}: {error}"));
    let text = std::fs::read_to_string(sandbox.out().join("result/profile.json")).unwrap();
    let profile: Profile = serde_json::from_str(&text).unwrap();
    assert!(profile.unexplained.is_empty(), "{backend}: {finished}\n{:#?}", profile.unexplained);
    let of = |name: &&str| {
        let start = format!("path:/srv/variants/{name}");
        let lines = profile.requirements.iter().filter_map(|need| {
            let line = line_of(need);
            let rest = line.strip_prefix(&start)?;
            rest.starts_with(['/', ' '])
                .then(|| format!("{} ({})", rest.trim_start_matches('/'), word(&need.severity)))
        });
        lines.collect()
    };
    names.iter().map(of).collect()
}

#[test]
fn each_call_of_a_deed_needs_what_the_others_do() {
    let names: Vec<&str> = DEEDS.iter().flat_map(|(names, _)| names.iter().copied()).collect();
    let both = ["ebpf", "ptrace"].map(|backend| found(backend, &names));
    for (backend, found) in ["ebpf", "ptrace"].iter().zip(&both) {
        for (names_of, known) in DEEDS {
            let known: BTreeSet<String> = known.iter().map(|line| format!("{line} (required)")).collect();
            for name in *names_of {
                let at = names.iter().position(|other| other == name).unwrap();
                let asks = names_of.contains(&"access");
                let needs: BTreeSet<String> = found[at]
                    .iter()
                    .map(|line| if asks { line.replace("(probe)", "(required)") } else { line.clone() })
                    .collect();
                assert_eq!(needs, known, "{backend}: {name}");
            }
        }
    }
}
