//! A kernel out of its package, and commands.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cross::Arch;

/// A kernel to boot.
pub struct Kernel {
    /// What its package calls it, such as `6.1.0-56-cloud-amd64`.
    pub name: String,
    /// The compressed image.
    pub image: PathBuf,
    /// The machine it is for.
    pub arch: Arch,
}

/// Takes the kernel out of a package.
pub fn unpack(package: &Path, directory: &Path) -> Result<Kernel> {
    ensure!(
        package.exists(),
        "there is no package {}; give a version, or the path of a .deb",
        package.display()
    );
    let archive = directory.join("package.tar");
    let file =
        std::fs::File::create(&archive).with_context(|| format!("cannot make {}", archive.display()))?;
    succeed(Command::new("dpkg-deb").arg("--fsys-tarfile").arg(package).stdout(file))?;
    let listed = output(Command::new("tar").arg("-tf").arg(&archive))?;
    // /boot/vmlinuz-NAME, or from Linux 7.2 on /usr/lib/modules/NAME/vmlinuz.
    let name_in = |member: &str| {
        let of_modules = || member.strip_suffix("/vmlinuz")?.rsplit_once("/modules/");
        Some(member.rsplit_once("boot/vmlinuz-").or_else(of_modules)?.1.to_owned())
    };
    let found = listed.lines().find_map(|member| Some((member, name_in(member)?)));
    let Some((member, name)) = found else {
        bail!("{} holds no kernel: it has no vmlinuz", package.display());
    };
    succeed(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(directory).arg(member))?;
    std::fs::remove_file(&archive)?;
    let arch = output(Command::new("dpkg-deb").arg("--field").arg(package).arg("Architecture"))?;
    Ok(Kernel { name, image: directory.join(member), arch: Arch::named(arch.trim())? })
}

/// Installs packages that are missing, after having the list of packages brought up to date.
pub fn install(packages: &[&str]) -> Result<()> {
    succeed(Command::new("apt-get").args(["update", "-q"]))?;
    let state = |package: &str| {
        output(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Abbrev}", package]))
            .unwrap_or_default()
    };
    let missing: Vec<_> = packages.iter().filter(|package| state(package) != "ii ").collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "-q", "-y", "--no-install-recommends"]);
    succeed(command.args(missing))
}

/// What a command prints.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, said.trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a command that must succeed.
pub fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
