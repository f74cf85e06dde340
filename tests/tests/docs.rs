//! Every command that the documentation shows is run: a page's blocks from top to bottom, in a sandbox of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nrtrace_tests::sandbox::Sandbox;

/// A block that cannot be run in a sandbox says so by one of these.
const ELSEWHERE: [&str; 2] = ["cluster", "machine"];

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut pages: Vec<PathBuf> = fs::read_dir(root.join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .collect();
    pages.push(root.join("README.md"));
    pages.sort();
    pages
}

/// The commands of a page that can be run.
fn commands(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```").filter(|info| !info.is_empty()) else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        let words: Vec<&str> = info.split_whitespace().collect();
        match words.as_slice() {
            ["sh"] => out.push(block.join("\n")),
            ["console"] => out.push(console(&block)),
            ["sh" | "console", elsewhere] => {
                assert!(ELSEWHERE.contains(elsewhere), "{info:?} is no mark of a block")
            }
            _ => {}
        }
    }
    out
}

/// The commands of a block that shows output, too.
fn console(block: &[&str]) -> String {
    let mut out = String::new();
    let mut goes_on = false;
    for line in block {
        let command = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# ")).or(goes_on.then_some(line));
        goes_on = false;
        if let Some(command) = command {
            out.push_str(command);
            out.push('\n');
            goes_on = command.ends_with('\\');
        }
    }
    out
}

#[test]
fn commands_are_found() {
    let page = "text\n```console\n$ a \\\n  b\noutput\n# c\n```\n```sh\nd\n```\n```sh machine\ne\n```\n```json\nf\n```\n";
    assert_eq!(commands(page), ["a \\\n  b\nc\n", "d"]);
}

#[test]
fn every_command_shown_works() {
    let mut failed = Vec::new();
    let mut run = 0;
    for page in pages() {
        let commands = commands(&fs::read_to_string(&page).unwrap());
        if commands.is_empty() {
            continue;
        }
        run += commands.len();
        // A service that was just started needs a moment.
        let script = format!(
            "sudo() {{ \"$@\"; }}\ncurl() {{ command curl --retry 10 --retry-connrefused --retry-delay 1 \"$@\"; }}\n\
             mkdir /srv/page; cd /srv/page; rm -rf /var/lib/nginx/*\n{}\nkill $(jobs -p) 2>/dev/null || true",
            commands.join("\n")
        );
        let finished = Sandbox::new().unwrap().deadline(Duration::from_secs(120)).script(&script).unwrap();
        if finished.status != 0 {
            failed.push(format!("{}: {finished}", page.display()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(run > 10, "only {run} blocks were found");
}
