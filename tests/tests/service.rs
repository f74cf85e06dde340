//! `nrtrace service`: from a unit with all that belongs to it to a drop-in that is proved.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::Severity;
use nrtrace_tests::sandbox::{BIN, Finished, OUT, Sandbox};

fn run(script: &str) -> (Finished, Sandbox) {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(240));
    let finished = sandbox.script(script).unwrap();
    (finished, sandbox)
}

fn profile_of(sandbox: &Sandbox, finished: &Finished) -> Profile {
    let text = std::fs::read_to_string(sandbox.out().join("result/profile.json"));
    Profile::from_json(&text.unwrap_or_else(|error| panic!("{error}: {finished}"))).unwrap()
}

fn required(profile: &Profile) -> Vec<&str> {
    let needs = profile.requirements.iter().filter(|known| known.severity == Severity::Required);
    needs.map(|known| known.id.as_str()).collect()
}

/// A template with a drop-in for the instance, a file of variables, and steps before it, one of which is root's.
const UNITS: &str = r#"
mkdir -p /etc/systemd/system/probe@one.service.d /usr/local/lib/systemd/system /srv/guarded /srv/other
cat >/usr/local/lib/systemd/system/probe@.service <<'END'
[Service]
Environment=WHERE=%S/wrong "WHAT=b c"
EnvironmentFile=/etc/default/prob[e]
RuntimeDirectory=probe
RuntimeDirectoryMode=0750
UMask=0027
ExecStartPre=+/bin/mkdir -m 755 /srv/by-root
ExecStartPre=-/bin/false
ExecStartPre=/bin/sh -c 'echo %i >/srv/guarded/before-%i'
ExecStart=/bin/false
END
cat >/etc/systemd/system/probe@one.service.d/10-start.conf <<'END'
[Service]
ExecStart=
ExecStart=/usr/local/bin/probe $OPTIONS \
  # between
  "${WHAT}" ${WHERE}
END
echo 'OPTIONS="-a -b"
WHERE=/srv/by-root' >/etc/default/probe
cat >/usr/local/bin/probe <<'END'
#!/bin/sh
set -e
[ -d /srv/by-root ] && [ -s /srv/guarded/before-one ] && [ -z "$CALLER" ]
echo "$# $*" >"$RUNTIME_DIRECTORY/said"
echo x >/srv/other/useless || true
umask >>/run/probe/said
exec sleep 1000
END
chmod 755 /usr/local/bin/probe
export CALLER=1
"#;

#[test]
fn all_that_a_unit_says_of_its_start_holds() {
    let ready =
        "--ready 'grep -qx \"4 -a -b b c /srv/by-root\" /run/probe/said && grep -qx 0027 /run/probe/said'";
    let (finished, sandbox) = run(&format!(
        "{UNITS}\n{BIN}/nrtrace service probe@one {ready} --settle 200ms --grace 1s -o {OUT}/result\n\
         cp {OUT}/result/apply.sh /tmp/; sh {OUT}/result/apply.sh >{OUT}/applied\n\
         {BIN}/nrtrace start {OUT}/result/probe@one.service.d/50-nonroot.conf & \n\
         for i in $(seq 50); do [ -s /run/probe/said ] && break; sleep 0.2; done\n\
         {{ cat /run/probe/said; stat -c '%U %a' /run/probe /run/probe/said; ls /srv/guarded; }} >{OUT}/started\n\
         kill %1"
    ));
    assert_eq!(finished.status, 0, "{finished}");
    let profile = profile_of(&sandbox, &finished);
    let command: Vec<String> = profile.command.iter().map(ToString::to_string).collect();
    assert_eq!(command, ["/usr/local/bin/probe", "-a", "-b", "b c", "/srv/by-root"]);
    assert_eq!(required(&profile), ["path:/srv/guarded/before-one"], "{finished}");
    assert!(profile.proof.as_ref().is_some_and(|proof| proof.lives && proof.minimal), "{finished}");
    let read = |name: &str| std::fs::read_to_string(sandbox.out().join(name)).unwrap();
    let drop_in = read("result/probe@one.service.d/50-nonroot.conf");
    assert!(drop_in.contains("# Runs probe@one.service as "), "{drop_in}");
    // What the unit says is the unit's: the drop-in neither repeats nor contradicts it.
    for said in ["RuntimeDirectory", "Environment=", "ExecStart", "UMask"] {
        assert!(!drop_in.contains(&format!("\n{said}")), "{said} in {drop_in}");
    }
    assert!(read("applied").contains("/nrtrace start '"), "{}", read("applied"));
    let user = &profile.identity.user;
    assert_eq!(
        read("started"),
        format!("4 -a -b b c /srv/by-root\n0027\n{user} 750\n{user} 640\nbefore-one\n"),
        "{drop_in}"
    );
}

#[test]
fn what_is_no_service_to_prove_is_said() {
    let (finished, _) = run(&format!(
        "mkdir -p /etc/systemd/system; cd /etc/systemd/system; ln -s /dev/null gone.service\n\
         printf '[Service]\\nType=oneshot\\nExecStop=/bin/true\\n' >stops.service\n\
         printf '[Service]\\nUser=nobody-there\\nExecStart=/bin/true\\n' >user.service\n\
         printf '[Service]\\nExecStart=/bin/true\\n' >template@.service\n\
         for unit in gone stops user template@ none.service x.socket /etc/none.service; do\n\
         {BIN}/nrtrace service $unit && exit 1; [ $? = 2 ] || exit 1; done"
    ));
    let said = String::from_utf8_lossy(&finished.stderr);
    for expected in [
        "gone.service is masked by",
        "stops.service has no ExecStart=",
        "user.service: User=nobody-there is not there",
        "template@.service is a template: name an instance",
        "there is no none.service in /etc/systemd/system.control",
        "x.socket is no service",
        "there is no none.service in /etc",
    ] {
        assert!(said.contains(expected), "{expected}: {finished}");
    }
    assert_eq!(finished.status, 0, "{finished}");
}

/// A wrapper that says it wants to be root and ends with success serves nobody; what does its work and ends has done it.
#[test]
fn a_service_that_ends_has_not_lived() {
    let (finished, _) = run(&format!(
        "mkdir -p /etc/systemd/system; cd /etc/systemd/system\n\
         printf '[Service]\\nExecStart=/bin/true\\n' >ends.service\n\
         printf '[Service]\\nType=oneshot\\nExecStart=/bin/true\\n' >works.service\n\
         {BIN}/nrtrace service works --grace 1s\n\
         if {BIN}/nrtrace service ends --settle 200ms --grace 1s; then exit 7; fi"
    ));
    assert_eq!(finished.status, 0, "{finished}");
    let drop_in = String::from_utf8_lossy(&finished.stdout);
    assert!(drop_in.contains("# Runs works.service as ") && !drop_in.contains("ends.service"), "{finished}");
    let said = String::from_utf8_lossy(&finished.stderr);
    assert!(said.contains("ended with status 0"), "{finished}");
}

/// Debian's own unit: a step before it, `Type=forking`, a file with the daemon's number.
#[test]
fn a_real_unit_is_proved_and_serves() {
    let (finished, sandbox) = run(&format!(
        "rm -rf /var/lib/nginx/*; {BIN}/nrtrace service nginx.service --settle 300ms --grace 1s -o {OUT}/result\n\
         sh {OUT}/result/apply.sh >/dev/null\n\
         {BIN}/nrtrace start {OUT}/result/nginx.service.d/50-nonroot.conf\n\
         curl -sf --retry 10 --retry-connrefused -o /dev/null http://127.0.0.1/\n\
         ps -o user= -p $(cat /run/nginx.pid) >{OUT}/user; kill $(cat /run/nginx.pid)"
    ));
    assert_eq!(finished.status, 0, "{finished}");
    let profile = profile_of(&sandbox, &finished);
    assert!(profile.run.daemon, "{finished}");
    let proof = profile.proof.as_ref().unwrap();
    assert!(proof.lives && proof.minimal, "{finished}");
    assert!(required(&profile).contains(&"path:/run/nginx.pid"), "{finished}");
    let user = std::fs::read_to_string(sandbox.out().join("user")).unwrap();
    assert_eq!(user.trim(), profile.identity.user, "{finished}");
    let unit = profile.unit.unwrap();
    assert!(unit.name == "nginx.service" && unit.start.is_empty(), "{unit:?}");
}
