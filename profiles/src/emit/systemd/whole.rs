//! A whole service unit, systemd.service(5).

use super::service;
use crate::RawText;
use crate::emit::escape::tmpfiles::is_portable;
use crate::emit::escape::unit::{argument, is_plain_value, word};
use crate::emit::page::{Emitted, Page};
use crate::grants::{Grants, Method};
use crate::profile::Profile;
use crate::requirement::{Access, Need};

/// The unit `NAME.service`.
pub(in crate::emit) fn emit(profile: &Profile, grants: &Grants) -> Emitted {
    let name = &grants.name;
    let mut page = Page::new(&format!("Runs {name} as {}.", grants.account.user));
    page.comment(
        "Goes to /etc/systemd/system/, with sysusers.d and tmpfiles.d in place; then: systemctl enable --now",
    );
    page.blank();
    page.line("[Unit]");
    page.line(&format!("Description={name} without root"));
    if profile.listens.iter().any(|listen| listen.port.is_some()) {
        page.line("After=network.target");
    }
    if grants.port_method == Method::Socket && !grants.ports.is_empty() {
        page.line(&format!("Requires={name}.socket"));
        page.line(&format!("After={name}.socket"));
    }
    page.blank();
    page.line("[Service]");
    start(&mut page, profile, grants);
    page.blank();
    service::body(&mut page, profile, grants);
    page.blank();
    page.line("[Install]");
    page.line("WantedBy=multi-user.target");
    service::remarks(&mut page, grants);
    page.finish_with(format!("{name}.service"), &grants.unmet)
}

fn start(page: &mut Page, profile: &Profile, grants: &Grants) {
    if profile.run.daemon {
        page.comment("The run's first process ended and left the daemon behind. An option that keeps it in the foreground,");
        page.comment("with Type=exec, is better where the program has one.");
        page.line("Type=forking");
        match pid_file(profile).filter(|path| is_plain_value(path.as_bytes())) {
            Some(path) => page.line(&format!("PIDFile={}", path.to_text().replace('%', "%%"))),
            None => page.comment("PIDFile= is not known: the run made no file that is named like one."),
        }
    } else if profile.run.timeline.is_some_and(|timeline| timeline.notified) {
        page.comment("The program said READY=1 in the run, one of its processes at least: sd_notify(3).");
        page.line("Type=notify");
        page.line("NotifyAccess=all");
    } else {
        page.comment("The run's first process stayed.");
        page.line("Type=exec");
    }
    match command(profile, grants) {
        Some(command) => page.line(&format!("ExecStart={command}")),
        None => {
            page.comment("The run did not tell which file was executed: name it here.");
            page.line(&format!("ExecStart=/usr/bin/env {}", argument(grants.name.as_bytes())));
        }
    }
    page.line("Restart=on-failure");
    let cwd = &profile.run.cwd;
    if cwd.as_bytes() != b"/" && cwd.as_bytes().starts_with(b"/") {
        page.comment("Where the run was started.");
        let line = format!("WorkingDirectory=-{}", cwd.to_text().replace('%', "%%"));
        if is_plain_value(cwd.as_bytes()) { page.line(&line) } else { page.comment(&line) }
    }
    for (name, value) in &profile.run.environment {
        let pair = [name.as_bytes(), b"=", value.as_bytes()].concat();
        // systemd sets it from the user's account.
        if name.as_bytes() == b"HOME" || grants.environment.contains_key(&name.to_text()) {
            continue;
        }
        page.comment("As the run had it.");
        let line = format!("Environment={}", word(&pair));
        let plain = is_variable(name.as_bytes()) && is_portable(&pair);
        if plain { page.line(&line) } else { page.comment(&line) }
    }
}

/// Whether systemd takes the name for that of a variable.
fn is_variable(name: &[u8]) -> bool {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    name.iter().all(word) && name.first().is_some_and(|byte| !byte.is_ascii_digit())
}

/// The file in which the daemon leaves its number, as far as its name tells.
fn pid_file(profile: &Profile) -> Option<RawText> {
    let made = profile.requirements.iter().find_map(|requirement| match &requirement.need {
        Need::Path { path, access, pattern: false, .. }
            if path.as_bytes().ends_with(b".pid")
                && access.iter().any(|a| matches!(a, Access::Create | Access::Write)) =>
        {
            Some(path.clone())
        }
        _ => None,
    });
    let written = profile.writes.iter().find(|written| written.path.as_bytes().ends_with(b".pid"));
    made.or_else(|| written.map(|written| written.path.clone()))
}

/// The command line, with an absolute path first.
fn command(profile: &Profile, grants: &Grants) -> Option<String> {
    let absolute = |path: &RawText| path.as_bytes().starts_with(b"/") && !path.as_bytes().contains(&0);
    let first = profile.command.first()?;
    let mut words = Vec::new();
    if absolute(first) {
        words.push(argument(first.as_bytes()));
    } else {
        let path = profile.executable.as_ref().filter(|path| absolute(path))?;
        let name = |path: &RawText| path.as_bytes().rsplit(|byte| *byte == b'/').next().map(<[u8]>::to_vec);
        if name(path) == name(first) {
            words.push(argument(path.as_bytes()));
        } else {
            // A program that behaves by the name it is called.
            words.push(argument(&[b"@", path.as_bytes()].concat()));
            words.push(argument(first.as_bytes()));
        }
    }
    words.extend(profile.command.iter().skip(1).map(|word| argument(word.as_bytes())));
    debug_assert!(!grants.name.is_empty());
    Some(words.join(" "))
}
