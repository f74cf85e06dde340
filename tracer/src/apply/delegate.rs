//! `Delegate=`, systemd.resource-control(5): the control group becomes the user's.

use std::io;
use std::os::unix::fs::chown;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nrtrace_profiles::event::Identity;

/// The files of a group by which tasks and controllers are put into groups below it.
const FILES: [&str; 3] = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"];

/// Gives a group to the user, and has it writable where else control groups are not. To be called as root, in a sandbox.
pub(super) fn give(group: &Path, identity: &Identity) -> io::Result<()> {
    let none = None::<&str>;
    mount(Some(group), group, none, MsFlags::MS_BIND, none)?;
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(none, group, none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | safe, none)?;
    for path in std::iter::once(group.to_owned()).chain(FILES.map(|name| group.join(name))) {
        chown(path, Some(identity.uid), Some(identity.gid))?;
    }
    Ok(())
}
