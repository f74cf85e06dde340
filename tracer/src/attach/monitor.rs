//! Containers by the processes that stay beside them: containerd's shim, and conmon of podman and CRI-O.
//!
//! Each has been told where the container's bundle is, so that those are found, too, whose engine keeps its state elsewhere:
//! another `--root` or `--state`, a user's own, a namespace of containerd.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nrtrace_profiles::RawText;

use super::process::{self, Facts};
use super::state::{Known, annotated, image_in, is_trusted, json};
use crate::status::Status;

/// What the kernel calls them: the first 15 bytes of their names.
const SHIM: &str = "containerd-shim";
const CONMON: &str = "conmon";
/// Programs that serve docker's API.
const SERVERS: [&str; 2] = ["dockerd", "podman"];
/// For so long a look at all processes is good: a container's start takes no longer.
const FRESH: Duration = Duration::from_millis(100);

/// The processes of engines.
#[derive(Clone, Debug, Default)]
pub(super) struct Engines {
    /// Those that serve docker's API.
    pub(super) servers: Vec<i32>,
    shims: Vec<i32>,
    conmons: Vec<i32>,
}

/// What was found last, and when.
static LAST: Mutex<Option<(Instant, Engines)>> = Mutex::new(None);

/// Those that run.
pub(super) fn engines() -> Engines {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, found)) = last.as_ref().filter(|(when, _)| when.elapsed() < FRESH) {
        return found.clone();
    }
    let mut found = Engines::default();
    for pid in process::all() {
        match std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end() {
            SHIM => found.shims.push(pid),
            CONMON => found.conmons.push(pid),
            name if SERVERS.contains(&name) => found.servers.push(pid),
            _ => {}
        }
    }
    *last = Some((Instant::now(), found.clone()));
    found
}

/// Directories with a bundle for each container, in one for each namespace, as the shims say.
pub(super) fn shims() -> Vec<PathBuf> {
    let root = |pid: i32| {
        std::fs::metadata(format!("/proc/{pid}")).ok().filter(|facts| is_trusted(facts.uid()))?;
        // Its working directory is ROOT/NAMESPACE/ID.
        let bundle = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        Some(bundle.parent()?.parent()?.to_owned())
    };
    let mut roots: Vec<PathBuf> = engines().shims.into_iter().filter_map(root).collect();
    roots.sort();
    roots.dedup();
    roots
}

/// Containers that a conmon watches.
pub(super) fn watched() -> Vec<Known> {
    let monitors = engines().conmons.into_iter().filter_map(Facts::read);
    let told: Vec<(i32, Told)> =
        monitors.filter_map(|monitor| Some((monitor.pid, Told::of(&monitor.command)?))).collect();
    if told.is_empty() {
        return Vec::new();
    }
    let parents: Vec<(i32, i32)> =
        process::all().into_iter().filter_map(|pid| Some((pid, Status::of(pid)?.number("PPid")?))).collect();
    let known = |(monitor, told): (i32, Told)| {
        // Its own child, whatever a file says: who may write that is another question.
        let child = parents.iter().find(|(_, parent)| *parent == monitor).map(|(pid, _)| *pid);
        let config = json(&told.bundle.join("config.json")).unwrap_or_default();
        let mut known = annotated(told.id, &config, "podman");
        if known.pod.is_some() {
            known.engine = "cri-o";
        }
        known.names.insert(0, told.name);
        // GRAPH/DRIVER-containers/ID/userdata
        let stored = told.bundle.ancestors().nth(2).and_then(|directory| image_in(directory, &known.id));
        Known { pid: child, image: known.image.or(stored), ..known }
    };
    told.into_iter().map(known).collect()
}

/// What a conmon was told.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    id: String,
    name: String,
    bundle: PathBuf,
}

impl Told {
    /// By its command line; nothing for the conmon of a command that is run in a container beside its program.
    fn of(command: &[RawText]) -> Option<Self> {
        let option = |names: [&str; 2]| {
            let at = command
                .iter()
                .position(|word| names.iter().any(|name| word.as_bytes() == name.as_bytes()))?;
            Some(command.get(at + 1)?.to_text())
        };
        let id = option(["-c", "--cid"])?;
        let name = option(["-n", "--name"])?;
        let bundle = PathBuf::from(option(["-b", "--bundle"])?);
        let is_own = option(["-u", "--cuuid"]).is_none_or(|uuid| uuid == id);
        (is_own && bundle.is_absolute()).then_some(Self { id, name, bundle })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Vec<RawText> {
        text.split(' ').map(RawText::from).collect()
    }

    #[test]
    fn a_conmon_tells_of_its_container() {
        let told = Told::of(&command(
            "/usr/bin/conmon --api-version 1 -c aa -u aa -r /usr/bin/crun -b /home/me/store/overlay-containers/aa/userdata \
             -p /run/user/1000/aa/pidfile -n web --exit-dir /run/exits",
        ));
        let bundle = PathBuf::from("/home/me/store/overlay-containers/aa/userdata");
        assert_eq!(told, Some(Told { id: "aa".into(), name: "web".into(), bundle }));
    }

    #[test]
    fn the_conmon_of_a_command_beside_it_does_not() {
        for text in [
            "/usr/bin/conmon -c aa -u bb -b /store/aa/userdata -n web --exec-attach",
            "/usr/bin/conmon -c aa -u aa -b userdata -n web",
            "/usr/bin/conmon --version",
            "",
        ] {
            assert_eq!(Told::of(&command(text)), None, "{text}");
        }
    }
}
