//! `cargo xtask bench`: what tracing costs, as ratios measured side by side in one run.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::proofs;
use crate::workload::{Took, Workload};

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct Options {
    /// How often each variant runs; more often while untraced runs differ by more than 3 %
    #[arg(long, default_value_t = 15)]
    rounds: usize,

    /// Leave strace out
    #[arg(long)]
    no_strace: bool,

    /// Measure nothing but the way to a proof
    #[arg(long, conflicts_with = "write")]
    proofs: bool,

    /// Prove this k0s, too: its controller, on the network of this machine
    #[arg(long, value_name = "PATH")]
    k0s: Option<PathBuf>,

    /// Write the results to docs/performance.md
    #[arg(long)]
    write: bool,
}

/// One way to run a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Untraced,
    Needs,
    Calls,
    BesideNeeds,
    BesideCalls,
    Ptrace,
    StraceSeccomp,
    Strace,
}

/// Rounds of the variants that trace by ptrace(2): they are slow, and their ratios far from 1.
const SLOW_ROUNDS: usize = 5;

impl Variant {
    fn name(self) -> &'static str {
        match self {
            Self::Untraced => "no tracing",
            Self::Needs => "`nrtrace run --record needs`",
            Self::Calls => "`nrtrace run --record calls`",
            Self::BesideNeeds => "bystander of `--record needs`",
            Self::BesideCalls => "bystander of `--record calls`",
            Self::Ptrace => "`nrtrace run --backend ptrace`",
            Self::StraceSeccomp => "`strace -f --seccomp-bpf -e trace=%file,%net,%creds`",
            Self::Strace => "`strace -f`",
        }
    }

    /// Whether it traces by ptrace(2).
    fn is_slow(self) -> bool {
        matches!(self, Self::Ptrace | Self::StraceSeccomp | Self::Strace)
    }

    /// Whether the variant is measured on this workload: strace takes minutes on the larger ones.
    fn covers(self, workload: Workload) -> bool {
        match self {
            Self::BesideNeeds | Self::BesideCalls => workload == Workload::Storm,
            Self::Strace => workload != Workload::Find,
            _ => true,
        }
    }
}

/// What a variant took, as ratios to the untraced runs just before and after it.
#[derive(Clone, Debug, Default)]
struct Ratios {
    processor: Vec<f64>,
    wall: Vec<f64>,
    /// The fastest that it ran, and the untraced runs beside it, in nanoseconds: what else the machine does only adds.
    fastest: Option<(f64, f64)>,
}

impl Ratios {
    fn add(&mut self, took: Took, beside: [Took; 2]) {
        let [before, after] = beside;
        self.processor.push(2.0 * took.processor / (before.processor + after.processor));
        self.wall.push(2.0 * took.wall / (before.wall + after.wall));
        let untraced = before.processor.min(after.processor);
        let (own, others) = self.fastest.unwrap_or((f64::MAX, f64::MAX));
        self.fastest = Some((own.min(took.processor), others.min(untraced)));
    }

    /// How far the middle half of the rounds reaches from one.
    fn spread(&self) -> f64 {
        let [low, _, high] = quartiles(&self.processor);
        (1.0 - low).abs().max((high - 1.0).abs())
    }
}

/// Wanted of untraced runs beside untraced ones.
const SPREAD: f64 = 0.03;
/// While it is larger, so many times the rounds are made.
const PATIENCE: usize = 3;

/// What lies a quarter, half and three quarters up.
fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| {
        sorted.get((sorted.len() * quarter / 4).min(sorted.len() - 1)).copied().unwrap_or(f64::NAN)
    })
}

struct Bench {
    nrtrace: PathBuf,
    this: PathBuf,
    scratch: PathBuf,
}

/// Measures everything and prints (or writes) the table.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    let bench = Bench::new()?;
    let mut text = String::new();
    if !options.proofs {
        for workload in Workload::BENCHED {
            bench.measure(workload, options, &mut text)?;
        }
        bench.footprint(options.rounds, &mut text)?;
        bench.refusals(&mut text)?;
    }
    proofs::measure(&bench.nrtrace, &bench.scratch, options.k0s.as_deref(), &mut text)?;
    std::fs::remove_dir_all(&bench.scratch).context("cannot remove the scratch directory")?;
    println!("{text}");
    if options.write {
        let path = Path::new("docs/performance.md");
        let old = std::fs::read_to_string(path).context("cannot read docs/performance.md")?;
        let (head, _) = old.split_once(MARK).with_context(|| format!("{} lost its mark", path.display()))?;
        std::fs::write(path, format!("{head}{MARK}\n\n{text}"))
            .context("cannot write docs/performance.md")?;
    }
    Ok(())
}

/// What follows this line in docs/performance.md is generated.
const MARK: &str = "<!-- measured: cargo xtask bench --write -->";

impl Bench {
    fn new() -> Result<Self> {
        let built =
            Command::new("cargo").args(["build", "--release", "-p", "nrtrace", "-p", "xtask"]).status()?;
        ensure!(built.success(), "the release build failed");
        let scratch = std::env::temp_dir().join(format!("nrtrace-bench-{}", std::process::id()));
        std::fs::create_dir(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
        // The workloads write their result here, as whichever user.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&scratch, open)?;
        let release = std::env::current_dir()?.join("target/release");
        // A copy where every user can execute it, so that no search of a closed home is measured.
        let this = scratch.join("workload");
        std::fs::copy(release.join("xtask"), &this).context("cannot copy the workloads")?;
        Ok(Self { nrtrace: release.join("nrtrace"), this, scratch })
    }

    fn measure(&self, workload: Workload, options: &Options, text: &mut String) -> Result<()> {
        let variants: Vec<Variant> = [
            Variant::Untraced,
            Variant::Needs,
            Variant::Calls,
            Variant::BesideNeeds,
            Variant::BesideCalls,
            Variant::Ptrace,
            Variant::StraceSeccomp,
            Variant::Strace,
        ]
        .into_iter()
        .filter(|v| v.covers(workload))
        .filter(|v| !options.no_strace || !matches!(v, Variant::Strace | Variant::StraceSeccomp))
        .collect();
        let ratios = self.rounds(workload, &variants, options.rounds)?;
        writeln!(text, "### {}\n", heading(workload))?;
        writeln!(
            text,
            "| variant | processor time | half of the rounds | fastest to fastest | by the clock |\n|---|---:|---:|---:|---:|"
        )?;
        for (variant, ratios) in variants.iter().zip(&ratios) {
            let [low, middle, high] = quartiles(&ratios.processor);
            let [_, wall, _] = quartiles(&ratios.wall);
            let fastest = ratios.fastest.map_or(f64::NAN, |(own, others)| own / others);
            // A tracer that stops the program has it wait, which takes no time of a processor.
            let processor = match variant.is_slow() {
                true => "| | |".to_owned(),
                false => format!("{middle:.2} | {low:.2} to {high:.2} | {fastest:.2} |"),
            };
            writeln!(text, "| {} | {processor} {wall:.2} |", variant.name())?;
        }
        let of = |wanted| {
            variants.iter().position(|variant| *variant == wanted).map(|index| ratios[index].wall.clone())
        };
        if let Some((ours, theirs)) = of(Variant::Ptrace).zip(of(Variant::StraceSeccomp)) {
            let parts: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
            let [low, middle, high] = quartiles(&parts);
            writeln!(
                text,
                "\nOf the time that `strace --seccomp-bpf` took in the same round, `--backend ptrace` took {middle:.2} \
                 ({low:.2} to {high:.2}).",
            )?;
        }
        writeln!(text)?;
        Ok(())
    }

    /// Runs each variant in each round, between two untraced runs.
    fn rounds(&self, workload: Workload, variants: &[Variant], rounds: usize) -> Result<Vec<Ratios>> {
        let mut ratios: Vec<Ratios> = vec![Ratios::default(); variants.len()];
        let mut before = self.time(Variant::Untraced, workload)?;
        for round in 0..rounds * PATIENCE {
            if round >= rounds && ratios[0].spread() <= SPREAD {
                break;
            }
            eprintln!("{workload:?}: round {}, at least {rounds}", round + 1);
            for (variant, ratios) in variants.iter().zip(&mut ratios) {
                if variant.is_slow() && round >= SLOW_ROUNDS {
                    continue;
                }
                let took = self.time(*variant, workload)?;
                let after = self.time(Variant::Untraced, workload)?;
                ratios.add(took, [before, after]);
                before = after;
            }
        }
        Ok(ratios)
    }

    /// What the workload took by its own account.
    fn time(&self, variant: Variant, workload: Workload) -> Result<Took> {
        let own = |command: &mut Command| -> Result<()> {
            let status = self.workload(command, workload, 1).status().context("cannot start the workload")?;
            ensure!(status.success(), "{command:?} failed: {status}");
            Ok(())
        };
        match variant {
            Variant::Untraced => own(&mut Command::new("env"))?,
            Variant::Needs => own(self.nrtrace("needs").arg("--"))?,
            Variant::Calls => own(self.nrtrace("calls").arg("--"))?,
            Variant::BesideNeeds | Variant::BesideCalls => {
                let record = if variant == Variant::BesideNeeds { "needs" } else { "calls" };
                let _tracer = Beside(self.nrtrace(record).args(["--", "sleep", "600"]).spawn()?);
                std::thread::sleep(Duration::from_millis(700));
                own(&mut Command::new("env"))?;
            }
            Variant::Ptrace => own(self.nrtrace("calls").args(["--backend", "ptrace", "--"]))?,
            Variant::StraceSeccomp => own(Command::new("strace").args(STRACE_SECCOMP))?,
            Variant::Strace => own(Command::new("strace").args(["-f", "-o", "/dev/null"]))?,
        }
        self.took()
    }

    /// Has a command run a workload.
    fn workload<'a>(&self, command: &'a mut Command, workload: Workload, scale: u32) -> &'a mut Command {
        let name = format!("{workload:?}").to_lowercase();
        command
            .arg(&self.this)
            .args(["workload", &name, "--scale", &scale.to_string(), "--result"])
            .arg(self.scratch.join("result"))
            .stdout(Stdio::null())
    }

    /// What the workload wrote.
    fn took(&self) -> Result<Took> {
        let result = self.scratch.join("result");
        let took = Took::read(&result)?;
        // Each variant may run as another user: the next one must be able to make the file anew.
        std::fs::remove_file(&result)?;
        Ok(took)
    }

    /// What becomes of more refusals than can be taken in.
    fn refusals(&self, text: &mut String) -> Result<()> {
        const SECONDS: u32 = 10;
        let output = self.scratch.join("refusals");
        let mut command = self.nrtrace("calls");
        command.arg("-o").arg(&output).arg("--");
        // That records were lost makes its status another one.
        self.workload(&mut command, Workload::Refusals, SECONDS).status().context("cannot start nrtrace")?;
        let made = self.took()?.count;
        let profile = std::fs::read(output.join("profile.json")).context("there is no profile")?;
        let profile: serde_json::Value = serde_json::from_slice(&profile)?;
        let number = |value: &serde_json::Value| value.as_f64().unwrap_or_default();
        let told: f64 = profile["requirements"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|need| need["need"]["path"].as_str().is_some_and(|path| path.ends_with("shadow")))
            .map(|need| number(&need["evidence"]["count"]))
            .sum();
        let lost = number(&profile["run"]["lost"]);
        ensure!(
            told > 0.0 && told + lost >= made,
            "of {made} refusals {told} are told, and {lost} said to be lost"
        );
        writeln!(text, "### More refusals than can be taken in\n")?;
        writeln!(
            text,
            "Two processes were refused as often as they could be for {SECONDS} seconds: {:.0},000 opens a second. Of {made} \
             opens {told} are counted in the profile, and {lost} records are said to be lost (an open makes two or three): none \
             is missing that is not told of.\n",
            made / 1000.0 / f64::from(SECONDS),
        )?;
        Ok(())
    }

    fn nrtrace(&self, record: &str) -> Command {
        let mut command = Command::new(&self.nrtrace);
        // In place: the workload leaves its result where it is read.
        command.args(["run", "-q", "--in-place", "--record", record]);
        command
    }

    /// Start-up time and resident memory of nrtrace itself.
    fn footprint(&self, rounds: usize, text: &mut String) -> Result<()> {
        let mut extra = Vec::new();
        let mut peak = 0;
        for _ in 0..rounds {
            let plain = wall(&mut Command::new("/bin/true"))?;
            let traced = wall(self.nrtrace("calls").args(["--", "/bin/true"]))?;
            extra.push(traced.saturating_sub(plain).as_secs_f64());
        }
        let [low, middle, _] = quartiles(&extra);
        for workload in Workload::BENCHED {
            peak = peak.max(self.peak_memory(workload)?);
        }
        writeln!(text, "### nrtrace itself\n")?;
        writeln!(text, "| figure | value |\n|---|---:|")?;
        writeln!(
            text,
            "| start to end of a run of `/bin/true`, above `/bin/true` alone | {middle:.2} s (of the fastest quarter, {low:.2} s) |"
        )?;
        writeln!(
            text,
            "| peak resident memory over the workloads, `--record calls` | {} MiB |\n",
            peak / 1024
        )?;
        Ok(())
    }

    fn peak_memory(&self, workload: Workload) -> Result<u64> {
        let mut command = self.nrtrace("calls");
        command.arg("--");
        let mut tracer = self.workload(&mut command, workload, 1).spawn().context("cannot start nrtrace")?;
        let status = format!("/proc/{}/status", tracer.id());
        let mut peak = 0;
        while tracer.try_wait()?.is_none() {
            peak =
                std::fs::read_to_string(&status).ok().and_then(|s| high_water(&s)).unwrap_or(peak).max(peak);
            std::thread::sleep(Duration::from_millis(20));
        }
        self.took()?;
        if peak == 0 {
            bail!("{workload:?} ended before its memory could be read");
        }
        Ok(peak)
    }
}

const STRACE_SECCOMP: [&str; 6] = ["-f", "--seccomp-bpf", "-e", "trace=%file,%net,%creds", "-o", "/dev/null"];

/// A tracer that runs beside the measured program, and is stopped with its tree.
struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        // nrtrace stops its own tree on SIGTERM.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// `VmHWM` of a `/proc/PID/status`, in KiB.
fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

fn wall(command: &mut Command) -> Result<Duration> {
    let started = Instant::now();
    let status = command.stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{command:?} failed");
    Ok(started.elapsed())
}

fn heading(workload: Workload) -> &'static str {
    match workload {
        Workload::Storm => "Open storm: an open and close that succeeds, an open that fails",
        Workload::Exec => "Exec storm: fork, exec and wait for `/bin/true`",
        Workload::Find => "`find /usr`",
        Workload::Refusals => "Refusals",
    }
}
