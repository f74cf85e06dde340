//! `cargo xtask fuzz`: the readers under libFuzzer, with the corpus that is kept.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What the compiler adds so that libFuzzer sees which code an input reaches; the flags are cargo-fuzz's.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// All targets, one for each reader.
const READERS: [&str; 7] = ["records", "trace", "profile", "knowledge", "policy", "manifest", "artefacts"];

/// What is larger is not kept, so that the repository stays small.
const LARGEST_KEPT: &str = "-max_len=3000";

/// Options of `fuzz`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Fuzz these readers [default: all]
    #[arg(value_parser = READERS)]
    readers: Vec<String>,

    /// For so many seconds each
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u32,
}

/// Builds the targets and runs them. What reaches most with the fewest small inputs is the corpus from then on.
pub fn run(options: &Options) -> Result<()> {
    let build = [
        "build",
        "--release",
        "--target",
        TARGET,
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--target-dir",
        "target/fuzz",
    ];
    sh(Command::new("cargo").args(build).env("RUSTFLAGS", FLAGS).env("CARGO_INCREMENTAL", "0"))?;
    let readers: Vec<&str> = match options.readers.as_slice() {
        [] => READERS.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    for reader in readers {
        println!("== {reader}");
        let program = Path::new("target/fuzz").join(TARGET).join("release").join(reader);
        let (found, kept) = (format!("target/fuzz/found/{reader}"), format!("fuzz/corpus/{reader}"));
        fs::create_dir_all(&found).with_context(|| found.clone())?;
        let limits = ["-timeout=20".to_owned(), "-rss_limit_mb=1024".to_owned(), "-max_len=65536".to_owned()];
        let time = format!("-max_total_time={}", options.seconds);
        let artifacts = format!("-artifact_prefix=target/fuzz/{reader}-");
        let told = "-print_final_stats=1".to_owned();
        sh(Command::new(&program).args(&limits).args([&time, &told, &artifacts, &found, &kept]))?;
        let fewest = format!("target/fuzz/fewest/{reader}");
        let _ = fs::remove_dir_all(&fewest);
        fs::create_dir_all(&fewest).with_context(|| fewest.clone())?;
        sh(Command::new(&program).args(["-merge=1", LARGEST_KEPT, &fewest, &kept, &found]))?;
        fs::remove_dir_all(&kept).with_context(|| kept.clone())?;
        sh(Command::new("cp").args(["-r", &fewest, &kept]))?;
    }
    Ok(())
}

fn sh(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
