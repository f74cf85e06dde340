//! `nrtrace start`, and with it the trials: what a unit says holds for the program.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use nrtrace_tests::sandbox::{BIN, Finished, OUT, Sandbox};
use nrtrace_tests::service::quote;

/// What a shell says that is started by `nrtrace start` with such a unit.
fn started(directives: &str, prepare: &str, says: &str) -> String {
    let sandbox = Sandbox::new().unwrap();
    let unit = format!("[Service]\nUser=daemon\nGroup=daemon\nNoNewPrivileges=yes\n{directives}");
    std::fs::write(sandbox.out().join("unit.conf"), unit).unwrap();
    let script = format!(
        "{prepare}\nexport CALLER=1\n{BIN}/nrtrace start {OUT}/unit.conf -- sh -c {} 2>&1",
        quote(says)
    );
    let finished: Finished = sandbox.script(&script).unwrap().ok().unwrap();
    String::from_utf8(finished.stdout).unwrap()
}

#[test]
fn what_the_unit_closes_is_closed() {
    let prepare = "install -d -o daemon /var/lib/mine /var/lib/mine/keys /srv/mine /home/mine; sysctl -n kernel.hostname";
    let directives = "ProtectSystem=strict\nReadWritePaths=-/var/lib/mine -/nowhere\nInaccessiblePaths=/var/lib/mine/keys\n\
                      ProtectHome=read-only\nProtectKernelTunables=yes\nProtectControlGroups=yes\nProtectHostname=yes\n\
                      ProtectKernelLogs=yes\nRestrictRealtime=yes\nLockPersonality=yes\nSystemCallFilter=~chown:ENOSYS fchownat:ENOSYS\n\
                      UMask=0027\nWorkingDirectory=/var/lib/mine\n";
    let says = "pwd; umask; echo x >a && echo written; for f in /srv/mine/a /home/mine/a /run/a keys/a; do echo x >$f; done; \
                cat /proc/kallsyms; chown daemon a; chrt -f 1 true; setarch i386 true; grep Cap.nd /proc/self/status; true";
    let said = started(directives, prepare, says);
    for expected in [
        "/var/lib/mine\n0027\nwritten\n",
        "cannot create /srv/mine/a: Read-only file system",
        "cannot create /home/mine/a: Read-only file system",
        "cannot create /run/a: Read-only file system",
        "cannot create keys/a: Permission denied",
        "/proc/kallsyms: Permission denied",
        "changing ownership of 'a': Function not implemented",
        "failed to set pid 0's policy: Operation not permitted",
        "failed to set personality to i386: Operation not permitted",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in\n{said}");
    }
    // Without these directives, all of it works but for what the user may not do.
    let said = started(
        "",
        prepare,
        "echo x >/srv/mine/a; echo x >/home/mine/a; cat /proc/kallsyms >/dev/null; setarch i386 true; echo done",
    );
    assert!(said.ends_with("\ndone\n") && !said.contains("denied") && !said.contains("permitted"), "{said}");
}

/// What is written once it is proved, each of it.
#[test]
fn what_hardens_is_taken_away() {
    let prepare = "echo x >/tmp/others; mknod -m 666 /dev/mine c 1 3; install -d -m 777 /home/open";
    let says = format!(
        "ls /tmp; echo y >/tmp/own && chmod 755 /tmp/own && echo own; ls /home /dev/mine /dev/null; cat /proc/1/comm; \
         chmod 4755 /tmp/own; {BIN}/fixture takes namespace; {BIN}/fixture takes memory; chown daemon /tmp/own; \
         nice -n 5 true; curl -s http://127.0.0.1/; echo curl $?; grep Seccomp_filters /proc/self/status"
    );
    let plain = started("", prepare, &says);
    for allowed in ["others", "own\n", "/dev/mine\n", "/dev/null\n", "curl 7"] {
        assert!(plain.contains(allowed), "{allowed:?} is not in\n{plain}");
    }
    for refused in ["denied", "permitted"] {
        assert!(!plain.contains(refused), "{refused:?} is in\n{plain}");
    }
    let directives = "ProtectSystem=strict\nProtectHome=yes\nProtectProc=invisible\nPrivateTmp=yes\nPrivateDevices=yes\n\
                      ProtectClock=yes\nRestrictNamespaces=yes\nRestrictAddressFamilies=AF_UNIX\nRestrictSUIDSGID=yes\n\
                      MemoryDenyWriteExecute=yes\nSystemCallArchitectures=native\nSystemCallErrorNumber=EPERM\n\
                      SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\n";
    let said = started(directives, prepare, &says);
    for expected in [
        "own\n",
        "cannot open directory '/home': Permission denied",
        "cannot access '/dev/mine': No such file or directory",
        "/dev/null\n",
        "/proc/1/comm: No such file or directory",
        "changing permissions of '/tmp/own': Operation not permitted",
        "unshare: Operation not permitted",
        "mmap: Operation not permitted",
        "changing ownership of '/tmp/own': Operation not permitted",
        "cannot set niceness: Operation not permitted",
        "curl 7",
        "Seccomp_filters:\t3",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in\n{said}");
    }
    assert!(!said.contains("others") && !said.contains("not applied"), "{said}");
}

#[test]
fn a_list_of_devices_closes_all_others() {
    let prepare = "mknod -m 666 /dev/mine c 1 3; mknod -m 666 /dev/other c 1 3";
    let said = started(
        "DeviceAllow=/dev/mine rw\n",
        prepare,
        "for d in mine null urandom; do head -c 1 /dev/$d >/dev/null && echo $d; done; cat /dev/other; true",
    );
    assert!(said.contains("mine\nnull\nurandom\n"), "{said}");
    assert!(said.contains("/dev/other: Permission denied"), "{said}");
}

#[test]
fn the_environment_is_the_units_and_nobody_elses() {
    let said = started(
        "Environment=MINE=1 \"OTHER=a b\"\nStateDirectory=x\n",
        "",
        "env | grep -v -e ^_= -e ^PWD= | sort",
    );
    let expected = "HOME=/usr/sbin\nLOGNAME=daemon\nMINE=1\nOTHER=a b\n\
                    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nSTATE_DIRECTORY=/var/lib/x\nUSER=daemon\n";
    assert_eq!(said, expected);
}

#[test]
fn what_is_not_applied_is_told() {
    let said = started("PrivateUsers=yes\n", "", "echo started");
    assert_eq!(said, "nrtrace: not applied: PrivateUsers=yes of the unit\nstarted\n");
    // What is about control groups is a service manager's.
    let said = started("SocketBindDeny=1-1023\nDelegate=yes\n", "", "echo started");
    let expected = "nrtrace: not applied: SocketBindDeny= of the unit: it takes a control group, which systemd makes\n\
                    nrtrace: not applied: Delegate= of the unit: it takes a control group, which systemd makes\nstarted\n";
    assert_eq!(said, expected);
}

/// Where the control groups of version 2 are writable, a trial has one for the program; elsewhere the record tells.
#[test]
fn a_unit_that_takes_a_control_group_is_tried_in_one() {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(240));
    let script = format!(
        r#"cd /
        own=$(sed -n 's/^0:://p' /proc/self/cgroup)
        for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/unified; do
            if mkdir $hierarchy$own/looked-for 2>/dev/null && [ -e $hierarchy$own/looked-for/cgroup.events ]; then
                echo "groups $hierarchy"; GROUPS_ARE=$hierarchy
            fi
            rmdir $hierarchy$own/looked-for 2>/dev/null || true
        done
        cat >/opt/web <<'X'
#!/bin/bash
socat TCP-LISTEN:70,fork,reuseaddr /dev/null &
[ -z "$MORE" ] || python3 -c 'import socket; socket.socket().bind(("", 71))' || exit 7
echo serving
sleep 60
X
        cat >/opt/manager <<X
#!/bin/bash
own=\$(sed -n 's/^0:://p' /proc/self/cgroup)
mkdir ${{GROUPS_ARE:-/sys/fs/cgroup}}\$own/mine || [ -z "\$MORE" ] || exit 7
echo serving
sleep 60
X
        chmod 755 /opt/web /opt/manager
        verify() {{ {BIN}/nrtrace verify {OUT}/$1/profile.json --ready-log '^serving$' --settle 100ms --grace 1s --network private "${{@:2}}"; }}
        for name in web manager; do {BIN}/nrtrace run -q --ready-log '^serving$' --for 500ms -o {OUT}/$name -- /opt/$name; done
        code=0; verify web --env MORE=1 2>&1 || code=$?; echo "web $code"
        code=0; verify manager --env MORE=1 2>&1 || code=$?; echo "manager $code"
        for n in 1 2 3 4; do
            verify web -q & victim=$!; sleep 0.$((n * 2)); kill -9 $victim || true; wait $victim || true
        done
        for n in $(seq 100); do find /sys/fs/cgroup -name 'nrtrace-*' >{OUT}/left; [ -s {OUT}/left ] || break; sleep 0.1; done
        "#
    );
    let finished = sandbox.script(&script).unwrap();
    assert_eq!(finished.status, 0, "{finished}");
    let said = String::from_utf8_lossy(&finished.stdout);
    assert!(said.contains("web 1\n") && said.contains("Missing: port:tcp:0.0.0.0:71"), "{finished}");
    let has_groups = said.contains("groups /sys/fs/cgroup");
    assert_eq!(said.contains("lived by what SocketBindDeny="), !has_groups, "{finished}");
    assert_eq!(said.contains("Not applied in the sandbox: SocketBindDeny="), !has_groups, "{finished}");
    assert_eq!(said.contains("manager 0\n"), has_groups, "{finished}");
    assert_eq!(std::fs::read_to_string(sandbox.out().join("left")).unwrap(), "");
}

/// The first word of a trial is the artefact's: a caller's variable does not help, one that is given goes into the files.
#[test]
fn a_trial_has_the_environment_of_the_artefacts() {
    let run = |options: &str| {
        let sandbox = Sandbox::new().unwrap();
        let script = format!(
            "cd /; export SETTING=1; {BIN}/nrtrace run --verify --ready-log '^serving$' --settle 100ms {options} -o {OUT}/result -- \
             sh -c 'test \"$SETTING\" && echo serving && exec sleep 60'"
        );
        (sandbox.script(&script).unwrap(), sandbox)
    };
    let (finished, _) = run("");
    assert_eq!(finished.status, 1, "{finished}");
    let (finished, sandbox) = run("--env SETTING=1");
    assert_eq!(finished.status, 0, "{finished}");
    let unit = std::fs::read_to_string(sandbox.out().join("result/sh.service.d/50-nonroot.conf")).unwrap();
    assert!(unit.contains("\nEnvironment=SETTING=1\n"), "{unit}");
}

#[test]
fn the_line_of_apply_starts_what_was_proved() {
    let sandbox = Sandbox::new().unwrap();
    let script = format!(
        "cd /; {BIN}/nrtrace run -q --env SETTING='a b' -o {OUT}/result -- \
         sh -c 'mkdir -p /var/lib/sh && env >/var/lib/sh/shown && touch /var/lib/sh/$(date +%N)'\n\
         sh {OUT}/result/apply.sh >{OUT}/said; export CALLER=1\n\
         for line in \"$(sed -n 's/^Start it with: //p' {OUT}/said)\" \"$(sed -n 's/.*with it: //p' {OUT}/said)\"; do\n\
             rm -f /var/lib/sh/shown; eval \"$line\" || true; cat /var/lib/sh/shown; stat -c %U /var/lib/sh/shown; sort /var/lib/sh/shown | grep -v ^_= | md5sum\n\
         done; cat {OUT}/said"
    );
    let finished = sandbox.script(&script).unwrap().ok().unwrap();
    let said = String::from_utf8(finished.stdout).unwrap();
    assert!(
        said.contains("SETTING=a b\n") && said.contains("\nUSER=sh\n") && said.contains("\nsh\n"),
        "{said}"
    );
    assert!(!said.contains("CALLER"), "{said}");
    assert!(said.contains("ProtectSystem=") && said.contains("\nSTATE_DIRECTORY=/var/lib/sh\n"), "{said}");
    // By setpriv and by the unit it has the same environment.
    let sums: Vec<&str> = said.lines().filter(|line| line.ends_with("  -")).collect();
    assert!(sums.len() == 2 && sums[0] == sums[1], "{said}");
}

/// k0s and others refuse to live with the loopback interface alone.
#[test]
fn a_private_network_has_another_address() {
    let sandbox = Sandbox::new().unwrap();
    let script = format!(
        "cd /; {BIN}/nrtrace run --verify --network private --ready-log '^serving$' --settle 100ms -- \
         sh -c 'test \"$(hostname -I)\" = \"192.0.2.1 \" && echo serving && exec sleep 60'"
    );
    let finished = sandbox.script(&script).unwrap();
    assert_eq!(finished.status, 0, "{finished}");
}
