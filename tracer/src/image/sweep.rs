//! Takes away what trials made, also when nrtrace is no more: a process beside it waits for its end.

use std::fs;
use std::io::PipeWriter;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Error, LABEL, PREFIX, Podman};

/// `sh`: once nothing can be read any more, removes the containers with the label `$3` and the images whose names begin with
/// `$1`, and the directory `$2` with the one that holds it, where that is empty; the rest is podman. A client that was just starting one may still be at it, so it looks again.
const SWEEP: &str = r#"
prefix=$1 directory=$2 label=$3; shift 3
cat >/dev/null
for look in 1 2 3 4 5 6; do
    ids=$("$@" ps -aq --no-trunc --filter "name=^$prefix" --filter "label=$label" 2>/dev/null)
    [ -n "$ids" ] || { [ $look -lt 2 ] || break; }
    for id in $ids; do "$@" rm -f -v -t 0 "$id" >/dev/null 2>&1; done
    sleep 0.2
done
for tag in $("$@" images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null | grep "^localhost/$prefix"); do
    "$@" rmi -f "$tag" >/dev/null 2>&1
done
rm -rf -- "$directory"
rmdir -- "${directory%/*}" 2>/dev/null
"#;

/// A process that sweeps up when this is dropped, or its holder has ended in whatever way.
#[derive(Debug)]
pub(super) struct Sweeper {
    child: Child,
    /// Open for as long as nrtrace lives.
    held: Option<PipeWriter>,
}

impl Sweeper {
    /// Starts it, before anything is made.
    pub(super) fn start(podman: &Podman, prefix: &str, directory: &Path) -> Result<Self, Error> {
        let failed = |error| Error::System { what: "starting what sweeps up after trials".into(), error };
        let (read, held) = std::io::pipe().map_err(failed)?;
        let child = sweep(podman, prefix, directory).stdin(read).spawn().map_err(failed)?;
        Ok(Self { child, held: Some(held) })
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.held = None;
        let _ = self.child.wait();
    }
}

fn sweep(podman: &Podman, prefix: &str, directory: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SWEEP, "sh", prefix]).arg(directory).arg(LABEL).args(podman.words());
    command.stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    // SAFETY: setsid(2) is async-signal-safe. The terminal's signals are for nrtrace, which it outlives.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            Ok(())
        })
    };
    command
}

/// Takes away what was left by an nrtrace that is no more, and whose sweeper is no more either.
pub(super) fn leftovers(podman: &Podman, directory: &Path) {
    let (named, ours) = (format!("name=^{PREFIX}"), format!("label={LABEL}"));
    let names = podman.ask(&["ps", "-a", "--format", "{{.Names}}", "--filter", &named, "--filter", &ours]);
    let names = names.unwrap_or_default();
    let of_name = |name: &str| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok();
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let kept = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut dead: Vec<u32> =
        names.lines().filter_map(of_name).chain(kept).filter(|pid| !lives(*pid)).collect();
    dead.sort_unstable();
    dead.dedup();
    for pid in dead {
        let own = directory.join(pid.to_string());
        // What cannot be taken away now is there for the next one.
        let _ = sweep(podman, &format!("{PREFIX}{pid}-"), &own).stdin(Stdio::null()).status();
    }
}

/// Whether an nrtrace has that number.
fn lives(pid: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.contains("nrtrace")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn nothing_stays_and_only_what_carries_the_label_is_asked_for() {
        let place = tempfile::tempdir().unwrap();
        let (fake, asked) = (place.path().join("podman"), place.path().join("asked"));
        fs::write(&fake, format!("#!/bin/sh\necho \"$*\" >>'{}'\n", asked.display())).unwrap();
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
        let podman = Podman::new(vec![fake.display().to_string()]);
        let trials = place.path().join("trials");
        for pid in ["7", "8"] {
            fs::create_dir_all(trials.join(pid).join("0")).unwrap();
        }
        let end = |pid: &str| {
            let own = trials.join(pid);
            assert!(sweep(&podman, "x-", &own).stdin(Stdio::null()).status().is_ok());
            assert!(!own.exists());
        };
        end("7");
        assert!(trials.join("8").exists(), "another's stays");
        end("8");
        assert!(!trials.exists(), "it is removed when it is empty");
        leftovers(&podman, &trials);
        let asked = fs::read_to_string(asked).unwrap();
        let lists: Vec<&str> = asked.lines().filter(|line| line.starts_with("ps ")).collect();
        assert!(
            lists.len() >= 3 && lists.iter().all(|line| line.contains("label=nrtrace.trial=1")),
            "{asked}"
        );
    }
}
