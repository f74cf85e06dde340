//! Control groups: where they are mounted, which processes are in one, and by what number the kernel knows it.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::Error;

/// Deepest level that is looked at when a group is searched by name.
const DEPTH: usize = 12;
/// The first cgroup namespace (`PROC_CGROUP_INIT_INO` of `include/linux/proc_ns.h`).
const INITIAL_NAMESPACE: u64 = 0xefff_fffb;

/// A hierarchy in sight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub point: PathBuf,
    /// Whether it is of version 2.
    pub unified: bool,
}

/// One control group, in each hierarchy that has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its directories.
    pub directories: Vec<PathBuf>,
    /// Number and depth of the one of version 2, where the kernel's own numbering is in sight.
    pub id: Option<(u64, u32)>,
}

/// The hierarchies that this process sees, as `/proc/self/mountinfo` has them; version 2 first.
pub fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, file_system) = line.split_once(" - ")?;
            let point = mount.split(' ').nth(4)?;
            let unified = match file_system.split(' ').next()? {
                "cgroup2" => true,
                "cgroup" => false,
                _ => return None,
            };
            Some(Hierarchy { point: PathBuf::from(super::mounts::unescape(point)), unified })
        })
        .collect();
    found.sort_by_key(|hierarchy| !hierarchy.unified);
    found
}

fn own_hierarchies() -> Vec<Hierarchy> {
    hierarchies(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

impl Group {
    /// The group at a path: a directory below `/sys/fs/cgroup`, or a path as `/proc/PID/cgroup` has it.
    ///
    /// # Errors
    /// [`Error::NoGroup`] when there is none.
    pub fn at(path: &Path) -> Result<Self, Error> {
        let hierarchies = own_hierarchies();
        // A path through a symbolic link (`/sys/fs/cgroup/cpu`) is one all the same.
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let within = hierarchies
            .iter()
            .filter_map(|hierarchy| Some((hierarchy, real.strip_prefix(&hierarchy.point).ok()?)))
            .max_by_key(|(hierarchy, _)| hierarchy.point.components().count());
        match within {
            // The same group of other hierarchies is not taken for granted.
            Some((hierarchy, below)) => Self::of(std::slice::from_ref(hierarchy), below),
            None => Self::of(&hierarchies, path.strip_prefix("/").unwrap_or(path)),
        }
        .ok_or_else(|| Error::NoGroup { path: path.to_owned() })
    }

    /// The group at `below` in each of the hierarchies that has it.
    fn of(hierarchies: &[Hierarchy], below: &Path) -> Option<Self> {
        let depth = below.components().filter(|part| matches!(part, Component::Normal(_))).count();
        if depth != below.components().count() {
            return None;
        }
        let mut group = Self::default();
        for hierarchy in hierarchies {
            let directory = hierarchy.point.join(below);
            let Ok(facts) = fs::metadata(&directory) else { continue };
            if !directory.join("cgroup.procs").exists() {
                continue;
            }
            if hierarchy.unified && is_initial_namespace() {
                group.id = Some((facts.st_ino(), depth as u32));
            }
            group.directories.push(directory);
        }
        (!group.directories.is_empty()).then_some(group)
    }

    /// The group of a systemd unit, found by its name.
    ///
    /// # Errors
    /// [`Error::NoUnit`] when there is none, [`Error::Ambiguous`] when several managers have one of that name.
    pub fn of_unit(unit: &str) -> Result<Self, Error> {
        let hierarchies = own_hierarchies();
        let mut paths: Vec<PathBuf> = Vec::new();
        for hierarchy in &hierarchies {
            search(&hierarchy.point, Path::new(""), unit, 0, &mut paths);
        }
        paths.sort();
        paths.dedup();
        match &paths[..] {
            [] => Err(Error::NoUnit { unit: unit.to_owned() }),
            [path] => Self::of(&hierarchies, path).ok_or_else(|| Error::NoUnit { unit: unit.to_owned() }),
            several => Err(Error::Ambiguous {
                what: format!("unit {unit}"),
                found: several.iter().map(|path| format!("/{}", path.display())).collect(),
                advice: "name the control group: --cgroup PATH",
            }),
        }
    }

    /// The processes in it and in the groups below it.
    pub fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        for directory in &self.directories {
            collect(directory, 0, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Whether it is still there.
    pub fn exists(&self) -> bool {
        self.directories.iter().any(|directory| directory.exists())
    }
}

fn is_initial_namespace() -> bool {
    fs::metadata("/proc/self/ns/cgroup").is_ok_and(|facts| facts.st_ino() == INITIAL_NAMESPACE)
}

fn subdirectories(directory: &Path) -> impl Iterator<Item = fs::DirEntry> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
}

fn search(point: &Path, below: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in subdirectories(&point.join(below)) {
        let path = below.join(entry.file_name());
        if entry.file_name() == name {
            found.push(path);
        } else if depth < DEPTH {
            search(point, &path, name, depth + 1, found);
        }
    }
}

fn collect(directory: &Path, depth: usize, found: &mut Vec<i32>) {
    // A threaded group of version 2 tells its threads alone.
    let members = fs::read_to_string(directory.join("cgroup.procs"))
        .or_else(|_| fs::read_to_string(directory.join("cgroup.threads")))
        .unwrap_or_default();
    // 0 stands for a process outside this pid namespace.
    found.extend(members.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    if depth < DEPTH {
        subdirectories(directory).for_each(|entry| collect(&entry.path(), depth + 1, found));
    }
}

/// The paths in the text of `/proc/PID/cgroup`.
pub fn paths(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.splitn(3, ':').nth(2))
}

/// A unit's name as systemd has it: without a suffix, it is a service's.
pub fn unit_name(text: &str) -> String {
    const SUFFIXES: [&str; 4] = [".service", ".scope", ".slice", ".socket"];
    if SUFFIXES.iter().any(|suffix| text.ends_with(suffix)) {
        text.to_owned()
    } else {
        format!("{text}.service")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let text = "\
25 30 0:23 / /sys/fs/cgroup/systemd rw,relatime shared:9 - cgroup cgroup rw,xattr,name=systemd
26 30 0:24 / /sys/fs/cgroup/uni\\040fied rw - cgroup2 cgroup2 rw
27 30 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw
";
        let found = hierarchies(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Hierarchy { point: "/sys/fs/cgroup/uni fied".into(), unified: true });
        assert_eq!(found[1].point, Path::new("/sys/fs/cgroup/systemd"));
    }

    #[test]
    fn paths_may_hold_colons() {
        let text = "12:cpu,cpuacct:/a:b\n1:name=systemd:/system.slice/x.service\n0::/y\n";
        assert_eq!(paths(text).collect::<Vec<_>>(), ["/a:b", "/system.slice/x.service", "/y"]);
    }

    #[test]
    fn units_without_a_suffix_are_services() {
        assert_eq!(unit_name("nginx"), "nginx.service");
        assert_eq!(unit_name("getty@tty1.service"), "getty@tty1.service");
        assert_eq!(unit_name("user.slice"), "user.slice");
        assert_eq!(unit_name("my.app"), "my.app.service");
    }

    #[test]
    fn a_group_that_is_not_there_is_told() {
        for path in ["/no/such/group", "../x", "/sys/fs/cgroup/no-such-group"] {
            assert!(matches!(Group::at(Path::new(path)), Err(Error::NoGroup { .. })), "{path}");
        }
        assert!(matches!(Group::of_unit("no-such-unit.service"), Err(Error::NoUnit { .. })));
    }
}
