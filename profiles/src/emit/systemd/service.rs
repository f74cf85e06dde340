//! A drop-in for a systemd service unit, systemd.exec(5).

use std::collections::BTreeMap;

use super::sandbox;
use crate::emit::escape::tmpfiles::is_portable;
use crate::emit::escape::unit::{is_plain_directory, is_plain_value, word};
use crate::emit::page::{Emitted, Page, reason};
use crate::grants::{Directory, Grants, LimitGrant, Method};
use crate::place::Class;
use crate::profile::Profile;
use crate::requirement::Limit;
use crate::unit::OfUnit;
use crate::{Capability, RawText};

/// The drop-in `NAME.service.d/50-nonroot.conf`.
pub(in crate::emit) fn emit(profile: &Profile, grants: &Grants) -> Emitted {
    let name = &grants.name;
    let unit = name_of(profile, grants);
    let mut page = Page::new(&format!("Runs {unit}.service as {} instead of root.", grants.account.user));
    page.comment("Goes to /etc/systemd/system/, with sysusers.d and tmpfiles.d in place; then: systemctl daemon-reload");
    if grants.port_method == Method::Socket && !grants.ports.is_empty() {
        page.blank();
        page.comment("The ports are systemd's to bind.");
        page.line("[Unit]");
        page.line(&format!("Requires={name}.socket"));
        page.line(&format!("After={name}.socket"));
    }
    page.blank();
    page.line("[Service]");
    let lines = profile.unit.iter().flat_map(|unit| &unit.start);
    let lines: Vec<&String> = lines.filter(|line| !line.contains(char::is_control)).collect();
    if !lines.is_empty() {
        page.comment("The unit's own has a prefix by which it starts as root whatever User= says.");
        page.line("ExecStart=");
        lines.iter().for_each(|line| page.line(&format!("ExecStart={line}")));
    }
    body(&mut page, profile, grants);
    if profile.unit.is_none() {
        start(&mut page, profile);
    }
    remarks(&mut page, grants);
    page.finish_with(format!("{unit}.service.d/50-nonroot.conf"), &grants.unmet)
}

/// The name of the unit that the drop-in is for, without its kind.
pub(in crate::emit) fn name_of<'a>(profile: &'a Profile, grants: &'a Grants) -> &'a str {
    profile.unit.as_ref().map_or(&grants.name, OfUnit::stem)
}

/// The directives that both the drop-in and the whole unit hold.
pub(super) fn body(page: &mut Page, profile: &Profile, grants: &Grants) {
    page.line(&format!("User={}", grants.account.user));
    page.line(&format!("Group={}", grants.account.group));
    for (group, membership) in &grants.groups {
        page.why(&membership.why);
        if let Some(caution) = membership.caution {
            page.comment(&format!("Note: {caution}."));
        }
        page.line(&format!("SupplementaryGroups={group}"));
    }
    capabilities(page, profile, grants);
    directories(page, profile, grants);
    sandbox::emit(page, profile, grants, &|path| is_systemds(path, profile, grants));
    credentials(page, grants);
    before_start(page, grants);
    limits(page, grants);
    devices(page, grants);
    environment(page, grants);
}

/// Closing remarks.
pub(super) fn remarks(page: &mut Page, grants: &Grants) {
    if grants.capabilities.contains_key(&Capability::NET_BIND_SERVICE) {
        page.blank();
        page.comment(
            "Instead of CAP_NET_BIND_SERVICE: a higher port, or a socket unit that hands the port over.",
        );
    }
    let edits = grants.edits.values().map(reason);
    page.section("Its configuration says this, which nrtrace apply sees to:", edits);
    page.section("To change in the program's own configuration:", grants.advice.iter().map(reason));
    page.section("Withheld until it is proved:", grants.withheld.iter().map(reason));
    let tips = grants.present_owners.iter().map(|(owner, present)| present.tip(owner, grants.user_option));
    page.section("Worth knowing:", tips);
    page.section("Not granted, as the program does not depend on it:", grants.optional.iter().map(reason));
}

fn capabilities(page: &mut Page, profile: &Profile, grants: &Grants) {
    page.blank();
    page.comment("A first empty assignment clears what the unit itself sets.");
    page.line("AmbientCapabilities=");
    page.line("CapabilityBoundingSet=");
    for (capability, grant) in &grants.capabilities {
        page.why(&grant.why);
        if let Some(danger) = grant.danger {
            page.comment(&format!("Danger: {capability} {danger}."));
        }
        if profile.unit.as_ref().is_some_and(|unit| !unit.may_have(&capability.to_string())) {
            page.comment(
                "Note: CapabilityBoundingSet= of the unit has kept it from its processes until now.",
            );
        }
        if !grants.on_file {
            page.line(&format!("AmbientCapabilities={capability}"));
        }
        page.line(&format!("CapabilityBoundingSet={capability}"));
    }
    for (capability, why) in grants.kept() {
        page.why(why);
        page.line(&format!("CapabilityBoundingSet={capability}"));
    }
    if grants.on_file && !grants.capabilities.is_empty() {
        page.comment("File capabilities (setcap.sh) have no effect under NoNewPrivileges=yes.");
    }
    grants.executes.gains.iter().for_each(|why| page.why(why));
    let closed = profile.unit.as_ref().is_some_and(|unit| unit.restricts("NoNewPrivileges"));
    match grants.may_gain() {
        true if closed => {
            page.comment("NoNewPrivileges=yes of the unit stays, so that none of this has any effect.")
        }
        true => page.line("NoNewPrivileges=no"),
        false => page.line("NoNewPrivileges=yes"),
    }
}

/// The directives for directories that systemd itself makes, by class.
const DIRECTIVES: &[(Class, &str, &[u8])] = &[
    (Class::Runtime, "RuntimeDirectory", b"/run/"),
    (Class::State, "StateDirectory", b"/var/lib/"),
    (Class::Cache, "CacheDirectory", b"/var/cache/"),
    (Class::Logs, "LogsDirectory", b"/var/log/"),
];

/// The directories of a class that the directive makes, with their mode. One mode holds for all directories of a
/// class; the others stay with tmpfiles.d, and so do those that keep a group, since the directive sets it too.
fn of_class<'a>(
    (class, directive, base): &(Class, &str, &[u8]),
    profile: &Profile,
    grants: &'a Grants,
) -> (Option<u32>, Vec<(&'a RawText, &'a Directory)>) {
    let ours = |(path, directory): &(&RawText, &Directory)| {
        directory.class == *class
            && directory.group.is_none()
            // systemd would give what is in it away too, where its owner is another one.
            && !directory.existed
            && path.as_bytes().strip_prefix(*base).is_some_and(is_plain_directory)
    };
    let given = profile.unit.as_ref().and_then(|unit| unit.mode(directive));
    let directories: Vec<(&RawText, &Directory)> = grants.directories.iter().filter(ours).collect();
    // The mode of the unit stays: it is for directories of its own.
    let mode = given.or_else(|| directories.iter().map(|(_, directory)| directory.mode).min());
    (mode, directories.into_iter().filter(|(_, directory)| Some(directory.mode) == mode).collect())
}

/// Whether systemd makes the directory, and so leaves it writable.
fn is_systemds(path: &RawText, profile: &Profile, grants: &Grants) -> bool {
    let mut classes = DIRECTIVES.iter().map(|of| of_class(of, profile, grants).1);
    let by_unit = |(_, directive, base): &(Class, &str, &[u8])| {
        let names = profile.unit.iter().flat_map(|unit| unit.directives.get(*directive)).flatten();
        names.into_iter().any(|name| [base, name.as_bytes()].concat() == path.as_bytes())
    };
    DIRECTIVES.iter().any(by_unit)
        || classes.any(|directories| directories.iter().any(|(made, _)| *made == path))
}

/// The variables by which systemd names the directories that it makes, such as `STATE_DIRECTORY`.
pub(in super::super) fn variables(profile: &Profile, grants: &Grants) -> Vec<(String, String)> {
    let of_directive = |of: &(Class, &str, &[u8])| {
        let (directive, directories) = (of.1, of_class(of, profile, grants).1);
        let paths: Vec<_> = directories.iter().map(|(path, _)| path.to_text()).collect();
        let name = directive.trim_end_matches("Directory").to_uppercase();
        (!paths.is_empty()).then(|| (format!("{name}_DIRECTORY"), paths.join(":")))
    };
    DIRECTIVES.iter().filter_map(of_directive).collect()
}

fn directories(page: &mut Page, profile: &Profile, grants: &Grants) {
    for of in DIRECTIVES {
        let (class, directive, base) = of;
        let (Some(mode), directories) = of_class(of, profile, grants) else { continue };
        if directories.is_empty() {
            continue;
        }
        page.blank();
        page.comment("As tmpfiles.d has it: the same owner and mode.");
        let has_mode = profile.unit.as_ref().is_some_and(|unit| unit.mode(directive).is_some());
        if !has_mode {
            page.line(&format!("{directive}Mode={mode:04o}"));
        }
        if *class == Class::Runtime && !has_mode {
            page.comment("Kept when the service stops: tmpfiles.d makes it at boot, not at each start.");
            page.line("RuntimeDirectoryPreserve=yes");
        }
        for (path, directory) in directories {
            page.why(&directory.why);
            let relative = path.as_bytes().get(base.len()..).unwrap_or_default();
            page.line(&format!("{directive}={}", word(relative)));
        }
    }
}

/// Whether `DeviceAllow=` can name a node.
pub(in super::super) fn can_allow(path: &RawText) -> bool {
    path.as_bytes().starts_with(b"/dev/") && is_portable(path.as_bytes())
}

/// Whether `LoadCredential=` can name a file.
pub(in super::super) fn can_load(path: &RawText) -> bool {
    is_plain_value(path.as_bytes())
}

fn credentials(page: &mut Page, grants: &Grants) {
    if !grants.credentials.is_empty() {
        page.blank();
    }
    for (name, credential) in &grants.credentials {
        page.why(&credential.why);
        let path = &credential.path;
        if can_load(path) {
            page.line(&format!("LoadCredential={name}:{}", path.to_text().replace('%', "%%")));
        } else {
            let hint = "give the file another name";
            page.cannot(&credential.why, "LoadCredential= cannot name this file", hint);
        }
    }
}

fn before_start(page: &mut Page, grants: &Grants) {
    if !grants.before_start.is_empty() {
        page.blank();
        page.comment(
            "With the plus, systemd runs these as root, before the service and outside its restrictions.",
        );
    }
    for (words, why) in &grants.before_start {
        page.why(why);
        let words: Vec<String> =
            words.iter().map(|word| crate::emit::escape::unit::argument(word.as_bytes())).collect();
        page.line(&format!("ExecStartPre=+{}", words.join(" ")));
    }
}

/// Directives for resource limits; the rest of [`Limit`] has its own.
const LIMITS: &[(Limit, &str)] = &[
    (Limit::AddressSpace, "LimitAS"),
    (Limit::Core, "LimitCORE"),
    (Limit::Cpu, "LimitCPU"),
    (Limit::Data, "LimitDATA"),
    (Limit::FileSize, "LimitFSIZE"),
    (Limit::Locks, "LimitLOCKS"),
    (Limit::LockedMemory, "LimitMEMLOCK"),
    (Limit::MessageQueue, "LimitMSGQUEUE"),
    (Limit::NiceCeiling, "LimitNICE"),
    (Limit::OpenFiles, "LimitNOFILE"),
    (Limit::Processes, "LimitNPROC"),
    (Limit::ResidentSet, "LimitRSS"),
    (Limit::RealtimePriority, "LimitRTPRIO"),
    (Limit::RealtimeCpu, "LimitRTTIME"),
    (Limit::PendingSignals, "LimitSIGPENDING"),
    (Limit::Stack, "LimitSTACK"),
];

fn limits(page: &mut Page, grants: &Grants) {
    let directives: BTreeMap<Limit, &str> = LIMITS.iter().copied().collect();
    let known: Vec<(&str, &LimitGrant)> =
        grants.limits.iter().filter_map(|(limit, grant)| Some((*directives.get(limit)?, grant))).collect();
    if !known.is_empty() || grants.nice.is_some() || grants.oom_score.is_some() {
        page.blank();
    }
    for (directive, grant) in known {
        page.why(&grant.why);
        let value = grant.value.map_or_else(|| "infinity".into(), |value| value.to_string());
        page.line(&format!("{directive}={value}"));
    }
    for (directive, setting) in [("Nice", &grants.nice), ("OOMScoreAdjust", &grants.oom_score)] {
        if let Some((value, why)) = setting {
            page.why(why);
            page.line(&format!("{directive}={value}"));
        }
    }
}

fn devices(page: &mut Page, grants: &Grants) {
    if !grants.devices.is_empty() {
        page.blank();
        page.comment(
            "A list of devices closes all others but the standard ones (/dev/null, /dev/urandom, …).",
        );
    }
    for (path, device) in &grants.devices {
        page.why(&device.why);
        if !can_allow(path) {
            page.comment("DeviceAllow= cannot name this node.");
            let hint = "use a plain name below /dev, or no DeviceAllow= at all";
            page.cannot(&device.why, "DeviceAllow= takes plain names below /dev only", hint);
            continue;
        }
        let access: String =
            [(4, 'r'), (2, 'w')].iter().filter(|(bit, _)| device.bits & bit != 0).map(|(_, c)| *c).collect();
        // Some access has to be named, also where the run did not tell which.
        let access = if access.is_empty() { "rw" } else { &access };
        page.line(&format!("DeviceAllow={} {access}", word(path.as_bytes())));
    }
    if let Some(why) = &grants.delegate {
        page.blank();
        page.why(why);
        page.line("Delegate=yes");
    }
}

fn environment(page: &mut Page, grants: &Grants) {
    for ((name, value), why) in &grants.directives {
        page.blank();
        page.why(why);
        page.line(&format!("{name}={}", value.replace('%', "%%")));
    }
    if !grants.environment.is_empty() {
        page.blank();
    }
    for (name, variable) in &grants.environment {
        page.why(&variable.why);
        page.line(&format!("Environment={}", word(format!("{name}={}", variable.value).as_bytes())));
    }
}

/// What the run had around it that a unit may lack, as comments.
fn start(page: &mut Page, profile: &Profile) {
    let mut lines = Vec::new();
    for (name, value) in &profile.run.environment {
        let pair = [name.as_bytes(), b"=", value.as_bytes()].concat();
        lines.push(format!("Environment={}", word(&pair)));
    }
    let cwd = &profile.run.cwd;
    if !cwd.as_bytes().is_empty() && cwd.as_bytes() != b"/" {
        lines.push(format!("WorkingDirectory={}", cwd.to_text().replace('%', "%%")));
    }
    page.section("The run was started with these; set what the service depends on:", lines);
}
