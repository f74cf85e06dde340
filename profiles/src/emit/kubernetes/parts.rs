//! The parts of a pod's specification, at any depth of a manifest.

use std::collections::{BTreeMap, BTreeSet};

use super::level::{Level, Obstacle, SAFE_SYSCTLS, level};
use crate::Capability;
use crate::emit::escape::yaml::string;
use crate::emit::page::{Page, reason};
use crate::emit::ports::bound;
use crate::emit::volumes::{self, Volume, Volumes};
use crate::grants::{Grants, Method, PORT_SYSCTL};
use crate::profile::Profile;

/// Columns that a part is indented by.
#[derive(Clone, Copy)]
pub(super) struct At(pub(super) usize);

/// What the manifest has where the patch would otherwise lose or miss something.
#[derive(Default)]
pub(super) struct Present {
    /// The pod's supplementalGroups, which a patch replaces.
    pub(super) groups: Vec<u64>,
    /// The pod's sysctls, which a patch replaces.
    pub(super) sysctls: BTreeMap<String, String>,
    /// Whether the container is privileged.
    pub(super) privileged: bool,
    /// Whether the container adds capabilities.
    pub(super) adds: bool,
}

/// What parts are made from.
pub(super) struct Parts<'a> {
    pub(super) profile: &'a Profile,
    pub(super) grants: &'a Grants,
    pub(super) volumes: &'a Volumes,
    /// Whether low ports can be opened by the pod's own sysctl.
    pub(super) low_ports: bool,
    /// What names of volumes begin with, so that they are not the manifest's own.
    pub(super) prefix: &'a str,
}

impl Page {
    fn put(&mut self, at: At, depth: usize, text: &str) {
        self.line(&format!("{:width$}{text}", "", width = at.0 + depth));
    }
}

impl Parts<'_> {
    /// Capabilities that must be on the file in the image: low ports are free by the sysctl.
    pub(super) fn file_capabilities(&self) -> BTreeSet<Capability> {
        let ports = self.low_ports && !self.grants.ports.is_empty();
        let by_sysctl = |c: &Capability| *c == Capability::NET_BIND_SERVICE && ports;
        let mut all: BTreeSet<Capability> =
            self.grants.capabilities.keys().copied().filter(|c| !by_sysctl(c)).collect();
        let opened = !matches!(
            self.grants.port_method,
            Method::Configure | Method::Capability | Method::FileCapability
        );
        if !self.low_ports && !self.grants.ports.is_empty() && opened {
            all.insert(Capability::NET_BIND_SERVICE);
        }
        all
    }

    /// All capabilities that are added.
    pub(super) fn added(&self) -> BTreeSet<Capability> {
        self.file_capabilities()
            .into_iter()
            .chain(self.grants.kept().map(|(capability, _)| capability))
            .collect()
    }

    /// The level reached, and what stands in the way of the next one.
    pub(super) fn reached(&self, more: &[Obstacle]) -> (Level, Vec<String>) {
        let hosts = volumes::host_paths(self.profile, self.volumes).into_iter();
        let needed = hosts.map(|host| Obstacle {
            leaves: Level::Privileged,
            text: format!("it needs the hostPath {host}"),
        });
        let all: Vec<Obstacle> = needed.chain(more.iter().cloned()).collect();
        level(&self.added(), self.grants, &all)
    }

    /// The level reached, as comments.
    pub(super) fn level(&self, page: &mut Page, more: &[Obstacle]) {
        let (level, obstacles) = self.reached(more);
        page.comment(&format!("Pod Security Standards level reached: {level}."));
        for obstacle in obstacles {
            page.comment(&format!("In the way of the next stricter one: {obstacle}."));
        }
    }

    /// The pod's securityContext; with `ids` the user's too, which otherwise stands with the container.
    pub(super) fn pod_context(&self, page: &mut Page, at: At, present: &Present, ids: bool) {
        let account = &self.grants.account;
        let before = page.text.len();
        page.put(at, 0, "securityContext:");
        if ids {
            self.user(page, At(at.0 + 2));
            page.put(at, 2, "seccompProfile:");
            page.put(at, 2, "  type: RuntimeDefault");
        }
        if self.grants.choices.arbitrary_uid {
            page.indented_comment(at.0 + 2, "No fsGroup: the platform chooses uid and fsGroup.");
        } else {
            page.indented_comment(
                at.0 + 2,
                "Volumes are made writable for this group; it has no effect on hostPath.",
            );
            page.put(at, 2, &format!("fsGroup: {}", account.run_gid));
            page.put(at, 2, "fsGroupChangePolicy: \"OnRootMismatch\"");
        }
        self.supplemental_groups(page, at, present);
        self.sysctls(page, at, present);
        let written = page.text.get(before..).unwrap_or_default();
        if written.lines().skip(1).all(|line| line.trim_start().starts_with('#')) {
            page.text.truncate(before);
        }
    }

    /// The user, by number.
    fn user(&self, page: &mut Page, at: At) {
        let account = &self.grants.account;
        page.put(
            at,
            0,
            &format!("runAsNonRoot: {}", self.grants.choices.arbitrary_uid || account.run_uid != 0),
        );
        if !self.grants.choices.arbitrary_uid {
            page.put(at, 0, &format!("runAsUser: {}", account.run_uid));
            page.put(at, 0, &format!("runAsGroup: {}", account.run_gid));
        }
    }

    fn supplemental_groups(&self, page: &mut Page, at: At, present: &Present) {
        if self.grants.groups.is_empty() {
            return;
        }
        page.put(at, 2, "supplementalGroups:");
        for gid in &present.groups {
            page.put(at, 4, &format!("- {gid}"));
        }
        for (group, membership) in &self.grants.groups {
            page.indented_why(at.0 + 4, &membership.why);
            page.indented_comment(
                at.0 + 4,
                &format!("The number of group {group} on the machine of the run; the image's may differ."),
            );
            page.put(at, 4, &format!("- {}", membership.gid));
        }
    }

    /// The sysctls of the pod, each with why it is set.
    pub(super) fn own_sysctls(&self) -> BTreeMap<&str, (String, Vec<String>)> {
        let mut ours: BTreeMap<&str, (String, Vec<String>)> = BTreeMap::new();
        if let Some((port, _)) = self.grants.ports.first_key_value().filter(|_| self.low_ports) {
            let mut whys: Vec<String> = self.grants.ports.values().map(reason).collect();
            whys.push(
                "A safe sysctl: capabilities.add does not reach a process that is not root (KEP-2763)."
                    .into(),
            );
            ours.insert(PORT_SYSCTL, (port.to_string(), whys));
        }
        for (name, sysctl) in &self.grants.sysctls {
            let plain = name.replace('/', ".");
            if let Some(safe) = SAFE_SYSCTLS.iter().find(|safe| **safe == plain) {
                ours.entry(safe).or_insert((sysctl.value.clone(), vec![reason(&sysctl.why)]));
            }
        }
        ours
    }

    fn sysctls(&self, page: &mut Page, at: At, present: &Present) {
        let ours = self.own_sysctls();
        if ours.is_empty() {
            return;
        }
        page.put(at, 2, "sysctls:");
        for (name, value) in present.sysctls.iter().filter(|(name, _)| !ours.contains_key(name.as_str())) {
            page.put(at, 4, &format!("- name: {}", string(name)));
            page.put(at, 4, &format!("  value: {}", string(value)));
        }
        for (name, (value, whys)) in ours {
            whys.iter().for_each(|why| page.indented_comment(at.0 + 4, why));
            page.put(at, 4, &format!("- name: {}", string(name)));
            page.put(at, 4, &format!("  value: {}", string(&value)));
        }
    }

    /// The container's securityContext; with `ids` the user's too.
    pub(super) fn container_context(&self, page: &mut Page, at: At, ids: bool, present: &Present) {
        let capabilities = self.file_capabilities();
        page.put(at, 0, "securityContext:");
        if ids {
            self.user(page, At(at.0 + 2));
            page.put(at, 2, "seccompProfile:");
            page.put(at, 2, "  type: RuntimeDefault");
        }
        if present.privileged {
            page.indented_comment(at.0 + 2, "The manifest has it privileged.");
            page.put(at, 2, "privileged: false");
        }
        if !capabilities.is_empty() {
            page.indented_comment(
                at.0 + 2,
                "File capabilities have no effect with false; have the image run setcap on its executable.",
            );
        }
        let gains = &self.grants.executes.gains;
        gains.iter().for_each(|why| page.indented_why(at.0 + 2, why));
        page.put(
            at,
            2,
            &format!("allowPrivilegeEscalation: {}", !capabilities.is_empty() || !gains.is_empty()),
        );
        for why in &self.volumes.not_read_only {
            page.indented_comment(at.0 + 2, &format!("Not read-only: {why}."));
        }
        page.put(at, 2, &format!("readOnlyRootFilesystem: {}", self.volumes.not_read_only.is_empty()));
        page.put(at, 2, "capabilities:");
        page.put(at, 4, "drop: [\"ALL\"]");
        let kept: Vec<_> = self.grants.kept().filter(|(kept, _)| !capabilities.contains(kept)).collect();
        if capabilities.is_empty() && kept.is_empty() && present.adds {
            page.indented_comment(at.0 + 4, "Takes away what the manifest adds.");
            page.put(at, 4, "add: null");
        }
        if !capabilities.is_empty() || !kept.is_empty() {
            page.put(at, 4, "add:");
        }
        for (capability, why) in kept {
            page.indented_why(at.0 + 6, why);
            page.put(at, 6, &format!("- {}", string(capability.to_string().trim_start_matches("CAP_"))));
        }
        for capability in &capabilities {
            if let Some(grant) = self.grants.capabilities.get(capability) {
                page.indented_why(at.0 + 6, &grant.why);
                if let Some(danger) = grant.danger {
                    page.indented_comment(at.0 + 6, &format!("Danger: {capability} {danger}."));
                }
            }
            page.put(at, 6, &format!("- {}", string(capability.to_string().trim_start_matches("CAP_"))));
        }
    }

    pub(super) fn command(&self, page: &mut Page, at: At) {
        let texts: Option<Vec<&str>> = self.profile.command.iter().map(|word| word.as_str()).collect();
        match texts {
            Some(words) if !words.is_empty() => {
                // $(NAME) would be replaced by a variable of the container.
                let words: Vec<String> =
                    words.iter().map(|word| string(&word.replace("$(", "$$("))).collect();
                page.put(at, 0, &format!("command: [{}]", words.join(", ")));
            }
            _ => page.indented_comment(
                at.0,
                "The command is not valid UTF-8, which YAML cannot hold: write it by hand.",
            ),
        }
    }

    pub(super) fn environment(&self, page: &mut Page, at: At) {
        if !self.grants.environment.is_empty() {
            page.put(at, 0, "env:");
        }
        for (name, variable) in &self.grants.environment {
            page.indented_why(at.0 + 2, &variable.why);
            page.put(at, 2, &format!("- name: {}", string(name)));
            // $(NAME) would be replaced by another variable.
            page.put(at, 2, &format!("  value: {}", string(&variable.value.replace("$(", "$$("))));
        }
    }

    pub(super) fn ports(&self, page: &mut Page, at: At) {
        let ports = bound(self.profile);
        if !ports.is_empty() {
            page.put(at, 0, "ports:");
        }
        for ((port, protocol), addresses) in ports {
            let addresses: Vec<String> = addresses.into_iter().collect();
            page.indented_comment(at.0 + 2, &format!("Bound on {}.", addresses.join(", ")));
            page.put(at, 2, &format!("- name: {}", string(&format!("{}-{port}", protocol.to_lowercase()))));
            page.put(at, 2, &format!("  containerPort: {port}"));
            page.put(at, 2, &format!("  protocol: {protocol}"));
        }
    }

    /// The volumes with their names.
    fn named(&self) -> Vec<(String, &str, &Volume)> {
        let mounts = self.volumes.mounts.iter();
        mounts
            .filter_map(|(path, volume)| Some((path.as_str()?, volume)))
            .enumerate()
            .map(|(n, (path, volume))| (format!("{}{}-{}", self.prefix, volume.word, n + 1), path, volume))
            .collect()
    }

    /// Containers that prepare volumes: they copy what the image has, and make directories that are to be the user's. Their
    /// names.
    pub(super) fn init_containers(&self, page: &mut Page, at: At, image: &str) -> Vec<String> {
        let named = self.named();
        let prepared: Vec<_> = named
            .iter()
            .filter_map(|(name, path, volume)| Some((name, path, volume, prepare(volume)?)))
            .collect();
        if !prepared.is_empty() {
            page.put(at, 0, "initContainers:");
        }
        for (name, path, volume, script) in &prepared {
            let comment = if volume.copied {
                "Copies what the image has there, which the volume would hide; as the same user, who must be able to read it."
            } else {
                "Makes a directory that is the user's own: the program changes its mode, and a volume's root is root's."
            };
            page.indented_comment(at.0 + 2, comment);
            page.put(at, 2, &format!("- name: {}", string(&format!("prepare-{name}"))));
            page.put(at, 4, &format!("image: {image}"));
            let target = format!("/nrtrace/{name}");
            let words = ["/bin/sh", "-euc", script, "sh", path, &target].map(string);
            page.put(at, 4, &format!("command: [{}]", words.join(", ")));
            page.put(at, 4, "securityContext:");
            self.user(page, At(at.0 + 6));
            page.put(at, 6, "seccompProfile:");
            page.put(at, 6, "  type: RuntimeDefault");
            page.put(at, 6, "allowPrivilegeEscalation: false");
            page.put(at, 6, "readOnlyRootFilesystem: true");
            page.put(at, 6, "capabilities:");
            page.put(at, 6, "  drop: [\"ALL\"]");
            page.put(at, 4, "volumeMounts:");
            page.put(at, 6, &format!("- name: {}", string(name)));
            page.put(at, 6, &format!("  mountPath: {}", string(&target)));
        }
        prepared.into_iter().map(|(name, ..)| format!("prepare-{name}")).collect()
    }

    pub(super) fn mounts(&self, page: &mut Page, at: At) {
        for why in &self.volumes.unnameable {
            let hint = "have the image hold the directory, owned by the user";
            page.cannot(why, "mountPath cannot hold this name", hint);
        }
        let named = self.named();
        if named.is_empty() {
            return;
        }
        page.put(at, 0, "volumeMounts:");
        for (name, path, volume) in &named {
            page.indented_why(at.0 + 2, &volume.why);
            page.put(at, 2, &format!("- name: {}", string(name)));
            page.put(at, 2, &format!("  mountPath: {}", string(path)));
            if let Some(part) = sub_path(volume) {
                page.put(at, 2, &format!("  subPath: {}", string(part)));
            }
        }
    }

    pub(super) fn volumes(&self, page: &mut Page, at: At) {
        let named = self.named();
        if named.is_empty() {
            return;
        }
        page.put(at, 0, "volumes:");
        page.indented_comment(at.0 + 2, "Writable for fsGroup, and gone with the pod.");
        for (name, _, volume) in &named {
            if volume.kept {
                page.indented_comment(at.0 + 2, "For data to keep, use a persistentVolumeClaim instead.");
            }
            page.put(at, 2, &format!("- name: {}", string(name)));
            if volume.memory {
                page.put(at, 4, "emptyDir:");
                page.put(at, 4, "  medium: \"Memory\"");
            } else {
                page.put(at, 4, "emptyDir: {}");
            }
        }
    }
}

/// The text of an init container's shell, where the volume has to be prepared. A volume's root is root's, so that its times
/// cannot be set: what is in it is copied piece by piece.
pub(super) fn prepare(volume: &Volume) -> Option<&'static str> {
    match (volume.owned, volume.copied) {
        (true, true) => Some("mkdir -m 0700 \"$2/own\"; [ ! -d \"$1\" ] || cp -RPp \"$1/.\" \"$2/own\""),
        (true, false) => Some("mkdir -m 0700 \"$2/own\""),
        (false, true) => Some(
            "[ ! -d \"$1\" ] || { [ -r \"$1\" ] || { echo \"$1 is not readable\" >&2; exit 1; }; \
             for f in \"$1\"/* \"$1\"/.[!.]* \"$1\"/..?*; do [ ! -e \"$f\" ] && [ ! -L \"$f\" ] || cp -RPp \"$f\" \"$2\"; done; }",
        ),
        (false, false) => None,
    }
}

/// The part of a volume that is mounted.
pub(super) fn sub_path(volume: &Volume) -> Option<&'static str> {
    volume.owned.then_some("own")
}
