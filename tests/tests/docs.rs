//! Every command that the documentation shows is run: a page's blocks from top to bottom, in a sandbox of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nrtrace_tests::sandbox::Sandbox;

/// A block that cannot be run in a sandbox says so by one of these, and is listed with the reason in
/// `docs/contributing.md`.
const ELSEWHERE: [&str; 2] = ["cluster", "machine"];
/// What blocks that are no commands hold.
const DATA: [&str; 7] = ["ini", "json", "jsonl", "text", "toml", "xml", "yaml"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .collect();
    pages.push(root().join("README.md"));
    pages.sort();
    pages
}

/// A block of a page.
struct Block<'a> {
    info: Vec<&'a str>,
    lines: Vec<&'a str>,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut out = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let lines = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        out.push(Block { info: info.split_whitespace().collect(), lines });
    }
    out
}

impl Block<'_> {
    /// The commands, without the output that a `console` block shows; `None` in a block of something else.
    fn commands(&self) -> Option<String> {
        match self.info.first() {
            Some(&"sh") => Some(self.lines.join("\n")),
            Some(&"console") => Some(console(&self.lines)),
            _ => None,
        }
    }

    /// Whether it says that no sandbox can run it.
    fn is_elsewhere(&self) -> bool {
        self.info.get(1).is_some_and(|mark| ELSEWHERE.contains(mark))
    }
}

/// The commands of a page that can be run.
fn commands(text: &str) -> Vec<String> {
    blocks(text).iter().filter(|block| !block.is_elsewhere()).filter_map(Block::commands).collect()
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

/// No command hides in a block of another kind, and those that are not run are listed with the reason.
#[test]
fn what_is_not_run_is_listed() {
    let list = fs::read_to_string(root().join("docs/contributing.md")).unwrap();
    let mut listed: Vec<(String, String)> = list
        .lines()
        .skip_while(|line| !line.starts_with("| page | commands |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split(" | ").collect();
            assert!(cells.len() == 3 && cells[2].len() > 10, "no reason: {line}");
            (cells[0].trim_start_matches("| ").into(), cells[1].trim_matches('`').into())
        })
        .collect();
    listed.sort();
    let mut found = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for block in blocks(&text) {
            let name = page.file_name().unwrap().to_string_lossy().into_owned();
            let known = match block.info.as_slice() {
                ["sh" | "console"] => true,
                ["sh" | "console", _] => block.is_elsewhere(),
                [data] => DATA.contains(data),
                _ => false,
            };
            assert!(known, "{name}: a block of {:?}: {:?}", block.info, block.lines.first());
            if block.is_elsewhere() {
                let commands = block.commands().unwrap();
                found.push((
                    name,
                    commands.lines().next().unwrap().split("  #").next().unwrap().trim().into(),
                ));
            }
        }
    }
    found.sort();
    assert_eq!(found, listed);
}

/// Each page can be found, and each link leads somewhere.
#[test]
fn links_lead_somewhere() {
    let contents = fs::read_to_string(root().join("docs/README.md")).unwrap();
    let more = ["ARCHITECTURE.md", "CHANGELOG.md", "tests/gate/README.md"].map(|name| root().join(name));
    for page in pages().into_iter().chain(more) {
        let text = fs::read_to_string(&page).unwrap();
        for (before, after) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let target = after.split(')').next().unwrap().split('#').next().unwrap();
            if before.ends_with("](") && !target.is_empty() && !target.contains("://") {
                let path = page.parent().unwrap().join(target);
                assert!(path.exists(), "{} links to {target}, which is not there", page.display());
            }
        }
        if page.parent() == Some(&root().join("docs")) {
            let name = page.file_name().unwrap().to_string_lossy();
            assert!(
                name == "README.md" || contents.contains(&format!("]({name})")),
                "no way leads to {name}"
            );
        }
    }
}

/// Commands in running text are forms, with names in capitals; their options must be there.
#[test]
fn commands_in_the_text_have_options_that_are_there() {
    let manual = fs::read_to_string(root().join("docs/command-line.md")).unwrap();
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let spans = text.lines().filter(|line| !line.starts_with("```")).flat_map(|line| {
            line.split('`').skip(1).step_by(2).filter(|span| span.starts_with("nrtrace ")).collect::<Vec<_>>()
        });
        for span in spans {
            let own = span.split(" -- ").next().unwrap().split('|').next().unwrap();
            let words: Vec<&str> = own.split_whitespace().skip(1).collect();
            let Some(command) =
                words.first().filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
            else {
                continue;
            };
            let title = format!("\n## nrtrace {command}\n");
            let at =
                manual.find(&title).unwrap_or_else(|| panic!("{}: {span}: no such command", page.display()));
            let rest = &manual[at + title.len()..];
            let help = rest.split("\n## ").next().unwrap();
            for option in words.iter().filter(|word| word.starts_with('-')) {
                let option = option.split('=').next().unwrap();
                let is_there = help.split(|c: char| c.is_whitespace() || c == ',').any(|word| word == option);
                assert!(is_there, "{}: {span}: {command} has no {option}", page.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "only {seen} options were found");
}

/// What people come for, where it is told, and how its commands begin. Like all commands they are run, below.
const JOURNEYS: [(&str, &str, &[&str]); 4] = [
    (
        "a unit that runs as root",
        "systemd-service.md",
        &["nrtrace service nginx", "sudo nrtrace apply", "install -D"],
    ),
    ("a failing pod", "failing-pod.md", &["nrtrace run --for", "nrtrace emit --format kubernetes", "grep"]),
    ("a gate in CI", "ci.md", &["nrtrace run --for", "nrtrace run --for", "nrtrace check"]),
    ("k0s", "k0s.md", &["sudo nrtrace run --verify", "sudo nrtrace apply", "nrtrace start"]),
];

/// Each journey takes at most three commands, the first of its page.
#[test]
fn each_journey_takes_three_commands() {
    for (journey, page, beginnings) in JOURNEYS {
        let text = fs::read_to_string(root().join("docs").join(page)).unwrap();
        let lines = commands(&text).join("\n").replace("\\\n", " ");
        let first: Vec<&str> = lines.lines().filter(|line| !line.is_empty()).take(beginnings.len()).collect();
        assert!(beginnings.len() <= 3, "{journey}");
        for (line, beginning) in first.iter().zip(beginnings) {
            assert!(
                line.starts_with(beginning),
                "{journey}: {line} in {page} does not begin with {beginning}"
            );
        }
        assert_eq!(first.len(), beginnings.len(), "{journey}: {first:?}");
    }
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
