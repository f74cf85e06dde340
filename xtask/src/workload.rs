//! Programs to be timed under each tracer. Each times itself, so that a tracer's start-up is not counted in.

use std::fs::File;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Opens and closes a file, and fails to open another, a hundred thousand times
    Storm,
    /// Starts a small program a thousand times
    Exec,
    /// Runs `find /usr`, a real program with hundreds of thousands of calls
    Find,
    /// Is refused an open as often as it can for so many seconds, in two processes
    Refusals,
}

/// What a workload took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Took {
    /// By the clock, in nanoseconds.
    pub wall: f64,
    /// Of processors, for it and what it has started, in nanoseconds: what others do meanwhile has little part in it.
    pub processor: f64,
    /// What it counted.
    pub count: f64,
}

impl Took {
    /// What a workload wrote.
    pub fn read(result: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(result).with_context(|| format!("cannot read {}", result.display()))?;
        let numbers: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        ensure!(numbers.len() == 3, "{} holds no result: {text:?}", result.display());
        Ok(Self { wall: numbers[0], processor: numbers[1], count: numbers[2] })
    }
}

impl Workload {
    /// All that `bench` measures.
    pub const BENCHED: [Self; 3] = [Self::Storm, Self::Exec, Self::Find];

    /// Does the work `scale` times over and writes what it took to `result`.
    pub fn run(self, scale: u32, result: &Path) -> Result<()> {
        let (started, before) = (Instant::now(), processor_time());
        let count = match self {
            Self::Storm => storm(scale * 100_000),
            Self::Exec => exec(scale * 300)?,
            Self::Find => (0..scale).try_for_each(|_| find()).map(|()| u64::from(scale))?,
            Self::Refusals => refusals(Duration::from_secs(scale.into()))?,
        };
        let (wall, processor) = (started.elapsed().as_nanos(), processor_time() - before);
        std::fs::write(result, format!("{wall} {processor} {count}"))
            .with_context(|| format!("cannot write {}", result.display()))
    }
}

/// Nanoseconds of processors that this process and its ended children have used.
fn processor_time() -> u128 {
    [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN].into_iter().map(used).sum()
}

fn used(whose: libc::c_int) -> u128 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the call writes a whole structure, for which zeros are valid as well.
    let usage = unsafe {
        libc::getrusage(whose, usage.as_mut_ptr());
        usage.assume_init()
    };
    [usage.ru_utime, usage.ru_stime]
        .into_iter()
        .map(|time| time.tv_sec as u128 * 1_000_000_000 + time.tv_usec as u128 * 1_000)
        .sum()
}

fn storm(rounds: u32) -> u64 {
    for _ in 0..rounds {
        drop(File::open("/etc/passwd"));
        drop(File::open("/nonexistent/nrtrace"));
    }
    rounds.into()
}

/// As many opens of files that only root may read as fit into the time, by two processes; how many. The names differ, as
/// those of a program that looks through a directory do.
fn refusals(time: Duration) -> Result<u64> {
    let (mut counted, mut counts) = std::io::pipe().context("cannot make a pipe")?;
    // SAFETY: no other thread runs, and the child does nothing but make system calls and end.
    let child = unsafe { libc::fork() };
    ensure!(child >= 0, "cannot fork");
    let started = Instant::now();
    let mut count = 0u64;
    while !count.is_multiple_of(64) || started.elapsed() < time {
        let name = if count.is_multiple_of(2) { c"/etc/shadow" } else { c"/etc/gshadow" };
        // SAFETY: the name is a C string.
        let opened = unsafe { libc::open(name.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        if opened >= 0 {
            // SAFETY: the descriptor is this one's own.
            unsafe { libc::close(opened) };
        }
        count += 1;
    }
    if child == 0 {
        let written = counts.write_all(&count.to_ne_bytes());
        // SAFETY: nothing of the parent's is to be cleaned up.
        unsafe { libc::_exit(i32::from(written.is_err())) };
    }
    drop(counts);
    let mut other = [0; 8];
    counted.read_exact(&mut other).context("the other process did not tell how many it made")?;
    // SAFETY: the child is this process's own.
    ensure!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) } == child, "the other process was lost");
    Ok(count + u64::from_ne_bytes(other))
}

fn exec(rounds: u32) -> Result<u64> {
    for _ in 0..rounds {
        let status = Command::new("/bin/true").status().context("cannot run /bin/true")?;
        ensure!(status.success(), "/bin/true failed");
    }
    Ok(rounds.into())
}

fn find() -> Result<()> {
    let status = Command::new("/usr/bin/find")
        .arg("/usr")
        .stdout(Stdio::null())
        .status()
        .context("cannot run find")?;
    ensure!(status.success(), "find failed: {status}");
    Ok(())
}
