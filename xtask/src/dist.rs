//! `cargo xtask dist`: a static program with its manual and completions, as an archive and as a Debian package, which
//! `cargo deb` makes of `[package.metadata.deb]` in `cli/Cargo.toml`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cross::Arch;

/// Options of `dist`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The machine it is for; may be given for each
    #[arg(long, value_enum, default_values_t = [Arch::HOST])]
    arch: Vec<Arch>,

    /// Package this program instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

const OUT: &str = "target/dist";
/// The files of the archive, which are those of the package too.
const FILES: &str = "target/dist/files";
const PACKAGER: &str = "cargo-deb";
const PACKAGER_VERSION: &str = "3.8.0";

/// Builds and packages nrtrace.
pub fn run(options: &Options) -> Result<()> {
    ensure!(
        options.binary.is_none() || options.arch.len() == 1,
        "--binary is one program; give one --arch with it"
    );
    let out = Path::new(OUT);
    let mut made = Vec::new();
    for arch in &options.arch {
        let program = match &options.binary {
            Some(path) => path.clone(),
            None => build(*arch)?,
        };
        made.extend(package(*arch, &program, out)?);
    }
    let sums = Command::new("sha256sum").args(&made).current_dir(out).output()?;
    ensure!(sums.status.success(), "sha256sum: {}", sums.status);
    fs::write(out.join("SHA256SUMS"), sums.stdout)?;
    for name in made.iter().map(String::as_str).chain(["SHA256SUMS"]) {
        println!("{}", out.join(name).display());
    }
    Ok(())
}

/// Packages a program for a machine; the names of the archive and of the package.
fn package(arch: Arch, program: &Path, out: &Path) -> Result<[String; 2]> {
    let version = env!("CARGO_PKG_VERSION");
    let files = Path::new(FILES);
    if files.exists() {
        fs::remove_dir_all(files).with_context(|| format!("cannot remove {FILES}"))?;
    }
    lay_out(arch, program, files)?;
    let archive = format!("nrtrace-{version}-{}-linux.tar.gz", arch.kernel());
    let tar = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-czf"];
    let below = format!("--transform=s,^\\.,nrtrace-{version},");
    sh(Command::new("tar").args(tar).arg(out.join(&archive)).arg(below).arg("-C").arg(files).arg("."))?;
    Ok([archive, debian(arch, files, out)?])
}

/// A program that needs no library of the machine it runs on.
fn build(arch: Arch) -> Result<PathBuf> {
    sh(arch.cargo("build")?.args(["--locked", "--profile", "dist", "--package", "nrtrace"]))?;
    Ok(arch.built("dist").join("nrtrace"))
}

/// The files as they are installed below `/usr`.
fn lay_out(arch: Arch, program: &Path, root: &Path) -> Result<()> {
    let install = |from: &Path, to: &str, mode: &str| {
        sh(Command::new("install").args(["-D", "-m", mode]).arg(from).arg(root.join(to)))
    };
    install(program, "bin/nrtrace", "755")?;
    let installed = root.join("bin/nrtrace");
    sh(Command::new(arch.tool("strip")).arg("--strip-unneeded").arg(&installed))?;
    let program = speaking(arch, installed)?;
    // kubectl takes it for its plugin.
    std::os::unix::fs::symlink("nrtrace", root.join("bin/kubectl-nrtrace"))?;
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

/// The program that writes the manual: one for another machine does not run here, but they all say the same.
fn speaking(arch: Arch, program: PathBuf) -> Result<PathBuf> {
    if arch == Arch::HOST {
        return Ok(program);
    }
    let own = PathBuf::from("target/release/nrtrace");
    sh(Command::new("cargo").args(["build", "--locked", "--release", "--package", "nrtrace"]))?;
    Ok(own)
}

/// Turns the files into a package; its name.
fn debian(arch: Arch, files: &Path, out: &Path) -> Result<String> {
    let packager = packager()?;
    // Where cargo deb looks for what cargo has built.
    let built = env::current_dir()?.join(out).join("built");
    let place = if arch == Arch::HOST { built.clone() } else { built.join(arch.target()) }.join("release");
    fs::create_dir_all(&place)?;
    fs::copy(files.join("bin/nrtrace"), place.join("nrtrace"))?;
    let options = ["--quiet", "--locked", "--no-build", "--no-strip", "--package", "nrtrace", "--output"];
    let mut command = Command::new(packager);
    command.arg("deb").args(options).arg(out).env("CARGO_TARGET_DIR", &built).stderr(Stdio::inherit());
    if arch != Arch::HOST {
        command.args(["--target", arch.target()]);
    }
    let made = command.output().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(made.status.success(), "{command:?}: {}", made.status);
    fs::remove_dir_all(&built)?;
    let said = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let name = Path::new(said.lines().last().unwrap_or_default()).file_name();
    name.map(|name| name.to_string_lossy().into_owned()).context("cargo deb does not say what it made")
}

/// `cargo deb`, which is installed for these tasks alone when it is not there.
fn packager() -> Result<PathBuf> {
    let installed = |program: &Path| {
        let said = Command::new(program).args(["deb", "--version"]).output();
        said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).trim().ends_with(PACKAGER_VERSION))
    };
    if installed(Path::new(PACKAGER)) {
        return Ok(PACKAGER.into());
    }
    let tools = env::current_dir()?.join("target/tools");
    let program = tools.join("bin").join(PACKAGER);
    if !installed(&program) {
        // Unoptimised, since building it takes longer than all it does.
        let options = ["install", "--quiet", "--locked", "--force", "--debug", "--root"];
        sh(Command::new("cargo")
            .args(options)
            .arg(&tools)
            .arg(format!("{PACKAGER}@{PACKAGER_VERSION}"))
            .env_remove("CARGO_TARGET_DIR"))?;
    }
    Ok(program)
}

fn sh(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
