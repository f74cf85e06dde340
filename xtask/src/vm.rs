//! `cargo xtask vm`: the same fixture on older kernels, under QEMU, and on this one.
//!
//! A machine is Debian's kernel and an initramfs: busybox, nrtrace, the tests of its probe, and the scripts beside this
//! file. `fixture.sh` meets each kind of check once; what it is found to need must be the same on every kernel, and what
//! `expected.txt` says. On this kernel it runs in namespaces of its own, in a copy of the same tree.

mod compare;
mod guest;
mod image;
mod kernel;
mod recorded;
mod report;
mod systemd;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;

use crate::vm::guest::{Machine, Outcome};
use crate::vm::kernel::Kernel;

/// Debian's packages that a run needs.
const PACKAGES: [&str; 4] = ["qemu-system-x86", "busybox-static", "cpio", "binutils"];

/// Options of `vm`.
#[derive(Debug, Args)]
pub struct Options {
    /// Debian's kernel of this version (such as 6.1), or a package file [default: each of 6.1 and 6.12 that apt offers]
    #[arg(long, value_name = "VERSION|PATH.deb")]
    kernel: Vec<String>,

    /// Write what was seen to docs/kernels.md
    #[arg(long)]
    write: bool,

    /// Instead, boot a Debian with systemd, prove stock services in it, and start them by systemd with what is written
    #[arg(long)]
    systemd: bool,

    /// Instead, boot that Debian, and record services in it while they live
    #[arg(long, conflicts_with = "systemd")]
    recorded: bool,

    /// With --systemd or --recorded, try this nrtrace [default: a release build]
    #[arg(long, value_name = "PATH")]
    nrtrace: Option<PathBuf>,
}

/// Versions tried by default; the first one must be there.
const VERSIONS: [&str; 2] = ["6.1", "6.12"];
/// The longest a machine may run at all.
const LIMIT: Duration = Duration::from_secs(1800);

/// Runs the fixture on this kernel and on each asked for, and fails when any of them differs.
pub fn run(options: &Options) -> Result<()> {
    ensure!(cfg!(target_arch = "x86_64"), "`cargo xtask vm` knows Debian's kernels for x86-64 only");
    let directory = std::env::current_dir()?.join("target/vm");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    if options.systemd || options.recorded {
        let package = package(options.kernel.first().map_or(VERSIONS[0], String::as_str), &directory)?;
        let try_in = if options.recorded { recorded::run } else { systemd::run };
        return try_in(&package, options.nrtrace.as_deref(), &directory, options.write);
    }
    let kernels = kernels(&options.kernel, &directory)?;
    let image = image::build(&directory)?;
    let mut outcomes = vec![guest::here(&image, &directory)?];
    let (image, directory) = (&image, directory.as_path());
    outcomes.extend(std::thread::scope(|scope| -> Result<Vec<Outcome>> {
        let boot = |kernel| scope.spawn(move || boot(kernel, image, directory));
        let machines: Vec<_> = kernels.iter().map(boot).collect();
        machines
            .into_iter()
            .map(|machine| machine.join().map_err(|_| anyhow!("a thread panicked"))?)
            .collect()
    })?);
    let findings: Vec<_> = outcomes.iter().map(compare::compare).collect::<Result<_>>()?;
    println!("\n{}", report::table(&outcomes, &findings));
    if options.write {
        report::write(Path::new("docs/kernels.md"), &outcomes, &findings)?;
    }
    let mut wrong = 0;
    for (Outcome { kernel, .. }, findings) in outcomes.iter().zip(&findings) {
        for difference in &findings.differences {
            println!("{kernel}: {difference}");
            wrong += 1;
        }
    }
    ensure!(
        wrong == 0,
        "{wrong} differences; all that was seen is in {}",
        directory.join("results").display()
    );
    Ok(())
}

/// Runs the fixture in a machine with a kernel.
fn boot(kernel: &Kernel, image: &image::Image, directory: &Path) -> Result<Outcome> {
    let machine = Machine { name: &kernel.name, archive: &image.archive, memory: 1024, limit: LIMIT };
    guest::boot(kernel, machine, directory)
}

/// The packages asked for, or those of [`VERSIONS`] that there are, unpacked.
fn kernels(asked: &[String], directory: &Path) -> Result<Vec<Kernel>> {
    let mut kernels = Vec::new();
    let versions: Vec<&str> =
        if asked.is_empty() { VERSIONS.to_vec() } else { asked.iter().map(String::as_str).collect() };
    for (index, version) in versions.into_iter().enumerate() {
        if asked.is_empty() && index > 0 && kernel::offered(version)?.is_none() {
            println!("== the package sources offer no kernel {version}: left out");
            continue;
        }
        kernels.push(kernel::unpack(&package(version, directory)?, directory)?);
    }
    Ok(kernels)
}

/// The package of a kernel: Debian's of that version, or a file.
fn package(version: &str, directory: &Path) -> Result<PathBuf> {
    if Path::new(version).extension().is_some_and(|extension| extension == "deb") {
        return Ok(version.into());
    }
    match kernel::offered(version)? {
        Some(name) => kernel::download(&name, &directory.join("packages")),
        None => bail!(
            "the package sources offer no linux-image-{version}.*-cloud-amd64; run `apt-get update`, or give a .deb"
        ),
    }
}

/// What `ci` runs: the packages first, then the default kernels.
pub fn ci() -> Result<()> {
    kernel::install(&PACKAGES)?;
    run(&Options { kernel: Vec::new(), write: false, systemd: false, recorded: false, nrtrace: None })
}
