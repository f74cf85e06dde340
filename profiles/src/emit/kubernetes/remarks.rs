//! What the pod cannot do by itself, in the words of its manifest.

use super::level::SAFE_SYSCTLS;
use super::parts::Parts;
use crate::container::Place;
use crate::emit::page::{Page, reason};
use crate::emit::volumes;

/// How a device node reaches a pod, and what to do for it: a `hostPath` of one is there and cannot be opened, as the
/// container's device control group forbids it.
fn device_in_a_pod(block: bool) -> (&'static str, &'static str) {
    if block {
        let hint = "claim a volume with volumeMode: Block, and name it under volumeDevices with this path as its devicePath";
        return ("a block device reaches a pod as a raw block volume, not as a hostPath", hint);
    }
    let hint = "a device plugin offers it as a resource under limits; device_ownership_from_security_context = true in containerd \
                or CRI-O makes it the user's";
    ("a device reaches a pod through a device plugin, not as a hostPath", hint)
}

impl Parts<'_> {
    /// What the pod cannot do by itself: in the image, on the node, and not at all.
    pub(super) fn remarks(&self, page: &mut Page) {
        self.in_the_image(page);
        self.on_the_node(page);
        self.not_here(page);
    }

    fn in_the_image(&self, page: &mut Page) {
        let (uid, gid) = (self.grants.account.run_uid, self.grants.account.run_gid);
        let mut lines = Vec::new();
        for path in &self.volumes.in_the_image {
            let directory = self.grants.directories.get(path).map(|grant| (grant.mode, &grant.why));
            let file = self.grants.files.get(path).map(|grant| (grant.mode.unwrap_or(0o600), &grant.why));
            for (mode, why) in directory.into_iter().chain(file) {
                lines.push(format!("{path}: owner {uid}:{gid}, mode {mode:04o}; {}", reason(why)));
                page.cannot(
                    why,
                    "a pod cannot give what is in the image to another owner",
                    "have the image own it",
                );
            }
        }
        for (path, acl) in
            self.grants.acls.iter().filter(|(path, _)| !self.volumes.mounted.contains_key(*path))
        {
            lines.push(format!("{path}: {} for uid {uid}; {}", acl.text(), reason(&acl.why)));
            let hint =
                "have the image own it, or mount it as a Secret or ConfigMap with defaultMode and fsGroup";
            page.cannot(&acl.why, "a pod cannot set ACL entries in the image", hint);
        }
        for capability in self.file_capabilities() {
            lines.push(format!(
                "setcap {}=ep on the executable, as capabilities.add alone does not reach a user that is not root (KEP-2763)",
                capability.to_string().to_lowercase()
            ));
        }
        page.section("The image has to hold these (the lines of Containerfile do it):", lines);
    }

    fn on_the_node(&self, page: &mut Page) {
        let (uid, gid) = (self.grants.account.run_uid, self.grants.account.run_gid);
        let mut lines = Vec::new();
        for (path, (placement, why)) in &self.volumes.mounted {
            let volume = placement.volume.as_deref().unwrap_or("a volume");
            lines.push(match placement.place {
                Place::Bind => {
                    let host = placement.host.as_ref().unwrap_or(path);
                    let what = match volumes::on_host(self.profile, path, placement, self.grants) {
                        _ if why.needs.is_empty() => "where the user may write as it is".to_owned(),
                        Ok(_) => {
                            page.cannot(
                                why,
                                "fsGroup has no effect on hostPath",
                                "set its owner on the node",
                            );
                            format!("fsGroup does not reach it; on the node: chown {uid}:{gid}")
                        }
                        Err(refused) => {
                            page.cannot(why, "it is the node's", &refused);
                            refused
                        }
                    };
                    format!("{path} is hostPath {host}: {what}; where SELinux enforces, it has to be labelled there: chcon -Rt container_file_t {host}")
                }
                Place::Secret | Place::ConfigMap | Place::Projected => {
                    format!(
                        "{path} is in {volume}, read-only: set defaultMode 0440, which fsGroup {gid} may read"
                    )
                }
                _ => format!("{path} is on {volume}, which fsGroup {gid} makes writable"),
            });
        }
        page.section("On mounts of the container that was traced; the pod needs them too:", lines);
    }

    fn not_here(&self, page: &mut Page) {
        let grants = self.grants;
        let host = "set it on the node, or ask the cluster's administrator";
        for (name, sysctl) in &grants.sysctls {
            if !SAFE_SYSCTLS.contains(&name.replace('/', ".").as_str()) {
                page.cannot(
                    &sysctl.why,
                    "kernel parameters of the machine are not set by a restricted pod",
                    host,
                );
            }
        }
        for why in grants.modules.values().chain(grants.before_start.iter().map(|(_, why)| why)) {
            page.cannot(why, "what root does before the start is done on the node", host);
        }
        for credential in grants.credentials.values() {
            page.cannot(
                &credential.why,
                "LoadCredential= is systemd's",
                "mount it as a Secret with defaultMode and fsGroup",
            );
        }
        for device in grants.devices.values() {
            let (why, hint) = device_in_a_pod(device.block);
            page.cannot(&device.why, why, hint);
        }
        for limit in grants.limits.values() {
            let hint = "set them in the container runtime";
            page.cannot(&limit.why, "a pod cannot set resource limits of processes", hint);
        }
        for (_, why) in grants.nice.iter().chain(&grants.oom_score) {
            let hint = "use resource requests and limits, and a QoS class";
            page.cannot(why, "a pod cannot set process priorities", hint);
        }
        if let Some(why) = &grants.delegate {
            page.cannot(
                why,
                "control groups belong to the kubelet",
                "run it as a systemd service on the node",
            );
        }
    }
}
