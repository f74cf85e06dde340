//! What a call means is said in its table: nothing else tells calls apart by their names.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The table.
const TABLE: &str = "profiles/src/calls/";

/// How a part of a name is compared with.
const PARTS: [&str; 3] = [".starts_with(", ".ends_with(", ".contains("];
/// What such a name is called where it is compared.
const CALLED: [&str; 2] = ["call", "name"];
/// Words that are no names of calls there: what systemd does about a call, and a type of mounts.
const OTHERS: [(&str, &str); 2] =
    [("tracer/src/apply/harden/calls.rs", "\"kill\""), ("tracer/src/attach/mounts.rs", "\"bind\"")];

/// Fails where source outside the table matches on the name of a call.
pub fn run() -> Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let listed = Command::new("git").args(["ls-files", "*/src/*.rs"]).current_dir(root).output();
    let output = listed.context("cannot start git")?;
    let mut found = Vec::new();
    for name in String::from_utf8(output.stdout)?.lines().filter(|name| is_source(name)) {
        let text = std::fs::read_to_string(format!("{root}/{name}"))
            .with_context(|| format!("cannot read {name}"))?;
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let lines = code.lines().enumerate().filter(|(_, line)| {
            let other = OTHERS.iter().any(|(file, word)| *file == name && line.contains(word));
            matches_name(line) && !other
        });
        found.extend(lines.map(|(at, line)| format!("{name}:{}: {}", at + 1, line.trim())));
    }
    ensure!(
        found.is_empty(),
        "matches on names of calls; ask their operation instead:\n{}",
        found.join("\n")
    );
    Ok(())
}

fn is_source(name: &str) -> bool {
    let product = ["cli/", "profiles/", "tracer/"].iter().any(|part| name.starts_with(part));
    product && !name.starts_with(TABLE) && !name.contains("/tests/") && !name.ends_with("/tests.rs")
}

fn matches_name(line: &str) -> bool {
    let line = line.trim();
    if line.starts_with("//") {
        return false;
    }
    let mut parts = line.split('"');
    let mut before = parts.next().unwrap_or_default();
    while let (Some(literal), Some(after)) = (parts.next(), parts.next()) {
        let compared = before.ends_with("== ") || before.ends_with("!= ") || after.starts_with(" ==");
        let pattern = (before.trim_end().ends_with(['|', '(', ',']) || before.trim().is_empty())
            && (after.starts_with(" | ")
                || after.starts_with(" =>")
                || after.starts_with(") =>")
                || after.starts_with(") if")
                || after.starts_with(" if "));
        // Else it is what a method is called with.
        let last = before.rsplit([' ', ',']).next().unwrap_or_default();
        let pattern = pattern && !last.contains('.');
        let by_part = PARTS.iter().any(|part| {
            before.strip_suffix(part).is_some_and(|start| CALLED.iter().any(|called| start.ends_with(called)))
        });
        let is_name = nrtrace_profiles::calls::find(literal).is_some();
        if (is_name && (compared || pattern)) || (by_part && is_start(literal)) {
            return true;
        }
        before = after;
    }
    false
}

/// Whether names of calls begin or end with it.
fn is_start(literal: &str) -> bool {
    nrtrace_profiles::calls::ROWS
        .iter()
        .any(|row| row.name.starts_with(literal) || row.name.contains(literal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_has_none() {
        run().unwrap_or_else(|error| panic!("{error:#}"));
    }

    #[test]
    fn comparisons_and_patterns_are_found_and_other_uses_are_not() {
        for line in [
            r#"    "mkdir" | "mkdirat" => true,"#,
            r#"    if &*event.call.name == "bind" && x {"#,
            r#"    call if call.starts_with("rename") => {"#,
            r#"    (Capability::SYS_CHROOT, "chroot") => Chroot,"#,
            r#"    "open" | "openat""#,
        ] {
            assert!(matches_name(line), "{line}");
        }
        for line in [
            r#"    Rule::refuse("setns", libc::EPERM)"#,
            r#"    // "mkdir" => nothing"#,
            r#"    let row = calls::find("sethostname");"#,
            r#"    "bindings" => 1,"#,
        ] {
            assert!(!matches_name(line), "{line}");
        }
    }
}
