//! The tree of files that each machine boots into.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::kernel::{output, succeed};

/// Where the fixture finds busybox's programs; `/usr/bin` has the host's own, which the probe's tests run.
const APPLETS: &str = "busybox";
const PROGRAMS: [&str; 12] = [
    "/usr/bin/cat",
    "/usr/bin/chmod",
    "/usr/bin/mkdir",
    "/usr/bin/mv",
    "/usr/bin/perl",
    "/usr/bin/rm",
    "/usr/bin/rmdir",
    "/usr/bin/sh",
    "/usr/bin/sleep",
    "/usr/bin/touch",
    "/usr/bin/true",
    "/usr/bin/unshare",
];
/// Modules that come with perl itself (package perl-base).
const PERL: &str = "/usr/lib/x86_64-linux-gnu/perl-base";
const SCRIPTS: [(&str, &str); 3] = [
    ("init", include_str!("init.sh")),
    ("guest.sh", include_str!("guest.sh")),
    ("fixture.sh", include_str!("fixture.sh")),
];

/// A tree and the same as an initramfs.
pub struct Image {
    /// The tree.
    pub root: PathBuf,
    /// The archive.
    pub archive: PathBuf,
}

/// Builds nrtrace and the tests of its probe, and puts them into a new tree.
pub fn build(directory: &Path) -> Result<Image> {
    succeed(Command::new("cargo").args(["build", "--release", "--package", "nrtrace"]))?;
    let tests = probe_tests()?;
    let root = directory.join("root");
    if root.exists() {
        std::fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    skeleton(&root)?;
    for program in PROGRAMS {
        add(&root, Path::new(program), program)?;
    }
    succeed(Command::new("cp").args(["-a", "--parents", PERL]).arg(&root))?;
    add(&root, Path::new("target/release/nrtrace"), "/usr/bin/nrtrace")?;
    add(&root, &tests, "/usr/bin/probe-tests")?;
    // The tests' symbols are of no use there, and most of the image.
    succeed(Command::new("strip").arg(root.join("usr/bin/probe-tests")))?;
    for (name, text) in SCRIPTS {
        write(&root.join(name), text, 0o755)?;
    }
    let archive = directory.join("root.cpio");
    let pack = "cd \"$1\" && find . | cpio --quiet --create --format newc >\"$2\"";
    succeed(Command::new("sh").args(["-c", pack, "sh"]).arg(&root).arg(&archive))?;
    Ok(Image { root, archive })
}

/// Directories, accounts, and busybox under all its names.
fn skeleton(root: &Path) -> Result<()> {
    for name in [
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "dev",
        "proc",
        "sys",
        "etc",
        "mnt",
        "root",
        "run",
        "tmp",
        "results",
        APPLETS,
    ] {
        let path = root.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    std::fs::set_permissions(root.join("tmp"), std::fs::Permissions::from_mode(0o1777))?;
    std::fs::set_permissions(root.join("root"), std::fs::Permissions::from_mode(0o700))?;
    write(&root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n", 0o644)?;
    write(&root.join("etc/group"), "root:x:0:\n", 0o644)?;
    write(&root.join("etc/shadow"), "root:*:::::::\n", 0o640)?;
    add(root, Path::new("/bin/busybox"), "/bin/busybox")?;
    for applet in output(Command::new("/bin/busybox").arg("--list"))?.lines() {
        symlink("../bin/busybox", root.join(APPLETS).join(applet))?;
    }
    Ok(())
}

/// Copies a program and the libraries it is linked with.
fn add(root: &Path, program: &Path, to: &str) -> Result<()> {
    copy(program, &root.join(to.trim_start_matches('/')))?;
    // It fails for a program without libraries.
    let Ok(listed) = output(Command::new("ldd").arg(program)) else { return Ok(()) };
    for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        copy(Path::new(library), &root.join(library.trim_start_matches('/')))?;
    }
    Ok(())
}

pub fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    std::fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

pub fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

/// Builds the tests of the probe; where they are.
fn probe_tests() -> Result<PathBuf> {
    let arguments =
        ["test", "--package", "nrtrace-tracer", "--test", "probe", "--no-run", "--message-format", "json"];
    let messages = output(Command::new("cargo").args(arguments))?;
    let found = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message.pointer("/target/name")?.as_str()? == "probe";
        Some(PathBuf::from(message.get("executable").filter(|_| is_it)?.as_str()?))
    });
    let found = found.context("cargo did not say where the tests of the probe are")?;
    ensure!(found.exists(), "{} is not there", found.display());
    Ok(found)
}
