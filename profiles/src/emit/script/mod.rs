//! `apply.sh` and `undo.sh`: everything that is granted, on a host without systemd, and back again.
//!
//! Both number what they change in the same order. What was there before is kept under that number by the first, and
//! restored by the second.

use super::escape::shell::{assignment, quoted, readable};
use super::{Emitted, Page, setcap};
use crate::RawText;
use crate::grants::{FileKind, Grants, Method, Why, capability_text, carriers};
use crate::profile::Profile;

/// What all scripts do with file capabilities.
pub(super) const CAPABILITIES: &str = include_str!("capabilities.sh");
const APPLY: &str = include_str!("apply.sh");
const UNDO: &str = include_str!("undo.sh");

/// Something to change: what it is for, the function of both scripts with its further arguments, and the path.
struct Step<'a> {
    why: &'a Why,
    path: Option<&'a RawText>,
    apply: String,
    undo: String,
}

/// The script that grants.
pub(super) fn apply(profile: &Profile, grants: &Grants) -> Emitted {
    let mut page = head(&format!("Grants what {} needs to run as {}.", grants.name, grants.account.user));
    page.comment("For hosts without systemd: sysusers.d and tmpfiles.d do the same elsewhere. What was there before is kept for");
    page.comment("undo.sh in /var/lib/nrtrace. It can be run again.");
    shared(&mut page, grants);
    functions(&mut page, grants, APPLY);
    let account = &grants.account;
    let id = |id: Option<u32>| id.map(|id| id.to_string()).unwrap_or_default();
    page.blank();
    page.line(&format!("make_group '' {} {}", quoted(&account.group), quoted(&id(account.gid))));
    page.line(&format!(
        "make_user {} {} {}",
        quoted(&account.user),
        quoted(&account.group),
        quoted(&id(account.uid))
    ));
    for (n, step) in steps(profile, grants).iter().enumerate() {
        page.blank();
        page.why(step.why);
        match step.path {
            Some(path) => {
                page.line(&assignment("path", path.as_bytes()));
                page.line(&format!("{} {n} \"$path\"{}", first(&step.apply), rest(&step.apply)));
            }
            None => page.line(&format!("{} {n}{}", first(&step.apply), rest(&step.apply))),
        }
    }
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
pub(super) fn undo(profile: &Profile, grants: &Grants) -> Emitted {
    let mut page = head(&format!("Takes back what apply.sh granted to {}.", grants.name));
    page.comment("What holds data that was written since is left, and said.");
    shared(&mut page, grants);
    functions(&mut page, grants, UNDO);
    for (n, step) in steps(profile, grants).iter().enumerate().rev() {
        page.blank();
        match step.path {
            Some(path) => {
                page.line(&assignment("path", path.as_bytes()));
                page.line(&format!("{} {n} \"$path\"{}", first(&step.undo), rest(&step.undo)));
            }
            None => page.line(&format!("{} {n}{}", first(&step.undo), rest(&step.undo))),
        }
    }
    page.blank();
    let account = &grants.account;
    page.line(&format!("remove_user {}", quoted(&account.user)));
    page.line(&format!("remove_group '' {}", quoted(&account.group)));
    page.line("forget");
    let mut emitted = page.finish_with("undo.sh".into(), &[]);
    emitted.executable = true;
    emitted
}

fn head(title: &str) -> Page {
    let mut page = Page { text: "#!/bin/sh\n".into(), unmet: Vec::new() };
    page.comment(title);
    page.comment("Written by nrtrace. Each comment names the needs that its line serves.");
    page
}

fn shared(page: &mut Page, grants: &Grants) {
    page.line("set -eu");
    page.line(&format!("state=/var/lib/nrtrace/{}", quoted(&grants.name)));
}

fn functions(page: &mut Page, grants: &Grants, of_script: &str) {
    of_script.lines().for_each(|line| page.line(line));
    if grants.on_file {
        page.blank();
        CAPABILITIES.lines().for_each(|line| page.line(line));
    }
}

fn first(call: &str) -> &str {
    call.split(' ').next().unwrap_or_default()
}

fn rest(call: &str) -> String {
    call.split_once(' ').map(|(_, rest)| format!(" {rest}")).unwrap_or_default()
}

fn steps<'a>(profile: &'a Profile, grants: &'a Grants) -> Vec<Step<'a>> {
    let account = &grants.account;
    let mut out = Vec::new();
    let own = |group: &Option<String>| quoted(group.as_ref().unwrap_or(&account.group));
    let user = quoted(&account.user);
    for (group, membership) in &grants.groups {
        let group = quoted(group);
        out.push(Step {
            why: &membership.why,
            path: None,
            apply: format!("join {user} {group} {}", membership.gid),
            undo: format!("leave {user} {group}"),
        });
    }
    for (path, directory) in &grants.directories {
        let (mode, group) = (directory.mode, own(&directory.group));
        let apply = format!("directory {mode:04o} {user} {group}");
        out.push(Step { why: &directory.why, path: Some(path), apply, undo: "restore".into() });
    }
    for (path, file) in &grants.files {
        let kind = match file.kind {
            FileKind::Regular => "file",
            FileKind::Fifo => "pipe",
            FileKind::Existing | FileKind::Attribute => "existing",
        };
        let user = if file.kind == FileKind::Attribute { "root".into() } else { user.clone() };
        let mode = file.mode.map(|mode| format!("{mode:04o}")).unwrap_or_default();
        let group = if file.existed && file.group.is_none() { quoted("") } else { own(&file.group) };
        let apply = format!("{kind} {} {user} {group}", quoted(&mode));
        out.push(Step { why: &file.why, path: Some(path), apply, undo: "restore".into() });
    }
    for (path, acl) in &grants.acls {
        let apply = format!("entry {user} {}", quoted(&acl.text()));
        out.push(Step { why: &acl.why, path: Some(path), apply, undo: "restore".into() });
    }
    for (name, sysctl) in &grants.sysctls {
        let name = quoted(name);
        let apply = format!("parameter {name} {}", quoted(&sysctl.value));
        out.push(Step { why: &sysctl.why, path: None, apply, undo: format!("restore_parameter {name}") });
    }
    for (name, why) in &grants.modules {
        let name = quoted(name);
        out.push(Step { why, path: None, apply: format!("module {name}"), undo: format!("unload {name}") });
    }
    let first_why = grants.capabilities.values().map(|grant| &grant.why).next();
    if let (true, Some(why)) = (grants.on_file, first_why) {
        for (path, capabilities) in carriers(profile, grants, |_| true).files {
            let apply = format!("capabilities {}", quoted(&capability_text(&capabilities)));
            out.push(Step { why, path: Some(path), apply, undo: "take_capabilities".into() });
        }
    }
    out
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
