//! What confines a container, as options of `podman run`.

use nrtrace_profiles::emit::Confined;

/// Those of a run that is refused nothing: the capabilities of a user that is not root are ambient.
pub(super) fn permissive((uid, gid): (u32, u32)) -> Vec<String> {
    vec![format!("--user={uid}:{gid}"), "--cap-add=all".into()]
}

/// Those of a run that is confined as the pod is. The seccomp profile is the runtime's own unless another is named.
pub(super) fn confining(confined: &Confined) -> Vec<String> {
    let (uid, gid) = confined.user;
    let mut options = vec![format!("--user={uid}:{gid}")];
    options.extend(confined.groups.iter().map(|group| format!("--group-add={group}")));
    if confined.read_only {
        // podman would keep /run, /tmp and /var/tmp writable, which no pod does.
        options.extend(["--read-only".to_owned(), "--read-only-tmpfs=false".to_owned()]);
    }
    options.push("--cap-drop=all".into());
    let name = |text: String| text.trim_start_matches("CAP_").to_owned();
    options
        .extend(confined.capabilities.iter().map(|added| format!("--cap-add={}", name(added.to_string()))));
    if !confined.may_gain {
        options.push("--security-opt=no-new-privileges".into());
    }
    options.extend(confined.sysctls.iter().map(|(name, value)| format!("--sysctl={name}={value}")));
    options.extend(confined.environment.iter().map(|(name, value)| format!("--env={name}={value}")));
    options
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use nrtrace_profiles::Capability;

    use super::*;

    fn confined() -> Confined {
        Confined {
            user: (10_001, 10_002),
            fs_group: Some(10_002),
            groups: BTreeSet::new(),
            read_only: true,
            capabilities: BTreeSet::new(),
            may_gain: false,
            sysctls: BTreeMap::new(),
            environment: BTreeMap::new(),
            volumes: BTreeMap::new(),
            changes_image: false,
            withheld: BTreeSet::new(),
            by_volume: BTreeSet::new(),
            on_host: BTreeSet::new(),
        }
    }

    #[test]
    fn a_restricted_pod_has_nothing() {
        let expected = [
            "--user=10001:10002",
            "--read-only",
            "--read-only-tmpfs=false",
            "--cap-drop=all",
            "--security-opt=no-new-privileges",
        ];
        assert_eq!(confining(&confined()), expected);
    }

    #[test]
    fn what_the_artefact_grants_is_given() {
        let confined = Confined {
            groups: [4].into(),
            read_only: false,
            capabilities: [Capability::NET_RAW].into(),
            may_gain: true,
            sysctls: [("net.ipv4.ip_unprivileged_port_start".to_owned(), "80".to_owned())].into(),
            environment: [("HOME".to_owned(), "/tmp".to_owned())].into(),
            ..confined()
        };
        let expected = [
            "--user=10001:10002",
            "--group-add=4",
            "--cap-drop=all",
            "--cap-add=NET_RAW",
            "--sysctl=net.ipv4.ip_unprivileged_port_start=80",
            "--env=HOME=/tmp",
        ];
        assert_eq!(confining(&confined), expected);
    }

    #[test]
    fn a_run_that_is_refused_nothing_keeps_its_user() {
        assert_eq!(permissive((7, 8)), ["--user=7:8", "--cap-add=all"]);
    }
}
