//! Runs the scripts on a kernel, and fetches what they leave.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::image::Image;
use super::kernel::{Kernel, succeed};
use crate::cross::Arch;

/// The longest a machine may be silent. All of it takes about a minute, but ten times as long on a host that is busy with
/// other things as well.
const PATIENCE: Duration = Duration::from_secs(300);
/// A machine to boot.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    /// What its results are called.
    pub name: &'a str,
    /// The initramfs.
    pub archive: &'a Path,
    /// Megabytes of memory.
    pub memory: u32,
    /// The longest it may run at all.
    pub limit: Duration,
}

/// What a kernel's run left.
pub struct Outcome {
    /// `uname -r`.
    pub kernel: String,
    /// The files.
    pub results: PathBuf,
}

impl Outcome {
    fn new(results: PathBuf) -> Result<Self> {
        let kernel = read(&results.join("kernel"))?.trim().to_owned();
        ensure!(!kernel.is_empty(), "{} is empty: the run broke off", results.join("kernel").display());
        Ok(Self { kernel, results })
    }

    /// The text of one of the files.
    pub fn text(&self, name: &str) -> Result<String> {
        read(&self.results.join(name))
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {}: the run broke off", path.display()))
}

/// Boots a machine with a kernel.
pub fn boot(kernel: &Kernel, machine: Machine<'_>, directory: &Path) -> Result<Outcome> {
    let results = fresh(directory, machine.name)?;
    let (console, archive) = (results.join("console"), results.join("results.tar"));
    println!("== {}", machine.name);
    let emulator = format!("qemu-system-{}", kernel.arch.kernel());
    let (board, terminal, second): (&[_], _, _) = match kernel.arch {
        Arch::Amd64 => (&["-cpu", "max"], "ttyS0", "isa-serial,chardev=results,index=1"),
        // Its one serial port on the board is the console.
        Arch::Arm64 => (&["-machine", "virt", "-cpu", "cortex-a72"], "ttyAMA0", "pci-serial,chardev=results"),
    };
    let child = Command::new(&emulator)
        .args(["-accel", "tcg", "-smp", "2", "-m", &machine.memory.to_string()])
        .args(board)
        .args(["-nodefaults", "-display", "none", "-no-reboot"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(machine.archive)
        // On a host that is busy, timer ticks come too late for the kernel's own test of the timer.
        .args(["-append", &format!("console={terminal} panic=-1 quiet no_timer_check")])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-chardev")
        .arg(format!("file,id=results,path={}", archive.display()))
        .args(["-device", second])
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| {
            format!("cannot start {emulator}; run `apt-get install qemu-system-x86 qemu-system-arm busybox-static cpio`")
        })?;
    wait(child, &console, machine.limit)
        .with_context(|| format!("what the kernel said is in {}", console.display()))?;
    let unpacked = Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&results).status()?;
    ensure!(
        unpacked.success(),
        "the machine left no results; what the kernel said is in {}",
        console.display()
    );
    Outcome::new(results)
}

fn wait(mut child: Child, console: &Path, limit: Duration) -> Result<()> {
    let said = || console.metadata().map_or(0, |facts| facts.len());
    let (started, mut last, mut heard) = (Instant::now(), Instant::now(), 0);
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "qemu: {status}");
            return Ok(());
        }
        if said() != heard {
            (last, heard) = (Instant::now(), said());
        }
        if last.elapsed() > PATIENCE || started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!(
                "the machine did not end: after {} s it has been silent for {} s",
                started.elapsed().as_secs(),
                last.elapsed().as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// In new namespaces, makes a copy of the tree ($1) the root directory, with $2 as its /results, and runs the scripts.
const ENTER: &str = r#"
set -e
mount -t tmpfs -o mode=755 nrtrace-vm "$3"
cp -a "$1/." "$3"
mount -t proc proc "$3/proc"
mount --rbind /sys "$3/sys"
mount --rbind /dev "$3/dev"
mount --bind "$2" "$3/results"
cd "$3"
mkdir old
pivot_root . old
PATH=/busybox
umount -l /old
rmdir /old
ip link set lo up
exec sh /guest.sh
"#;

/// Runs on this kernel.
pub fn here(image: &Image, directory: &Path) -> Result<Outcome> {
    let results = fresh(directory, "native")?;
    let root = directory.join("native");
    std::fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    println!("== this kernel");
    succeed(
        Command::new("unshare")
            .args([
                "--mount",
                "--pid",
                "--net",
                "--uts",
                "--ipc",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                ENTER,
                "sh",
            ])
            .args([&image.root, &results, &root])
            .stdin(Stdio::null()),
    )?;
    Outcome::new(results)
}

/// An empty directory for results.
fn fresh(directory: &Path, name: &str) -> Result<PathBuf> {
    let results = directory.join("results").join(name);
    if results.exists() {
        std::fs::remove_dir_all(&results).with_context(|| format!("cannot remove {}", results.display()))?;
    }
    std::fs::create_dir_all(&results).with_context(|| format!("cannot make {}", results.display()))?;
    Ok(results)
}
