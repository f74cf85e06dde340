//! Containers by the processes that stay beside them: containerd's shim, and conmon of podman and CRI-O.
//!
//! Each has been told where the container's bundle is, so that those are found, too, whose engine keeps its state elsewhere:
//! another `--root` or `--state`, a user's own, a namespace of containerd.

use std::path::{Path, PathBuf};

use nrtrace_profiles::RawText;

use super::process::{self, Facts};
use super::state::{Known, annotated, image_in, is_trusted, json};
use crate::status::Status;

/// What the kernel calls them: the first 15 bytes of their names.
const SHIM: &str = "containerd-shim";
const CONMON: &str = "conmon";

/// Directories with a bundle for each container, in one for each namespace, as the shims say.
pub(super) fn shims() -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = process::all()
        .into_iter()
        .filter(|pid| is(*pid, SHIM))
        .filter_map(Facts::read)
        .filter(|shim| is_trusted(shim.uid))
        // Its working directory is ROOT/NAMESPACE/ID.
        .filter_map(|shim| Some(Path::new(process::os(&shim.cwd)).parent()?.parent()?.to_owned()))
        .collect();
    roots.sort();
    roots.dedup();
    roots
}

/// Containers that a conmon watches.
pub(super) fn watched() -> Vec<Known> {
    let all: Vec<i32> = process::all();
    let monitors = all.iter().copied().filter(|pid| is(*pid, CONMON)).filter_map(Facts::read);
    let told: Vec<(i32, Told)> =
        monitors.filter_map(|monitor| Some((monitor.pid, Told::of(&monitor.command)?))).collect();
    if told.is_empty() {
        return Vec::new();
    }
    let parents: Vec<(i32, i32)> =
        all.into_iter().filter_map(|pid| Some((pid, Status::of(pid)?.number("PPid")?))).collect();
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

fn is(pid: i32, name: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|text| text.trim_end() == name)
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
