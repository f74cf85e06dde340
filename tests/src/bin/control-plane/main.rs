//! Plans a control plane as kubeadm makes it, compares that with KEP-2568, and starts it so. `cargo xtask plan` runs it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nrtrace_tests::kep2568::{self, COMPONENTS, Found, Line};
use nrtrace_tests::sandbox::Sandbox;

/// What kubeadm makes, and how it starts each component.
const CONTROL_PLANE: &str = include_str!("control-plane.sh");
/// Records them, and applies the plan.
const PLAN: &str = include_str!("plan.sh");
/// What is started.
const PROGRAMS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

fn main() -> ExitCode {
    match compare(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("control-plane: {error:#}");
            ExitCode::from(3)
        }
    }
}

/// Whether all is as the KEP has it, and every component serves.
fn compare(words: &[String]) -> Result<bool> {
    let [bin] = words else { anyhow::bail!("usage: control-plane DIR") };
    let bin = Path::new(bin).canonicalize().with_context(|| bin.clone())?;
    for program in PROGRAMS {
        ensure!(bin.join(program).is_file(), "there is no {program} in {}", bin.display());
    }
    let sandbox = Sandbox::new()?.deadline(Duration::from_secs(420)).bind(bin, "/opt/given");
    let finished = sandbox.script(&format!("{CONTROL_PLANE}\n{PLAN}"))?;
    let text = |name: &str| std::fs::read_to_string(sandbox.out().join(name)).unwrap_or_default();
    print!("{}", text("screen"));
    println!("\n| | file/directory | component(s) | KEP-2568 | found | |\n|---|---|---|---|---|---|");
    let mut lines = kep2568::compare(&found(&text("permissions"), &text("readers")));
    lines.extend(started(&text("refused"), &text("serving")));
    for line in &lines {
        println!("| {} | {} |", if line.right { "yes" } else { "NO" }, line.cells.join(" | "));
    }
    if finished.status != 0 {
        println!("{}{finished}", text("steps"));
    }
    Ok(finished.status == 0 && lines.iter().all(|line| line.right))
}

/// What the kernel says of each file: its owner and mode, and who can read it.
fn found(permissions: &str, readers: &str) -> BTreeMap<String, Found> {
    let mut out: BTreeMap<String, Found> = BTreeMap::new();
    for (path, permission) in permissions.lines().filter_map(|line| line.split_once('\t')) {
        out.entry(path.to_owned()).or_default().permission = permission.to_owned();
    }
    for (path, name) in readers.lines().filter_map(|line| line.split_once('\t')) {
        out.entry(path.to_owned()).or_default().readers.insert(name.to_owned());
    }
    // A directory is not read as files are; etcd's own is used where etcd serves.
    if let Some(data) = out.get_mut("/var/lib/etcd") {
        data.readers.insert("etcd".to_owned());
    }
    out
}

/// Whether each was refused before, and serves now, as its own user and with no capability.
fn started(refused: &str, serving: &str) -> Vec<Line> {
    let mut out = Vec::new();
    for name in COMPONENTS {
        let before = refused.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok());
        let prefix = format!("{name}\t");
        let now = serving.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default();
        let user = format!("kubeadm-{name}");
        let right = now == format!("{user}\t\t1");
        out.push(Line {
            right: before.is_some_and(|status| status != 0),
            cells: [
                format!("{name} before the plan"),
                user.clone(),
                String::new(),
                "refused".into(),
                String::new(),
            ],
        });
        let found = if right { "serves, with no capability".to_owned() } else { format!("not so: {now:?}") };
        out.push(Line { right, cells: [name.to_owned(), user, String::new(), found, String::new()] });
    }
    out
}
