//! `cargo xtask vm --recorded`: the same Debian, in which living stock services are recorded, and are as they were afterwards.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, ensure};

use super::guest::{self, Outcome};
use super::systemd::{image, machine};
use super::{kernel, report};

/// One is root's, has steps before it and becomes a daemon by itself; the other has a user, says that it is ready, and
/// hides users, which it does not here.
const SERVICES: [&str; 2] = ["nginx", "redis-server"];
const SCRIPT: &str = include_str!("recorded.sh");
/// The table that follows this line in docs/systemd-service.md is generated.
const MARK: &str = "<!-- seen: cargo xtask vm --recorded --write -->";

/// What the script looks at, in the words of the table, and what is right.
const ROWS: [(&str, &str, &str); 17] = [
    ("began", "serves before", "yes"),
    ("unrecorded", "`finish` before `record`: status", "2"),
    ("recorded", "`record` restarts it", "yes"),
    ("twice", "`record` again: status", "2"),
    ("meanwhile", "serves meanwhile", "yes"),
    ("permissive", "is refused nothing meanwhile", "yes"),
    ("restarts", "may be restarted meanwhile", "yes"),
    ("finished", "`finish` writes the result", "yes"),
    ("served", "serves afterwards", "yes"),
    ("as-it-was", "is as it was", "yes"),
    ("let-go", "the recorder is killed: nothing of it stays", "yes"),
    ("survived", "and it serves", "yes"),
    ("undone", "and after `undo` it is as it was", "yes"),
    ("cancelled", "`record` is interrupted: status", "3"),
    ("taken-back", "and it is as it was", "yes"),
    ("applied", "what was recorded is applied", "yes"),
    ("enough", "and enough: serves with the drop-in", "yes"),
];

/// Boots it, and fails when a service is not as it was, or what was recorded is not enough.
pub fn run(package: &Path, nrtrace: Option<&Path>, directory: &Path, writes: bool) -> Result<()> {
    let kernel = kernel::unpack(package, directory)?;
    let archive = image(package, nrtrace, directory, SCRIPT)?;
    let outcome = guest::boot(&kernel, machine("recorded", &archive), directory)?;
    let (table, wrong) = table(&outcome)?;
    println!("\n{table}");
    if writes {
        report::replace(Path::new("docs/systemd-service.md"), MARK, &table)?;
    }
    ensure!(wrong == 0, "{wrong} not as it should be; all that was seen is in {}", outcome.results.display());
    Ok(())
}

/// A table in Markdown, a column for each service, and how much of it is wrong.
fn table(outcome: &Outcome) -> Result<(String, usize)> {
    let mut text = format!(
        "| {}, {} | {} |\n|---|{}\n",
        outcome.text("systemd")?.trim(),
        outcome.kernel,
        SERVICES.join(" | "),
        "---|".repeat(SERVICES.len())
    );
    let mut wrong = 0;
    for (what, words, right) in ROWS {
        write!(text, "| {words} |")?;
        for name in SERVICES {
            let seen = outcome.text(&format!("{name}.{what}"))?;
            let seen = seen.trim();
            wrong += usize::from(seen != right);
            let mark = if seen == right { "" } else { "**" };
            write!(text, " {mark}{seen}{mark} |")?;
        }
        text.push('\n');
    }
    text.push_str("| with the drop-in, it runs as |");
    for name in SERVICES {
        let user = outcome.text(&format!("{name}.user"))?;
        wrong += usize::from(matches!(user.trim(), "" | "root"));
        write!(text, " {} |", user.trim())?;
    }
    text.push('\n');
    Ok((text, wrong))
}
