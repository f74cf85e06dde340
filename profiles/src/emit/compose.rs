//! A service for the Compose Specification.

use std::collections::BTreeSet;

use super::escape::yaml;
use super::page::{Emitted, Page, reason};
use super::ports::bound;
use super::volumes::{self, Volume};
use crate::container::{Place, Placement};
use crate::grants::{Grants, PORT_SYSCTL, Unmet};
use crate::profile::Profile;
use crate::requirement::Limit;
use crate::{Capability, RawText};

/// A string in which nothing is replaced by a variable.
fn string(text: &str) -> String {
    yaml::string(&text.replace('$', "$$"))
}

/// The file `compose.yaml`.
pub(super) fn emit(profile: &Profile, grants: &Grants) -> Emitted {
    let mut page = Page::new(&format!("A Compose service that runs {} without root.", grants.name));
    let volumes = volumes::plan(profile, grants);
    let name: String = grants.name.chars().map(|c| if c == '.' { '-' } else { c }).collect();
    page.line("services:");
    page.line(&format!("  {}:", string(&name)));
    let (image, about) = volumes::image(profile, &name.to_lowercase());
    page.indented_comment(4, about);
    page.line(&format!("    image: {}", string(&image)));
    identity(&mut page, grants);
    confinement(&mut page, grants, &volumes.not_read_only);
    settings(&mut page, profile, grants);
    command(&mut page, profile);
    let named: Vec<(String, &str, &Volume)> = volumes
        .mounts
        .iter()
        .filter_map(|(path, volume)| Some((path.as_str()?, volume)))
        .enumerate()
        .map(|(n, (path, volume))| (format!("{name}-{}-{}", volume.word, n + 1), path, volume))
        .collect();
    mounts(&mut page, grants, &named);
    for why in &volumes.unnameable {
        page.cannot(
            why,
            "a volume cannot have this path",
            "have the image hold the directory, owned by the user",
        );
    }
    for (path, (placement, why)) in &volumes.mounted {
        if placement.place == Place::Bind
            && let Err(refused) = volumes::on_host(profile, path, placement, grants)
        {
            page.cannot(why, "it is the host's", &refused);
        }
    }
    page.section(
        "On mounts of the container that was traced; the service needs them too:",
        volumes.mounted.iter().map(|(path, (placement, why))| {
            // What the run wrote by the user's own rights takes nothing.
            if placement.place == Place::Bind && why.needs.is_empty() {
                let host = placement.host.as_ref().unwrap_or(path);
                return format!("{path} is {host} of the host, where the user may write as it is");
            }
            mounted(profile, path, placement, grants)
        }),
    );
    not_here(&mut page, grants);
    page.section("To change in the program's own configuration:", grants.to_configure().map(reason));
    let unmet: Vec<Unmet> =
        grants.unmet.iter().filter(|unmet| !volumes.met.contains(unmet)).cloned().collect();
    page.finish_with("compose.yaml".into(), &unmet)
}

/// What is on a mount already, and what makes it usable.
fn mounted(profile: &Profile, path: &RawText, placement: &Placement, grants: &Grants) -> String {
    let owner = format!("{}:{}", grants.account.run_uid, grants.account.run_gid);
    let volume = placement.volume.as_deref().unwrap_or("without a name");
    let at = &placement.mount;
    match placement.place {
        Place::Bind => {
            let host = placement.host.as_ref().unwrap_or(path);
            let what = match volumes::on_host(profile, path, placement, grants) {
                Ok(_) => format!("chown {owner} there"),
                Err(refused) => refused,
            };
            format!("{path} is {host} of the host, mounted for {at}: {what}")
        }
        Place::Secret | Place::ConfigMap | Place::Projected => {
            format!("{path} is in {volume}, read-only: give it a mode that {owner} may read")
        }
        Place::Tmpfs | Place::EmptyDir => format!("{path} is on a tmpfs at {at}"),
        _ => format!("{path} is on the volume {volume} at {at}: chown {owner} in it"),
    }
}

fn identity(page: &mut Page, grants: &Grants) {
    let account = &grants.account;
    let user = if grants.choices.arbitrary_uid {
        format!("{}:0", account.run_uid)
    } else {
        format!("{}:{}", account.run_uid, account.run_gid)
    };
    page.line(&format!("    user: {}", string(&user)));
    if !grants.groups.is_empty() {
        page.line("    group_add:");
    }
    for (group, membership) in &grants.groups {
        page.indented_why(6, &membership.why);
        page.indented_comment(
            6,
            &format!("The number of group {group} on the machine of the run; the image's may differ."),
        );
        page.line(&format!("      - {}", string(&membership.gid.to_string())));
    }
}

/// Capabilities the executable in the image has to carry: low ports are opened by the sysctl.
fn on_file(grants: &Grants) -> BTreeSet<Capability> {
    let by_sysctl = |c: &Capability| *c == Capability::NET_BIND_SERVICE && !grants.ports.is_empty();
    grants.capabilities.keys().copied().filter(|c| !by_sysctl(c)).collect()
}

fn confinement(page: &mut Page, grants: &Grants, not_read_only: &[String]) {
    for why in not_read_only {
        page.indented_comment(4, &format!("Not read-only: {why}."));
    }
    page.line(&format!("    read_only: {}", not_read_only.is_empty()));
    page.line("    cap_drop: [\"ALL\"]");
    let capabilities = on_file(grants);
    grants.executes.gains.iter().for_each(|why| page.indented_why(4, why));
    if capabilities.is_empty() && grants.executes.gains.is_empty() {
        page.line("    security_opt: [\"no-new-privileges:true\"]");
    }
    let kept: Vec<_> = grants.kept().filter(|(kept, _)| !capabilities.contains(kept)).collect();
    if capabilities.is_empty() && kept.is_empty() {
        return;
    }
    if !capabilities.is_empty() {
        page.indented_comment(4, "They reach a user that is not root through the file alone: have the image run setcap on its executable.");
    }
    page.line("    cap_add:");
    for (capability, why) in kept {
        page.indented_why(6, why);
        page.line(&format!("      - {}", string(capability.to_string().trim_start_matches("CAP_"))));
    }
    for (capability, grant) in grants.capabilities.iter().filter(|(c, _)| capabilities.contains(c)) {
        page.indented_why(6, &grant.why);
        if let Some(danger) = grant.danger {
            page.indented_comment(6, &format!("Danger: {capability} {danger}."));
        }
        page.line(&format!("      - {}", string(capability.to_string().trim_start_matches("CAP_"))));
    }
}

/// Names of `ulimits`.
const ULIMITS: &[(Limit, &str)] = &[
    (Limit::Core, "core"),
    (Limit::Cpu, "cpu"),
    (Limit::Data, "data"),
    (Limit::FileSize, "fsize"),
    (Limit::Locks, "locks"),
    (Limit::LockedMemory, "memlock"),
    (Limit::MessageQueue, "msgqueue"),
    (Limit::NiceCeiling, "nice"),
    (Limit::OpenFiles, "nofile"),
    (Limit::Processes, "nproc"),
    (Limit::ResidentSet, "rss"),
    (Limit::RealtimePriority, "rtprio"),
    (Limit::RealtimeCpu, "rttime"),
    (Limit::PendingSignals, "sigpending"),
    (Limit::Stack, "stack"),
];

fn settings(page: &mut Page, profile: &Profile, grants: &Grants) {
    if let Some((port, _)) = grants.ports.first_key_value() {
        grants.ports.values().for_each(|why| page.indented_why(4, why));
        page.line("    sysctls:");
        page.line(&format!("      {}: {}", string(PORT_SYSCTL), string(&port.to_string())));
    }
    let known: Vec<_> =
        ULIMITS.iter().filter_map(|(limit, name)| Some((name, grants.limits.get(limit)?))).collect();
    if !known.is_empty() {
        page.line("    ulimits:");
    }
    for (name, grant) in known {
        page.indented_why(6, &grant.why);
        // The schema takes whole numbers that fit 53 bits, and -1 for no limit.
        let value = grant.value.and_then(|value| i64::try_from(value).ok()).unwrap_or(-1);
        page.line(&format!("      {name}: {value}"));
    }
    if let Some((score, why)) = &grants.oom_score {
        page.indented_why(4, why);
        page.line(&format!("    oom_score_adj: {score}"));
    }
    devices(page, grants);
    if !grants.environment.is_empty() {
        page.line("    environment:");
    }
    for (name, variable) in &grants.environment {
        page.indented_why(6, &variable.why);
        page.line(&format!("      {}: {}", string(name), string(&variable.value)));
    }
    let ports = bound(profile);
    if !ports.is_empty() {
        page.line("    ports:");
    }
    for ((port, protocol), _) in ports {
        page.line(&format!("      - {}", string(&format!("{port}:{port}/{}", protocol.to_lowercase()))));
    }
}

fn devices(page: &mut Page, grants: &Grants) {
    let plain = |path: &str| !path.contains(':') && !path.chars().any(char::is_control);
    let named: Vec<_> = grants
        .devices
        .iter()
        .filter_map(|(path, device)| Some((path.as_str().filter(|path| plain(path))?, device)))
        .collect();
    if !named.is_empty() {
        page.line("    devices:");
    }
    for (path, device) in named {
        page.indented_why(6, &device.why);
        page.indented_comment(
            6,
            "It keeps the host's owner and mode: group_add with its group there, where it has one.",
        );
        let access = match device.bits {
            4 => "r",
            2 => "w",
            _ => "rw",
        };
        page.line(&format!("      - {}", string(&format!("{path}:{path}:{access}"))));
    }
}

fn command(page: &mut Page, profile: &Profile) {
    let texts: Option<Vec<&str>> = profile.command.iter().map(|word| word.as_str()).collect();
    match texts.as_deref() {
        Some([program, arguments @ ..]) => {
            page.line(&format!("    entrypoint: [{}]", string(program)));
            let words: Vec<String> = arguments.iter().map(|word| string(word)).collect();
            page.line(&format!("    command: [{}]", words.join(", ")));
        }
        _ => page
            .indented_comment(4, "The command is not valid UTF-8, which YAML cannot hold: write it by hand."),
    }
}

fn mounts(page: &mut Page, grants: &Grants, named: &[(String, &str, &Volume)]) {
    let is_everybodys = |path: &str| matches!(path, "/tmp" | "/var/tmp");
    let in_memory = |volume: &Volume| !volume.copied && !volume.kept && !volume.owned;
    let (everybodys, own): (Vec<_>, Vec<_>) =
        named.iter().partition(|(_, path, volume)| is_everybodys(path) && in_memory(volume));
    if !everybodys.is_empty() {
        page.line("    tmpfs:");
    }
    for (_, path, volume) in everybodys {
        page.indented_why(6, &volume.why);
        page.line(&format!("      - {}", string(&format!("{path}:mode=1777"))));
    }
    if own.is_empty() {
        return;
    }
    page.line("    volumes:");
    for (name, path, volume) in &own {
        page.indented_why(6, &volume.why);
        page.line("      - type: volume");
        page.line(&format!("        source: {}", string(name)));
        page.line(&format!("        target: {}", string(path)));
        if in_memory(volume) {
            page.line("        volume: {nocopy: true}");
        }
    }
    page.blank();
    page.line("volumes:");
    if own.iter().any(|(_, _, volume)| !in_memory(volume)) {
        page.indented_comment(2, "A new volume starts with what the image has there, owner and mode included: see the lines of Containerfile.");
    }
    if own.iter().any(|(_, _, volume)| in_memory(volume)) {
        page.indented_comment(
            2,
            "What is in memory is a volume too, since `tmpfs:` takes an owner from Docker alone.",
        );
    }
    let account = &grants.account;
    let owner = match grants.choices.arbitrary_uid {
        true => format!("uid={},gid=0,mode=0770", account.run_uid),
        false => format!("uid={},gid={},mode=0700", account.run_uid, account.run_gid),
    };
    for (name, _, volume) in &own {
        if in_memory(volume) {
            page.line(&format!("  {}:", string(name)));
            page.line(&format!("    driver_opts: {{type: \"tmpfs\", device: \"tmpfs\", o: \"{owner}\"}}"));
        } else {
            page.line(&format!("  {}: {{}}", string(name)));
        }
    }
}

fn not_here(page: &mut Page, grants: &Grants) {
    for acl in grants.acls.values() {
        let hint = "have the image own it (Containerfile), or mount it as a secret";
        page.cannot(&acl.why, "Compose cannot set ACL entries in the image", hint);
    }
    let host = "set it on the host";
    for sysctl in grants.sysctls.iter().filter(|(name, _)| *name != PORT_SYSCTL).map(|(_, sysctl)| sysctl) {
        page.cannot(&sysctl.why, "kernel parameters of the machine are the host's", host);
    }
    for why in
        grants.modules.values().chain(&grants.delegate).chain(grants.before_start.iter().map(|(_, why)| why))
    {
        page.cannot(why, "what root does beforehand is done on the host", host);
    }
    if let Some((_, why)) = &grants.nice {
        page.cannot(why, "Compose has no nice value", "use cpu_shares, or start the program with nice");
    }
    for credential in grants.credentials.values() {
        page.cannot(&credential.why, "LoadCredential= is systemd's", "use a Compose secret");
    }
}
