//! What a service sees of the file systems, in a mount namespace of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::launch::Error;
use crate::sandbox::mounts::visible;

/// What `ProtectSystem=yes` closes.
pub(super) const SYSTEM: &[&str] = &["/usr", "/boot", "/efi", "/lib", "/lib64", "/bin", "/sbin"];
/// What `ProtectHome=` closes.
pub(super) const HOMES: &[&str] = &["/home", "/root", "/run/user"];
/// What `PrivateTmp=` makes anew.
pub(super) const TEMPORARY: &[&str] = &["/tmp", "/var/tmp"];
/// What `ProtectKernelTunables=` closes.
pub(super) const TUNABLES: &[&str] = &[
    "/proc/acpi",
    "/proc/apm",
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/latency_stats",
    "/proc/mtrr",
    "/proc/scsi",
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/timer_stats",
    "/sys",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
];
/// Devices that a list of devices leaves open.
const STANDARD: [&str; 7] = ["null", "zero", "full", "random", "urandom", "tty", "ptmx"];

/// How what is below a path is shown; of two that are said of one path, the first here holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shown {
    /// Empty, and closed.
    Inaccessible,
    /// Nobody may write.
    ReadOnly,
    /// Whoever may may write.
    Writable,
    /// As if nothing had been said of what is above it.
    AsIs,
}

/// How paths are shown, and whether they may be missing.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<PathBuf, (Shown, bool)>);

impl Places {
    /// Says something of a path.
    pub(super) fn add(&mut self, path: impl Into<PathBuf>, shown: Shown, optional: bool) {
        let place = self.0.entry(path.into()).or_insert((shown, optional));
        *place = (place.0.min(shown), place.1 && optional);
    }

    /// Whether nothing is said.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How something is shown.
    pub(super) fn governing(&self, path: &Path) -> Option<Shown> {
        path.ancestors().find_map(|above| self.0.get(above)).map(|(shown, _)| *shown)
    }

    /// Without links on the way, and without what is not there.
    fn resolved(&self) -> Result<Self, Error> {
        let mut resolved = Self::default();
        for (path, (shown, optional)) in &self.0 {
            match fs::canonicalize(path) {
                Ok(real) => resolved.add(real, *shown, *optional),
                Err(_) if *optional => {}
                Err(error) => return Err(Error::system("finding", path.display().to_string(), error)),
            }
        }
        Ok(resolved)
    }
}

/// What the service gets for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Anew {
    /// Empty directories for temporary files; in memory, where systemd has them on the disk.
    pub temporary: bool,
    /// A `/dev` with the standard nodes alone.
    pub devices: bool,
    /// A `/proc` without the processes of other users.
    pub processes: bool,
}

/// Makes a mount namespace in which that holds; `devices` closes all device nodes but these and the standard ones.
///
/// # Errors
/// When a path that has to be there is not, or a mount cannot be made (this takes CAP_SYS_ADMIN).
pub(super) fn namespace(places: &Places, anew: Anew, devices: Option<&[PathBuf]>) -> Result<OwnedFd, Error> {
    // A thread may leave the namespace of its process.
    std::thread::scope(|scope| scope.spawn(|| make(places, anew, devices)).join())
        .unwrap_or_else(|_| Err(Error::system("making", "a mount namespace", nix::errno::Errno::ECANCELED)))
}

fn make(places: &Places, anew: Anew, devices: Option<&[PathBuf]>) -> Result<OwnedFd, Error> {
    let failed = |errno| Error::system("making", "a mount namespace for the service", errno);
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(failed)?;
    let hollow = Hollow::make()?;
    mount_anew(anew, &hollow)?;
    let places = places.resolved()?;
    let points: BTreeSet<PathBuf> = visible()?.into_iter().map(|mount| mount.point).collect();
    let (closed, shown): (Vec<_>, Vec<_>) =
        places.0.iter().partition(|(_, (shown, _))| matches!(shown, Shown::Inaccessible));
    for (path, _) in closed {
        bind(&hollow.path(if path.is_dir() { "directory" } else { "file" }), path)?;
    }
    // Before what it lies in is bound to itself, which would keep its place in use.
    hollow.finish()?;
    for (path, _) in shown {
        if path != Path::new("/") && !points.contains(path) {
            bind(path, path)?;
        }
    }
    let root = (PathBuf::from("/"), flags_of(Path::new("/"))?);
    for (point, flags) in visible()?.into_iter().map(|known| (known.point, known.flags)).chain([root]) {
        match places.governing(&point) {
            Some(Shown::ReadOnly | Shown::Inaccessible) => remount(&point, flags, MsFlags::MS_RDONLY, false)?,
            // One that is read-only by itself stays so.
            Some(Shown::Writable) => drop(remount(&point, flags, MsFlags::MS_RDONLY, true)),
            Some(Shown::AsIs) | None => {}
        }
    }
    if let Some(open) = devices {
        close_devices(Path::new("/dev"), open)?;
    }
    let path = "/proc/thread-self/ns/mnt";
    File::open(path).map(Into::into).map_err(|error| Error::system("opening", path, error))
}

/// Mounts what the service gets for itself over what everybody has.
fn mount_anew(anew: Anew, hollow: &Hollow) -> Result<(), Error> {
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    if anew.temporary {
        for path in TEMPORARY.iter().map(Path::new).filter(|path| path.is_dir()) {
            new_mount("tmpfs", path, safe, "mode=1777")?;
        }
    }
    if anew.devices {
        let new = hollow.directory("dev")?;
        new_mount("tmpfs", &new, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "mode=0755")?;
        fill_devices(Path::new("/dev"), &new)?;
        remount(&new, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, MsFlags::MS_RDONLY, false)?;
        bind(&new, Path::new("/dev"))?;
    }
    if anew.processes {
        let new = hollow.directory("proc")?;
        new_mount("proc", &new, safe | MsFlags::MS_NOEXEC, "hidepid=invisible")?;
        // What covers parts of it goes on to.
        for covered in visible()?.into_iter().map(|mount| mount.point) {
            if let Ok(below) = covered.strip_prefix("/proc")
                && !below.as_os_str().is_empty()
            {
                bind(&covered, &new.join(below))?;
            }
        }
        bind(&new, Path::new("/proc"))?;
    }
    Ok(())
}

/// Puts the standard nodes and what else every program finds in `/dev` into a new one.
fn fill_devices(old: &Path, new: &Path) -> Result<(), Error> {
    /// What is mounted below it, and the socket of the log.
    const KEPT: [&str; 5] = ["pts", "shm", "mqueue", "hugepages", "log"];
    let failed = |path: &Path, error| Error::system("making", path.display().to_string(), error);
    for name in STANDARD.into_iter().chain(KEPT).chain(["fd", "stdin", "stdout", "stderr", "core"]) {
        let (from, to) = (old.join(name), new.join(name));
        let Ok(found) = from.symlink_metadata() else { continue };
        if found.is_symlink() {
            let target = fs::read_link(&from).map_err(|error| failed(&from, error))?;
            std::os::unix::fs::symlink(target, &to).map_err(|error| failed(&to, error))?;
            continue;
        }
        let made = if found.is_dir() { fs::create_dir(&to) } else { fs::write(&to, "") };
        made.map_err(|error| failed(&to, error))?;
        bind(&from, &to)?;
    }
    Ok(())
}

fn new_mount(kind: &str, target: &Path, flags: MsFlags, options: &str) -> Result<(), Error> {
    mount(Some(kind), target, Some(kind), flags, Some(options))
        .map_err(|errno| Error::system("mounting", target.display().to_string(), errno))
}

fn bind(source: &Path, target: &Path) -> Result<(), Error> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, None::<&str>, flags, None::<&str>)
        .map_err(|errno| Error::system("mounting", target.display().to_string(), errno))
}

/// The flags of the mount that something is on, as far as they matter for access.
fn flags_of(path: &Path) -> Result<MsFlags, Error> {
    let found = nix::sys::statvfs::statvfs(path);
    let found = found.map_err(|errno| Error::system("looking at", path.display().to_string(), errno))?;
    // The bits are the same.
    Ok(MsFlags::from_bits_truncate(found.flags().bits() as _)
        & (MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC))
}

/// Sets a flag of a mount, or clears it.
fn remount(point: &Path, now: MsFlags, flag: MsFlags, clear: bool) -> Result<(), Error> {
    let mut flags = now | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    flags.set(flag, !clear);
    mount(None::<&str>, point, None::<&str>, flags, None::<&str>)
        .map_err(|errno| Error::system("remounting", point.display().to_string(), errno))
}

/// A place out of sight where mounts are made before they are bound to where they belong. It holds an empty directory
/// and an empty file that nobody may open.
struct Hollow(PathBuf);

impl Hollow {
    fn make() -> Result<Self, Error> {
        let path = PathBuf::from(format!("/run/nrtrace-hollow-{}", std::process::id()));
        let failed = |error| Error::system("making", path.display().to_string(), error);
        fs::create_dir(&path).map_err(failed)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        new_mount("tmpfs", &path, flags, "mode=0755")?;
        let hollow = Self(path.clone());
        hollow.directory("directory")?;
        fs::write(hollow.path("file"), "").map_err(failed)?;
        for name in ["directory", "file"] {
            fs::set_permissions(hollow.path(name), PermissionsExt::from_mode(0o000)).map_err(failed)?;
        }
        Ok(hollow)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes a directory in it.
    fn directory(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path(name);
        let made = fs::create_dir(&path);
        made.map_err(|error| Error::system("making", path.display().to_string(), error))?;
        Ok(path)
    }

    /// Takes its place away; what was bound of it stays.
    fn finish(self) -> Result<(), Error> {
        let failed = |error| Error::system("removing", self.0.display().to_string(), error);
        umount2(&self.0, MntFlags::MNT_DETACH).map_err(|errno| failed(errno.into()))?;
        fs::remove_dir(&self.0).map_err(failed)
    }
}

/// Closes the device nodes that are not in the list: one on a `nodev` mount opens for nobody.
fn close_devices(directory: &Path, open: &[PathBuf]) -> Result<(), Error> {
    let failed = |error| Error::system("listing", directory.display().to_string(), error);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && path != Path::new("/dev/pts") {
            close_devices(&path, open)?;
        } else if kind.is_char_device() || kind.is_block_device() {
            let standard = STANDARD.iter().any(|name| path == Path::new("/dev").join(name));
            if !standard && !open.contains(&path) {
                bind(&path, &path)?;
                let flags = flags_of(&path)?;
                remount(&path, flags, MsFlags::MS_NODEV, false)?;
            }
        }
    }
    Ok(())
}
