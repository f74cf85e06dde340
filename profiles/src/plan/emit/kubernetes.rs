//! A patch for the (static) pod of a component: `securityContext`, groups, and the host's files that it mounts.

use super::super::model::Arrangement;
use super::mounts::{Mount, capabilities_of, gains, mountable, mounts_of};
use super::parts::{comment, emitted, file_name, line};
use super::pod::Pod;
use crate::emit::Emitted;
use crate::emit::escape::yaml::string;

/// A strategic merge patch: for the manifest that is given, else for one that is called as the component; then it is also a
/// whole Pod but for the image.
pub(super) fn patch(arrangement: &Arrangement, component: usize, pod: Option<&Pod>) -> Emitted {
    let component_name = arrangement.components.get(component).map_or("component", String::as_str);
    let name = pod.map_or_else(|| label(component_name), |pod| pod.name().to_owned());
    let mut out = String::new();
    comment(&mut out, 0, &format!("Patch for the pod of {component_name}: user, groups and mounts."));
    comment(
        &mut out,
        0,
        "fsGroup has no effect on hostPath volumes: sysusers.d and tmpfiles.d go to each node first.",
    );
    let (api, kind) = pod.map_or(("v1", "Pod"), Pod::kind);
    line(&mut out, &format!("apiVersion: {}\nkind: {}", plain(api), plain(kind)));
    line(&mut out, &format!("metadata:\n  name: {}", string(&name)));
    if let Some(namespace) = pod.and_then(Pod::namespace) {
        line(&mut out, &format!("  namespace: {}", string(namespace)));
    }
    let path = pod.map_or(&["spec"][..], Pod::path);
    for (depth, key) in path.iter().enumerate() {
        line(&mut out, &format!("{:indent$}{key}:", "", indent = 2 * depth));
    }
    let deeper = " ".repeat(2 * path.len() - 2);
    for text in specification(arrangement, component, pod).lines() {
        line(&mut out, &format!("{deeper}{text}"));
    }
    let file = pod.map_or_else(|| file_name(component_name), |pod| file_name(pod.name()));
    emitted(format!("kubernetes/{file}.yaml"), out)
}

/// What of a pod's specification is said, two blanks in.
fn specification(arrangement: &Arrangement, component: usize, pod: Option<&Pod>) -> String {
    let mut out = String::new();
    let groups: Vec<_> = arrangement.groups_of(component).collect();
    if pod.is_none() || !groups.is_empty() {
        line(&mut out, "  securityContext:");
    }
    if pod.is_none() {
        identity(&mut out, arrangement, component, 4);
    }
    if !groups.is_empty() {
        line(&mut out, "    supplementalGroups:");
    }
    for group in groups {
        comment(&mut out, 6, &group.name);
        line(&mut out, &format!("      - {}", group.gid));
    }
    let component_name = arrangement.components.get(component).map_or("component", String::as_str);
    let container = pod.map_or_else(|| label(component_name), |pod| pod.container_name().to_owned());
    line(&mut out, &format!("  containers:\n    - name: {}", string(&container)));
    line(&mut out, "      securityContext:");
    if pod.is_some() {
        identity(&mut out, arrangement, component, 8);
    }
    let gains = gains(arrangement, component);
    gains.iter().for_each(|why| comment(&mut out, 8, &why.reason));
    line(&mut out, &format!("        allowPrivilegeEscalation: {}", !gains.is_empty()));
    line(&mut out, "        capabilities:\n          drop: [\"ALL\"]");
    let capabilities = capabilities_of(arrangement, component);
    if !capabilities.is_empty() {
        comment(
            &mut out,
            10,
            "They reach a process that is not root only through a file capability in the image (KEP-2763).",
        );
        line(&mut out, "          add:");
    }
    capabilities.iter().for_each(|name| line(&mut out, &format!("            - {}", string(name))));
    mounts(&mut out, arrangement, component, pod);
    out
}

fn identity(out: &mut String, arrangement: &Arrangement, component: usize, indent: usize) {
    let mut put = |text: &str| line(out, &format!("{:indent$}{text}", ""));
    put("runAsNonRoot: true");
    if let Some(user) = arrangement.users.get(component) {
        put(&format!("runAsUser: {}", user.uid));
        put(&format!("runAsGroup: {}", user.gid));
    }
    put("seccompProfile:");
    put("  type: RuntimeDefault");
}

/// An API or a kind, bare where it is plain.
fn plain(text: &str) -> String {
    let bare = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.'));
    if bare && !text.is_empty() { text.to_owned() } else { string(text) }
}

fn mounts(out: &mut String, arrangement: &Arrangement, component: usize, pod: Option<&Pod>) {
    let mut mounts = mounts_of(arrangement, component);
    mounts.retain(|path, mount| pod.is_none_or(|pod| !pod.mounts(path, mount)));
    let named: Vec<(String, &str, &Mount)> = mounts
        .iter()
        .filter_map(|(path, mount)| Some((mountable(path)?, mount)))
        .enumerate()
        .map(|(n, (path, mount))| (format!("host-{}", n + 1), path, mount))
        .collect();
    for path in mounts.keys().filter(|path| mountable(path).is_none()) {
        comment(out, 6, &format!("{path} cannot be mounted under this name"));
    }
    if named.is_empty() {
        return;
    }
    line(out, "      volumeMounts:");
    for (name, path, mount) in &named {
        line(out, &format!("        - name: {}", string(name)));
        line(out, &format!("          mountPath: {}", string(path)));
        line(out, &format!("          readOnly: {}", mount.read_only));
    }
    line(out, "  volumes:");
    for (name, path, mount) in &named {
        line(out, &format!("    - name: {}", string(name)));
        line(out, "      hostPath:");
        line(out, &format!("        path: {}", string(path)));
        line(out, &format!("        type: {}", mount.kind));
    }
}

/// A DNS label, RFC 1123.
fn label(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let label: String = name.chars().map(plain).take(63).collect();
    match label.trim_matches('-') {
        "" => "component".into(),
        label => label.to_owned(),
    }
}
