//! A drop-in for a systemd service unit, systemd.exec(5).

use std::collections::BTreeMap;

use super::escape::tmpfiles::is_portable;
use super::escape::unit::{is_plain_directory, word};
use super::{Emitted, Page};
use crate::grants::{Class, Directory, Grants, LimitGrant};
use crate::profile::Profile;
use crate::requirement::Limit;
use crate::{Capability, RawText};

/// The drop-in `NAME.service.d/50-nonroot.conf`.
pub(super) fn emit(profile: &Profile, grants: &Grants) -> Emitted {
    let name = &grants.name;
    let mut page = Page::new(&format!("Runs {name}.service as {} instead of root.", grants.account.user));
    page.comment("Goes to /etc/systemd/system/, with sysusers.d and tmpfiles.d in place; then: systemctl daemon-reload");
    page.blank();
    page.line("[Service]");
    page.line(&format!("User={}", grants.account.user));
    page.line(&format!("Group={}", grants.account.group));
    for (group, membership) in &grants.groups {
        page.why(&membership.why);
        if let Some(caution) = membership.caution {
            page.comment(&format!("Note: {caution}."));
        }
        page.line(&format!("SupplementaryGroups={group}"));
    }
    capabilities(&mut page, grants);
    directories(&mut page, grants);
    limits(&mut page, grants);
    devices(&mut page, grants);
    environment(&mut page, grants);
    start(&mut page, profile, grants);
    let advice: Vec<String> = grants.advice.iter().map(super::reason).collect();
    page.section("To change in the program's own configuration:", advice);
    let tips = grants.present_owners.iter().map(|(owner, present)| present.tip(owner));
    page.section("Worth knowing:", tips);
    page.section(
        "Not granted, as the program does not depend on it:",
        grants.optional.iter().map(super::reason),
    );
    page.finish(format!("{name}.service.d/50-nonroot.conf"), grants)
}

fn capabilities(page: &mut Page, grants: &Grants) {
    page.blank();
    page.comment("A first empty assignment clears what the unit itself sets.");
    page.line("AmbientCapabilities=");
    page.line("CapabilityBoundingSet=");
    for (capability, grant) in &grants.capabilities {
        page.why(&grant.why);
        if let Some(danger) = grant.danger {
            page.comment(&format!("Danger: {capability} {danger}."));
        }
        page.line(&format!("AmbientCapabilities={capability}"));
        page.line(&format!("CapabilityBoundingSet={capability}"));
    }
    page.line("NoNewPrivileges=yes");
}

/// The directives for directories that systemd itself makes, by class.
const DIRECTIVES: &[(Class, &str, &[u8])] = &[
    (Class::Runtime, "RuntimeDirectory", b"/run/"),
    (Class::State, "StateDirectory", b"/var/lib/"),
    (Class::Cache, "CacheDirectory", b"/var/cache/"),
    (Class::Logs, "LogsDirectory", b"/var/log/"),
];

fn directories(page: &mut Page, grants: &Grants) {
    for (class, directive, base) in DIRECTIVES {
        let ours = |(path, directory): &(&RawText, &Directory)| {
            // The directive sets the group too, recursively: a directory that keeps its own is left to tmpfiles.d.
            directory.class == *class
                && directory.group.is_none()
                && path.as_bytes().strip_prefix(*base).is_some_and(is_plain_directory)
        };
        let directories: Vec<(&RawText, &Directory)> = grants.directories.iter().filter(ours).collect();
        // One mode holds for all directories of a class; the others stay with tmpfiles.d.
        let Some(mode) = directories.iter().map(|(_, directory)| directory.mode).min() else {
            continue;
        };
        page.blank();
        page.line(&format!("{directive}Mode={mode:04o}"));
        if *class == Class::Runtime {
            page.comment("Kept over restarts of the service, as tmpfiles.d made it at boot.");
            page.line("RuntimeDirectoryPreserve=yes");
        }
        for (path, directory) in directories.into_iter().filter(|(_, directory)| directory.mode == mode) {
            page.why(&directory.why);
            let relative = path.as_bytes().get(base.len()..).unwrap_or_default();
            page.line(&format!("{directive}={}", word(relative)));
        }
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
        if !path.as_bytes().starts_with(b"/dev/") || !is_portable(path.as_bytes()) {
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
fn start(page: &mut Page, profile: &Profile, grants: &Grants) {
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
    if grants.capabilities.contains_key(&Capability::NET_BIND_SERVICE) {
        page.blank();
        page.comment(
            "Instead of CAP_NET_BIND_SERVICE: a higher port, or a socket unit that hands the port over.",
        );
    }
}
