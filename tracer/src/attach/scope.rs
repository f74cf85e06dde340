//! Which processes belong to what is attached to.

use std::fs;

use nrtrace_ebpf::layout::{ARMED, Aim, TRACED, WAITING, WORDS, hash};

use super::cgroup::Group;
use super::container;
use super::process::{self, Facts};
use crate::launch::Error;
use crate::launch::tree;
use crate::ptrace::watchdog;
use crate::session::{Begins, Source};

/// Looks at most for processes that are not watched yet.
const LOOKS: usize = 1000;

/// Which processes belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A process and what descends from it.
    Tree(i32),
    /// All of a control group.
    Group {
        /// The group.
        group: Group,
        /// Whether it is a container's: what joins it is the runtime until it has entered the container.
        container: bool,
    },
    /// All in the pid namespace of a container that has no control group of its own.
    Namespace {
        /// Inode number of the namespace.
        pid_ns: u32,
        /// The container's id.
        id: String,
    },
}

impl Scope {
    /// That of container `id`, whose first process is `first`.
    pub fn of_container(first: i32, id: &str) -> Self {
        let text = fs::read_to_string(format!("/proc/{first}/cgroup")).unwrap_or_default();
        let own = super::cgroup::paths(&text).filter_map(|path| own_group(path, id)).collect::<Vec<_>>();
        let mut groups = own.iter().filter_map(|path| Group::at(std::path::Path::new(path)).ok());
        if let Some(group) = groups.next() {
            return Self::Group { group, container: true };
        }
        let pid_ns = process::namespace(first, "pid");
        if pid_ns == 0 || pid_ns == process::namespace(std::process::id() as i32, "pid") {
            return Self::Tree(first);
        }
        Self::Namespace { pid_ns, id: id.to_owned() }
    }

    /// The processes there are now.
    pub fn processes(&self) -> Vec<i32> {
        let own = std::process::id() as i32;
        let mut found = match self {
            Self::Tree(pid) => {
                let below = tree::descendants(*pid).into_iter().filter(|member| !member.zombie);
                std::iter::once(*pid).chain(below.map(|member| member.pid)).collect()
            }
            Self::Group { group, .. } => group.processes(),
            Self::Namespace { pid_ns, .. } => {
                process::all().into_iter().filter(|pid| process::namespace(*pid, "pid") == *pid_ns).collect()
            }
        };
        let helpers: Vec<i32> = tree::descendants(own).iter().map(|member| member.pid).collect();
        found.retain(|pid| *pid != own && !helpers.contains(pid) && !watchdog::is_one(*pid));
        found
    }

    /// The first process: the one whose parent is not part of it, the oldest of several.
    pub fn main(&self) -> Option<Facts> {
        if let Self::Tree(pid) = self {
            return Facts::read(*pid);
        }
        let mut members: Vec<tree::Member> = self.processes().into_iter().filter_map(tree::member).collect();
        members.sort_by_key(|member| (member.start, member.pid));
        let pids: Vec<i32> = members.iter().map(|member| member.pid).collect();
        let top = members.iter().find(|member| !pids.contains(&member.parent) && !member.zombie);
        top.or(members.first()).and_then(|member| Facts::read(member.pid))
    }

    /// Has `source` watch all processes that there are, until no look finds another; they are returned.
    ///
    /// # Errors
    /// When one of them cannot be watched.
    pub fn adopt(&self, source: &mut dyn Source) -> Result<Vec<i32>, Error> {
        source.aim(&self.aim(true))?;
        let mut known: Vec<(i32, u64)> = Vec::new();
        for _ in 0..LOOKS {
            let mut news = false;
            for pid in self.processes() {
                // A number may be taken up by another process between two looks.
                let Some(member) = tree::member(pid).filter(|member| !member.zombie) else { continue };
                if !known.contains(&(pid, member.start)) {
                    source.adopt(pid, Begins::Now)?;
                    known.push((pid, member.start));
                    news = true;
                }
            }
            if !news {
                break;
            }
        }
        source.aim(&self.aim(false))?;
        Ok(known.into_iter().map(|(pid, _)| pid).collect())
    }

    /// What the probe is to take for part of it, besides what was adopted: while it is being looked for, everything that
    /// is born; afterwards, what joins.
    fn aim(&self, looking: bool) -> Aim {
        let mut aim = Aim { by_ancestor: u32::from(looking), ..Aim::default() };
        let joins = |container: bool| if container { ARMED } else { WAITING };
        match self {
            Self::Tree(_) => {}
            Self::Group { group, container } => {
                if let Some((id, depth)) = group.id {
                    (aim.cgroup, aim.depth) = (id, depth);
                }
                aim.found = if looking { TRACED } else { joins(*container) };
            }
            Self::Namespace { id, .. } => {
                aim.words = words(container::names(id).iter().map(String::as_str));
                (aim.joins, aim.by_group) = (ARMED, 1);
            }
        }
        aim
    }
}

/// The hashes of names.
pub fn words<'a>(names: impl IntoIterator<Item = &'a str>) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    for (word, name) in words.iter_mut().zip(names) {
        *word = hash(name.as_bytes());
    }
    words
}

/// The path of the group that was made for container `id`: without what the container made below it.
fn own_group(path: &str, id: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').collect();
    let at = parts.iter().position(|part| container::sign(part).is_some_and(|sign| sign.id == id))?;
    Some(parts[..=at].join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_containers_group_is_the_outer_one() {
        let id = "0123456789abcdef".repeat(4);
        let path = format!("/machine.slice/libpod-{id}.scope/container/init.scope");
        assert_eq!(own_group(&path, &id), Some(format!("/machine.slice/libpod-{id}.scope")));
        assert_eq!(own_group("/", &id), None);
    }

    #[test]
    fn a_tree_is_a_process_and_its_descendants() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        // Children of this very process are helpers, so the tree of another is looked at.
        assert_eq!(Scope::Tree(1).main().map(|main| main.pid), Some(1));
        assert!(!Scope::Tree(1).processes().contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
