//! A patch for the (static) pod of a component: `securityContext`, groups, and the host's files that it mounts.

use std::collections::{BTreeMap, BTreeSet};

use super::super::matrix::WRITE;
use super::super::model::Arrangement;
use super::parts::{comment, emitted, file_name, line};
use crate::RawText;
use crate::emit::Emitted;
use crate::emit::escape::yaml::string;
use crate::event::FileType;
use crate::paths::parent;

/// What is mounted from the host.
struct Mount {
    read_only: bool,
    /// The `type` of a hostPath volume.
    kind: &'static str,
}

/// A strategic merge patch, which is also a whole Pod but for the image.
pub(super) fn patch(arrangement: &Arrangement, component: usize) -> Emitted {
    let component_name = arrangement.components.get(component).map_or("component", String::as_str);
    let name = label(component_name);
    let mut out = String::new();
    comment(&mut out, 0, &format!("Patch for the pod of {component_name}: user, groups and mounts."));
    comment(
        &mut out,
        0,
        "fsGroup has no effect on hostPath volumes: sysusers.d and tmpfiles.d go to each node first.",
    );
    line(&mut out, "apiVersion: v1");
    line(&mut out, "kind: Pod");
    line(&mut out, &format!("metadata:\n  name: {}", string(&name)));
    line(&mut out, "spec:\n  securityContext:\n    runAsNonRoot: true");
    if let Some(user) = arrangement.users.get(component) {
        line(&mut out, &format!("    runAsUser: {}", user.uid));
        line(&mut out, &format!("    runAsGroup: {}", user.gid));
    }
    let groups: Vec<_> = arrangement.groups_of(component).collect();
    if !groups.is_empty() {
        line(&mut out, "    supplementalGroups:");
    }
    for group in groups {
        comment(&mut out, 6, &group.name);
        line(&mut out, &format!("      - {}", group.gid));
    }
    line(&mut out, "    seccompProfile:\n      type: RuntimeDefault");
    line(&mut out, &format!("  containers:\n    - name: {}", string(&name)));
    let gains = arrangement.executes.get(component).map_or(&[][..], |executes| &executes.gains);
    line(&mut out, "      securityContext:");
    gains.iter().for_each(|why| comment(&mut out, 8, &why.reason));
    line(&mut out, &format!("        allowPrivilegeEscalation: {}", !gains.is_empty()));
    line(&mut out, "        capabilities:\n          drop: [\"ALL\"]");
    capabilities(&mut out, arrangement, component);
    mounts(&mut out, arrangement, component);
    emitted(format!("kubernetes/{}.yaml", file_name(component_name)), out)
}

fn capabilities(out: &mut String, arrangement: &Arrangement, component: usize) {
    let wanted = arrangement.capabilities.get(component).into_iter().flatten();
    let kept = arrangement.executes.get(component).into_iter().flat_map(|executes| executes.kept.keys());
    let wanted: BTreeSet<_> = wanted.chain(kept).collect();
    if wanted.is_empty() {
        return;
    }
    comment(
        out,
        10,
        "They reach a process that is not root only through a file capability in the image (KEP-2763).",
    );
    line(out, "          add:");
    for capability in wanted {
        let name = capability.to_string();
        line(out, &format!("            - {}", string(name.trim_start_matches("CAP_"))));
    }
}

fn mounts(out: &mut String, arrangement: &Arrangement, component: usize) {
    let mounts = plan(arrangement, component);
    let named: Vec<(String, &str, &Mount)> = mounts
        .iter()
        .filter_map(|(path, mount)| Some((path.as_str()?, mount)))
        // Kubernetes refuses a colon and dots upwards in mount paths.
        .filter(|(path, _)| !path.contains(':'))
        .enumerate()
        .map(|(n, (path, mount))| (format!("host-{}", n + 1), path, mount))
        .collect();
    for path in mounts.keys().filter(|path| named.iter().all(|(_, known, _)| path.as_str() != Some(known))) {
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

/// What the component mounts: a directory that it changes, or of which it uses several files, and single files elsewhere.
/// Nothing is mounted twice.
fn plan(arrangement: &Arrangement, component: usize) -> BTreeMap<RawText, Mount> {
    let uses = |path: &RawText| {
        let entry = arrangement.entries.get(path)?;
        entry.uses.get(&component).map(|bits| (entry, *bits))
    };
    let mut wanted: BTreeMap<RawText, Mount> = BTreeMap::new();
    let mut in_directory: BTreeMap<RawText, usize> = BTreeMap::new();
    for (path, entry) in &arrangement.entries {
        if entry.file_type != FileType::Directory && entry.uses.contains_key(&component) {
            *in_directory.entry(parent(path)).or_default() += 1;
        }
    }
    for (path, entry) in &arrangement.entries {
        let Some(bits) = entry.uses.get(&component) else { continue };
        let writes = bits & WRITE != 0;
        let directory = parent(path);
        let together =
            uses(&directory).is_some() && in_directory.get(&directory).is_some_and(|count| *count > 1);
        let socket = entry.file_type == FileType::Socket || entry.made;
        let (at, kind, read_only) = match entry.file_type {
            FileType::Directory if writes => (path.clone(), "Directory", false),
            // A directory passed through is mounted for what is in it; one that is listed, as a whole.
            FileType::Directory if bits & 4 != 0 => (path.clone(), "Directory", true),
            FileType::Directory => continue,
            _ if socket => (directory, "Directory", false),
            _ if together && !writes => (directory, "Directory", true),
            _ => (path.clone(), "File", !writes),
        };
        let mount = wanted.entry(at).or_insert(Mount { read_only, kind });
        mount.read_only &= read_only;
    }
    let covered = |path: &RawText| {
        let mut at = parent(path);
        while at.as_bytes().len() > 1 {
            let above = wanted.get(&at).filter(|mount| mount.kind == "Directory");
            if above
                .is_some_and(|mount| !mount.read_only || wanted.get(path).is_some_and(|own| own.read_only))
            {
                return true;
            }
            at = parent(&at);
        }
        false
    };
    let hidden: Vec<RawText> = wanted.keys().filter(|path| covered(path)).cloned().collect();
    hidden.iter().for_each(|path| {
        wanted.remove(path);
    });
    wanted
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
