//! A Kubernetes Pod: `securityContext` of pod and container, volumes, ports, sysctls.

use std::collections::{BTreeMap, BTreeSet};

use super::escape::yaml::string;
use super::volumes::{self, Volume, Volumes};
use super::{Emitted, Page};
use crate::Capability;
use crate::event::Protocol;
use crate::grants::{Grants, Unmet};
use crate::profile::Profile;

/// The sysctl that makes low ports free; in the "safe" set since Kubernetes 1.22.
const PORT_SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";

/// The manifest `kubernetes.yaml`.
pub(super) fn emit(profile: &Profile, grants: &Grants) -> Emitted {
    let mut page = Page::new(&format!("A Pod that runs {} without root.", grants.name));
    let file_capabilities = file_capabilities(grants);
    let (level, obstacle) = security_level(&file_capabilities, grants);
    page.comment(&format!("Pod Security Standards level reached: {level}."));
    if let Some(obstacle) = obstacle {
        page.comment(&format!("In the way of the next stricter one: {obstacle}."));
    }
    let name = object_name(&grants.name);
    page.line("apiVersion: v1");
    page.line("kind: Pod");
    page.line("metadata:");
    page.line(&format!("  name: {}", string(&name)));
    page.line("spec:");
    pod_context(&mut page, grants);
    page.line("  containers:");
    page.line(&format!("    - name: {}", string(&name)));
    page.indented_comment(6, "Put your image here.");
    page.line(&format!("      image: {}", string(&format!("{name}:latest"))));
    command(&mut page, profile);
    environment(&mut page, grants);
    ports(&mut page, profile);
    container_context(&mut page, &file_capabilities, grants);
    let volumes = volumes::plan(profile, grants);
    mounts(&mut page, &volumes);
    in_the_image(&mut page, grants, &volumes);
    not_here(&mut page, grants);
    let advice: Vec<String> = grants.advice.iter().map(super::reason).collect();
    page.section("To change in the program's own configuration:", advice);
    page.section(
        "Not granted, as the program does not depend on it:",
        grants.optional.iter().map(super::reason),
    );
    let unmet: Vec<Unmet> =
        grants.unmet.iter().filter(|unmet| !volumes.met.contains(unmet)).cloned().collect();
    page.finish_with("kubernetes.yaml".into(), &unmet)
}

/// Capabilities that must be on the file in the image: low ports are free by the sysctl.
fn file_capabilities(grants: &Grants) -> BTreeSet<Capability> {
    let by_sysctl = |c: &Capability| *c == Capability::NET_BIND_SERVICE && !grants.ports.is_empty();
    grants.capabilities.keys().copied().filter(|c| !by_sysctl(c)).collect()
}

/// Capabilities the level "baseline" allows to add.
const BASELINE: &[&str] = &[
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// The level of the Pod Security Standards reached, and what stands in the way of the next.
fn security_level(capabilities: &BTreeSet<Capability>, grants: &Grants) -> (&'static str, Option<String>) {
    let beyond: Vec<String> =
        capabilities.iter().map(Capability::to_string).filter(|c| !BASELINE.contains(&c.as_str())).collect();
    if grants.account.run_uid == 0 {
        return ("baseline", Some("it runs as uid 0".into()));
    }
    if !beyond.is_empty() {
        return ("privileged", Some(format!("it adds {}", beyond.join(", "))));
    }
    if !capabilities.is_empty() {
        let names: Vec<String> = capabilities.iter().map(Capability::to_string).collect();
        return ("baseline", Some(format!("it adds {} through the file in the image", names.join(", "))));
    }
    ("restricted", None)
}

/// A name that is a DNS label, RFC 1123.
fn object_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let label: String = name.chars().map(plain).take(63).collect();
    match label.trim_matches('-') {
        "" => "service".into(),
        label => label.to_owned(),
    }
}

fn pod_context(page: &mut Page, grants: &Grants) {
    let account = &grants.account;
    page.line("  securityContext:");
    page.line(&format!("    runAsNonRoot: {}", account.run_uid != 0));
    page.line(&format!("    runAsUser: {}", account.run_uid));
    page.line(&format!("    runAsGroup: {}", account.run_gid));
    page.indented_comment(4, "Volumes are made writable for this group; it has no effect on hostPath.");
    page.line(&format!("    fsGroup: {}", account.run_gid));
    if !grants.groups.is_empty() {
        page.line("    supplementalGroups:");
    }
    for (group, membership) in &grants.groups {
        page.indented_why(6, &membership.why);
        page.indented_comment(
            6,
            &format!("The number of group {group} on the machine of the run; the image's may differ."),
        );
        page.line(&format!("      - {}", membership.gid));
    }
    page.line("    seccompProfile:");
    page.line("      type: RuntimeDefault");
    if let Some((port, _)) = grants.ports.first_key_value() {
        page.line("    sysctls:");
        for why in grants.ports.values() {
            page.indented_why(6, why);
        }
        page.indented_comment(
            6,
            "A safe sysctl: capabilities.add does not reach a process that is not root (KEP-2763).",
        );
        page.line(&format!("      - name: {}", string(PORT_SYSCTL)));
        page.line(&format!("        value: {}", string(&port.to_string())));
    }
}

fn command(page: &mut Page, profile: &Profile) {
    let texts: Option<Vec<&str>> = profile.command.iter().map(|word| word.as_str()).collect();
    match texts {
        Some(words) if !words.is_empty() => {
            // $(NAME) would be replaced by a variable of the container.
            let words: Vec<String> = words.iter().map(|word| string(&word.replace("$(", "$$("))).collect();
            page.line(&format!("      command: [{}]", words.join(", ")));
        }
        _ => page
            .indented_comment(6, "The command is not valid UTF-8, which YAML cannot hold: write it by hand."),
    }
}

fn environment(page: &mut Page, grants: &Grants) {
    if !grants.environment.is_empty() {
        page.line("      env:");
    }
    for (name, variable) in &grants.environment {
        page.indented_why(8, &variable.why);
        page.line(&format!("        - name: {}", string(name)));
        // $(NAME) would be replaced by another variable.
        page.line(&format!("          value: {}", string(&variable.value.replace("$(", "$$("))));
    }
}

fn ports(page: &mut Page, profile: &Profile) {
    let mut ports: BTreeMap<(u16, &str), BTreeSet<String>> = BTreeMap::new();
    for listen in &profile.listens {
        let protocol = match listen.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
            _ => continue,
        };
        if let Some(port) = listen.port.filter(|port| *port != 0) {
            ports.entry((port, protocol)).or_default().insert(listen.address.to_text());
        }
    }
    if !ports.is_empty() {
        page.line("      ports:");
    }
    for ((port, protocol), addresses) in ports {
        let addresses: Vec<String> = addresses.into_iter().collect();
        page.indented_comment(8, &format!("Bound on {}.", addresses.join(", ")));
        page.line(&format!("        - containerPort: {port}"));
        page.line(&format!("          protocol: {protocol}"));
    }
}

fn container_context(page: &mut Page, capabilities: &BTreeSet<Capability>, grants: &Grants) {
    page.line("      securityContext:");
    if capabilities.is_empty() {
        page.line("        allowPrivilegeEscalation: false");
    } else {
        page.indented_comment(
            8,
            "File capabilities have no effect with false; have the image run setcap on its executable.",
        );
        page.line("        allowPrivilegeEscalation: true");
    }
    page.line("        capabilities:");
    page.line("          drop: [\"ALL\"]");
    if !capabilities.is_empty() {
        page.line("          add:");
    }
    for (capability, grant) in grants.capabilities.iter().filter(|(c, _)| capabilities.contains(c)) {
        page.indented_why(12, &grant.why);
        if let Some(danger) = grant.danger {
            page.indented_comment(12, &format!("Danger: {capability} {danger}."));
        }
        page.line(&format!("            - {}", string(capability.to_string().trim_start_matches("CAP_"))));
    }
}

fn mounts(page: &mut Page, volumes: &Volumes) {
    for why in &volumes.unnameable {
        let hint = "have the image hold the directory, owned by the user";
        page.cannot(why, "mountPath cannot hold this name", hint);
    }
    let named: Vec<(String, &str, &Volume)> = volumes
        .mounts
        .iter()
        .filter_map(|(path, volume)| Some((path.as_str()?, volume)))
        .enumerate()
        .map(|(n, (path, volume))| (format!("{}-{}", volume.word, n + 1), path, volume))
        .collect();
    if named.is_empty() {
        return;
    }
    page.line("      volumeMounts:");
    for (name, path, volume) in &named {
        page.indented_why(8, &volume.why);
        if volume.hides {
            page.indented_comment(
                8,
                "The program uses what the image has here, and the volume hides it: copy it in with an init container, or",
            );
            page.indented_comment(8, "leave the volume out and have the image own the directory.");
        }
        page.line(&format!("        - name: {}", string(name)));
        page.line(&format!("          mountPath: {}", string(path)));
    }
    page.line("  volumes:");
    page.indented_comment(
        4,
        "Each is empty at the start, writable for fsGroup, hides what the image has there, and is gone with the pod:",
    );
    page.indented_comment(4, "for data to keep, use a persistentVolumeClaim instead.");
    for (name, _, volume) in &named {
        page.line(&format!("    - name: {}", string(name)));
        if volume.memory {
            page.line("      emptyDir:");
            page.line("        medium: \"Memory\"");
        } else {
            page.line("      emptyDir: {}");
        }
    }
}

/// What the image itself must hold, as no volume does it: files that are there already.
fn in_the_image(page: &mut Page, grants: &Grants, volumes: &Volumes) {
    let (uid, gid) = (grants.account.run_uid, grants.account.run_gid);
    let mut lines = Vec::new();
    for path in &volumes.in_the_image {
        let directory = grants.directories.get(path).map(|grant| (grant.mode, &grant.why));
        let file = grants.files.get(path).map(|grant| (grant.mode.unwrap_or(0o600), &grant.why));
        for (mode, why) in directory.into_iter().chain(file) {
            lines.push(format!("{path}: owner {uid}:{gid}, mode {mode:04o}; {}", super::reason(why)));
            page.cannot(
                why,
                "a pod cannot give what is in the image to another owner",
                "have the image own it",
            );
        }
    }
    for (path, acl) in &grants.acls {
        lines.push(format!("{path}: {} for uid {uid}; {}", acl.text(), super::reason(&acl.why)));
        let hint = "have the image own it, or mount it as a Secret or ConfigMap with defaultMode and fsGroup";
        page.cannot(&acl.why, "a pod cannot set ACL entries in the image", hint);
    }
    page.section("The image has to hold these (COPY --chown, RUN install -o):", lines);
}

fn not_here(page: &mut Page, grants: &Grants) {
    let host = "set it on the node, or ask the cluster's administrator";
    for sysctl in grants.sysctls.values() {
        page.cannot(&sysctl.why, "kernel parameters of the machine are not set by a restricted pod", host);
    }
    for why in grants.modules.values() {
        page.cannot(why, "modules are loaded on the node", host);
    }
    for device in grants.devices.values() {
        let hint = "a device plugin, with device_ownership_from_security_context in containerd";
        page.cannot(&device.why, "devices reach a pod through a device plugin", hint);
    }
    for limit in grants.limits.values() {
        page.cannot(
            &limit.why,
            "a pod cannot set resource limits of processes",
            "set them in the container runtime",
        );
    }
    for (_, why) in grants.nice.iter().chain(&grants.oom_score) {
        page.cannot(
            why,
            "a pod cannot set process priorities",
            "use resource requests and limits, and a QoS class",
        );
    }
    if let Some(why) = &grants.delegate {
        page.cannot(why, "control groups belong to the kubelet", "run it as a systemd service on the node");
    }
}
