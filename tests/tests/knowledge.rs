//! Each knowledge file on the real program: what it says of a need, done, makes the need vanish.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use nrtrace_profiles::profile::Profile;
use nrtrace_tests::sandbox::{BIN, OUT, Sandbox};

/// A program, what is known of a need of it, and the remedy as it is followed.
struct Case<'a> {
    /// The knowledge file.
    program: &'a str,
    /// Bash, as root, before both runs.
    prepare: &'a str,
    /// The command, in bash, with the options of `nrtrace run` in front of it.
    command: &'a str,
    /// The need; nothing for what the program itself insists on.
    need: Option<&'a str>,
    /// Part of the best remedy.
    remedy: &'a str,
    /// Bash, as root, that follows the remedy.
    change: &'a str,
    /// The command as it then is.
    changed: &'a str,
}

impl Case<'_> {
    fn check(&self) {
        let sandbox = Sandbox::new().unwrap();
        let script = format!(
            "cd /\n{}\nset +e\n{BIN}/nrtrace run -q --ignore-status --for 2s -o {OUT}/before {} </dev/null\n\
             set -e\n{}\nset +e\n{BIN}/nrtrace run -q --ignore-status --for 2s -o {OUT}/after {} </dev/null\nexit 0",
            self.prepare, self.command, self.change, self.changed
        );
        let log = sandbox.script(&script).unwrap().ok().unwrap().to_string();
        let load = |name: &str| {
            let text = std::fs::read_to_string(sandbox.out().join(name).join("profile.json"));
            Profile::from_json(&text.unwrap_or_else(|error| panic!("{}: {error}: {log}", self.program)))
                .unwrap()
        };
        let (before, after) = (load("before"), load("after"));
        let has = |profile: &Profile| match self.need {
            Some(need) => profile.requirements.iter().any(|found| found.id == need),
            None => profile.gave_up.is_some(),
        };
        let ids =
            |profile: &Profile| profile.requirements.iter().map(|need| need.id.clone()).collect::<Vec<_>>();
        assert!(has(&before), "{}: no {:?} in {:#?}\n{log}", self.program, self.need, ids(&before));
        let facts = before.knowledge.iter().filter(|fact| fact.program == self.program);
        let mut fitting = facts.filter(|fact| match self.need {
            Some(need) => fact.needs.contains(need),
            None => fact.checks.is_some(),
        });
        let fact = fitting
            .next()
            .unwrap_or_else(|| panic!("{}: nothing is known: {:#?}", self.program, before.knowledge));
        let text = &fact.remedies[0].text;
        assert!(text.contains(self.remedy), "{}: {text}", self.program);
        assert!(!has(&after), "{}: {:?} is still there: {:#?}\n{log}", self.program, self.need, ids(&after));
        // It is no other failure that made it vanish.
        let lives = matches!(after.run.exit, nrtrace_profiles::event::Exit::Stopped { .. });
        assert!(lives, "{}: {:?}\n{log}", self.program, after.run.exit);
    }
}

/// A component of the control plane: the fixture under its name.
fn component(program: &str, arguments: &str, need: &str, remedy: &str, changed: &str) {
    let link = format!("cp {BIN}/k0s /usr/local/bin/{program}; umask 022");
    let command = format!("-- {program} {arguments}");
    let changed = format!("-- {program} {changed}");
    let own = format!("install -d -o 61184 -g 61184 /var/lib/{program} /srv/own");
    Case {
        program,
        prepare: &link,
        command: &command,
        need: Some(need),
        remedy,
        change: &own,
        changed: &changed,
    }
    .check();
}

#[test]
fn nginx() {
    Case {
        program: "nginx",
        prepare: "",
        command: "-- nginx -g 'daemon off;'",
        need: Some("path:/run/nginx.pid"),
        remedy: "put `pid /run/nginx/nginx.pid;` into /etc/nginx/nginx.conf",
        change: "install -d -o 61184 -g 61184 /run/nginx; sed -i 's|^pid .*|pid /run/nginx/nginx.pid;|' /etc/nginx/nginx.conf",
        changed: "-- nginx -g 'daemon off;'",
    }
    .check();
}

#[test]
fn apache2() {
    let command = "-- sh -c '. /etc/apache2/envvars; exec apache2 -DFOREGROUND'";
    Case {
        program: "apache2",
        prepare: "install -d /run/apache2; install -d -o www-data /run/lock/apache2; rm -f /var/log/apache2/*",
        command,
        need: Some("port:tcp::::80"),
        remedy: "put `Listen 8080` into /etc/apache2/ports.conf",
        change: "sed -i 's/^Listen 80$/Listen 8080/' /etc/apache2/ports.conf",
        changed: command,
    }
    .check();
}

#[test]
fn haproxy() {
    let command = "-- haproxy -Ws -f /etc/haproxy/haproxy.cfg";
    Case {
        program: "haproxy",
        prepare: "mkdir -p /run/haproxy",
        command,
        need: Some("kernel:chroot:CAP_SYS_CHROOT:/var/lib/haproxy"),
        remedy: "remove `chroot /var/lib/haproxy` from /etc/haproxy/haproxy.cfg",
        change: "sed -i '/^\\s*chroot /d' /etc/haproxy/haproxy.cfg",
        changed: command,
    }
    .check();
}

#[test]
fn named() {
    Case {
        program: "named",
        prepare: "",
        command: "-- named -f",
        need: Some("port:udp:127.0.0.1:53"),
        remedy: "start it with `-p 5353`",
        change: "",
        changed: "-- named -f -p 5353",
    }
    .check();
}

#[test]
fn unbound() {
    Case {
        program: "unbound",
        prepare: "mkdir -p /var/lib/unbound; /usr/libexec/unbound-helper root_trust_anchor_update",
        command: "-- unbound -d",
        need: Some("path:/run/unbound.pid"),
        remedy: "put `pidfile: \"\"` into /etc/unbound/unbound.conf",
        change: "rm -f /run/unbound.*; printf 'server:\\n  pidfile: \"\"\\n' >/etc/unbound/unbound.conf.d/pid.conf",
        changed: "-- unbound -d",
    }
    .check();
}

#[test]
fn dnsmasq() {
    Case {
        program: "dnsmasq",
        prepare: "",
        command: "-- dnsmasq -k",
        need: Some("path:/run/dnsmasq.pid"),
        remedy: "start it with `--pid-file=`",
        change: "rm -f /run/dnsmasq.pid",
        changed: "-- dnsmasq -k --pid-file=",
    }
    .check();
}

#[test]
fn sshd() {
    Case {
        program: "sshd",
        prepare: "mkdir -m 755 /run/sshd",
        command: "-- /usr/sbin/sshd -D",
        need: Some("path:/run/sshd.pid"),
        remedy: "put `PidFile none` into /etc/ssh/sshd_config",
        change: "echo 'PidFile none' >>/etc/ssh/sshd_config",
        changed: "-- /usr/sbin/sshd -D",
    }
    .check();
}

#[test]
fn postgresql() {
    let command = "/usr/lib/postgresql/15/bin/postgres -D /etc/postgresql/15/main";
    Case {
        program: "postgresql",
        prepare: "install -d -o postgres -g postgres -m 2775 /run/postgresql",
        command: &format!("-- {command}"),
        need: None,
        remedy: "run it as the owner of the data directory",
        change: "",
        changed: &format!("--as postgres --groups ssl-cert -- {command}"),
    }
    .check();
}

#[test]
fn redis() {
    let command = "-- redis-server /etc/redis/redis.conf --daemonize no --supervised no";
    Case {
        program: "redis",
        prepare: "",
        command,
        need: Some("path:/run/redis"),
        remedy: "put `pidfile \"\"` into /etc/redis/redis.conf",
        change: "rm -rf /run/redis; sed -i 's|^pidfile .*|pidfile \"\"|' /etc/redis/redis.conf",
        changed: command,
    }
    .check();
}

#[test]
fn vsftpd() {
    let command = "-- vsftpd /etc/vsftpd.conf";
    Case {
        program: "vsftpd",
        prepare: "",
        command,
        need: None,
        remedy: "put `run_as_launching_user=YES` into /etc/vsftpd.conf",
        change: "echo 'run_as_launching_user=YES' >>/etc/vsftpd.conf; chown 61184:61184 /etc/vsftpd.conf",
        changed: command,
    }
    .check();
}

#[test]
fn squid() {
    Case {
        program: "squid",
        // It gives its capabilities up for the helper that writes the log, which is refused for real.
        prepare: "echo 'visible_hostname sandbox' >>/etc/squid/squid.conf; chown 61184:61184 /var/log/squid",
        command: "-- squid -N",
        need: Some("path:/run/squid.pid"),
        remedy: "put `pid_filename none` into /etc/squid/squid.conf",
        change: "echo 'pid_filename none' >>/etc/squid/squid.conf",
        changed: "-- squid -N",
    }
    .check();
}

#[test]
fn etcd() {
    Case {
        program: "etcd",
        prepare: "",
        command: "-- etcd",
        need: Some("path:/default.etcd"),
        remedy: "start it with `--data-dir /var/lib/etcd`",
        change: "install -d -o 61184 -g 61184 -m 700 /var/lib/etcd; rm -rf /default.etcd",
        changed: "-- etcd --data-dir /var/lib/etcd",
    }
    .check();
}

#[test]
fn containerd() {
    Case {
        program: "containerd",
        prepare: "",
        command: "-- containerd",
        need: Some("identity:chown:0,0:/run/containerd/containerd.sock"),
        remedy: "uid = UID and gid = UID in [grpc] and [ttrpc]",
        change: "mkdir -p /etc/containerd; printf 'version = 2\\n[grpc]\\n  uid = 61184\\n  gid = 61184\\n[ttrpc]\\n  uid = 61184\\n  gid = 61184\\n' \
                 >/etc/containerd/config.toml",
        changed: "-- containerd",
    }
    .check();
}

#[test]
fn kube_apiserver() {
    let own = "--cert-dir=/var/lib/kube-apiserver/pki";
    component("kube-apiserver", "", "path:/run/kubernetes", &format!("start it with `{own}`"), own);
}

#[test]
fn kube_controller_manager() {
    let own = "--flex-volume-plugin-dir=/var/lib/kube-controller-manager/flexvolume";
    component(
        "kube-controller-manager",
        "",
        "path:/usr/libexec/kubernetes",
        &format!("start it with `{own}`"),
        own,
    );
}

#[test]
fn kube_scheduler() {
    let (shared, own) = ("--cert-dir=/var/run/kubernetes", "--cert-dir=/var/lib/kube-scheduler/pki");
    component("kube-scheduler", shared, "path:/run/kubernetes", &format!("start it with `{own}`"), own);
}

#[test]
fn kubelet() {
    let shared = "--volume-plugin-dir=/usr/libexec/kubernetes/plugins";
    let own = "--volume-plugin-dir=/srv/own/plugins";
    let remedy = "volumePluginDir: /var/lib/kubelet/volumeplugins";
    component("kubelet", shared, "path:/usr/libexec/kubernetes", remedy, own);
}

/// No file is left out: k0s has its own tests.
#[test]
fn every_file_is_tried() {
    for program in nrtrace_profiles::knowledge::Library::built_in().programs() {
        let named = include_str!("knowledge.rs").contains(&format!("\"{}\"", program.name));
        let proved = include_str!("settings.rs").contains(&format!("fn {}()", program.name));
        assert!(named || proved || program.name == "k0s", "{} is not tried", program.name);
    }
}
