//! The inside of a sandbox: namespaces, mounts, and the process that everything in it dies with.
//!
//! Two processes hold a sandbox. The outer one makes the namespaces and keeps the deadline; its child is process 1 of
//! the pid namespace, makes the mounts and starts the command. Each is killed when its parent dies, and the death
//! of process 1 kills whatever else is in the namespace; the mounts vanish with the last process.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, wait, waitpid};
use nix::unistd::{ForkResult, Pid, chdir, fork, getppid, pivot_root, sethostname};

use crate::sandbox::{Bind, Plan, STATUS_BROKEN, STATUS_LATE};

/// Where the new root is put together; hidden from the machine by the mount namespace.
const STAGE: &str = "/mnt";

/// Makes the sandbox, runs the command of `plan` (JSON) in it, and returns its exit status, or 128 and the number of
/// the signal that ended it.
///
/// Must be called from a process with a single thread.
///
/// # Errors
/// When the plan cannot be read or the sandbox cannot be made.
pub fn enter(plan: &str) -> Result<u8> {
    let plan: Plan = serde_json::from_str(plan).context("read the plan")?;
    die_with(Pid::from_raw(plan.parent.try_into()?))?;
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET;
    unshare(flags).context("make namespaces (this needs root)")?;
    // SAFETY: this process has one thread, so the child may use whatever it likes.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Child => {
            let status = first_process(&plan).unwrap_or_else(|error| {
                eprintln!("sandbox: {error:#}");
                STATUS_BROKEN as u8
            });
            std::process::exit(status.into())
        }
        ForkResult::Parent { child } => keep_deadline(child, Duration::from_millis(plan.deadline_ms)),
    }
}

fn keep_deadline(child: Pid, limit: Duration) -> Result<u8> {
    let start = Instant::now();
    loop {
        if let Some(status) = status_of(waitpid(child, Some(WaitPidFlag::WNOHANG))?) {
            return Ok(status);
        }
        if start.elapsed() > limit {
            kill(child, Signal::SIGKILL).context("end the sandbox")?;
            waitpid(child, None)?;
            return Ok(STATUS_LATE as u8);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn status_of(status: WaitStatus) -> Option<u8> {
    match status {
        WaitStatus::Exited(_, status) => Some(status as u8),
        WaitStatus::Signaled(_, signal, _) => Some(128 + signal as u8),
        _ => None,
    }
}

/// Process 1: mounts, starts the command, and buries what is orphaned until the command ends.
fn first_process(plan: &Plan) -> Result<u8> {
    // The outer process is in another pid namespace and shows as 0.
    die_with(Pid::from_raw(0))?;
    umask(Mode::empty());
    make_root(&plan.binds)?;
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    sethostname("sandbox").context("set the host name")?;
    loopback_up().context("bring the loopback interface up")?;
    write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "1024")?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(1024), hard).context("limit the number of open files")?;
    let (program, arguments) = plan.command.split_first().context("the plan has no command")?;
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(plan.environment.iter().cloned())
        .current_dir("/")
        .spawn()
        .with_context(|| format!("start {program}"))?;
    let child = Pid::from_raw(child.id().try_into()?);
    loop {
        let ended = wait()?;
        if let Some(status) = status_of(ended).filter(|_| ended.pid() == Some(child)) {
            return Ok(status);
        }
    }
}

/// Has this process killed when its parent, which must be `parent`, dies.
fn die_with(parent: Pid) -> Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("ask for a signal when the parent dies")?;
    ensure!(getppid() == parent, "the process that wanted this sandbox has ended");
    Ok(())
}

fn make_root(binds: &[Bind]) -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("make all mounts private")?;
    // Sources below the stage or below what is mounted over would be out of sight later: hold on to them.
    let sources: Vec<fs::File> = binds
        .iter()
        .map(|bind| {
            fs::OpenOptions::new()
                .read(true)
                .open(&bind.source)
                .with_context(|| format!("open {}", bind.source.display()))
        })
        .collect::<Result<_>>()?;
    let stage = Path::new(STAGE);
    tmpfs(stage, 0o755)?;
    let [upper, work, root] = ["upper", "work", "root"].map(|name| stage.join(name));
    for directory in [&upper, &work, &root] {
        make_directory(directory, 0o755)?;
    }
    let options = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .context("mount an overlay of the root file system")?;
    kernel_file_systems(&root)?;
    for (bind, source) in binds.iter().zip(&sources) {
        show(bind, source, &root)?;
    }
    chdir(&root)?;
    pivot_root(".", ".").context("change the root")?;
    umount2(".", MntFlags::MNT_DETACH).context("let go of the old root")?;
    chdir("/")?;
    Ok(())
}

fn kernel_file_systems(root: &Path) -> Result<()> {
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), &root.join("proc"), Some("proc"), safe, None::<&str>).context("mount /proc")?;
    // The machine's own, for the type information, the trace and BPF file systems and the cgroups.
    mount(Some("/sys"), &root.join("sys"), None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .context("show /sys")?;
    tmpfs(&root.join("run"), 0o755)?;
    make_directory(&root.join("run/lock"), 0o1777)?;
    tmpfs(&root.join("tmp"), 0o1777)?;
    devices(&root.join("dev"))
}

fn devices(dev: &Path) -> Result<()> {
    tmpfs(dev, 0o755)?;
    let nodes = [
        ("null", 1, 3, 0o666),
        ("zero", 1, 5, 0o666),
        ("full", 1, 7, 0o666),
        ("random", 1, 8, 0o666),
        ("urandom", 1, 9, 0o666),
        ("kmsg", 1, 11, 0o644),
        ("tty", 5, 0, 0o666),
        // For tests of access to devices: harmless, and closed to all but root.
        ("guarded", 1, 3, 0o600),
    ];
    for (name, major, minor, mode) in nodes {
        let path = dev.join(name);
        mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(mode), makedev(major, minor))
            .with_context(|| format!("make {}", path.display()))?;
    }
    make_directory(&dev.join("shm"), 0o755)?;
    tmpfs(&dev.join("shm"), 0o1777)?;
    make_directory(&dev.join("pts"), 0o755)?;
    mount(
        Some("devpts"),
        &dev.join("pts"),
        Some("devpts"),
        MsFlags::empty(),
        Some("newinstance,ptmxmode=0666"),
    )
    .context("mount /dev/pts")?;
    let links = [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ];
    for (name, target) in links {
        symlink(target, dev.join(name)).with_context(|| format!("link /dev/{name}"))?;
    }
    Ok(())
}

fn show(bind: &Bind, source: &fs::File, root: &Path) -> Result<()> {
    use std::os::fd::AsRawFd;
    let inside = bind.target.strip_prefix("/").context("a bind needs an absolute target")?;
    let target = root.join(inside);
    let parent = target.parent().context("a bind cannot cover the root")?;
    fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    for directory in inside.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()) {
        fs::set_permissions(root.join(directory), fs::Permissions::from_mode(0o755))?;
    }
    if source.metadata()?.is_dir() {
        fs::create_dir_all(&target)?;
    } else {
        fs::write(&target, "")?;
    }
    let from = format!("/proc/self/fd/{}", source.as_raw_fd());
    mount(Some(from.as_str()), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("show {} at {}", bind.source.display(), bind.target.display()))?;
    if !bind.writable {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, &target, None::<&str>, flags, None::<&str>).context("make a bind read-only")?;
    }
    Ok(())
}

fn tmpfs(target: &Path, mode: u32) -> Result<()> {
    let options = format!("mode={mode:o}");
    mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("mount a tmpfs on {}", target.display()))
}

fn make_directory(path: &Path, mode: u32) -> Result<()> {
    fs::create_dir(path).with_context(|| format!("make {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(())
}

fn write(path: &str, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {path}"))
}

fn loopback_up() -> Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    use std::os::fd::AsRawFd;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: an interface request is plain data, for which zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is valid for the whole call, and this ioctl reads no further than it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
    nix::errno::Errno::result(result)?;
    Ok(())
}
