//! Compares the page on k0s, which is made from a fixture, with what a real k0s is found to need. `cargo xtask k0s` runs it.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nrtrace_profiles::profile::Profile;
use nrtrace_tests::page::page;
use nrtrace_tests::sandbox::{BIN, OUT, Sandbox};

/// A machine on which k0s has never run, with an address besides loopback, without which it does not start, and without
/// what not every machine has. Control groups are the machine's, and stay as they are. The programs that it starts are its own, or beside it. The kubelet is told to live on any
/// machine, and finds the kernel's parameters as it wants them.
const PREPARE: &str = r#"
    rm -rf /var/lib/k0s /etc/k0s /usr/libexec/k0s /usr/libexec/kubernetes /opt/containerd /var/lib/kubelet
    [ ! -d /proc/sys/net/bridge ] || mount -t tmpfs none /proc/sys/net/bridge
    for set in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
        file=/usr/local/share/$(basename ${set%=*}); echo ${set#*=} >$file; mount --bind $file /proc/sys/${set%=*}
    done
    for group in $(grep -o ' /sys/fs/cgroup[^ ]*' /proc/mounts); do mount -o remount,bind,ro $group; done
    ip addr add 192.0.2.9/32 dev lo
    cat >/usr/local/share/k0s.yaml <<'EOF'
apiVersion: k0s.k0sproject.io/v1beta1
kind: ClusterConfig
metadata: {name: k0s}
spec:
  network: {provider: custom, kubeProxy: {disabled: true}}
  telemetry: {enabled: false}
  workerProfiles:
  - name: page
    values: {failCgroupV1: false, failSwapOn: false, cgroupDriver: cgroupfs, enforceNodeAllocatable: [], localStorageCapacityIsolation: false}
EOF
    cp /opt/given/k0s /usr/local/bin/k0s
    export PATH=/usr/local/bin:/opt/given:$PATH
    cd /"#;

/// What the page says depends on the machine here: k0s tests control groups of version 2 alone, and the limits may be high
/// enough for the kubelet.
const OF_THE_MACHINE: [&str; 3] = ["Delegate=yes", "ProtectControlGroups=yes", "LimitNOFILE=1000000"];

fn main() -> ExitCode {
    match compare(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("k0s-page: {error:#}");
            ExitCode::from(3)
        }
    }
}

/// Whether they say the same; what they do not is shown.
fn compare(words: &[String]) -> Result<bool> {
    let [k0s, known] = words else { anyhow::bail!("usage: k0s-page K0S PAGE") };
    let k0s = Path::new(k0s).canonicalize().with_context(|| k0s.clone())?;
    ensure!(k0s.file_name().is_some_and(|name| name == "k0s"), "{} is not called k0s", k0s.display());
    let directory = k0s.parent().context("it is in no directory")?;
    let sandbox = Sandbox::new()?.deadline(Duration::from_secs(300)).bind(directory, "/opt/given");
    let script = format!(
        "{PREPARE}\n{BIN}/nrtrace run -q --for 60s --env PATH=$PATH -o {OUT}/result -- k0s controller --enable-worker \
         --config /usr/local/share/k0s.yaml --profile page --ignore-pre-flight-checks"
    );
    sandbox.script(&script)?.ok()?;
    let text = std::fs::read_to_string(sandbox.out().join("result/profile.json"))?;
    let mut profile = Profile::from_json(&text)?;
    // It is there for the programs beside it.
    profile.run.given.clear();
    let everywhere = |text: &str, name: &str| {
        let lines: Vec<&str> = text.lines().filter(|line| !OF_THE_MACHINE.contains(line)).collect();
        let path = sandbox.out().join(name);
        std::fs::write(&path, lines.join("\n") + "\n").map(|()| path)
    };
    let known = std::fs::read_to_string(known).with_context(|| known.clone())?;
    let (known, found) = (everywhere(&known, "known.md")?, everywhere(&page(&profile), "found.md")?);
    let status = Command::new("diff").arg("-u").args([known, found]).status()?;
    ensure!(status.code().is_some_and(|code| code < 2), "diff: {status}");
    Ok(status.success())
}
