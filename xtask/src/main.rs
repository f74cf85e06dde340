//! nrtrace's development tasks: `cargo xtask <task>`.

mod bench;
mod build_ebpf;
mod ci;
mod circles;
mod cross;
mod demo;
mod dist;
mod docs;
mod fuzz;
mod k0s;
mod names;
mod plan;
mod proofs;
mod schema;
mod vm;
mod workload;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use workload::Workload;

/// nrtrace's development tasks.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds the eBPF programs and puts the object where the tracer takes it from
    BuildEbpf(build_ebpf::Args),
    /// Runs all checks and tests, installing what they need
    Ci(ci::Options),
    /// Installs nginx, builds nrtrace, and shows it at work in a sandbox
    Demo,
    /// Builds nrtrace statically, and packages it
    Dist(dist::Options),
    /// Feeds the readers inputs that libFuzzer makes up
    Fuzz(fuzz::Options),
    /// Writes the page on the command line
    Docs(docs::Options),
    /// Writes the JSON Schemas of the files nrtrace reads and writes
    Schema(schema::Options),
    /// Measures what tracing costs, beside no tracing and strace
    Bench(bench::Options),
    /// Compares the page on k0s with a k0s that is given
    K0s(k0s::Options),
    /// Plans the control plane whose programs are given, compares the plan with KEP-2568, and starts it so
    Plan(plan::Options),
    /// Traces one fixture on this kernel and, under QEMU, on Debian's older ones, and compares what it needs
    Vm(vm::Options),
    /// What `bench` measures
    #[command(hide = true)]
    Workload {
        /// Which
        #[arg(value_enum)]
        workload: Workload,
        /// How many times over
        #[arg(long, default_value_t = 1)]
        scale: u32,
        /// Where to write the nanoseconds it took
        #[arg(long)]
        result: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Args::parse().task {
        Task::BuildEbpf(args) => build_ebpf::run(&args),
        Task::Ci(options) => ci::run(&options),
        Task::Demo => demo::run(),
        Task::Dist(options) => dist::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Docs(options) => docs::run(&options),
        Task::Schema(options) => schema::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::K0s(options) => k0s::run(&options),
        Task::Plan(options) => plan::run(&options),
        Task::Vm(options) => vm::run(&options),
        Task::Workload { workload, scale, result } => workload.run(scale, &result),
    }
}
