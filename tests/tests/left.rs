//! What a run leaves on the machine is told, what gives rights or is obeyed first.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use nrtrace_tests::record::written;
use nrtrace_tests::sandbox::{BIN, OUT, Sandbox};

/// The notes on what was left by a run that makes a cron job, files with a set-user-ID bit and a capability, and others.
fn notes(options: &str) -> Vec<String> {
    let sandbox = Sandbox::new().unwrap();
    let script = format!(
        r#"mkdir -p /etc/cron.d
        install -m 4755 /bin/true /srv/before; sleep 0.1
        cd /
        {BIN}/nrtrace run --in-place {options} -o {OUT}/result -- sh -c '
            echo "* * * * * root true" >/etc/cron.d/job
            cp /bin/true /srv/as-root; chmod 4755 /srv/as-root
            cp /bin/true /srv/able; setcap cap_net_raw=ep /srv/able
            cp /bin/true /srv/plain; chmod 755 /srv/plain; : >>/srv/before'
        "#
    );
    sandbox.script(&script).unwrap().ok().unwrap();
    let notes = written(&sandbox, "result").unwrap().notes;
    notes.into_iter().filter(|note| note.contains(" left them")).collect()
}

const POWERS: &str = "/etc/cron.d/job (cron or at runs what is there), /srv/able (file capabilities), \
                      /srv/as-root (set-user-ID);";

fn check(backend: &str) {
    let left = notes(&format!("--backend {backend}"));
    let [powers, made] = &left[..] else { panic!("{left:?}") };
    assert!(powers.contains(&format!("obeyed by others: {POWERS}")), "{left:?}");
    assert!(made.contains("belongs to nobody: /srv/plain;"), "{left:?}");
    let left = notes(&format!("--backend {backend} --as daemon"));
    let [powers] = &left[..] else { panic!("{left:?}") };
    assert!(powers.contains(POWERS), "an existing user's are told too: {left:?}");
}

#[test]
fn what_gives_rights_is_told_first_by_ebpf() {
    check("ebpf");
}

#[test]
fn what_gives_rights_is_told_first_by_ptrace() {
    check("ptrace");
}
