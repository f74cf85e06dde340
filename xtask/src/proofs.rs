//! How long a proof takes: trials and seconds of `nrtrace run --minimize` on real services.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// Services as their packages ship them: name, port that it listens on, command.
const SERVICES: [(&str, &str, &[&str]); 4] = [
    ("nginx", "80", &["/usr/sbin/nginx", "-g", "daemon off;"]),
    ("redis", "6379", &["/usr/bin/redis-server", "/etc/redis/redis.conf", "--daemonize", "no"]),
    ("bind9", "53", &["/usr/sbin/named", "-f"]),
    ("squid", "3128", &["/usr/sbin/squid", "-N"]),
];

/// Proves each service that is installed, in a sandbox with a network of its own, and a k0s where one is given; writes a
/// table.
pub fn measure(nrtrace: &Path, scratch: &Path, k0s: Option<&Path>, text: &mut String) -> Result<()> {
    writeln!(text, "### To the proof: `nrtrace run --minimize --ready-port PORT`\n")?;
    writeln!(text, "| service | trials | seconds | needs proved |\n|---|---:|---:|---:|")?;
    for (name, port, command) in SERVICES {
        if !Path::new(command[0]).exists() {
            writeln!(text, "| {name} | not installed | | |")?;
            continue;
        }
        let mut run = Command::new(nrtrace);
        run.args(["run", "--ready-port", port]);
        prove(name, &mut run, command.iter().map(OsStr::new), scratch, text)?;
    }
    if let Some(k0s) = k0s {
        // It takes an address that is not the loopback's, and its programs lie beside it.
        let beside = k0s.parent().context("the k0s is in no directory")?;
        let path = format!("PATH={}:{}", beside.display(), std::env::var("PATH").unwrap_or_default());
        let ready = format!("{} kubectl get --raw /readyz", k0s.display());
        let mut run = Command::new(nrtrace);
        run.args(["run", "--network", "host", "--ready", &ready, "--env", &path]);
        let command = ["controller", "--ignore-pre-flight-checks"].map(OsStr::new);
        prove("k0s controller", &mut run, std::iter::once(k0s.as_os_str()).chain(command), scratch, text)?;
    }
    writeln!(text)?;
    Ok(())
}

/// Proves one, and writes its line. That it is not proved is a result as well, unless nrtrace could not do its work.
fn prove<'a>(
    name: &str,
    run: &mut Command,
    command: impl Iterator<Item = &'a OsStr>,
    scratch: &Path,
    text: &mut String,
) -> Result<()> {
    eprintln!("{name}: to the proof");
    let out = scratch.join(format!("proof-{}", name.replace(' ', "-")));
    let started = Instant::now();
    let run = run.args(["-q", "--minimize", "--restart", "-o"]).arg(&out).arg("--").args(command);
    let ended = run.output().context("cannot start nrtrace")?;
    let seconds = started.elapsed().as_secs_f64();
    if ended.status.code() == Some(1) {
        writeln!(text, "| {name} | not proved | {seconds:.0} | |")?;
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "{name}: {}\n{said}", ended.status);
    let profile = std::fs::read_to_string(out.join("profile.json")).context("no profile was written")?;
    let profile: serde_json::Value = serde_json::from_str(&profile)?;
    let trials = profile["proof"]["trials"].as_u64().context("the profile tells of no trials")?;
    let needs = profile["requirements"].as_array().context("the profile has no needs")?;
    let proved = needs.iter().filter(|need| !need["proof"].is_null()).count();
    writeln!(text, "| {name} | {trials} | {seconds:.0} | {proved} of {} |", needs.len())?;
    Ok(())
}
