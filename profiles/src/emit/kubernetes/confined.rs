//! What `kubernetes.yaml` says of its container, as data: for those who start one like it and see whether the program lives.

use std::collections::{BTreeMap, BTreeSet};

use super::parts::{Parts, prepare, sub_path};
use crate::container::Place;
use crate::emit::volumes;
use crate::grants::{Grants, Why};
use crate::profile::Profile;
use crate::{Capability, RawText};

/// How the container is confined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confined {
    /// `runAsUser` and `runAsGroup`.
    pub user: (u32, u32),
    /// `fsGroup`: whose the volumes are; `None` where the platform chooses it.
    pub fs_group: Option<u32>,
    /// `supplementalGroups`
    pub groups: BTreeSet<u32>,
    /// `readOnlyRootFilesystem`
    pub read_only: bool,
    /// `capabilities.add`, after `drop: ["ALL"]`.
    pub capabilities: BTreeSet<Capability>,
    /// `allowPrivilegeEscalation`
    pub may_gain: bool,
    /// `sysctls` of the pod.
    pub sysctls: BTreeMap<String, String>,
    /// `env`
    pub environment: BTreeMap<String, String>,
    /// Its volumes, all of them `emptyDir`, by mount path.
    pub volumes: BTreeMap<String, EmptyDir>,
    /// Whether the image has to hold something that it does not hold: what the lines of `Containerfile` do.
    pub changes_image: bool,
    /// Ids of needs that are granted elsewhere, and by no pod.
    pub withheld: BTreeSet<String>,
    /// Ids of needs that a volume meets, and nothing on a host would.
    pub by_volume: BTreeSet<String>,
    /// Ids of needs on what the host mounts, whose owner is the host's matter.
    pub on_host: BTreeSet<String>,
}

/// An `emptyDir`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmptyDir {
    /// What its init container runs in a shell, with the mount path as `$1` and where the volume is as `$2`.
    pub prepare: Option<&'static str>,
    /// `subPath` of the mount.
    pub sub_path: Option<&'static str>,
}

/// What the pod says.
pub fn confined(profile: &Profile, grants: &Grants) -> Confined {
    let volumes = volumes::plan(profile, grants);
    let parts = Parts { profile, grants, volumes: &volumes, low_ports: true, prefix: "" };
    let account = &grants.account;
    let arbitrary = grants.choices.arbitrary_uid;
    let capabilities = parts.added();
    let on_image = |path: &RawText| !volumes.mounted.contains_key(path);
    let changes_image = !volumes.in_the_image.is_empty()
        || !parts.file_capabilities().is_empty()
        || grants.acls.keys().any(|path| on_image(path) && !path.as_bytes().starts_with(b"/dev/"));
    let mounted = volumes.mounted.values();
    let on_host = mounted.filter(|(placement, _)| placement.place == Place::Bind);
    Confined {
        user: (account.run_uid, if arbitrary { 0 } else { account.run_gid }),
        fs_group: (!arbitrary).then_some(account.run_gid),
        groups: grants.groups.values().map(|membership| membership.gid).collect(),
        read_only: volumes.not_read_only.is_empty(),
        may_gain: !parts.file_capabilities().is_empty() || !grants.executes.gains.is_empty(),
        capabilities,
        sysctls: parts.own_sysctls().into_iter().map(|(name, (value, _))| (name.to_owned(), value)).collect(),
        environment: grants
            .environment
            .iter()
            .map(|(name, variable)| (name.clone(), variable.value.clone()))
            .collect(),
        volumes: volumes
            .mounts
            .iter()
            .filter_map(|(path, volume)| Some((path.as_str()?.to_owned(), volume)))
            .map(|(path, volume)| (path, EmptyDir { prepare: prepare(volume), sub_path: sub_path(volume) }))
            .collect(),
        changes_image,
        by_volume: volumes.met.iter().map(|met| met.need.clone()).collect(),
        withheld: elsewhere(grants).flat_map(|why| why.needs.iter().cloned()).collect(),
        on_host: on_host.flat_map(|(_, why)| why.needs.iter().cloned()).collect(),
    }
}

/// What is granted on a host, and by no pod.
fn elsewhere(grants: &Grants) -> impl Iterator<Item = &Why> {
    let unsafe_sysctl =
        |name: &&String| !super::level::SAFE_SYSCTLS.contains(&name.replace('/', ".").as_str());
    let port = crate::grants::PORT_SYSCTL;
    let sysctls = grants.sysctls.iter().filter(move |(name, _)| unsafe_sysctl(name) && *name != port);
    sysctls
        .map(|(_, sysctl)| &sysctl.why)
        .chain(grants.modules.values())
        .chain(grants.before_start.iter().map(|(_, why)| why))
        .chain(grants.credentials.values().map(|credential| &credential.why))
        .chain(grants.devices.values().map(|device| &device.why))
        .chain(grants.limits.values().map(|limit| &limit.why))
        .chain(grants.nice.iter().chain(&grants.oom_score).map(|(_, why)| why))
        .chain(&grants.delegate)
        .chain(
            grants
                .acls
                .iter()
                .filter(|(path, _)| path.as_bytes().starts_with(b"/dev/"))
                .map(|(_, acl)| &acl.why),
        )
        // What the unit alone answers (SystemCallFilter=).
        .chain(grants.directives.values())
}
