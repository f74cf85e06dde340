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
mod sources;
mod systemd;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::cross::Arch;
use crate::vm::guest::{Machine, Outcome};
use crate::vm::kernel::Kernel;
use crate::vm::sources::Sources;

/// Debian's packages that a run needs.
const PACKAGES: [&str; 5] =
    ["qemu-system-x86", "busybox-static", "cpio", "binutils", "debian-archive-keyring"];

/// Options of `vm`.
#[derive(Debug, Default, Args)]
pub struct Options {
    /// Debian's kernel of this version, with /arm64 for that machine, or a package file [default: 5.10, 6.1, 6.12 and newest]
    #[arg(long, value_name = "VERSION[/arm64]|newest|PATH.deb")]
    kernel: Vec<String>,

    /// The kernels for 64-bit ARM as well
    #[arg(long)]
    arm64: bool,

    /// Build nrtrace for debugging, which takes less time
    #[arg(long)]
    dev: bool,

    /// Leave out this kernel
    #[arg(long)]
    only: bool,

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

/// Versions tried by default.
const VERSIONS: [&str; 4] = ["5.10", "6.1", "6.12", sources::NEWEST];
/// Those of them that do not change with Debian's releases.
const IN_CI: [&str; 3] = ["5.10", "6.1", "6.12"];
/// Those of 64-bit ARM.
const ARM64: [&str; 2] = ["6.1/arm64", "6.12/arm64"];
/// The version under which a whole Debian is tried.
const STABLE: &str = "6.1";
/// The longest a machine may run at all.
const LIMIT: Duration = Duration::from_secs(1800);

/// Runs the fixture on this kernel and on each asked for, and fails when any of them differs.
pub fn run(options: &Options) -> Result<()> {
    ensure!(Arch::HOST == Arch::Amd64, "`cargo xtask vm` takes an x86-64 machine");
    let directory = std::env::current_dir()?.join("target/vm");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let mut packages = Packages { directory: &directory, sources: Vec::new() };
    if options.systemd || options.recorded {
        let package = packages.kernel(options.kernel.first().map_or(STABLE, String::as_str))?;
        let try_in = if options.recorded { recorded::run } else { systemd::run };
        return try_in(&package, options.nrtrace.as_deref(), &directory, options.write);
    }
    let mut kernels = Vec::new();
    for version in wanted(options) {
        kernels.push(kernel::unpack(&packages.kernel(version)?, &directory)?);
    }
    let mut images = Vec::new();
    for arch in [Arch::Amd64, Arch::Arm64] {
        let here = arch == Arch::HOST && !options.only;
        if here || kernels.iter().any(|kernel| kernel.arch == arch) {
            let foreign = if arch == Arch::HOST { Vec::new() } else { packages.userland(arch)? };
            images.push((arch, image::build(arch, &foreign, options.dev, &directory)?));
        }
    }
    let image = |arch| images.iter().find(|(known, _)| *known == arch).map(|(_, image)| image);
    let mut outcomes = Vec::new();
    if !options.only
        && let Some(image) = image(Arch::HOST)
    {
        outcomes.push(guest::here(image, &directory)?);
    }
    outcomes.extend(boot_all(&kernels, &|kernel| {
        let image = image(kernel.arch).context("a machine without a tree")?;
        boot(kernel, image, &directory)
    })?);
    judge(&outcomes, options.write, &directory)
}

/// Boots all machines, as many at a time as there are processors: one that waits long for its turn is taken for dead.
fn boot_all(kernels: &[Kernel], boot: &(dyn Fn(&Kernel) -> Result<Outcome> + Sync)) -> Result<Vec<Outcome>> {
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicUsize::new(0);
    let work = || {
        let take = || kernels.get(next.fetch_add(1, Ordering::Relaxed)).map(|kernel| (kernel, boot(kernel)));
        std::iter::from_fn(take).collect::<Vec<_>>()
    };
    let mut done: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    });
    ensure!(done.len() == kernels.len(), "a thread panicked");
    let place = |name: &str| kernels.iter().position(|kernel| kernel.name == name);
    done.sort_by_key(|(kernel, _)| place(&kernel.name));
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Compares all that was seen with what is right.
fn judge(outcomes: &[Outcome], writes: bool, directory: &Path) -> Result<()> {
    let findings: Vec<_> = outcomes.iter().map(compare::compare).collect::<Result<_>>()?;
    println!("\n{}", report::table(outcomes, &findings));
    if writes {
        report::write(Path::new("docs/kernels.md"), outcomes, &findings)?;
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

/// The kernels asked for.
fn wanted(options: &Options) -> Vec<&str> {
    let asked = options.kernel.iter().map(String::as_str);
    let usual = VERSIONS.into_iter().filter(|_| options.kernel.is_empty());
    asked.chain(usual).chain(ARM64.into_iter().filter(|_| options.arm64)).collect()
}

/// Runs the fixture in a machine with a kernel.
fn boot(kernel: &Kernel, image: &image::Image, directory: &Path) -> Result<Outcome> {
    let machine = Machine { name: &kernel.name, archive: &image.archive, memory: 1024, limit: LIMIT };
    guest::boot(kernel, machine, directory)
}

/// Debian's packages, whose lists are fetched when one of them is not there.
struct Packages<'a> {
    directory: &'a Path,
    sources: Vec<(Arch, Sources)>,
}

impl Packages<'_> {
    fn sources(&mut self, arch: Arch) -> Result<&Sources> {
        if !self.sources.iter().any(|(known, _)| *known == arch) {
            self.sources.push((arch, Sources::update(arch, self.directory)?));
        }
        let found = self.sources.iter().find(|(known, _)| *known == arch);
        found.map(|(_, sources)| sources).context("no sources")
    }

    /// The package of a kernel: Debian's of that version, or a file.
    fn kernel(&mut self, version: &str) -> Result<PathBuf> {
        if Path::new(version).extension().is_some_and(|extension| extension == "deb") {
            return Ok(version.into());
        }
        let (version, arch) = version.split_once('/').unwrap_or((version, Arch::HOST.debian()));
        let (arch, packages) = (Arch::named(arch)?, self.directory.join("packages"));
        let sources = self.sources(arch)?;
        let name = sources.kernel(version)?.with_context(|| {
            format!(
                "the package sources offer no linux-image-{version}.*-cloud-{}; give a .deb",
                arch.debian()
            )
        })?;
        sources.download(&name, None, &packages)
    }

    /// What runs beside nrtrace in a machine of another kind.
    fn userland(&mut self, arch: Arch) -> Result<Vec<PathBuf>> {
        let packages = self.directory.join("packages");
        let sources = self.sources(arch)?;
        let download = |name: &&str| sources.download(name, Some(image::RELEASE), &packages);
        image::FOREIGN.iter().map(download).collect()
    }
}

/// What `ci` runs: the packages first, then the default kernels.
pub fn ci() -> Result<()> {
    kernel::install(&PACKAGES)?;
    run(&Options { kernel: IN_CI.map(str::to_owned).to_vec(), ..Options::default() })
}
