//! `nrtrace plan`: after its files are applied, the kernel grants each component exactly what it does, and nobody else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use nrtrace_profiles::RawText;
use nrtrace_profiles::accesses::FileAccess;
use nrtrace_profiles::event::FileType;
use nrtrace_profiles::glob::Pattern;
use nrtrace_profiles::plan::{Arrangement, Component, Grouping, Options, Owner, Owners, Public, emit, plan};
use nrtrace_profiles::requirement::Access;
use nrtrace_tests::sandbox::{BIN, OUT, Sandbox};

/// Numbers that look random and are the same every time (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// Components that do this and that with the files of a small tree.
fn matrix(seed: u64, root: &str) -> (Vec<Component>, Vec<String>) {
    let mut random = Random(seed);
    let directories = ["d0", "d0/d1", "d2"];
    let files = ["d0/f0", "d0/f1", "d0/d1/f2", "d0/d1/f3", "d2/f4", "d2/f5"];
    let path = |name: &&str| format!("{root}/{name}");
    let count = 2 + random.below(4) as usize;
    let mut components = Vec::new();
    for index in 0..count {
        let mut done = Vec::new();
        for name in &directories {
            let what: &[Access] = match random.below(12) {
                0 => &[Access::Read],
                1 => &[Access::Write],
                2 => &[Access::Search],
                _ => &[],
            };
            done.push((path(name), FileType::Directory, what));
        }
        for name in &files {
            let what: &[Access] = match random.below(9) {
                0 | 1 => &[Access::Read],
                2 => &[Access::Write],
                3 => &[Access::Read, Access::Write],
                4 if random.below(3) == 0 => &[Access::Delete],
                _ => &[],
            };
            done.push((path(name), FileType::File, what));
        }
        let used = done.into_iter().filter(|(_, _, what)| !what.is_empty());
        let files = used.map(|(path, file_type, what)| FileAccess {
            path: RawText::from(path.as_str()),
            file_type,
            access: what.iter().copied().collect(),
            inode: None,
        });
        components.push(Component {
            name: format!("c{index}"),
            files: files.collect(),
            ..Component::default()
        });
    }
    let all = directories.iter().chain(&files).map(path).collect();
    (components, all)
}

/// What a component must be able to do with a path, in the letters of the fixture.
fn expected(
    arrangement: &Arrangement,
    component: Option<usize>,
    path: &str,
    components: &[Component],
) -> String {
    let directory = path.rsplit('/').next().unwrap().starts_with('d');
    let raw = RawText::from(path);
    let (Some(component), Some(entry)) = (component, arrangement.entries.get(&raw)) else {
        // Nobody but root; and what nobody uses can still be removed by who writes in its directory.
        return removal(arrangement, component, path, Owner::Root, components);
    };
    let surplus = arrangement.surplus.iter().filter(|s| s.component == component && s.path == raw);
    let more = surplus.fold(0, |bits, s| bits | s.bits);
    let bits = entry.uses.get(&component).copied().unwrap_or(0) | more;
    let mut letters: String = [(4, 'r'), (2, 'w'), (1, 'x')]
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, letter)| letter)
        .collect();
    if !directory {
        letters
            .push_str(removal(arrangement, Some(component), path, entry.owner, components).trim_matches('-'));
    }
    if letters.is_empty() { "-".into() } else { letters }
}

/// `d` for who may remove it: who writes in its directory and does remove it, owns it, or is told of as surplus.
fn removal(
    arrangement: &Arrangement,
    component: Option<usize>,
    path: &str,
    owner: Owner,
    components: &[Component],
) -> String {
    let (parent, name) = path.rsplit_once('/').unwrap();
    let Some(component) = component.filter(|_| name.starts_with('f')) else { return "-".into() };
    let holder = arrangement.entries.get(&RawText::from(parent));
    let writes = holder.is_some_and(|entry| entry.uses.get(&component).is_some_and(|bits| bits & 2 != 0));
    let raw = RawText::from(path);
    let does =
        components[component].files.iter().any(|f| f.path == raw && f.access.contains(&Access::Delete));
    let told = arrangement.surplus.iter().any(|s| s.component == component && s.path == raw && s.bits == 0);
    // Where one removes what is not its own, a conflict tells that the directory cannot be sticky.
    let open = holder.is_some_and(|entry| entry.mode & 0o1000 == 0);
    let untouched = !arrangement.entries.contains_key(&raw);
    let can = does || told || owner == Owner::Component(component) || (open && untouched);
    if writes && can { "d".into() } else { "-".into() }
}

fn options(prefix: &str, root: &str, owners: Owners, taken: &BTreeSet<u32>) -> Options {
    Options {
        prefix: prefix.into(),
        uids: 101..=999,
        gids: 101..=999,
        taken_uids: taken.clone(),
        taken_gids: taken.clone(),
        given: BTreeMap::new(),
        owners,
        grouping: Grouping::Set,
        public: Public::Close,
        paths: vec![Pattern::new(&RawText::from(format!("{root}/**").as_str())).unwrap()],
    }
}

/// Ids of this machine.
fn taken() -> BTreeSet<u32> {
    let ids = |file: &str| std::fs::read_to_string(file).unwrap();
    let text = ids("/etc/passwd") + &ids("/etc/group");
    text.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect()
}

const MATRICES: u64 = 24;

#[test]
fn the_kernel_grants_exactly_what_was_planned() {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(300));
    let mut taken = taken();
    let mut script = format!("mkdir -p {OUT}/found\n");
    let mut cases = Vec::new();
    for number in 0..MATRICES {
        let (root, prefix) = (format!("/srv/m{number}"), format!("m{number}-"));
        let (components, paths) = matrix(number, &root);
        let owners = if number % 2 == 0 { Owners::Root } else { Owners::Component };
        let arrangement = plan(&components, &options(&prefix, &root, owners, &taken)).unwrap();
        taken.extend(arrangement.users.iter().flat_map(|user| [user.uid, user.gid]));
        taken.extend(arrangement.groups.iter().map(|group| group.gid));
        let write = |name: String, text: String| std::fs::write(sandbox.out().join(name), text).unwrap();
        write(format!("u{number}.conf"), emit::sysusers(&arrangement, "plan"));
        write(format!("t{number}.conf"), emit::tmpfiles(&arrangement, "plan"));
        let all = paths.join(" ");
        let directories: Vec<&String> = paths.iter().filter(|path| is_directory(path)).collect();
        let files: Vec<&String> = paths.iter().filter(|path| !is_directory(path)).collect();
        for directory in directories {
            writeln!(script, "install -d -m 700 {directory}").unwrap();
        }
        for file in files {
            writeln!(script, "install -m 600 /dev/null {file}").unwrap();
        }
        writeln!(script, "chmod 755 {root}; systemd-sysusers {OUT}/u{number}.conf; systemd-tmpfiles --create {OUT}/t{number}.conf").unwrap();
        for user in &arrangement.users {
            writeln!(
                script,
                "setpriv --reuid={0} --regid={0} --init-groups --inh-caps=-all {BIN}/fixture reach {all} >{OUT}/found/{0}",
                user.name
            )
            .unwrap();
        }
        writeln!(
            script,
            "setpriv --reuid=61190 --regid=61190 --clear-groups --inh-caps=-all {BIN}/fixture reach {all} >{OUT}/found/{prefix}stranger"
        )
        .unwrap();
        cases.push((arrangement, components, paths, prefix));
    }
    let log = sandbox.script(&script).unwrap().ok().unwrap().to_string();
    assert!(!log.contains("unsafe path transition"), "{log}");
    let mut shared = 0;
    for (arrangement, components, paths, prefix) in &cases {
        shared += arrangement.groups.len();
        let users =
            arrangement.users.iter().enumerate().map(|(index, user)| (Some(index), user.name.clone()));
        for (component, name) in users.chain([(None, format!("{prefix}stranger"))]) {
            let found = std::fs::read_to_string(sandbox.out().join("found").join(&name)).unwrap();
            let wanted: Vec<String> = paths
                .iter()
                .map(|path| format!("{} {path}", expected(arrangement, component, path, components)))
                .collect();
            let found: Vec<&str> = found.lines().collect();
            assert_eq!(found, wanted, "{name}: {}\n{log}", emit::markdown(arrangement, "plan"));
        }
    }
    assert!(shared > 20, "the matrices share too little: {shared} groups");
}

fn is_directory(path: &str) -> bool {
    path.rsplit('/').next().unwrap().starts_with('d')
}

/// Three real servers with one key: each sees the key, its own files, and nothing of the others'.
const TRIO: &str = r#"
    umask 022
    mkdir -p /srv/trio/tls /srv/trio/nginx/run /srv/trio/haproxy
    cp /etc/ssl/certs/ssl-cert-snakeoil.pem /srv/trio/tls/site.pem
    install -m 600 /etc/ssl/private/ssl-cert-snakeoil.key /srv/trio/tls/site.pem.key
    cat >/srv/trio/nginx/nginx.conf <<'END'
pid /srv/trio/nginx/run/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path /srv/trio/nginx/run/body;
    proxy_temp_path /srv/trio/nginx/run/proxy;
    fastcgi_temp_path /srv/trio/nginx/run/fastcgi;
    scgi_temp_path /srv/trio/nginx/run/scgi;
    uwsgi_temp_path /srv/trio/nginx/run/uwsgi;
    server {
        listen 8443 ssl;
        ssl_certificate /srv/trio/tls/site.pem;
        ssl_certificate_key /srv/trio/tls/site.pem.key;
        location / { return 200 "nginx\n"; }
    }
}
END
    cat >/srv/trio/haproxy/haproxy.cfg <<'END'
defaults
    mode http
    timeout client 5s
    timeout connect 5s
    timeout server 5s
frontend tls
    bind :8444 ssl crt /srv/trio/tls/site.pem
    http-request return status 200 content-type text/plain string haproxy
END
    install -d -o postgres -g postgres -m 700 /srv/trio/postgres
    setpriv --reuid=postgres --regid=postgres --clear-groups /usr/lib/postgresql/15/bin/initdb -D /srv/trio/postgres >/dev/null
    cat >>/srv/trio/postgres/postgresql.conf <<'END'
port = 5433
unix_socket_directories = ''
ssl = on
ssl_cert_file = '/srv/trio/tls/site.pem'
ssl_key_file = '/srv/trio/tls/site.pem.key'
END
    nginx="/usr/sbin/nginx -c /srv/trio/nginx/nginx.conf -g 'daemon off;'"
    haproxy="/usr/sbin/haproxy -db -f /srv/trio/haproxy/haproxy.cfg"
    postgres="/usr/lib/postgresql/15/bin/postgres -D /srv/trio/postgres"
    serves() {
        case $1 in
            nginx) test "$(curl -sk --max-time 2 https://127.0.0.1:8443/)" = nginx ;;
            haproxy) test "$(curl -sk --max-time 2 https://127.0.0.1:8444/)" = haproxy ;;
            postgres) timeout 5 openssl s_client -starttls postgres -connect 127.0.0.1:5433 </dev/null 2>/dev/null | grep -q 'BEGIN CERTIFICATE' ;;
        esac
    }
    wait_for() { for attempt in $(seq 100); do serves $1 && return; sleep 0.1; done; echo "$1 does not serve"; cat $OUT/*.log; exit 1; }
    cd /
"#;

#[test]
fn three_servers_share_a_key_and_nothing_else() {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(150));
    let script = format!(
        r#"{TRIO}
        record() {{
            eval "{BIN}/nrtrace run -q --for 4s --paths /srv/trio $2 -o $OUT/$1 -- ${{!1}}" </dev/null >$OUT/$1.log 2>&1 &
            wait_for $1
            wait $!
        }}
        # Postgres starts on no key that others could read: as root's, for its group.
        chgrp postgres /srv/trio/tls/site.pem.key; chmod 640 /srv/trio/tls/site.pem.key
        record nginx ""; record haproxy ""; record postgres "--as postgres"
        rm -rf /srv/trio/nginx/run/*
        {BIN}/nrtrace plan --prefix trio- nginx=$OUT/nginx/profile.json haproxy=$OUT/haproxy/profile.json postgres=$OUT/postgres/profile.json -o $OUT/plan
        systemd-sysusers $OUT/plan/sysusers.d/nrtrace-plan.conf
        systemd-tmpfiles --create $OUT/plan/tmpfiles.d/nrtrace-plan.conf
        for name in nginx haproxy postgres; do
            user=trio-$name; [ $name = postgres ] && user=postgres
            eval "setpriv --reuid=$user --regid=$user --init-groups --no-new-privs --inh-caps=-all ${{!name}}" </dev/null >>$OUT/$name.log 2>&1 &
            wait_for $name
        done
        as() {{ setpriv --reuid=$1 --regid=$1 --init-groups --inh-caps=-all cat $2 >/dev/null; }}
        for user in trio-nginx trio-haproxy postgres; do
            as $user /srv/trio/tls/site.pem.key
            case $user in
                trio-nginx) others="/srv/trio/haproxy/haproxy.cfg /srv/trio/postgres/postgresql.conf" ;;
                trio-haproxy) others="/srv/trio/nginx/nginx.conf /srv/trio/postgres/postgresql.conf" ;;
                postgres) others="/srv/trio/nginx/nginx.conf /srv/trio/haproxy/haproxy.cfg" ;;
            esac
            for other in $others; do
                if as $user $other 2>/dev/null; then echo "$user reads $other"; exit 1; fi
            done
        done
        if setpriv --reuid=61190 --regid=61190 --clear-groups --inh-caps=-all cat /srv/trio/tls/site.pem.key 2>/dev/null; then exit 1; fi
        "#
    );
    let log = sandbox.script(&script).unwrap().ok().unwrap().to_string();
    let page = std::fs::read_to_string(sandbox.out().join("plan/plan.md")).unwrap();
    assert!(
        page.contains("| /srv/trio/tls/site.pem.key | nginx, haproxy, postgres | 0640 root trio-"),
        "{page}\n{log}"
    );
    assert!(
        page.contains("| /srv/trio/haproxy/haproxy.cfg | haproxy | 0600 trio-haproxy trio-haproxy |"),
        "{page}\n{log}"
    );
    let unit = std::fs::read_to_string(sandbox.out().join("plan/nginx.service.d/50-plan.conf")).unwrap();
    assert!(unit.contains("\nSupplementaryGroups=trio-"), "{unit}");
}
