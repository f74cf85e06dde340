//! Where a program that already runs is found: its container, and where each of its paths lies.
//!
//! The remedy for a path differs with its place: an image's layer is mended in the Containerfile, a bind mount on the
//! host, an `emptyDir` by the pod's `fsGroup`.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::RawText;

/// A container, or another set of namespaces than the host's, as the tracer found it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Container {
    /// The runtime's id for it; 64 hexadecimal digits for most.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// Its name, where the runtime tells.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Who runs it: `podman`, `docker`, `containerd`, `cri-o`, `runc`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub engine: Option<String>,
    /// The image it was made from, where the runtime tells.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<String>,
    /// The Kubernetes pod it belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod: Option<Pod>,
    /// How its user ids are mapped, as in user_namespaces(7); empty in the host's user namespace. Ids in the profile
    /// are those inside.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub uid_map: Vec<IdRange>,
    /// The same of its group ids.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub gid_map: Vec<IdRange>,
    /// What is mounted in it, the innermost mount of each place.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub mounts: Vec<Mounted>,
    /// Of `/var/run` and `/var/lock`, which are links to `/run` and `/run/lock` on most systems, those that are directories
    /// here.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub apart: BTreeSet<RawText>,
    /// Directories for what does not outlive a start (`/run`, `/tmp`, `/var/log` and those below) in which the image holds
    /// something.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub holds: BTreeSet<RawText>,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pod {
    /// Its uid.
    pub uid: String,
    /// Its name, where the runtime tells.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Its namespace, where the runtime tells.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub namespace: Option<String>,
    /// The container's name in it, where the runtime tells.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<String>,
}

/// A line of `/proc/PID/uid_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id on the host.
    pub outside: u32,
    /// How many.
    pub length: u32,
}

/// A mount of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mounted {
    /// Where, as the container sees it.
    pub at: RawText,
    /// What is mounted.
    pub place: Place,
    /// The volume's name, where it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub volume: Option<String>,
    /// What the host sees at its path, where it is in sight there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host: Option<RawText>,
    /// Whether it is mounted read-only.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub read_only: bool,
}

/// What kind of place a path of a container is in; each is mended in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A layer of the image, or the container's own layer over it: mended where the image is built.
    Image,
    /// A volume that the engine keeps under a name.
    Volume,
    /// A directory or file of the host (Kubernetes: `hostPath`), whose owner and mode the host decides.
    Bind,
    /// Kubernetes' `emptyDir`, on disk or in memory.
    EmptyDir,
    /// A volume that Kubernetes attaches: a `persistentVolumeClaim`, CSI and their kind.
    PersistentVolume,
    /// Kubernetes' `secret`.
    Secret,
    /// Kubernetes' `configMap`.
    ConfigMap,
    /// Kubernetes' `projected` and `downwardAPI`.
    Projected,
    /// A tmpfs of the container's own.
    Tmpfs,
    /// `/dev` and what the runtime puts there.
    Dev,
    /// What the engine makes for each container: `/etc/hosts`, `/etc/resolv.conf`, `/run/secrets`.
    Engine,
    /// A file system of the kernel: `/proc`, `/sys`.
    Kernel,
    /// Something else.
    Other,
}

/// Where a path lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Placement {
    /// What kind of place.
    pub place: Place,
    /// The mount point, as the container sees it.
    pub mount: RawText,
    /// The volume's name, where it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub volume: Option<String>,
    /// The path as the host sees it, where it is in sight there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host: Option<RawText>,
    /// Whether the mount is read-only.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub read_only: bool,
}

impl Container {
    /// Where an absolute path lies; nothing where the mounts are not known.
    pub fn placement(&self, path: &RawText) -> Option<Placement> {
        let covers = |mount: &&Mounted| below(path.as_bytes(), mount.at.as_bytes()).is_some();
        let mount = self.mounts.iter().filter(covers).max_by_key(|mount| mount.at.as_bytes().len())?;
        let rest = below(path.as_bytes(), mount.at.as_bytes())?;
        let host = mount.host.as_ref().map(|host| {
            let host = host.as_bytes().strip_suffix(b"/").unwrap_or(host.as_bytes());
            match rest {
                b"" if host.is_empty() => RawText::from("/"),
                b"" => RawText::from(host),
                rest => RawText::new([host, b"/", rest].concat()),
            }
        });
        Some(Placement {
            place: mount.place,
            mount: mount.at.clone(),
            volume: mount.volume.clone(),
            host,
            read_only: mount.read_only,
        })
    }
}

impl Container {
    /// The path by which a program knows a file of a volume that the kubelet fills: it puts what it writes into a directory
    /// named after the time (`..2026_11_30_03_18_48.439526592`), to which `..data` leads.
    pub fn steady(&self, path: &RawText) -> RawText {
        let filled =
            |mount: &&Mounted| matches!(mount.place, Place::Secret | Place::ConfigMap | Place::Projected);
        let of = |mount: &Mounted| {
            let (dated, rest) = split_once(below(path.as_bytes(), mount.at.as_bytes())?.strip_prefix(b"..")?);
            let is_time = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'_' | b'.');
            let ends: &[&[u8]] = if rest.is_empty() { &[] } else { &[b"/", rest] };
            (dated.contains(&b'_') && dated.iter().all(is_time))
                .then(|| RawText::new([&[mount.at.as_bytes()], ends].concat().concat()))
        };
        self.mounts.iter().filter(filled).find_map(of).unwrap_or_else(|| path.clone())
    }
}

/// The first component, and what is behind it.
fn split_once(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
    (&path[..end], path.get(end + 1..).unwrap_or_default())
}

/// The part of `path` below `directory`, without the slash between them.
fn below<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    match path.strip_prefix(directory)? {
        b"" => Some(b""),
        rest => rest.strip_prefix(b"/"),
    }
}

/// The id outside for one inside; every id stands for itself where there is no map.
pub fn outside(map: &[IdRange], id: u32) -> Option<u32> {
    translate(map, id, |range| (range.inside, range.outside))
}

/// The id inside for one outside.
pub fn inside(map: &[IdRange], id: u32) -> Option<u32> {
    translate(map, id, |range| (range.outside, range.inside))
}

fn translate(map: &[IdRange], id: u32, ends: impl Fn(&IdRange) -> (u32, u32)) -> Option<u32> {
    // "Unchanged" is no id.
    if map.is_empty() || id == u32::MAX {
        return Some(id);
    }
    map.iter().find_map(|range| {
        let (from, to) = ends(range);
        let offset = id.checked_sub(from).filter(|offset| *offset < range.length)?;
        to.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(at: &str, place: Place, host: Option<&str>) -> Mounted {
        Mounted { at: at.into(), place, volume: None, host: host.map(RawText::from), read_only: false }
    }

    #[test]
    fn the_longest_mount_decides() {
        let container = Container {
            mounts: vec![
                mounted("/", Place::Image, Some("/var/lib/containers/merged")),
                mounted("/data", Place::Volume, Some("/srv/volumes/data")),
                mounted("/data/tmp", Place::Tmpfs, None),
            ],
            ..Container::default()
        };
        let at = |path: &str| {
            let found = container.placement(&path.into()).unwrap();
            (found.place, found.host.map(|host| host.to_text()))
        };
        assert_eq!(at("/"), (Place::Image, Some("/var/lib/containers/merged".into())));
        assert_eq!(at("/etc/x"), (Place::Image, Some("/var/lib/containers/merged/etc/x".into())));
        assert_eq!(at("/data"), (Place::Volume, Some("/srv/volumes/data".into())));
        assert_eq!(at("/data/a/b"), (Place::Volume, Some("/srv/volumes/data/a/b".into())));
        assert_eq!(at("/database"), (Place::Image, Some("/var/lib/containers/merged/database".into())));
        assert_eq!(at("/data/tmp/x"), (Place::Tmpfs, None));
        assert_eq!(Container::default().placement(&"/etc".into()), None);
    }

    #[test]
    fn files_that_the_kubelet_writes_have_the_name_that_lasts() {
        let mounts =
            vec![mounted("/key", Place::Secret, None), mounted("/data", Place::PersistentVolume, None)];
        let container = Container { mounts, ..Container::default() };
        for (path, expected) in [
            ("/key/..2026_11_30_03_18_48.439526592/token", "/key/token"),
            ("/key/..2026_11_30_03_18_48.439526592/a/b", "/key/a/b"),
            ("/key/..2026_11_30_03_18_48.439526592", "/key"),
            ("/key/..data", "/key/..data"),
            ("/key/..2026", "/key/..2026"),
            ("/data/..2026_11_30_03_18_48.4/token", "/data/..2026_11_30_03_18_48.4/token"),
        ] {
            assert_eq!(container.steady(&path.into()), expected.into());
        }
    }

    #[test]
    fn ids_go_both_ways() {
        let map = [
            IdRange { inside: 0, outside: 1000, length: 1 },
            IdRange { inside: 1, outside: 100_000, length: 65_536 },
        ];
        for (inner, outer) in [(0, 1000), (1, 100_000), (1000, 100_999), (65_536, 165_535)] {
            assert_eq!(outside(&map, inner), Some(outer));
            assert_eq!(inside(&map, outer), Some(inner));
        }
        assert_eq!((outside(&map, 65_537), inside(&map, 0)), (None, None));
        assert_eq!((outside(&map, u32::MAX), outside(&[], 7)), (Some(u32::MAX), Some(7)));
    }
}
