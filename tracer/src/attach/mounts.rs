//! What is mounted in a container, and what the host sees of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;

use nrtrace_profiles::RawText;
use nrtrace_profiles::container::{Mounted, Place};
use serde_json::Value;

/// A line of proc_pid_mountinfo(5).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// Device of the file system.
    device: String,
    /// What of the file system is mounted.
    root: Vec<u8>,
    /// Where.
    point: Vec<u8>,
    read_only: bool,
    file_system: String,
}

/// Undoes the octal escapes of mountinfo.
pub fn unescape(text: &str) -> OsString {
    OsString::from_vec(bytes(text.as_bytes()))
}

fn bytes(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits =
            tail.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match digits {
            Some(digits) => {
                out.push(
                    digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')),
                );
                rest = &tail[3..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    let line = |line: &[u8]| -> Option<Mount> {
        let at = line.windows(3).position(|part| part == b" - ")?;
        let mut fields = line[..at].split(|byte| *byte == b' ').skip(2);
        let device = String::from_utf8_lossy(fields.next()?).into_owned();
        let (root, point) = (bytes(fields.next()?), bytes(fields.next()?));
        let options = fields.next()?;
        let mut behind = line[at + 3..].split(|byte| *byte == b' ');
        let file_system = String::from_utf8_lossy(behind.next()?).into_owned();
        let of_all = behind.nth(1).unwrap_or_default();
        let read_only =
            [options, of_all].into_iter().any(|set| set.split(|byte| *byte == b',').any(|one| one == b"ro"));
        Some(Mount { device, root, point, read_only, file_system })
    };
    mountinfo.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// The mounts that process `pid` sees, as places of a container.
pub fn of_process(pid: i32) -> Vec<Mounted> {
    let read = |pid: &str| fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    // The first process sees the host's mounts where this one is in a container with the host's processes in sight.
    let mut host = read("1");
    if host.is_empty() {
        host = read("self");
    }
    placed(&read(&pid.to_string()), &host)
}

/// The mounts that an OCI bundle's `config.json` asks for, for a container that has ended already.
pub fn of_config(config: &Value) -> Vec<Mounted> {
    let root = config.pointer("/root").map(|root| Mounted {
        at: RawText::from("/"),
        place: Place::Image,
        volume: None,
        host: root
            .get("path")
            .and_then(Value::as_str)
            .filter(|path| path.starts_with('/'))
            .map(RawText::from),
        read_only: root.get("readonly").and_then(Value::as_bool).unwrap_or_default(),
    });
    let mount = |mount: &Value| -> Option<Mounted> {
        let text = |name: &str| mount.get(name).and_then(Value::as_str).unwrap_or_default();
        let options: Vec<&str> = mount
            .get("options")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let bound =
            text("type") == "bind" || options.iter().any(|option| matches!(*option, "bind" | "rbind"));
        let host = (bound && text("source").starts_with('/')).then(|| text("source").as_bytes().to_vec());
        let point = text("destination").as_bytes().to_vec();
        let seen = Mount {
            device: String::new(),
            root: Vec::new(),
            point: point.clone(),
            read_only: options.contains(&"ro"),
            file_system: text("type").to_owned(),
        };
        let (place, volume) = place(&seen, host.as_deref());
        let host = host.filter(|_| !matches!(place, Place::Kernel | Place::Dev)).map(RawText::new);
        point.starts_with(b"/").then(|| Mounted {
            at: RawText::new(point),
            place,
            volume,
            host,
            read_only: seen.read_only,
        })
    };
    let mounts = config.pointer("/mounts").and_then(Value::as_array).into_iter().flatten();
    root.into_iter().chain(mounts.filter_map(mount)).collect()
}

fn placed(inside: &[u8], host: &[u8]) -> Vec<Mounted> {
    let host = parse(host);
    let mut found: BTreeMap<Vec<u8>, Mounted> = BTreeMap::new();
    // Later mounts cover earlier ones of the same place.
    for mount in parse(inside) {
        let on_host = on_host(&mount, &host);
        let (place, volume) = place(&mount, on_host.as_deref());
        let covered = place == Place::Kernel && !matches!(&mount.point[..], b"/proc" | b"/sys");
        if covered {
            continue;
        }
        let mounted = Mounted {
            at: RawText::new(mount.point.clone()),
            place,
            volume,
            host: on_host.filter(|_| !matches!(place, Place::Kernel | Place::Dev)).map(RawText::new),
            read_only: mount.read_only,
        };
        found.insert(mount.point, mounted);
    }
    found.into_values().collect()
}

/// Where the host sees what a mount shows: by a mount of the same file system that shows as much or more.
fn on_host(mount: &Mount, host: &[Mount]) -> Option<Vec<u8>> {
    let shows = |other: &&Mount| other.device == mount.device && below(&mount.root, &other.root).is_some();
    let best = host
        .iter()
        .filter(shows)
        .max_by_key(|other| (other.root.len(), std::cmp::Reverse(other.point.len())))?;
    let rest = below(&mount.root, &best.root)?;
    let point = best.point.strip_suffix(b"/").unwrap_or(&best.point);
    Some(match rest {
        b"" if point.is_empty() => b"/".to_vec(),
        b"" => point.to_vec(),
        rest => [point, b"/", rest].concat(),
    })
}

fn below<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    match path.strip_prefix(directory)? {
        b"" => Some(b""),
        rest => rest.strip_prefix(b"/"),
    }
}

/// File systems that the kernel makes up.
const OF_THE_KERNEL: [&str; 10] =
    ["proc", "sysfs", "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs", "bpf", "pstore", "configfs"];

fn place(mount: &Mount, host: Option<&[u8]>) -> (Place, Option<String>) {
    let point = &mount.point[..];
    let within = |directory: &[u8]| below(point, directory).is_some();
    if point == b"/" {
        return (Place::Image, None);
    }
    if OF_THE_KERNEL.contains(&mount.file_system.as_str()) || within(b"/proc") || within(b"/sys") {
        return (Place::Kernel, None);
    }
    let by_host = host.and_then(kept_by_engine);
    match (by_host, host) {
        (Some((place, volume)), _) if place != Place::Engine => (place, volume),
        _ if point == b"/dev/shm" => (Place::Tmpfs, None),
        (Some(engine), _) => engine,
        _ if point == b"/dev" || matches!(mount.file_system.as_str(), "devpts" | "devtmpfs" | "mqueue") => {
            (Place::Dev, None)
        }
        (None, Some(_)) => (Place::Bind, None),
        (None, None) if matches!(mount.file_system.as_str(), "tmpfs" | "ramfs") => (Place::Tmpfs, None),
        (None, None) => (Place::Other, None),
    }
}

/// Volumes of Kubernetes, by the directory that the kubelet keeps them in.
const PLUGINS: [(&str, Place); 5] = [
    ("kubernetes.io~empty-dir", Place::EmptyDir),
    ("kubernetes.io~secret", Place::Secret),
    ("kubernetes.io~configmap", Place::ConfigMap),
    ("kubernetes.io~projected", Place::Projected),
    ("kubernetes.io~downward-api", Place::Projected),
];

/// What an engine keeps at a path of the host, and under what name.
fn kept_by_engine(host: &[u8]) -> Option<(Place, Option<String>)> {
    let text = String::from_utf8_lossy(host);
    let parts: Vec<&str> = text.split('/').collect();
    let name = |index: usize| parts.get(index).map(|part| (*part).to_owned());
    for (at, part) in parts.iter().enumerate() {
        let next = parts.get(at + 1..).unwrap_or_default();
        match (*part, next) {
            // KUBELET/pods/UID/volumes/PLUGIN/NAME
            ("volumes", [plugin, _, ..]) if plugin.contains('~') => {
                let place = PLUGINS.iter().find(|(known, _)| known == plugin);
                return Some((place.map_or(Place::PersistentVolume, |(_, place)| *place), name(at + 2)));
            }
            // KUBELET/pods/UID/volume-subpaths/NAME/CONTAINER/INDEX
            ("volume-subpaths", [_, ..]) => return Some((Place::Volume, name(at + 1))),
            // STORAGE/volumes/NAME/_data
            ("volumes", [_, "_data", ..]) => return Some((Place::Volume, name(at + 1))),
            // KUBELET/pods/UID/etc-hosts and KUBELET/pods/UID/containers/NAME/LOG
            ("pods", [_, "etc-hosts" | "containers", ..]) => return Some((Place::Engine, None)),
            // STORAGE/overlay-containers/ID/userdata
            (part, [_, "userdata", ..]) if part.ends_with("-containers") => {
                return Some((Place::Engine, None));
            }
            // /var/lib/docker/containers/ID/hosts
            ("containers", [id, file, ..]) if id.len() == 64 && !file.is_empty() => {
                return Some((Place::Engine, None));
            }
            ("sandboxes", [id, _, ..]) if id.len() == 64 => return Some((Place::Engine, None)),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn find<'a>(mounts: &'a [Mounted], at: &str) -> &'a Mounted {
        mounts
            .iter()
            .find(|mount| mount.at == RawText::from(at))
            .unwrap_or_else(|| panic!("{at}: {mounts:#?}"))
    }

    #[test]
    fn a_bundle_tells_of_a_container_that_is_gone() {
        let config = serde_json::json!({
            "root": { "path": "/var/lib/containers/storage/overlay/ff/merged", "readonly": true },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"] },
                { "destination": "/data", "type": "bind",
                  "source": "/var/lib/containers/storage/volumes/data/_data", "options": ["rbind"] },
                { "destination": "/etc/app", "type": "bind", "source": "/srv/app", "options": ["rbind", "ro"] },
                { "destination": "relative", "type": "tmpfs" },
            ],
        });
        let found: Vec<(String, Place, Option<String>, bool)> = of_config(&config)
            .into_iter()
            .map(|mounted| (mounted.at.to_text(), mounted.place, mounted.volume, mounted.read_only))
            .collect();
        let expected = [
            ("/", Place::Image, None, true),
            ("/proc", Place::Kernel, None, false),
            ("/tmp", Place::Tmpfs, None, false),
            ("/data", Place::Volume, Some("data"), false),
            ("/etc/app", Place::Bind, None, true),
        ];
        assert_eq!(
            found,
            expected.map(|(at, place, volume, ro)| (at.into(), place, volume.map(String::from), ro))
        );
        assert!(of_config(&Value::Null).is_empty());
    }

    #[test]
    fn a_podman_container() {
        let host = format!(
            "20 1 254:0 / / rw - ext4 /dev/vda rw\n\
             21 20 0:30 / /run rw - tmpfs tmpfs rw\n\
             22 20 0:50 / /var/lib/containers/storage/overlay/abc/merged rw - overlay overlay rw\n\
             23 20 0:51 / /var/lib/containers/storage/overlay-containers/{ID}/userdata/shm rw - tmpfs shm rw\n"
        );
        let inside = format!(
            "100 90 0:50 / / rw - overlay overlay rw,upperdir=/x\n\
             101 100 0:60 / /proc rw - proc proc rw\n\
             102 100 0:61 / /dev rw - tmpfs tmpfs rw\n\
             103 100 0:62 / /sys ro - sysfs sysfs ro\n\
             104 102 0:63 / /dev/pts rw - devpts devpts rw\n\
             105 102 0:51 / /dev/shm rw - tmpfs shm rw\n\
             106 100 0:64 / /tmp rw - tmpfs tmpfs rw\n\
             107 100 254:0 /var/lib/containers/storage/volumes/web\\040data/_data /data rw - ext4 /dev/vda rw\n\
             108 100 254:0 /srv/www /srv/www ro - ext4 /dev/vda rw\n\
             109 100 0:30 /app /run/app rw - tmpfs tmpfs rw\n\
             110 100 254:0 /var/lib/containers/storage/overlay-containers/{ID}/userdata/hosts /etc/hosts rw - ext4 /dev/vda rw\n\
             111 101 0:61 /null /proc/kcore rw - tmpfs tmpfs rw\n"
        );
        let mounts = placed(inside.as_bytes(), host.as_bytes());
        let of = |at: &str| {
            let mount = find(&mounts, at);
            (mount.place, mount.host.as_ref().map(RawText::to_text), mount.read_only)
        };
        assert_eq!(
            of("/"),
            (Place::Image, Some("/var/lib/containers/storage/overlay/abc/merged".into()), false)
        );
        assert_eq!(of("/dev"), (Place::Dev, None, false));
        assert_eq!(of("/dev/shm").0, Place::Tmpfs);
        assert_eq!(of("/tmp"), (Place::Tmpfs, None, false));
        assert_eq!(
            of("/data"),
            (Place::Volume, Some("/var/lib/containers/storage/volumes/web data/_data".into()), false)
        );
        assert_eq!(find(&mounts, "/data").volume.as_deref(), Some("web data"));
        assert_eq!(of("/srv/www"), (Place::Bind, Some("/srv/www".into()), true));
        assert_eq!(of("/run/app"), (Place::Bind, Some("/run/app".into()), false));
        assert_eq!(of("/etc/hosts").0, Place::Engine);
        assert_eq!(of("/proc"), (Place::Kernel, None, false));
        assert!(!mounts.iter().any(|mount| mount.at == RawText::from("/proc/kcore")));
    }

    #[test]
    fn the_kubelets_volumes() {
        let pod = "/var/lib/k0s/kubelet/pods/6a1f0c9e-7b9d-4f4e-9f1e-0123456789ab";
        let cases = [
            ("volumes/kubernetes.io~empty-dir/cache", Place::EmptyDir, Some("cache")),
            ("volumes/kubernetes.io~secret/tls", Place::Secret, Some("tls")),
            ("volumes/kubernetes.io~configmap/conf", Place::ConfigMap, Some("conf")),
            (
                "volumes/kubernetes.io~projected/kube-api-access-x",
                Place::Projected,
                Some("kube-api-access-x"),
            ),
            ("volumes/kubernetes.io~csi/pvc-1/mount", Place::PersistentVolume, Some("pvc-1")),
            ("volumes/kubernetes.io~nfs/share", Place::PersistentVolume, Some("share")),
            ("volume-subpaths/data/web/0", Place::Volume, Some("data")),
            ("etc-hosts", Place::Engine, None),
            ("containers/web/0d1c2b3a", Place::Engine, None),
        ];
        for (path, place, volume) in cases {
            let found =
                kept_by_engine(format!("{pod}/{path}").as_bytes()).unwrap_or_else(|| panic!("{path}"));
            assert_eq!((found.0, found.1.as_deref()), (place, volume), "{path}");
        }
        for (path, place) in [
            ("/var/lib/docker/volumes/web/_data".to_owned(), Some(Place::Volume)),
            (format!("/var/lib/docker/containers/{ID}/resolv.conf"), Some(Place::Engine)),
            (
                format!("/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{ID}/hosts"),
                Some(Place::Engine),
            ),
            ("/srv/volumes/data".to_owned(), None),
            ("/home/pods/x".to_owned(), None),
        ] {
            assert_eq!(kept_by_engine(path.as_bytes()).map(|found| found.0), place, "{path}");
        }
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape("/a\\040b\\134c\\011d\\"), OsString::from("/a b\\c\td\\"));
    }
}
