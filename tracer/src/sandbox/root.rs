//! Puts the sandbox's file systems together and makes them its root.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{chdir, pivot_root};

use super::guard;
use super::mounts::{self, Fate, Mount};
use super::network::Kept;
use super::{Bind, Devices, Layout};
use crate::launch::Error;

/// Where the new root is put together, hidden from the machine by the mount namespace: the first that is a directory.
const STAGES: [&str; 6] = ["/mnt", "/media", "/srv", "/opt", "/tmp", "/run"];

/// Options of an overlay, the best first: directories of the machine can be renamed, and nothing is ever flushed.
const OPTIONS: [&str; 3] = [",index=off,redirect_dir=on,volatile", ",index=off,redirect_dir=on", ""];

pub(super) const SAFE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Something of the machine, held on to from before it goes out of sight.
struct Held {
    fd: OwnedFd,
    metadata: fs::Metadata,
}

impl Held {
    fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::system("opening", path.display().to_string(), error);
        let fd = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| failed(errno.into()))?;
        let metadata = fs::File::from(fd.try_clone().map_err(failed)?).metadata().map_err(failed)?;
        Ok(Self { fd, metadata })
    }

    /// A path to it that works wherever it is.
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into()
    }
}

/// Makes the root file system, and returns remarks on what is not as it is outside.
pub fn make(layout: &Layout, kept: &Kept) -> Result<Vec<String>, Error> {
    mount_at("none", Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)?;
    let mut root = Root::stage(layout)?;
    root.fill(layout, kept)?;
    for (bind, source) in layout.binds.iter().zip(&root.sources) {
        root.show(bind, source)?;
    }
    let new = root.path.clone();
    chdir(&new).map_err(|errno| Error::system("entering", "the new root", errno))?;
    pivot_root(".", ".").map_err(|errno| Error::system("changing", "the root", errno))?;
    umount2(".", MntFlags::MNT_DETACH)
        .map_err(|errno| Error::system("letting go of", "the old root", errno))?;
    chdir("/").map_err(|errno| Error::system("entering", "the new root", errno))?;
    Ok(root.remarks)
}

/// The root that is being put together.
struct Root {
    stage: PathBuf,
    path: PathBuf,
    mounts: Vec<(Mount, Option<Held>)>,
    sources: Vec<Held>,
    overlays: usize,
    guarded: bool,
    remarks: Vec<String>,
}

impl Root {
    /// Holds on to everything that is needed, and mounts the overlay of the root file system.
    fn stage(layout: &Layout) -> Result<Self, Error> {
        let sources = layout.binds.iter().map(|bind| Held::open(&bind.source)).collect::<Result<_, _>>()?;
        let machine = Held::open(Path::new("/"))?;
        let mut remarks = Vec::new();
        let mut mounts = Vec::new();
        for mount in mounts::visible()? {
            if layout.empty.iter().any(|(empty, _)| mount.point.starts_with(empty)) {
                continue;
            }
            let held = match mount.fate() {
                Fate::Overlay | Fate::Shown => Some(Held::open(&mount.point)),
                Fate::Anew | Fate::Hidden => None,
            };
            match held.transpose() {
                Ok(held) => mounts.push((mount, held)),
                Err(error) => {
                    remarks.push(format!("{} is not shown in the sandbox: {error}", mount.point.display()));
                }
            }
        }
        // What is shared is shown with what is mounted below, among which the stage must not be.
        let is_free = |stage: &&Path| !layout.binds.iter().any(|bind| bind.source.starts_with(stage));
        let stage = STAGES.iter().map(Path::new).filter(is_free).find(|stage| stage.is_dir());
        let stage =
            stage.ok_or_else(|| Error::system("finding", "a directory to mount on", Errno::ENOENT))?;
        tmpfs(stage, 0o755)?;
        let path = stage.join("root");
        make_directory(&path, 0o755)?;
        let mut root = Self {
            stage: stage.to_owned(),
            path,
            mounts,
            sources,
            overlays: 0,
            guarded: layout.guarded,
            remarks,
        };
        let target = root.path.clone();
        root.overlay(&machine, &target, MsFlags::empty()).map_err(|errno| {
            let depth = if errno == Errno::EINVAL {
                " (an overlay on an overlay on an overlay is too deep)"
            } else {
                ""
            };
            Error::system("mounting", format!("an overlay of the root file system{depth}"), errno)
        })?;
        Ok(root)
    }

    /// Everything below the root.
    fn fill(&mut self, layout: &Layout, kept: &Kept) -> Result<(), Error> {
        let proc = self.inside(Path::new("/proc"));
        mount_at("proc", &proc, Some("proc"), SAFE, None)?;
        // Before what the machine shows read-only there is made so here too.
        kept.restore(layout, &proc)?;
        self.sys(layout)?;
        if let Devices::Some(nodes) = &layout.devices {
            self.mounts.retain(|(mount, _)| !mount.point.starts_with("/dev"));
            devices(&self.inside(Path::new("/dev")), nodes)?;
        }
        for (mount, held) in std::mem::take(&mut self.mounts) {
            match held {
                Some(held) => self.take_over(&mount, &held),
                None => self.anew(&mount),
            }
        }
        if layout.guarded {
            self.guard(&proc)?;
        }
        for (path, mode) in &layout.empty {
            tmpfs(&self.inside(path), *mode)?;
        }
        Ok(())
    }

    fn guard(&self, proc: &Path) -> Result<(), Error> {
        guard::proc(proc, &self.stage)?;
        guard::devices(&self.inside(Path::new("/dev")))?;
        let sys = self.inside(Path::new("/sys"));
        remount(&sys, SAFE | MsFlags::MS_RDONLY).map_err(|errno| Error::system("closing", "/sys", errno))
    }

    /// The kernel's view of the machine; of the network's devices it shows those of the namespace it was mounted in.
    fn sys(&self, layout: &Layout) -> Result<(), Error> {
        let target = self.inside(Path::new("/sys"));
        if layout.private_network && mount_at("sysfs", &target, Some("sysfs"), SAFE, None).is_ok() {
            return Ok(());
        }
        mount_at("/sys", &target, None, MsFlags::MS_BIND, None)
    }

    /// Where a path of the sandbox is while it is put together.
    fn inside(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Mounts an overlay of a directory, with owner, mode and ACL as they are.
    fn overlay(&mut self, lower: &Held, target: &Path, flags: MsFlags) -> Result<(), Errno> {
        let own = self.stage.join(self.overlays.to_string());
        self.overlays += 1;
        let io = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        fs::create_dir(&own).map_err(io)?;
        let [upper, work] = ["upper", "work"].map(|name| own.join(name));
        fs::create_dir(&upper).and_then(|()| fs::create_dir(&work)).map_err(io)?;
        chown(&upper, Some(lower.metadata.uid()), Some(lower.metadata.gid())).map_err(io)?;
        fs::set_permissions(&upper, fs::Permissions::from_mode(lower.metadata.mode() & 0o7777))
            .map_err(io)?;
        copy_acl(&lower.path(), &upper);
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.path().display(),
            upper.display(),
            work.display()
        );
        let mut result = Err(Errno::EINVAL);
        for options in OPTIONS {
            let options = format!("{layers}{options}");
            result = mount(Some("overlay"), target, Some("overlay"), flags, Some(options.as_str()));
            if result != Err(Errno::EINVAL) {
                break;
            }
        }
        result
    }

    /// A mount of the machine, in its place.
    fn take_over(&mut self, mount: &Mount, held: &Held) {
        let target = self.inside(&mount.point);
        let is_directory = held.metadata.is_dir();
        let overlaid = match mount.fate() {
            Fate::Overlay if is_directory => self.overlay(held, &target, mount.flags),
            Fate::Overlay if held.metadata.is_file() => self.copy(held, &target),
            _ => Err(Errno::ENOTSUP),
        };
        if overlaid.is_ok() {
            return;
        }
        // What has to be kept apart and cannot be overlaid is shown read-only.
        let special = held.metadata.file_type();
        let device = special.is_char_device() || special.is_block_device() || special.is_socket();
        let closed = mount.fate() == Fate::Overlay && !device;
        let guarded = self.guarded && mount.point.starts_with("/sys");
        let point = mount.point.display();
        match self.bind(held, &target, mount.flags, !closed && !guarded) {
            Ok(()) if closed => self.remarks.push(format!(
                "{point} ({}) is read-only in the sandbox: it cannot carry an overlay",
                mount.kind
            )),
            Ok(()) => {}
            // The kernel's own files are not all there in every namespace.
            Err(_)
                if mount.fate() == Fate::Shown
                    && ["/proc", "/sys"].iter().any(|own| mount.point.starts_with(own)) => {}
            Err(errno) => {
                self.remarks.push(format!("{point} ({}) is not shown in the sandbox: {errno}", mount.kind))
            }
        }
    }

    /// A file that is mounted by itself, such as a container's `/etc/hosts`.
    fn copy(&self, held: &Held, target: &Path) -> Result<(), Errno> {
        let io = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        fs::copy(held.path(), target).map_err(io)?;
        chown(target, Some(held.metadata.uid()), Some(held.metadata.gid())).map_err(io)?;
        fs::set_permissions(target, fs::Permissions::from_mode(held.metadata.mode() & 0o7777)).map_err(io)
    }

    fn bind(&self, held: &Held, target: &Path, flags: MsFlags, writable: bool) -> Result<(), Errno> {
        bind(&held.path(), target)?;
        remount(target, flags | if writable { MsFlags::empty() } else { MsFlags::MS_RDONLY })
    }

    /// A file system that belongs to a namespace.
    fn anew(&self, mount: &Mount) {
        let target = self.inside(&mount.point);
        let own = self.inside(Path::new("/proc"));
        if mount.kind == "proc" && mount.root != Path::new("/") {
            // A part of it that is mounted by itself, as container runtimes do to make it read-only. Where this fails, it
            // is a part of the whole.
            let _ = bind(&own.join(mount.root.strip_prefix("/").unwrap_or(&mount.root)), &target)
                .and_then(|()| remount(&target, mount.flags));
            return;
        }
        let options = match mount.kind.as_str() {
            // These two are there already.
            "proc" | "sysfs" if ["/proc", "/sys"].iter().any(|own| mount.point == Path::new(own)) => return,
            "devpts" => Some("newinstance,ptmxmode=0666,mode=0620,gid=5"),
            "proc" | "sysfs" | "mqueue" | "hugetlbfs" => None,
            _ => return,
        };
        // Where this fails, the directory is empty.
        let _ = mount_at(&mount.kind, &target, Some(&mount.kind), mount.flags, options);
    }

    fn show(&self, bind: &Bind, source: &Held) -> Result<(), Error> {
        let target = self.inside(&bind.target);
        let failed =
            |error: std::io::Error| Error::system("showing", bind.target.display().to_string(), error);
        let parent = target.parent().unwrap_or(&target);
        let missing: Vec<&Path> =
            parent.ancestors().take_while(|path| path.starts_with(&self.path) && !path.exists()).collect();
        fs::create_dir_all(parent).map_err(failed)?;
        for directory in missing {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        }
        if source.metadata.is_dir() {
            fs::create_dir_all(&target).map_err(failed)?;
        } else if !target.exists() {
            fs::write(&target, "").map_err(failed)?;
        }
        let shown = if bind.writable {
            // With what is mounted below: else what lies hidden under it on the machine would be written to.
            let (flags, nothing) = (MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>);
            mount(Some(&source.path()), &target, nothing, flags, nothing)
        } else {
            self.bind(source, &target, MsFlags::empty(), false)
        };
        shown.map_err(|errno| failed(errno.into()))
    }
}

/// Copies the ACL of a directory, where it has one.
fn copy_acl(from: &Path, to: &Path) {
    for name in [c"system.posix_acl_access", c"system.posix_acl_default"] {
        let Ok(from) = std::ffi::CString::new(from.as_os_str().as_bytes()) else { return };
        let Ok(to) = std::ffi::CString::new(to.as_os_str().as_bytes()) else { return };
        let mut value = [0_u8; 4096];
        // SAFETY: all strings are NUL-terminated, and the buffer is as long as is said. Where there is no ACL, or no
        // room for a huge one, nothing is copied.
        unsafe {
            let length = libc::getxattr(from.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len());
            if let Ok(length) = usize::try_from(length) {
                libc::setxattr(to.as_ptr(), name.as_ptr(), value.as_ptr().cast(), length, 0);
            }
        }
    }
}

fn devices(dev: &Path, nodes: &[(String, u64, u64, u32)]) -> Result<(), Error> {
    tmpfs(dev, 0o755)?;
    for (name, major, minor, mode) in nodes {
        let path = dev.join(name);
        mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(*mode), makedev(*major, *minor))
            .map_err(|errno| Error::system("making", path.display().to_string(), errno))?;
    }
    make_directory(&dev.join("shm"), 0o755)?;
    tmpfs(&dev.join("shm"), 0o1777)?;
    make_directory(&dev.join("pts"), 0o755)?;
    mount_at(
        "devpts",
        &dev.join("pts"),
        Some("devpts"),
        MsFlags::empty(),
        Some("newinstance,ptmxmode=0666"),
    )?;
    let links = [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ];
    for (name, target) in links {
        symlink(target, dev.join(name))
            .map_err(|error| Error::system("linking", format!("/dev/{name}"), error))?;
    }
    Ok(())
}

fn tmpfs(target: &Path, mode: u32) -> Result<(), Error> {
    mount_at("tmpfs", target, Some("tmpfs"), MsFlags::empty(), Some(&format!("mode={mode:o}")))
}

/// Shows a file or directory at another place too.
pub(super) fn bind(source: &Path, target: &Path) -> Result<(), Errno> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
}

/// Gives a mount other flags; its file system keeps its own.
pub(super) fn remount(target: &Path, flags: MsFlags) -> Result<(), Errno> {
    let flags = flags | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
}

fn mount_at(
    source: &str,
    target: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<(), Error> {
    mount(Some(source), target, kind, flags, options).map_err(|errno| {
        Error::system("mounting", format!("{} on {}", kind.unwrap_or(source), target.display()), errno)
    })
}

fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    let made =
        fs::create_dir(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)));
    made.map_err(|error| Error::system("making", path.display().to_string(), error))
}
