//! `cargo xtask schema`: the JSON Schemas, made from the types.

use std::path::Path;

use anyhow::{Context, Result, bail};
use nrtrace_profiles::schema::Kind;

/// Where they are.
const DIRECTORY: &str = "schemas";

/// Options of `schema`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Write nothing; fail if one of the files is not what the types say
    #[arg(long)]
    pub check: bool,
}

/// Writes all schemas, or compares them.
pub fn run(options: &Options) -> Result<()> {
    let mut stale = Vec::new();
    for kind in Kind::ALL {
        let path = Path::new(DIRECTORY).join(kind.file_name());
        let text = kind.text();
        if std::fs::read_to_string(&path).is_ok_and(|present| present == text) {
            continue;
        }
        if options.check {
            stale.push(path.display().to_string());
        } else {
            std::fs::create_dir_all(DIRECTORY).with_context(|| format!("cannot make {DIRECTORY}"))?;
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            println!("{} is written", path.display());
        }
    }
    if !stale.is_empty() {
        bail!("not what the types say: {}; run `cargo xtask schema` and commit that", stale.join(", "));
    }
    Ok(())
}
