//! Services that live by a line of their own configuration: found, tried, written by `nrtrace apply`, and serving by the line
//! that `apply.sh` ends with.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use nrtrace_profiles::method::Method;
use nrtrace_profiles::profile::Profile;
use nrtrace_tests::sandbox::{BIN, OUT, Sandbox};

/// A service, and what a client sees of it.
struct Case<'a> {
    /// Bash, as root, before all else.
    prepare: &'a str,
    port: u16,
    /// What it says first.
    greets: &'a str,
    command: &'a str,
    options: &'a str,
    /// The file that is changed, and what it says then.
    file: &'a str,
    line: &'a str,
}

impl Case<'_> {
    fn check(&self) {
        let Self { prepare, port, command, options, file, .. } = self;
        let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(400));
        let finished = sandbox
            .script(&format!(
                "{prepare}\ncp {file} /tmp/before; cd /; export NRTRACE={BIN}/nrtrace\n\
                 {BIN}/nrtrace run --minimize -v --ready-port {port} {options} -o {OUT}/result -- {command} </dev/null\n\
                 cmp {file} /tmp/before\n\
                 sh {OUT}/result/apply.sh >/tmp/applied\n\
                 line=$(sed -n 's/^Start it with: //p' /tmp/applied)\n\
                 (eval \"$line\") >/tmp/started 2>&1 </dev/null &\n\
                 for n in $(seq 100); do sleep 0.2; exec 3<>/dev/tcp/127.0.0.1/{port} && break; done 2>/dev/null\n\
                 read -r -t 5 words <&3; echo \"it greets with $words\"; cat /tmp/started; cat {file}\n\
                 exec 3>&-; kill $!; sleep 0.5; sh {OUT}/result/undo.sh; cmp {file} /tmp/before; echo 'as before'\n"
            ))
            .unwrap();
        let told = String::from_utf8_lossy(&finished.stdout);
        for words in [&format!("it greets with {}", self.greets), self.line, "as before"] {
            assert!(told.contains(words), "{words}: {finished}");
        }
        let text = std::fs::read_to_string(sandbox.out().join("result/profile.json")).unwrap();
        let profile = Profile::from_json(&text).unwrap();
        assert!(profile.proof.as_ref().is_some_and(|proof| proof.lives), "{finished}");
        let by = profile.requirements.iter().filter(|need| need.way == Some(Method::Configure));
        assert_eq!(by.count(), 1, "{finished}");
    }
}

#[test]
fn vsftpd() {
    Case {
        prepare: "",
        port: 21,
        greets: "220 ",
        command: "/usr/sbin/vsftpd /etc/vsftpd.conf",
        options: "",
        file: "/etc/vsftpd.conf",
        line: "\nrun_as_launching_user=YES\n",
    }
    .check();
}

#[test]
fn dovecot() {
    Case {
        prepare: "",
        port: 143,
        greets: "* OK ",
        command: "/usr/sbin/dovecot -F",
        options: "--as dovecot",
        file: "/etc/dovecot/dovecot.conf",
        line: "\ndefault_internal_user = dovecot\n",
    }
    .check();
}
