//! `cargo xtask vm --systemd`: a Debian whose process 1 is systemd, in which stock services are recorded and proved, and then
//! started by systemd with the very drop-in.
//!
//! The tree of files is Debian's own, made by mmdebstrap and kept for the next time; what is under test comes on top of it.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::guest::{self, Machine, Outcome};
use super::image::{copy, write};
use super::kernel::{self, output, succeed};
use super::report;

/// As their packages ship them. memcached's is started by a wrapper that ends for anybody but root; vsftpd lives by a line of
/// its configuration.
const SERVICES: [&str; 5] = ["nginx", "lighttpd", "redis-server", "dnsmasq", "vsftpd"];
/// What is in the tree beside Debian's essential packages, without dependencies.
const PACKAGES: &str = "systemd,systemd-sysv,procps,nginx-light,lighttpd,redis-server,dnsmasq,vsftpd";
/// Modules of the kernel's that sandboxes take.
const MODULES: [&str; 2] = ["*/overlayfs/overlay.ko*", "*/net/dummy.ko*"];
const SCRIPT: &str = include_str!("systemd.sh");
/// Starts the script once systemd is up.
const UNIT: &str = "[Unit]\nAfter=basic.target\n[Service]\nType=oneshot\nTimeoutStartSec=infinity\n\
                    ExecStart=/usr/lib/nrtrace-check\nStandardOutput=tty\nStandardError=tty\nTTYPath=/dev/console\n";
/// With one, this is no first boot, at which systemd would enable every service.
const MACHINE: &str = "6e727472616365206e72747261636500\n";
/// Megabytes of memory: the tree is in it, and for a moment its archive.
const MEMORY: u32 = 1536;
/// The longest it may run at all; it takes ten minutes on two busy cores.
const LIMIT: Duration = Duration::from_secs(3600);
/// The table that follows this line in docs/kernels.md is generated.
const MARK: &str = "<!-- seen: cargo xtask vm --systemd --write -->";

/// Boots it, and fails when a service is not proved, does not serve, or runs as somebody else.
pub fn run(package: &Path, nrtrace: Option<&Path>, directory: &Path, writes: bool) -> Result<()> {
    let kernel = kernel::unpack(package, directory)?;
    let archive = image(package, nrtrace, directory, SCRIPT)?;
    let outcome = guest::boot(&kernel, machine("systemd", &archive), directory)?;
    let services = SERVICES.map(|name| Service::read(&outcome, name));
    let services = services.into_iter().collect::<Result<Vec<_>>>()?;
    let table = table(&outcome, &services)?;
    println!("\n{table}");
    if writes {
        report::replace(Path::new("docs/kernels.md"), MARK, &table)?;
    }
    let seen =
        |name: &str| Ok::<_, anyhow::Error>(outcome.text(&format!("interrupted.{name}"))?.trim().to_owned());
    let (there, status, left) = (seen("while")?, seen("status")?, seen("left")?);
    ensure!(
        there == "there" && status == "3" && left.is_empty(),
        "a proof that was interrupted under systemd: {there:?}, status {status}, left {left:?}"
    );
    let failed: Vec<&str> = services.iter().filter(|service| !service.is_fine()).map(|s| s.name).collect();
    ensure!(
        failed.is_empty(),
        "not as it should be: {}; all that was seen is in {}",
        failed.join(", "),
        outcome.results.display()
    );
    Ok(())
}

/// A machine that has such an initramfs.
pub fn machine<'a>(name: &'a str, archive: &'a Path) -> Machine<'a> {
    Machine { name, archive, memory: MEMORY, limit: LIMIT }
}

/// The initramfs: the tree as an archive, what comes on top, and what puts both in place. The script is run in it.
pub fn image(package: &Path, nrtrace: Option<&Path>, directory: &Path, script: &str) -> Result<PathBuf> {
    if nrtrace.is_none() {
        succeed(Command::new("cargo").args(["build", "--release", "--package", "nrtrace"]))?;
    }
    let root = directory.join("systemd");
    if root.exists() {
        std::fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    for name in ["busybox", "modules", "debian", "proc", "sys", "dev"] {
        let path = root.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    copy(Path::new("/bin/busybox"), &root.join("busybox/busybox"))?;
    for applet in
        output(Command::new("/bin/busybox").arg("--list"))?.lines().filter(|name| *name != "busybox")
    {
        symlink("busybox", root.join("busybox").join(applet))?;
    }
    let modules =
        "dpkg-deb --fsys-tarfile \"$1\" | tar -x -C \"$2\" --transform 's,.*/,,' --wildcards \"$3\" \"$4\"";
    let unpack = ["-c", modules, "sh"];
    succeed(Command::new("sh").args(unpack).arg(package).arg(root.join("modules")).args(MODULES))?;
    let units = root.join("added/etc/systemd/system");
    let binary = root.join("added/usr/bin/nrtrace");
    copy(nrtrace.unwrap_or(Path::new("target/release/nrtrace")), &binary)?;
    succeed(Command::new("strip").arg(&binary))?;
    let wanted = units.join("basic.target.wants");
    for path in [&wanted, &root.join("added/usr/lib")] {
        std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    write(&units.join("nrtrace-check.service"), UNIT, 0o644)?;
    symlink("../nrtrace-check.service", wanted.join("nrtrace-check.service"))?;
    write(&root.join("added/etc/machine-id"), MACHINE, 0o444)?;
    for (name, text) in [("check", script), ("serves", include_str!("systemd-serves.sh"))] {
        write(&root.join("added/usr/lib").join(format!("nrtrace-{name}")), text, 0o755)?;
    }
    write(&root.join("init"), include_str!("systemd-init.sh"), 0o755)?;
    copy(&tree(directory)?, &root.join("debian.tar"))?;
    let archive = directory.join("systemd.cpio");
    let pack = "cd \"$1\" && find . | cpio --quiet --create --format newc >\"$2\"";
    succeed(Command::new("sh").args(["-c", pack, "sh"]).arg(&root).arg(&archive))?;
    Ok(archive)
}

/// Debian's tree as an archive; made anew where there is none.
fn tree(directory: &Path) -> Result<PathBuf> {
    let archive = directory.join("debian.tar");
    let holds = directory.join("debian.packages");
    if archive.exists() && std::fs::read_to_string(&holds).is_ok_and(|held| held == PACKAGES) {
        return Ok(archive);
    }
    // What nrtrace is linked with here is to be there.
    let release = std::fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let of = |name: &str| release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    ensure!(
        of("ID") == Some("debian"),
        "`cargo xtask vm --systemd` takes a Debian: what it boots is the same"
    );
    let suite = of("VERSION_CODENAME").context("this Debian has no name")?;
    let made = directory.join("new.tar");
    println!("== a tree of Debian {suite}");
    // Its mounts are in a namespace of their own, so that none is left.
    let mut command = Command::new("unshare");
    command.args(["--mount", "mmdebstrap", "--mode=root", "--variant=minbase", "--skip=check/qemu"]);
    command.arg(format!("--include={PACKAGES}"));
    command.args(["doc", "man", "locale"].map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*")));
    succeed(command.arg(suite).arg(&made)).context("is the package mmdebstrap installed?")?;
    std::fs::rename(&made, &archive).with_context(|| format!("cannot rename {}", made.display()))?;
    write(&holds, PACKAGES, 0o644)?;
    Ok(archive)
}

/// What was seen of a service.
struct Service {
    name: &'static str,
    /// Whether nrtrace proved it: in its sandbox, and under systemd.
    proved: bool,
    /// Seconds that this took, the recorded run and hardening included.
    seconds: String,
    /// Whether `systemctl start` succeeded with the drop-in installed, and the service answered.
    serves: bool,
    /// Whom its main process ran as, and whom the drop-in names.
    user: String,
    wanted: String,
    /// How many of its processes were root's.
    roots: String,
    /// What `systemd-analyze security` says: with the drop-in, and of the stock unit.
    exposure: [String; 2],
}

impl Service {
    fn read(outcome: &Outcome, name: &'static str) -> Result<Self> {
        let word =
            |what: &str| Ok::<_, anyhow::Error>(outcome.text(&format!("{name}.{what}"))?.trim().to_owned());
        // `→ Overall exposure level for nginx.service: 1.6 OK`
        let level = |what: &str| {
            let text = word(what)?;
            let level = text.rsplit_once(": ").and_then(|(_, level)| level.split(' ').next());
            Ok::<_, anyhow::Error>(level.unwrap_or("?").to_owned())
        };
        Ok(Self {
            name,
            proved: word("proved")? == "0",
            seconds: word("seconds")?,
            serves: word("started")? == "0" && word("serves")? == "yes",
            user: word("user")?,
            wanted: word("wanted")?,
            roots: word("roots")?,
            exposure: [level("security")?, level("stock")?],
        })
    }

    fn is_fine(&self) -> bool {
        self.proved && self.serves && self.user == self.wanted && self.roots == "0"
    }
}

/// A table in Markdown, a row for each service.
fn table(outcome: &Outcome, services: &[Service]) -> Result<String> {
    let mut text = format!(
        "| {}, {} | proved, and lives as a unit | seconds | serves under the drop-in | as | exposure (stock unit) |\n\
         |---|---|---:|---|---|---|\n",
        outcome.text("systemd")?.trim(),
        outcome.kernel
    );
    let yes = |is: bool| if is { "yes" } else { "**no**" };
    for service in services {
        let Service { name, proved, seconds, serves, user, wanted, roots, exposure: [with, stock] } = service;
        let user = match (user == wanted, roots.as_str()) {
            (true, "0") => user.clone(),
            (_, roots) => format!("**{user}**, not {wanted}; {roots} processes of root"),
        };
        writeln!(
            text,
            "| {name} | {} | {seconds} | {} | {user} | {with} ({stock}) |",
            yes(*proved),
            yes(*serves)
        )?;
    }
    Ok(text)
}
