//! `cargo xtask dist`: a static program with its manual and completions, as an archive and as a Debian package.
//!
//! The package is put together by dpkg-deb, which every Debian machine has; nothing has to be installed for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Options of `dist`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Package this program instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

const OUT: &str = "target/dist";
const MUSL: &str = "x86_64-unknown-linux-musl";
const GNU: &str = "x86_64-unknown-linux-gnu";

/// Builds and packages nrtrace.
pub fn run(options: &Options) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let program = match &options.binary {
        Some(path) => path.clone(),
        None => build()?,
    };
    let out = Path::new(OUT);
    let stage = out.join("stage");
    let _ = fs::remove_dir_all(&stage);
    let root = stage.join(format!("nrtrace-{version}"));
    lay_out(&program, &root)?;
    let archive = format!("nrtrace-{version}-x86_64-linux.tar.gz");
    let tar = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-czf"];
    sh(Command::new("tar")
        .args(tar)
        .arg(out.join(&archive))
        .arg("-C")
        .arg(&stage)
        .arg(root.file_name().unwrap_or_default()))?;
    let package = debian(&root, &stage, out, version)?;
    let sums = Command::new("sha256sum").args([&archive, &package]).current_dir(out).output()?;
    ensure!(sums.status.success(), "sha256sum: {}", sums.status);
    fs::write(out.join("SHA256SUMS"), sums.stdout)?;
    for name in [archive.as_str(), &package, "SHA256SUMS"] {
        println!("{}", out.join(name).display());
    }
    Ok(())
}

/// A program that needs no library of the machine it runs on: with musl where Rust has its standard library, else
/// with glibc, statically.
fn build() -> Result<PathBuf> {
    let found = Command::new("rustc").args(["--print", "target-libdir", "--target", MUSL]).output()?;
    let has_musl = Path::new(String::from_utf8_lossy(&found.stdout).trim()).is_dir();
    let target = if has_musl { MUSL } else { GNU };
    if !has_musl {
        println!("{MUSL} is not installed (rustup target add {MUSL}): linking statically to glibc instead");
    }
    let flags = "-C target-feature=+crt-static -C relocation-model=static";
    let arguments = ["build", "--profile", "dist", "--package", "nrtrace", "--target", target];
    sh(Command::new("cargo").args(arguments).env("RUSTFLAGS", flags))?;
    Ok(Path::new("target").join(target).join("dist/nrtrace"))
}

/// The files as they are installed below `/usr`.
fn lay_out(program: &Path, root: &Path) -> Result<()> {
    let install = |from: &Path, to: &str, mode: &str| {
        sh(Command::new("install").args(["-D", "-m", mode]).arg(from).arg(root.join(to)))
    };
    install(program, "bin/nrtrace", "755")?;
    let program = root.join("bin/nrtrace");
    sh(Command::new("strip").arg("--strip-unneeded").arg(&program))?;
    let man = root.join("share/man/man1");
    fs::create_dir_all(&man)?;
    sh(Command::new(&program).arg("manual").arg("-o").arg(&man))?;
    for (shell, name) in [
        ("bash", "share/bash-completion/completions/nrtrace"),
        ("zsh", "share/zsh/vendor-completions/_nrtrace"),
        ("fish", "share/fish/vendor_completions.d/nrtrace.fish"),
    ] {
        let made = Command::new(&program).args(["completions", shell]).output()?;
        ensure!(made.status.success(), "nrtrace completions {shell}: {}", made.status);
        let path = root.join(name);
        fs::create_dir_all(path.parent().context("no directory")?)?;
        fs::write(path, made.stdout)?;
    }
    for name in ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        install(Path::new(name), &format!("share/doc/nrtrace/{name}"), "644")?;
    }
    for directory in ["docs", "schemas"] {
        for entry in fs::read_dir(directory).with_context(|| directory.to_owned())? {
            let path = entry?.path();
            if path.is_file() {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                install(&path, &format!("share/doc/nrtrace/{directory}/{name}"), "644")?;
            }
        }
    }
    Ok(())
}

/// Turns the files into a package; its name.
fn debian(root: &Path, stage: &Path, out: &Path, version: &str) -> Result<String> {
    let package = stage.join("debian");
    fs::create_dir_all(package.join("DEBIAN"))?;
    sh(Command::new("cp").arg("-rT").arg(root).arg(package.join("usr")))?;
    let doc = package.join("usr/share/doc/nrtrace");
    for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
        fs::remove_file(doc.join(name))?;
    }
    fs::write(
        doc.join("copyright"),
        COPYRIGHT.replace("@MIT@", &deb_paragraphs(&fs::read_to_string("LICENSE-MIT")?)),
    )?;
    fs::rename(doc.join("CHANGELOG.md"), doc.join("changelog"))?;
    let pages = fs::read_dir(package.join("usr/share/man/man1"))?.map(|page| Ok(page?.path()));
    let pages: Vec<PathBuf> = pages.collect::<Result<_>>()?;
    sh(Command::new("gzip").args(["-9n", "-f"]).arg(doc.join("changelog")).args(pages))?;
    let is_static =
        Command::new("ldd").arg(root.join("bin/nrtrace")).output().is_ok_and(|ldd| !ldd.status.success());
    if is_static {
        let overrides = package.join("usr/share/lintian/overrides");
        fs::create_dir_all(&overrides)?;
        // One file for every release, which is what a tracer that is carried to a machine is for.
        fs::write(overrides.join("nrtrace"), "nrtrace: statically-linked-binary [usr/bin/nrtrace]\n")?;
    }
    let size = Command::new("du").args(["-sk", "--apparent-size"]).arg(&package).output()?;
    let size = String::from_utf8_lossy(&size.stdout).split_whitespace().next().unwrap_or("0").to_owned();
    let depends = if is_static { String::new() } else { "Depends: libc6 (>= 2.36), libgcc-s1\n".to_owned() };
    let control =
        CONTROL.replace("@VERSION@", version).replace("@SIZE@", &size).replace("@DEPENDS@", &depends);
    fs::write(package.join("DEBIAN/control"), control)?;
    let sums = Command::new("sh")
        .args(["-c", "find usr -type f -print0 | sort -z | xargs -0 md5sum > DEBIAN/md5sums"])
        .current_dir(&package)
        .status()?;
    ensure!(sums.success(), "md5sum: {sums}");
    sh(Command::new("chmod").args(["-R", "go-w"]).arg(&package))?;
    let name = format!("nrtrace_{version}-1_amd64.deb");
    sh(Command::new("dpkg-deb").args(["--build", "--root-owner-group"]).arg(&package).arg(out.join(&name)))?;
    Ok(name)
}

/// Text as a field of several lines has it.
fn deb_paragraphs(text: &str) -> String {
    let lines =
        text.trim_end().lines().map(|line| if line.is_empty() { " .".into() } else { format!(" {line}") });
    lines.collect::<Vec<_>>().join("\n")
}

const CONTROL: &str = "\
Package: nrtrace
Version: @VERSION@-1
Architecture: amd64
Maintainer: The nrtrace authors <nrtrace@localhost.localdomain>
Installed-Size: @SIZE@
@DEPENDS@Section: admin
Priority: optional
Homepage: https://github.com/nrtrace/nrtrace
Description: find out what a program needs to run as a non-root user
 nrtrace runs a program once and has the kernel itself say, with every path,
 port and capability, what an ordinary user would have been refused. Then it
 writes the configuration that grants that: tmpfiles.d, sysusers.d, a systemd
 drop-in, file capabilities, Kubernetes manifests.
";

const COPYRIGHT: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: nrtrace
Source: https://github.com/nrtrace/nrtrace

Files: *
Copyright: 2025-2026 The nrtrace authors
License: Apache-2.0 or MIT

License: Apache-2.0
 On Debian systems, the text of the Apache License, version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.

License: MIT
@MIT@
";

fn sh(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
