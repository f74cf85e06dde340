//! `cargo xtask build-ebpf`: makes `tracer/src/ebpf/nrtrace-probe*.bpf.o`.
//!
//! The objects are committed, so that building nrtrace needs neither LLVM nor a second compiler; each is byte for byte
//! the same wherever it is built, so that CI can tell whether it belongs to the source. For that, the tools'
//! versions are fixed, and all paths that end up in the object are replaced.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use object::build::elf::{Builder, SectionData};
use object::elf::{SHN_UNDEF, SHT_STRTAB};

/// Debian's compiler that comes with the BPF targets' `core` (bookworm-updates and later).
const COMPILER: &str = "/usr/bin/rustc";
const COMPILER_PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];
/// The linker that turns LLVM's bitcode into a BPF object.
const LINKER: &str = "bpf-linker";
const LINKER_VERSION: &str = "0.10.3";
const TARGET: &str = "bpfel-unknown-none";
const BINARY: &str = "nrtrace-probe";
/// The objects, and the feature that each is built with.
const OBJECTS: [(&str, &str); 2] = [
    ("tracer/src/ebpf/nrtrace-probe.bpf.o", "probe"),
    ("tracer/src/ebpf/nrtrace-probe-portable.bpf.o", "portable"),
];

#[derive(clap::Args)]
pub struct Args {
    /// Build, and fail if a committed object differs, instead of replacing it.
    #[arg(long)]
    check: bool,
    /// Install the compiler (with apt-get, as root) and the linker (with cargo) if they are missing.
    #[arg(long)]
    install: bool,
}

/// Builds the objects and replaces or compares the committed ones.
pub fn run(args: &Args) -> Result<()> {
    let workspace = workspace()?;
    prepare_compiler(args.install)?;
    prepare_linker(args.install)?;
    for (name, feature) in OBJECTS {
        let built = compile(&workspace, feature)?;
        let linked = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
        place(&workspace.join(name), name, &finish(&linked)?, args.check)?;
    }
    Ok(())
}

/// Replaces the committed object, or with `check` compares it.
fn place(committed: &Path, name: &str, object: &[u8], check: bool) -> Result<()> {
    if check {
        let found = fs::read(committed).with_context(|| format!("cannot read {}", committed.display()))?;
        ensure!(
            found == object,
            "{name} does not belong to the source (committed {} bytes, built {}); run `cargo xtask build-ebpf` and \
             commit the result. Built with {} and {LINKER} {LINKER_VERSION}",
            found.len(),
            object.len(),
            output(Command::new(COMPILER).arg("--version"))?.trim(),
        );
        println!("{name} belongs to the source");
        return Ok(());
    }
    fs::write(committed, object).with_context(|| format!("cannot write {}", committed.display()))?;
    println!("{name}: {} bytes", object.len());
    Ok(())
}

/// The workspace's root directory.
fn workspace() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(own.parent().context("xtask has no parent directory")?.to_owned())
}

fn prepare_compiler(install: bool) -> Result<()> {
    let core = Path::new("/usr/lib/rustlib").join(TARGET);
    if Path::new(COMPILER).exists() && core.exists() {
        return Ok(());
    }
    ensure!(
        install,
        "{COMPILER} or {} is missing; run `cargo xtask build-ebpf --install` as root on Debian, or `apt-get install {}`",
        core.display(),
        COMPILER_PACKAGES.join(" "),
    );
    succeed(
        Command::new("apt-get").args(["install", "--yes", "--no-install-recommends"]).args(COMPILER_PACKAGES),
    )
}

fn prepare_linker(install: bool) -> Result<()> {
    let found = output(Command::new(LINKER).arg("--version")).unwrap_or_default();
    if found.trim() == format!("{LINKER} {LINKER_VERSION}") {
        return Ok(());
    }
    let command = format!("cargo install --locked {LINKER}@{LINKER_VERSION}");
    ensure!(
        install,
        "{LINKER} {LINKER_VERSION} is needed, found {:?}; run `cargo xtask build-ebpf --install`, or `{command}`",
        found.trim(),
    );
    succeed(
        Command::new("cargo")
            .args(["install", "--locked", "--force"])
            .arg(format!("{LINKER}@{LINKER_VERSION}")),
    )
}

/// Compiles and links the programs with a feature; returns the linker's result.
fn compile(workspace: &Path, feature: &str) -> Result<PathBuf> {
    let target = workspace.join("target/bpf");
    let registry = cargo_home()?.join("registry/src");
    let mut flags = vec![
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        // The type information that the loader needs is made from the debugging information.
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("--remap-path-prefix={}=/nrtrace", workspace.display()),
    ];
    // Each registry has a directory of its own, whose name differs between machines.
    for source in fs::read_dir(&registry).with_context(|| format!("cannot list {}", registry.display()))? {
        flags.push(format!("--remap-path-prefix={}=/dependencies", source?.path().display()));
    }
    let mut cargo = Command::new("cargo");
    // What the caller has set for builds of his own would make another object.
    let profiles = env::vars_os().map(|(name, _)| name);
    for name in profiles.filter(|name| name.to_string_lossy().starts_with("CARGO_PROFILE_")) {
        cargo.env_remove(name);
    }
    succeed(
        cargo
            .current_dir(workspace)
            .args([
                "build",
                "--quiet",
                "--locked",
                "--release",
                "--package=nrtrace-ebpf",
                "--features",
                feature,
            ])
            .args(["--bin", BINARY, "--target", TARGET])
            .arg("--target-dir")
            .arg(&target)
            .env("RUSTC", COMPILER)
            // The compiler is a stable one; the BPF target's inline assembly is not yet.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", LINKER)
            .env("CARGO_INCREMENTAL", "0")
            .env_remove("RUSTFLAGS")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTUP_TOOLCHAIN"),
    )?;
    Ok(target.join(TARGET).join("release").join(BINARY))
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?;
    Ok(Path::new(&home).join(".cargo"))
}

/// Removes what only a debugger reads, and checks that nothing is missing.
fn finish(linked: &[u8]) -> Result<Vec<u8>> {
    let mut object = Builder::read(linked).context("the linker's result is no ELF object")?;
    let missing: BTreeSet<String> = object
        .symbols
        .iter()
        .filter(|symbol| symbol.section.is_none() && symbol.st_shndx == SHN_UNDEF && !symbol.name.is_empty())
        .map(|symbol| symbol.name.to_string())
        .collect();
    if !missing.is_empty() {
        let names: Vec<_> = missing.into_iter().collect();
        bail!("the object needs symbols that do not exist (a reachable panic?): {}", names.join(", "));
    }
    for section in &mut object.sections {
        let name = section.name.to_string();
        let of = name.strip_prefix(".rel").unwrap_or(&name);
        section.delete = of.starts_with(".debug") || name.starts_with(".rel.BTF");
        if name == ".BTF.ext"
            && let SectionData::Data(data) = &mut section.data
        {
            *data = function_info(data)?.into();
        }
    }
    object.delete_orphans();
    // LLVM keeps both kinds of names in one section; the writer wants two.
    let names = object.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut bytes = Vec::new();
    object.write(&mut bytes).context("cannot write the object")?;
    Ok(bytes)
}

/// Keeps of `.BTF.ext` what tells functions' types, which the kernel demands for callbacks, and drops the line numbers,
/// which are most of it.
///
/// The header has the magic number, its own length, and offset and length of both parts, words all of them.
fn function_info(section: &[u8]) -> Result<Vec<u8>> {
    let word = |index: usize| -> Result<usize> {
        let bytes = section.get(index * 4..index * 4 + 4).context(".BTF.ext is too short")?;
        Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
    };
    let (header, offset, length) = (word(1)?, word(2)?, word(3)?);
    let info = section.get(header + offset..header + offset + length).context(".BTF.ext is too short")?;
    let words = [word(0)?, 24, 0, length, length, 0];
    let mut kept: Vec<u8> = words.iter().flat_map(|word| (*word as u32).to_le_bytes()).collect();
    kept.extend_from_slice(info);
    Ok(kept)
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    ensure!(status.success(), "{:?} failed: {status}", command.get_program());
    Ok(())
}
