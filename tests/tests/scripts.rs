//! `apply.sh` grants what the profile says, and `undo.sh` leaves no difference.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use nrtrace_tests::sandbox::{BIN, OUT, Sandbox};

/// Owner, mode and ACL of everything that may change, the accounts, and file capabilities. Backups that the account
/// tools leave (`passwd-`) are no matter.
const SNAPSHOT: &str = r#"
    snapshot() {
        find /etc /var /run /srv /usr/libexec /usr/sbin -xdev ! -path '/etc/*-' -printf '%p %U:%G %m %y\n' | sort
        getfacl -Rpn /etc/redis /var/lib /var/log 2>/dev/null
        sha256sum /etc/passwd /etc/group /etc/shadow /etc/gshadow
        getcap -r /usr/sbin
    }
"#;

fn check(case: &str, options: &str, granted: &str) {
    prepared(case, "", options, granted);
}

fn prepared(case: &str, prepare: &str, options: &str, granted: &str) {
    let profile =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/testdata").join(case).join("profile.json");
    let sandbox = Sandbox::new().unwrap().bind(profile.canonicalize().unwrap(), "/opt/nrtrace/profile.json");
    let script = format!(
        r#"{SNAPSHOT}
        sed 's|"executable": null|"executable": "/usr/sbin/nginx"|' /opt/nrtrace/profile.json >/tmp/profile.json
        {BIN}/nrtrace emit {options} -o {OUT}/files /tmp/profile.json
        rm -rf /var/lib/nginx/* /run/redis /usr/libexec/kubernetes
        {prepare}
        # Locks and backups of the account tools are there from the first use on.
        groupadd -r warmup && useradd -r -g warmup warmup && userdel warmup
        snapshot >{OUT}/before
        sh {OUT}/files/apply.sh
        sh {OUT}/files/apply.sh
        snapshot >{OUT}/between
        ! cmp -s {OUT}/before {OUT}/between
        {granted}
        sh {OUT}/files/undo.sh
        snapshot >{OUT}/after
        diff {OUT}/before {OUT}/after
        [ ! -e /var/lib/nrtrace ]
        ! sh {OUT}/files/undo.sh
        "#
    );
    sandbox.script(&script).unwrap().ok().unwrap();
}

#[test]
fn nginx() {
    check(
        "nginx",
        "",
        "[ \"$(stat -c '%U %a' /var/lib/nginx/body)\" = 'test 700' ]; [ \"$(stat -c '%U %G %a' /run/nginx.pid)\" = 'test test 640' ]",
    );
}

#[test]
fn nginx_with_file_capabilities() {
    check("nginx", "--prefer file-capability", "setcap -q -v cap_net_bind_service=ep /usr/sbin/nginx");
}

#[test]
fn nginx_that_had_other_file_capabilities() {
    prepared(
        "nginx",
        "setcap 'cap_net_raw=ep cap_kill=ei' /usr/sbin/nginx",
        "--prefer file-capability",
        "setcap -q -v 'cap_net_raw,cap_net_bind_service=ep cap_kill=ei' /usr/sbin/nginx",
    );
}

#[test]
fn redis() {
    check("redis", "", "id test | grep -q test");
}

#[test]
fn k0s() {
    check("k0s", "", "true");
}
