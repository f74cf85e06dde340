//! `apply.sh`, `undo.sh` and `setcap.sh`: what is typed to have `changes.json` carried out by `nrtrace apply`, or taken back.

use super::escape::shell::{assignment, quoted, readable};
use super::{Emitted, Page, setcap};
use crate::RawText;
use crate::grants::{Grants, Method, carriers};
use crate::profile::Profile;

/// The script that grants.
pub(super) fn apply(profile: &Profile, grants: &Grants) -> Emitted {
    let mut page = head(&format!("Grants what {} needs to run as {}.", grants.name, grants.account.user));
    page.comment(
        "nrtrace apply does what changes.json beside this script says, and keeps what was there before in",
    );
    page.comment("/var/lib/nrtrace, for undo.sh. It can be run again; nrtrace apply --dry-run tells what it would change.");
    call(&mut page, grants, "apply --yes");
    page.blank();
    start(&mut page, profile, grants);
    if grants.on_file {
        let carriers = carriers(profile, grants, |_| true);
        setcap::left_out(&mut page, grants, &carriers);
        for (_, grant) in grants.capabilities.iter().filter(|(of, _)| carriers.unknown.contains(of)) {
            page.cannot(
                &grant.why,
                "the run did not tell which file was executed",
                "use setcap.sh, which takes it as BINARY=",
            );
        }
    }
    finish(page, "apply.sh", grants)
}

/// The script that takes it back.
pub(super) fn undo(grants: &Grants) -> Emitted {
    let mut page = head(&format!("Takes back what apply.sh granted to {}.", grants.name));
    page.comment("What holds data that was written since is left, and said; what others hold stays theirs.");
    call(&mut page, grants, "undo --yes");
    let mut emitted = page.finish_with("undo.sh".into(), &[]);
    emitted.executable = true;
    emitted
}

fn head(title: &str) -> Page {
    let mut page = Page { text: "#!/bin/sh\n".into(), unmet: Vec::new() };
    page.comment(title);
    page.comment("Written by nrtrace.");
    page
}

/// Finds nrtrace, and has it do something with the directory that the script is in.
pub(super) fn call(page: &mut Page, grants: &Grants, what: &str) {
    page.line("set -eu");
    let tool = grants.choices.tool.as_ref().map_or(&b"nrtrace"[..], RawText::as_bytes);
    page.line(&assignment("nrtrace", tool));
    page.line("if command -v nrtrace >/dev/null; then nrtrace=$(command -v nrtrace); fi");
    page.line("nrtrace=${NRTRACE:-$nrtrace}");
    page.line("here=$(dirname -- \"$0\")");
    page.line("if ! [ -f \"$here/changes.json\" ]; then echo \"$0: changes.json is to lie beside it\" >&2; exit 2; fi");
    page.line(
        "if ! [ -x \"$nrtrace\" ]; then echo \"$0: install nrtrace, or name it in the variable NRTRACE\" >&2; exit 3; fi",
    );
    page.line(&format!("\"$nrtrace\" {what} -- \"$here\""));
}

/// How to start the program, as the last words of the script.
fn start(page: &mut Page, profile: &Profile, grants: &Grants) {
    let account = &grants.account;
    let mut words: Vec<String> = Vec::new();
    for (name, variable) in &grants.environment {
        words.extend(["env".into(), format!("{name}={}", variable.value)]);
    }
    if let Some((nice, _)) = &grants.nice {
        words.extend(["nice".into(), format!("--adjustment={nice}")]);
    }
    words.extend([
        "setpriv".into(),
        format!("--reuid={}", account.user),
        format!("--regid={}", account.group),
    ]);
    if grants.groups.is_empty() {
        words.push("--clear-groups".into());
    } else {
        let groups: Vec<&str> = grants.groups.keys().map(String::as_str).collect();
        words.push(format!("--groups={}", groups.join(",")));
    }
    let names: String = grants
        .capabilities
        .keys()
        .map(|c| format!(",+{}", c.to_string().to_lowercase().trim_start_matches("cap_")))
        .collect();
    if !grants.on_file {
        words.push("--no-new-privs".into());
        words.push(format!("--inh-caps=-all{names}"));
        words.push(format!("--ambient-caps=-all{names}"));
    }
    words.push(format!("--bounding-set=-all{names}"));
    words.push("--".into());
    let line: Vec<String> = words.iter().map(|word| readable(word)).collect();
    let command: Option<Vec<&str>> = profile.command.iter().map(|word| word.as_str()).collect();
    let printable = |word: &&str| crate::text::printable(word) == **word;
    let command = match command.filter(|words| words.iter().all(printable)) {
        Some(words) => words.iter().map(|word| readable(word)).collect::<Vec<_>>().join(" "),
        None => "COMMAND".into(),
    };
    page.comment("How it is started, with the capabilities it needs and no others.");
    let text = format!("Start it with: {} {command}", line.join(" "));
    page.line(&format!("printf '%s\\n' {}", quoted(&text)));
}

fn finish(mut page: Page, name: &str, grants: &Grants) -> Emitted {
    for limit in grants.limits.values() {
        page.cannot(
            &limit.why,
            "limits are set by whoever starts it",
            "use prlimit, or /etc/security/limits.d",
        );
    }
    if let Some((_, why)) = &grants.oom_score {
        page.cannot(why, "the score is set by whoever starts it", "use choom");
    }
    if let Some(why) = &grants.delegate {
        page.cannot(
            why,
            "control groups are delegated by a service manager",
            "give its group to the user by hand",
        );
    }
    for (_, why) in &grants.before_start {
        page.cannot(
            why,
            "what root does before each start is done by a service manager",
            "run it before the start",
        );
    }
    for credential in grants.credentials.values() {
        page.cannot(&credential.why, "LoadCredential= is systemd's", "copy the file for the user, mode 0400");
    }
    if grants.port_method == Method::Socket {
        for why in grants.ports.values() {
            page.cannot(why, "a socket unit is systemd's", "use --prefer capability");
        }
    }
    let mut emitted = page.finish(name.into(), grants);
    emitted.executable = true;
    emitted
}
