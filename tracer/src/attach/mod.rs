//! What already runs: a process, a unit, a control group, a container, with all that descends from it.
//!
//! ```text
//! Target ─find─▶ Subject { scope, main process } ─judge─▶ mode, identity ─record─▶ Trace
//!                    │ processes, again and again until nothing new is found
//!                    └──▶ Source::adopt: marks all threads (eBPF), or seizes them (ptrace)
//! ```
//!
//! Nothing of it is disturbed: the probe only marks tasks, and goes with nrtrace; a tracer that dies lets its tracees go.

mod api;
mod bundle;
pub mod cgroup;
pub mod container;
pub mod engine;
mod glance;
pub mod held;
pub mod inside;
mod judged;
mod monitor;
mod mounts;
mod places;
pub mod process;
mod record;
mod scope;
mod sight;
pub mod state;
mod waiting;

use std::collections::BTreeSet;
use std::path::PathBuf;

use nrtrace_profiles::container::{Container, Mounted};

pub use judged::{Judged, judge};
pub use record::{Attended, Plan, record};
pub use scope::Scope;
pub use sight::Sight;
pub use waiting::{Arrival, PollError, await_start, expect, is_not_there, is_runtime, poll};

use cgroup::Group;
use process::Facts;
use state::Known;

/// What to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A process and its descendants.
    Process(i32),
    /// A systemd unit, by its full name.
    Unit(String),
    /// A control group.
    Cgroup(PathBuf),
    /// A container, by its id, the start of it, or its name.
    Container(String),
}

/// Why there is nothing to attach to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such process.
    #[error("there is no process {pid}; ps -e lists them")]
    NoProcess {
        /// Its number.
        pid: i32,
    },
    /// A thread of the kernel.
    #[error("process {pid} is a thread of the kernel, which needs no user")]
    Kernel {
        /// Its number.
        pid: i32,
    },
    /// nrtrace, or what it descends from.
    #[error("process {pid} is nrtrace itself; name the service's process")]
    Oneself {
        /// Its number.
        pid: i32,
    },
    /// No such control group.
    #[error("there is no control group {}; systemd-cgls and /proc/PID/cgroup name them", .path.display())]
    NoGroup {
        /// The path.
        path: PathBuf,
    },
    /// The unit has no control group.
    #[error("no unit {unit} runs here: no control group is called so; start it, or use --wait")]
    NoUnit {
        /// Its name.
        unit: String,
    },
    /// No such container.
    #[error(
        "no container {name:?} runs here: no engine that listens here, no control group, no monitor and nothing that podman, \
         docker, containerd, CRI-O, runc and crun keep names one; start it, or use --wait. A remote one: name its process"
    )]
    NoContainer {
        /// Its id or name.
        name: String,
    },
    /// It was made and ended while it was waited for.
    #[error(
        "container {name} has ended before it could be watched; start it again, or run its program longer"
    )]
    Passed {
        /// Its id or name.
        name: String,
    },
    /// Several fit.
    #[error("{what} is not clear: {}; {advice}", .found.join(", "))]
    Ambiguous {
        /// What was looked for.
        what: String,
        /// What was found.
        found: Vec<String>,
        /// What to do.
        advice: &'static str,
    },
    /// It has no processes.
    #[error("{what} has no processes; start it, or use --wait")]
    Empty {
        /// What was found.
        what: String,
    },
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What it is, for people.
    pub description: String,
    /// What it is called: what is generated is named after it.
    pub name: String,
    /// Which processes belong to it.
    pub scope: Scope,
    /// Its first process.
    pub main: Facts,
    /// The container it is.
    pub container: Option<Container>,
}

/// Finds what is to be attached to.
///
/// # Errors
/// When it is not there, or what was named is not clear.
pub fn find(target: &Target) -> Result<Subject, Error> {
    match target {
        Target::Process(pid) => of_process(*pid),
        Target::Unit(unit) => {
            let stem = unit.rsplit_once('.').map_or(unit.as_str(), |(stem, _)| stem);
            of_group(Group::of_unit(unit)?, format!("unit {unit}"), stem)
        }
        Target::Cgroup(path) => {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            of_group(Group::at(path)?, format!("control group {}", path.display()), &name)
        }
        Target::Container(name) => of_container(name),
    }
}

fn of_process(pid: i32) -> Result<Subject, Error> {
    let main = facts(pid)?;
    let container = surroundings(&main, None);
    let scope = Scope::Tree(pid);
    Ok(Subject { description: format!("process {pid}"), name: main.program(), scope, main, container })
}

/// The facts of a process that can be attached to.
fn facts(pid: i32) -> Result<Facts, Error> {
    let own = std::process::id() as i32;
    if pid == own {
        return Err(Error::Oneself { pid });
    }
    let facts = Facts::read(pid).ok_or(Error::NoProcess { pid })?;
    if facts.is_kernel() { Err(Error::Kernel { pid }) } else { Ok(facts) }
}

fn of_group(group: Group, description: String, name: &str) -> Result<Subject, Error> {
    let scope = Scope::Group { group, container: false };
    let main = scope.main().ok_or_else(|| Error::Empty { what: description.clone() })?;
    let container = surroundings(&main, None);
    Ok(Subject { description, name: name.to_owned(), scope, main, container })
}

fn of_container(text: &str) -> Result<Subject, Error> {
    let known = state::joined(state::all());
    let running = container::running();
    let id = container_id(text, &known, running.keys())?;
    let known = known.into_iter().find(|known| known.id == id);
    let not_there = || Error::NoContainer { name: text.to_owned() };
    let alive = |pid: &i32| Facts::read(*pid).is_some_and(|facts| !facts.is_kernel());
    let first = known.as_ref().and_then(|known| known.pid).filter(alive);
    let first = match first.or_else(|| running.get(&id)?.1.iter().copied().find(|pid| alive(pid))) {
        Some(first) => first,
        None => return Err(not_there()),
    };
    let scope = Scope::of_container(first, &id);
    let main = Facts::read(first).ok_or_else(not_there)?;
    let name = known.as_ref().and_then(|known| known.names.first().cloned());
    let sign = running.get(&id).map(|(sign, _)| sign.clone());
    let container = surroundings(&main, Some((id.clone(), sign, known)));
    let description = format!("container {}", name.as_deref().unwrap_or(&id));
    let name = name.unwrap_or_else(|| main.program());
    Ok(Subject { description, name, scope, main, container })
}

/// The container, of which nothing runs but `runtime`, which is about to run its program, with what is known of that.
fn upcoming(target: &Target, runtime: &Subject) -> Option<Subject> {
    let Target::Container(_) = target else { return None };
    // Before it has entered the container, not all of it is as the program will have it.
    if is_private_view(runtime.main.pid) {
        return None;
    }
    // Looked at anew, as it may have entered just now.
    let mut subject = find(target).ok().filter(|subject| is_runtime(&subject.main))?;
    let container = subject.container.as_mut()?;
    let id = container.id.as_ref()?;
    let known = state::joined(state::all()).into_iter().find(|known| known.id == *id)?;
    // A table of mounts that was read while they changed is less than what the bundle says.
    let is_seen = |planned: &Mounted| container.mounts.iter().any(|seen| seen.at == planned.at);
    if !known.mounts.iter().all(is_seen) {
        container.mounts.clone_from(&known.mounts);
    }
    let main = known.program?.facts(&subject.main);
    let name = known.names.first().cloned().unwrap_or_else(|| main.program());
    Some(Subject { name, main, ..subject })
}

/// The id of the container that a text names: the id itself, a name, or the start of an id that no other has.
fn container_id<'a>(
    text: &str,
    known: &'a [Known],
    running: impl Iterator<Item = &'a String>,
) -> Result<String, Error> {
    let mut by_name: Vec<&str> =
        known.iter().filter(|known| known.is_called(text)).map(|known| known.id.as_str()).collect();
    by_name.dedup();
    let mut by_start: Vec<&str> = known
        .iter()
        .map(|known| &known.id)
        .chain(running)
        .map(String::as_str)
        .filter(|id| id.starts_with(text))
        .collect();
    by_start.sort_unstable();
    by_start.dedup();
    match (&by_name[..], &by_start[..]) {
        ([id], _) | ([], [id]) if !text.is_empty() => Ok((*id).to_owned()),
        ([], []) | ([_], _) => Err(Error::NoContainer { name: text.to_owned() }),
        (several, starts) => Err(Error::Ambiguous {
            what: format!("container {text}"),
            found: if several.is_empty() { starts } else { several }
                .iter()
                .map(|id| (*id).to_owned())
                .collect(),
            advice: "give the whole id",
        }),
    }
}

/// The container that a process is in; nothing for one that sees the same files as nrtrace.
fn surroundings(
    main: &Facts,
    known: Option<(String, Option<container::Sign>, Option<Known>)>,
) -> Option<Container> {
    let named = known.or_else(|| {
        let sign = container::of_process(main.pid)?;
        let all = state::joined(state::all());
        let known = all.into_iter().find(|known| known.id == sign.id);
        Some((sign.id.clone(), Some(sign), known))
    });
    let own = process::namespace(std::process::id() as i32, "mnt");
    let apart = main.mnt_ns != own && !is_private_view(main.pid);
    if named.is_none() && !apart {
        return None;
    }
    let (id, sign, known) = named.map_or((None, None, None), |(id, sign, known)| (Some(id), sign, known));
    let pod_uid = sign.as_ref().and_then(|sign| sign.pod.clone());
    let engine = sign.and_then(|sign| sign.engine).or(known.as_ref().map(|known| known.engine));
    let pod = known.as_ref().and_then(|known| known.pod.clone());
    Some(Container {
        id,
        name: known.as_ref().and_then(|known| known.names.first().cloned()),
        engine: engine.map(str::to_owned),
        image: known.as_ref().and_then(|known| known.image.clone()),
        pod: pod.or(pod_uid.map(|uid| nrtrace_profiles::container::Pod { uid, ..Default::default() })),
        uid_map: main.uid_map.clone(),
        gid_map: main.gid_map.clone(),
        mounts: Some(mounts::of_process(main.pid))
            .filter(|seen| !seen.is_empty())
            .or(known.map(|known| known.mounts))
            .unwrap_or_default(),
        apart: inside::apart(&PathBuf::from(format!("/proc/{}/root", main.pid))),
        // What is there by now may be the program's own.
        holds: BTreeSet::new(),
    })
}

/// Whether a process has a mount namespace of its own over the same root: a unit with `PrivateTmp=` is no container.
fn is_private_view(pid: i32) -> bool {
    use std::os::linux::fs::MetadataExt;
    let root = |pid: &str| {
        std::fs::metadata(format!("/proc/{pid}/root/")).map(|facts| (facts.st_dev(), facts.st_ino())).ok()
    };
    let of = root(&pid.to_string());
    of.is_some() && of == root("self")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(id: &str, name: &str) -> Known {
        Known { id: id.into(), names: vec![name.into()], ..Known::default() }
    }

    #[test]
    fn containers_by_id_name_and_start() {
        let all = [known("aabb01", "web"), known("aabb02", "db"), known("ccdd", "aabb")];
        let running = ["aabb01".to_owned(), "eeff".to_owned()];
        let id = |text: &str| container_id(text, &all, running.iter());
        assert_eq!(id("web").unwrap(), "aabb01");
        assert_eq!(id("aabb02").unwrap(), "aabb02");
        assert_eq!(id("ee").unwrap(), "eeff");
        assert_eq!(id("aabb").unwrap(), "ccdd", "a name wins over the start of an id");
        assert!(matches!(id("aab"), Err(Error::Ambiguous { .. })));
        assert!(matches!(id("nope"), Err(Error::NoContainer { .. })));
        assert!(matches!(id(""), Err(Error::NoContainer { .. }) | Err(Error::Ambiguous { .. })));
    }

    #[test]
    fn what_cannot_be_attached_to() {
        assert!(matches!(find(&Target::Process(i32::MAX)), Err(Error::NoProcess { .. })));
        let own = std::process::id() as i32;
        assert!(matches!(find(&Target::Process(own)), Err(Error::Oneself { .. })));
        assert!(matches!(
            find(&Target::Container("no-such-container".into())),
            Err(Error::NoContainer { .. })
        ));
    }
}
