//! nrtrace's development tasks: `cargo xtask <task>`.

mod build_ebpf;

use clap::{Parser, Subcommand};

/// nrtrace's development tasks.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds the eBPF programs and puts the object where the tracer takes it from.
    BuildEbpf(build_ebpf::Args),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().task {
        Task::BuildEbpf(args) => build_ebpf::run(&args),
    }
}
