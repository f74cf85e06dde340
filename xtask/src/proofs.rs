//! How long a proof takes: trials and seconds of `nrtrace run --minimize` on real services.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// A service as its package ships it: name, port that it listens on, command.
const SERVICES: [(&str, &str, &[&str]); 4] = [
    ("nginx", "80", &["/usr/sbin/nginx", "-g", "daemon off;"]),
    ("redis", "6379", &["/usr/bin/redis-server", "/etc/redis/redis.conf", "--daemonize", "no"]),
    ("bind9", "53", &["/usr/sbin/named", "-f"]),
    ("squid", "3128", &["/usr/sbin/squid", "-N"]),
];

/// Proves each service that is installed, in a sandbox with a network of its own, and writes a table.
pub fn measure(nrtrace: &Path, scratch: &Path, text: &mut String) -> Result<()> {
    writeln!(text, "### To the proof: `nrtrace run --minimize --ready-port PORT`\n")?;
    writeln!(text, "| service | trials | seconds | needs proved |\n|---|---:|---:|---:|")?;
    for (name, port, command) in SERVICES {
        if !Path::new(command[0]).exists() {
            writeln!(text, "| {name} | not installed | | |")?;
            continue;
        }
        eprintln!("{name}: to the proof");
        let out = scratch.join(format!("proof-{name}"));
        let started = Instant::now();
        let ended = Command::new(nrtrace)
            .args(["run", "-q", "--minimize", "--restart", "--ready-port", port, "-o"])
            .arg(&out)
            .arg("--")
            .args(command)
            .output()
            .context("cannot start nrtrace")?;
        let seconds = started.elapsed().as_secs_f64();
        // That is a result as well, unless nrtrace could not do its work.
        if ended.status.code() == Some(1) {
            writeln!(text, "| {name} | not proved | {seconds:.0} | |")?;
            continue;
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.success(), "{name}: {}\n{said}", ended.status);
        let profile = std::fs::read_to_string(out.join("profile.json")).context("no profile was written")?;
        let profile: serde_json::Value = serde_json::from_str(&profile)?;
        let trials = profile["proof"]["trials"].as_u64().context("the profile tells of no trials")?;
        let needs = profile["requirements"].as_array().context("the profile has no needs")?;
        let proved = needs.iter().filter(|need| !need["proof"].is_null()).count();
        writeln!(text, "| {name} | {trials} | {seconds:.0} | {proved} of {} |", needs.len())?;
    }
    writeln!(text)?;
    Ok(())
}
