//! What outlives a pod and is somebody's data: copies have an empty directory in its place.

use std::collections::BTreeSet;
use std::fmt;

use nrtrace_profiles::emit::LISTS;
use serde_json::Value;

/// What a volume keeps its data in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Storage {
    /// A claim.
    Claim(String),
    /// A directory of the node.
    Host(String),
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(name) => write!(f, "claim {name}"),
            Self::Host(path) => write!(f, "hostPath {path}"),
        }
    }
}

impl Storage {
    /// That of a volume.
    pub fn of(volume: &Value) -> Option<Self> {
        if let Some(name) = volume["persistentVolumeClaim"]["claimName"].as_str() {
            return Some(Self::Claim(name.to_owned()));
        }
        let host = &volume["hostPath"];
        let is_directory =
            matches!(host["type"].as_str(), None | Some("" | "Directory" | "DirectoryOrCreate"));
        let path = host["path"].as_str().filter(|_| is_directory)?.trim_end_matches('/');
        Some(Self::Host(if path.is_empty() { "/".into() } else { path.into() }))
    }

    /// Whether either may change what the other holds.
    pub fn shares(&self, other: &Self) -> bool {
        let is_below = |inner: &str, outer: &str| {
            outer == "/"
                || inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match (self, other) {
            (Self::Host(one), Self::Host(two)) => is_below(one, two) || is_below(two, one),
            _ => self == other,
        }
    }
}

/// All that a pod mounts.
pub fn mounted(pod: &Value) -> BTreeSet<Storage> {
    volumes(pod).filter_map(Storage::of).collect()
}

/// What a pod, or the kubelet for it, may change: `fsGroup` gives a claim to a group also where its mount is read-only.
pub fn changed(pod: &Value) -> BTreeSet<Storage> {
    let writes = |volume: &&Value| match volume["persistentVolumeClaim"].is_null() {
        false => volume["persistentVolumeClaim"]["readOnly"] != true,
        true => is_written(pod, &volume["name"]),
    };
    volumes(pod).filter(writes).filter_map(Storage::of).collect()
}

fn volumes(pod: &Value) -> impl Iterator<Item = &Value> {
    pod["volumes"].as_array().into_iter().flatten()
}

fn is_written(pod: &Value, volume: &Value) -> bool {
    let containers = LISTS.into_iter().flat_map(|list| pod[list].as_array().into_iter().flatten());
    let mut mounts =
        containers.flat_map(|container| container["volumeMounts"].as_array().into_iter().flatten());
    mounts.any(|mount| mount["name"] == *volume && mount["readOnly"] != true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_copy_could_change_is_told_from_what_it_reads() {
        let pod = json!({"volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "b", "persistentVolumeClaim": {"claimName": "set", "readOnly": true}},
            {"name": "c", "hostPath": {"path": "/srv/c/"}},
            {"name": "d", "hostPath": {"path": "/srv/d", "type": "Directory"}},
            {"name": "e", "hostPath": {"path": "/run/e.sock", "type": "Socket"}},
            {"name": "f", "emptyDir": {}}],
            "containers": [{"volumeMounts": [{"name": "a", "readOnly": true}, {"name": "c"}, {"name": "e"},
                {"name": "d", "readOnly": true}]}]});
        let (claim, host) =
            (|name: &str| Storage::Claim(name.into()), |path: &str| Storage::Host(path.into()));
        assert_eq!(changed(&pod), [claim("data"), host("/srv/c")].into());
        assert_eq!(mounted(&pod), [claim("data"), claim("set"), host("/srv/c"), host("/srv/d")].into());
    }

    #[test]
    fn directories_of_a_node_share_what_is_below() {
        let host = |path: &str| Storage::Host(path.into());
        for (one, two, shares) in [
            ("/srv", "/srv", true),
            ("/srv", "/srv/data", true),
            ("/", "/srv", true),
            ("/srv/data", "/srv/data2", false),
        ] {
            assert_eq!(host(one).shares(&host(two)), shares, "{one} {two}");
            assert_eq!(host(two).shares(&host(one)), shares, "{two} {one}");
        }
        assert!(!Storage::Claim("srv".into()).shares(&host("srv")));
    }
}
