//! The tree of files that each machine boots into.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::kernel::{output, succeed};
use super::sources;
use crate::cross::Arch;

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
/// The release of Debian whose programs run in machines of another kind…
pub const RELEASE: &str = "bookworm";
/// …and the packages of these.
pub const FOREIGN: [&str; 11] = [
    "busybox-static",
    "coreutils",
    "dash",
    "libacl1",
    "libattr1",
    "libc6",
    "libcrypt1",
    "libpcre2-8-0",
    "libselinux1",
    "perl-base",
    "util-linux",
];
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

/// Builds nrtrace and the tests of its probe for a kind of machine, and puts them into a new tree, with what is in packages if
/// it is of another kind than this one.
pub fn build(arch: Arch, foreign: &[PathBuf], dev: bool, directory: &Path) -> Result<Image> {
    let native = arch == Arch::HOST;
    let mut cargo = if native { Command::new("cargo") } else { arch.cargo("build")? };
    if native {
        cargo.arg("build");
    }
    let (profile, built) = if dev { ("dev", "debug") } else { ("release", "release") };
    succeed(cargo.args(["--profile", profile, "--package", "nrtrace"]))?;
    let built = if native { Path::new("target").join(built) } else { arch.built(built) };
    let tests = probe_tests(arch)?;
    let root = directory.join(format!("root-{}", arch.debian()));
    if root.exists() {
        std::fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    skeleton(&root)?;
    if native {
        add(&root, Path::new("/bin/busybox"), "/bin/busybox")?;
        for program in PROGRAMS {
            add(&root, Path::new(program), program)?;
        }
        succeed(Command::new("cp").args(["-a", "--parents", PERL]).arg(&root))?;
    } else {
        add_foreign(foreign, &root, directory)?;
    }
    add(&root, &built.join("nrtrace"), "/usr/bin/nrtrace")?;
    add(&root, &tests, "/usr/bin/probe-tests")?;
    narrow(arch, &root, directory)?;
    // Symbols are of no use there, and most of the image.
    for name in ["nrtrace", "probe-tests"] {
        succeed(Command::new(arch.tool("strip")).arg(root.join("usr/bin").join(name)))?;
    }
    for (name, text) in SCRIPTS {
        write(&root.join(name), text, 0o755)?;
    }
    let archive = directory.join(format!("root-{}.cpio", arch.debian()));
    let pack = "cd \"$1\" && find . | cpio --quiet --create --format newc >\"$2\"";
    succeed(Command::new("sh").args(["-c", pack, "sh"]).arg(&root).arg(&archive))?;
    Ok(Image { root, archive })
}

/// Programs out of packages, with all libraries that are in these.
fn add_foreign(packages: &[PathBuf], root: &Path, directory: &Path) -> Result<()> {
    let unpacked = directory.join("foreign");
    if unpacked.exists() {
        std::fs::remove_dir_all(&unpacked)
            .with_context(|| format!("cannot remove {}", unpacked.display()))?;
    }
    sources::unpack(packages, &unpacked)?;
    copy(&unpacked.join("bin/busybox"), &root.join("bin/busybox"))?;
    for program in PROGRAMS {
        // Packages of that release have some of them below /bin still.
        let inside = program.trim_start_matches('/');
        let places = [inside, inside.trim_start_matches("usr/")].map(|place| unpacked.join(place));
        let found = places.iter().find(|place| place.exists());
        copy(found.with_context(|| format!("no package has {program}"))?, &root.join(inside))?;
    }
    for name in ["lib", "usr/lib"] {
        let from = unpacked.join(name);
        succeed(Command::new("cp").args(["-a", "-T"]).arg(&from).arg(root.join("usr/lib")))?;
    }
    Ok(())
}

/// A 32-bit program of that machine's, `/narrow`, which is part of the fixture.
fn narrow(arch: Arch, root: &Path, directory: &Path) -> Result<()> {
    let (assembler, linker, text): (&[_], &[_], _) = match arch {
        Arch::Amd64 => (&["as", "--32"], &["ld", "-m", "elf_i386"], include_str!("narrow-amd64.s")),
        Arch::Arm64 => {
            (&["arm-linux-gnueabihf-as"], &["arm-linux-gnueabihf-ld"], include_str!("narrow-arm64.s"))
        }
    };
    let start = |words: &[&str], to: &Path, from: &Path| {
        let mut command = Command::new(words[0]);
        succeed(command.args(&words[1..]).arg("-o").arg(to).arg(from)).context(
            "what makes a 32-bit program is in the packages binutils and binutils-arm-linux-gnueabihf",
        )
    };
    let source = directory.join(format!("narrow-{}.s", arch.debian()));
    let object = source.with_extension("o");
    write(&source, text, 0o644)?;
    start(assembler, &object, &source)?;
    start(linker, &root.join("narrow"), &object)
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
    // A busybox for another machine cannot be asked here.
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
fn probe_tests(arch: Arch) -> Result<PathBuf> {
    let mut cargo = if arch == Arch::HOST { Command::new("cargo") } else { arch.cargo("test")? };
    if arch == Arch::HOST {
        cargo.arg("test");
    }
    let arguments =
        ["--package", "nrtrace-tracer", "--test", "probe", "--no-run", "--message-format", "json"];
    let messages = output(cargo.args(arguments))?;
    let found = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message.pointer("/target/name")?.as_str()? == "probe";
        Some(PathBuf::from(message.get("executable").filter(|_| is_it)?.as_str()?))
    });
    let found = found.context("cargo did not say where the tests of the probe are")?;
    ensure!(found.exists(), "{} is not there", found.display());
    Ok(found)
}
