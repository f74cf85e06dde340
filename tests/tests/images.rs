//! A service traced on this machine, and an image of it with the lines of its Containerfile: started as its Compose
//! fragment says, it serves as its user, in a container without capabilities.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use nrtrace_profiles::Capability;
use nrtrace_profiles::event::Protocol;
use nrtrace_profiles::profile::Profile;
use nrtrace_tests::compose::Service;
use nrtrace_tests::podman::ENGINE;
use nrtrace_tests::record::record;
use nrtrace_tests::sandbox::{OUT, Sandbox};
use nrtrace_tests::service::quote;
use nrtrace_tests::truth::Truth;
use serde_json::Value;

/// Bash: an image, as `base`, of this machine's own files of a service, a shell, and what an image's `RUN` lines call.
const BASE: &str = r#"
    base() {
        root=/tmp/root
        mkdir -p $root/{usr/bin,usr/sbin,usr/lib,usr/lib64,run/lock,tmp,proc,sys,dev,var/tmp}
        ln -s /run $root/var/run
        ln -s /run/lock $root/var/lock
        for link in bin sbin lib lib64; do ln -s usr/$link $root/$link; done
        chmod 1777 $root/tmp $root/var/tmp
        cp -a --parents /usr/bin/{sh,dash,install,chown,chmod,chgrp,grep,mkfifo} /usr/sbin/setcap /etc/{passwd,group,nsswitch.conf} "$@" $root
        { find $root/usr -type f \( -perm /111 -o -name '*.so*' \) -exec ldd {} + 2>/dev/null || true; } | grep -o '/[^ ]*[^ :]' | sort -u | while read -r file; do
            case $file in $root/*) continue ;; esac
            install -D "$(readlink -f $file)" $root/usr${file#/usr}
        done
        tar -C $root -c . | podman import - base >/dev/null
        rm -r $root
    }
    # podman seals a copy of itself in memory, which fails at times on a busy machine: that alone is tried again.
    build() {
        for _ in 1 2 3 4 5; do
            podman build -q --isolation chroot --layers=false -t image /tmp/context 2>$OUT/build.log && return
            grep -q 'sealing memfd copy: Device or resource busy' $OUT/build.log || break
        done
        cat $OUT/build.log >&2
        return 1
    }
"#;

/// Bash: starts the service, and sees whether it serves in its network. What it listens on in the file system is shown at
/// the same path outside.
const SERVICE: &str = r#"
    run() { podman run -d --name service --network none "$@" >/dev/null; }
    serves() {
        for _ in $(seq 100); do
            pid=$(podman inspect -f '{{.State.Pid}}' service)
            [ "$pid" != 0 ] || return 1
            for directory in $SOCKETS; do ln -sfn /proc/$pid/root$directory $directory; done
            nsenter -t $pid -n timeout 5 bash -euo pipefail -c "$EXERCISE" >$OUT/exercise.log 2>&1 && return
            sleep 0.1
        done
        return 1
    }
"#;

/// Records the service, builds its image and exercises it in a container.
fn check(name: &str) {
    let truth = Truth::load(name).unwrap();
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(240));
    let (profile, _) = record(&truth, &sandbox, "ebpf").unwrap();
    let written = |file: &str| std::fs::read_to_string(sandbox.out().join("result").join(file)).unwrap();
    is_compose(&written("compose.yaml"));
    let service = Service::parse(&written("compose.yaml")).unwrap();
    assert!(service.options.contains(&"--cap-drop=ALL".to_owned()), "{service:?}");
    let quoted = |words: &[String]| words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
    let identity = &profile.identity;
    let script = format!(
        r#"SOCKETS='{sockets}' EXERCISE={exercise}
        {ENGINE}{BASE}{SERVICE}{prepare}
        {advice}
        base {files}
        mkdir /tmp/context
        {{ echo FROM localhost/base; cat {OUT}/result/Containerfile; }} >/tmp/context/Containerfile
        # The image as it was is not enough.
        run --user {uid}:{gid} --cap-drop all base {command}
        if serves; then echo 'serves without anything'; exit 1; fi
        podman rm -f service >/dev/null
        {volumes}
        build
        run {options} image {command}
        serves || {{ podman logs service; cat {OUT}/exercise.log; cat {OUT}/result/{{compose.yaml,Containerfile}}; exit 1; }}
        grep -E '^(Uid|Gid|CapEff|NoNewPrivs)' /proc/$pid/status >{OUT}/status
        "#,
        sockets = sockets(&truth, &profile),
        exercise = quote(&truth.exercise),
        prepare = truth.prepare,
        advice = truth.advice.prepare,
        files = truth.image,
        command = quoted(&service.command),
        options = quoted(&service.options),
        volumes = service
            .volumes
            .iter()
            .map(|create| format!("podman volume create {} >/dev/null\n", quoted(create)))
            .collect::<String>(),
        uid = identity.uid,
        gid = identity.gid,
    );
    let log = sandbox.script(&script).unwrap().ok().unwrap();
    let status = std::fs::read_to_string(sandbox.out().join("status")).unwrap();
    let uid = identity.uid;
    let (capabilities, no_new_privs) = rights(&service);
    for line in [
        format!("Uid:\t{uid}\t{uid}"),
        format!("CapEff:\t{capabilities:016x}"),
        format!("NoNewPrivs:\t{}", u8::from(no_new_privs)),
    ] {
        assert!(status.contains(&line), "wanted {line} in {status}: {log}");
    }
}

fn is_compose(text: &str) {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("standards/compose-spec.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(schema).unwrap()).unwrap();
    let document: Value = serde_norway::from_str(text).unwrap();
    if let Err(error) = jsonschema::validate(&schema, &document) {
        panic!("{error}\n{text}");
    }
}

/// The capabilities it is started with, of which its file gives it all, and whether it can gain no others.
fn rights(service: &Service) -> (u64, bool) {
    let added = service.options.iter().filter_map(|option| option.strip_prefix("--cap-add="));
    let added = added.map(|name| Capability::from_str(&format!("CAP_{name}")).unwrap());
    let added = added.fold(0, |bits, capability| bits | 1 << capability.number());
    (added, service.options.iter().any(|option| option == "--security-opt=no-new-privileges:true"))
}

/// The directories of its sockets that this machine has not; in one the program ended for want of, there may be one.
fn sockets(truth: &Truth, profile: &Profile) -> String {
    let paths = profile.listens.iter().filter(|listen| listen.protocol == Protocol::Unix);
    let wanted = truth.gives_up.as_ref().and_then(|known| known.looks_at.as_deref());
    let directories: BTreeSet<&str> = paths
        .filter_map(|listen| listen.address.as_str())
        .chain(wanted)
        .filter_map(|path| Some(path.rsplit_once('/')?.0))
        .filter(|directory| directory.starts_with("/run/"))
        .collect();
    directories.into_iter().collect::<Vec<_>>().join(" ")
}

/// One test for each truth of a program that can serve at all: postgres and vsftpd insist on owning what another user owns.
macro_rules! services {
    ($($function:ident = $name:literal),* $(,)?) => { $(#[test] fn $function() { check($name); })* };
}

nrtrace_tests::each_serving_truth!(services);
