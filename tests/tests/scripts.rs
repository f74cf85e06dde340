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

/// A script about a service that runs as `svc`, and a canary that is no business of its.
fn hostile(script: &str) {
    let sandbox = Sandbox::new().unwrap();
    let setup = r#"
        useradd -r -M svc
        chmod 640 /etc/shadow; chown root:shadow /etc/shadow
        canary() { stat -c '%n %U:%G %a' /etc/shadow; getfacl -cp /etc/shadow; getcap /usr/bin/true; sha256sum /etc/shadow; }
        as_svc() { setpriv --reuid svc --regid svc --clear-groups --no-new-privs sh -ec "$1"; }
        trace() { out=$1; shift; nrtrace run -q --as svc -o $out "$@"; }
    "#;
    sandbox.script(&format!("{setup}\n{script}")).unwrap().ok().unwrap();
}

#[test]
fn a_planted_link_is_not_followed_by_a_second_apply() {
    hostile(
        r#"
        mkdir -p /srv/app; printf k >/srv/app/state; chmod 644 /srv/app/state; chmod 777 /srv/app
        printf '#!/bin/sh\necho x >>/srv/app/state\n' >/usr/local/bin/app; chmod 755 /usr/local/bin/app
        canary >/tmp/before
        for prefer in own acl; do
            rm -f /srv/app/state; printf k >/srv/app/state; chmod 644 /srv/app/state
            trace /tmp/o --prefer $prefer -- /usr/local/bin/app
            sh /tmp/o/apply.sh
            as_svc 'cd /srv/app; rm -f state s.old; mv state s.old 2>/dev/null || true; ln -s /etc/shadow state'
            ! sh /tmp/o/apply.sh
            sh /tmp/o/undo.sh
            canary | diff /tmp/before -
        done
        "#,
    );
}

#[test]
fn a_planted_directory_is_not_followed_by_undo() {
    hostile(
        r#"
        mkdir -p /srv/app/data; echo se >/srv/app/data/shadow; chmod 600 /srv/app/data/shadow; chown svc /srv/app
        printf '#!/bin/sh\ncat /srv/app/data/shadow >/dev/null; echo x >>/srv/app/data/shadow\n' >/usr/local/bin/app
        chmod 755 /usr/local/bin/app
        canary >/tmp/before
        trace /tmp/o -- /usr/local/bin/app
        sh /tmp/o/apply.sh
        [ "$(stat -c %U /srv/app/data/shadow)" = svc ]
        as_svc 'cd /srv/app; mv data d.old; ln -s /etc data'
        sh /tmp/o/undo.sh
        canary | diff /tmp/before -
        "#,
    );
}

#[test]
fn two_profiles_on_one_executable() {
    hostile(
        r#"
        useradd -r -M other
        cp /usr/bin/true /usr/local/bin/tool
        caps() { printf '{"schema":"nrtrace/changes/v1","name":"%s","program":"/usr/local/bin/tool","user":"%s","uid":null,
            "group":"%s","gid":null,"changes":[],"on_file":true,"file_capabilities":[{"needs":[],"reason":"",
            "action":"file-capabilities","path":"/usr/local/bin/tool","capabilities":["%s"]}]}' "$1" "$2" "$2" "$3"; }
        caps a svc CAP_NET_BIND_SERVICE >/tmp/a.json; caps b other CAP_NET_RAW >/tmp/b.json
        has() { setcap -q -v "$1" /usr/local/bin/tool; }
        for first in a b; do
            nrtrace apply --yes /tmp/a.json; nrtrace apply --yes /tmp/b.json
            has cap_net_bind_service,cap_net_raw=ep
            nrtrace undo --yes /tmp/$first.json
            if [ $first = a ]; then has cap_net_raw=ep; nrtrace undo --yes /tmp/b.json
            else has cap_net_bind_service=ep; nrtrace undo --yes /tmp/a.json; fi
            [ -z "$(getcap /usr/local/bin/tool)" ]
        done
        "#,
    );
}

#[test]
fn an_entry_where_none_are_kept_is_refused_before_anything_is_changed() {
    hostile(
        r#"
        mkdir /srv/plain; mount -t ramfs ramfs /srv/plain; : >/srv/plain/key; : >/srv/key
        printf '{"schema":"nrtrace/changes/v1","name":"m","program":"/x","user":"daemon","uid":null,"group":"daemon","gid":null,
            "changes":[{"needs":[],"reason":"","action":"acl","path":"/srv/key","bits":4},
            {"needs":[],"reason":"","action":"acl","path":"/srv/plain/key","bits":4}],"file_capabilities":[],"on_file":false}' >/tmp/m.json
        ! nrtrace apply --yes /tmp/m.json 2>/tmp/said
        grep -q 'keeps no ACLs' /tmp/said
        ! getfacl -p /srv/key | grep daemon
        umount /srv/plain
        "#,
    );
}

#[test]
fn a_directory_with_a_program_of_root_is_not_given_away() {
    hostile(
        r#"
        mkdir /opt/svc; install -m 755 /bin/true /opt/svc/rootjob
        # What was there in the run is not planned to be: its files are made one by one.
        nrtrace run -q -o /tmp/closed -- sh -c ': >/opt/svc/a.log; : >/opt/svc/b.pid'
        grep -q '^f /opt/svc/a.log ' /tmp/closed/tmpfiles.d/*; ! grep -q '^d /opt/svc ' /tmp/closed/tmpfiles.d/*
        # What came since is not given away either.
        rm /opt/svc/rootjob
        nrtrace run -q -o /tmp/svc -- sh -c ': >/opt/svc/a.log; : >/opt/svc/b.pid'
        grep -q '^d /opt/svc ' /tmp/svc/tmpfiles.d/*
        install -m 755 /bin/true /opt/svc/rootjob
        ! nrtrace apply --yes /tmp/svc 2>/tmp/said
        grep -q 'holds rootjob, a program' /tmp/said
        test $(stat -c %U /opt/svc) = root
        rm /opt/svc/rootjob; nrtrace apply --yes /tmp/svc; ! test $(stat -c %U /opt/svc) = root
        "#,
    );
}

#[test]
fn what_was_applied_is_not_lost_sight_of() {
    hostile(
        r#"
        refused() { if "$@" 2>/tmp/said; then exit 1; fi; }
        trace /tmp/svc -e FILE=svc -- sh -c ': >/run/$FILE.pid'
        nrtrace apply --yes /tmp/svc
        nrtrace run --as svc -e FILE=other -o /tmp/less -- sh -c ': >/run/$FILE.pid' >/dev/null 2>/tmp/said
        grep -q 'granted here already, and so no need of this run: sh as svc' /tmp/said
        # What a later profile of the program gives up is told before it is given up.
        nrtrace apply --dry-run /tmp/less 2>&1 | grep -q '^- /run/svc.pid'
        # The files that take it back are not written over by another's.
        refused nrtrace run --as svc --name other -o /tmp/svc -- sh -c ': >/run/other.pid'
        grep -q 'was applied to this machine, for sh as svc' /tmp/said
        trace /tmp/other --name other -- sh -c ': >/run/other.pid'
        refused nrtrace undo --yes /tmp/other
        grep -q 'what was: sh as svc' /tmp/said
        nrtrace undo --yes /tmp/svc
        test ! -e /run/svc.pid
        # What others can write is not carried out.
        chown svc /tmp/other; refused nrtrace apply --yes /tmp/other
        grep -q 'can be written by user' /tmp/said
        "#,
    );
}

/// systemd-tmpfiles takes the first line for a path by the file's name.
#[test]
fn a_packages_own_line_is_not_repeated_nor_in_the_way() {
    hostile(
        r#"
        echo 'd /run/app 0755 daemon daemon -' >/usr/lib/tmpfiles.d/app.conf
        again() { rm -rf /run/app; systemd-tmpfiles --create --prefix=/run/app; stat -c %U:%a /run/app; }
        nrtrace run -q --as daemon -o /tmp/same -- sh -c 'mkdir -m 755 /run/app; : >/run/app/pid'
        ! grep -q '^[dz] /run/app' /tmp/same/tmpfiles.d/nrtrace-sh.conf
        grep -q 'app.conf of a package makes' /tmp/same/tmpfiles.d/nrtrace-sh.conf
        nrtrace run -q --as games -o /tmp/other -- sh -c 'mkdir -m 755 /run/app; : >/run/app/pid'
        cp /tmp/other/tmpfiles.d/nrtrace-sh.conf /etc/tmpfiles.d/
        again >/tmp/after 2>/dev/null; grep -q ^games: /tmp/after
        "#,
    );
}

#[test]
fn what_is_gone_already_is_taken_back_all_the_same() {
    hostile(
        r#"
        printf '{"schema":"nrtrace/changes/v1","name":"m","program":"/x","user":"fresh","uid":null,"group":"fresh","gid":null,
            "changes":[{"needs":[],"reason":"","action":"join","group":"ssl-cert"}],"file_capabilities":[],"on_file":false}' >/tmp/m.json
        nrtrace apply --yes /tmp/m.json
        id -nG fresh | grep -qw ssl-cert
        gpasswd -d fresh ssl-cert
        nrtrace undo --yes /tmp/m.json
        ! id fresh
        ! nrtrace undo --yes /tmp/m.json
        [ ! -e /var/lib/nrtrace ]
        # A group that was there before stays, although userdel would take it along.
        groupadd -r fresh; nrtrace apply --yes /tmp/m.json; nrtrace undo --yes /tmp/m.json
        getent group fresh; ! id fresh
        "#,
    );
}

#[test]
fn who_still_owns_what_a_service_keeps_is_left_until_that_is_gone() {
    let script = format!(
        r#"PATH={BIN}:$PATH
        nrtrace run -o /tmp/o -- /bin/sh -c 'mkdir -p /run/keeper' >/dev/null 2>&1 || true
        user=$(sed -n 's/^u[!]* \([^ ]*\) .*/\1/p' /tmp/o/sysusers.d/*.conf)
        nrtrace apply --yes /tmp/o
        install -d -o "$user" /var/lib/keeper
        nrtrace undo --yes /tmp/o 2>&1 | tee /tmp/told
        grep -q "the user $user is left: it owns /var/lib/keeper" /tmp/told
        id "$user"
        rmdir /var/lib/keeper
        nrtrace undo --yes /tmp/o
        ! id "$user" 2>/dev/null
        ! getent group "$user"
        ! nrtrace undo --yes /tmp/o
        "#
    );
    Sandbox::new().unwrap().script(&script).unwrap().ok().unwrap();
}

#[test]
fn killed_at_any_moment() {
    hostile(
        r#"
        mkdir -p /srv/app/deep; for n in $(seq 40); do echo $n >/srv/app/deep/f$n; done
        { printf '{"schema":"nrtrace/changes/v1","name":"k","program":"/x","user":"svc","uid":null,"group":"svc","gid":null,
            "file_capabilities":[],"on_file":false,"changes":['
          for n in $(seq 40); do printf '{"needs":[],"reason":"","action":"file","path":"/srv/app/deep/f%s","make":"regular",
            "mode":416,"group":null,"existed":true,"owned":true},{"needs":[],"reason":"","action":"directory","path":"/srv/app/new%s/d","mode":448,
            "group":null},' $n $n; done
          printf '{"needs":[],"reason":"","action":"acl","path":"/srv/app","bits":7}]}'; } >/tmp/k.json
        look() { find /srv /var/lib -printf '%p %U:%G %m %y\n' | sort; getfacl -cpn /srv/app; }
        look >/tmp/before
        for n in $(seq 30); do
            timeout -s KILL 0.0$((n * 2 % 9 + 1)) nrtrace apply --yes /tmp/k.json || true
            timeout -s KILL 0.0$((n % 5 + 1)) nrtrace undo --yes /tmp/k.json || true
        done
        nrtrace apply --yes /tmp/k.json
        [ "$(stat -c '%U %a' /srv/app/deep/f40)" = 'svc 640' ]
        nrtrace undo --yes /tmp/k.json
        look | diff /tmp/before -
        "#,
    );
}
