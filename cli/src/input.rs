//! Reading files that somebody else may have written: never more than such a file can hold.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nrtrace_profiles::profile::{self, Profile};
use nrtrace_tracer::files::{bounded, read_regular};

use crate::artefacts::PROFILE;
use crate::failure::BadInput;

/// The profile itself, where the directory that it is in is named.
pub fn in_directory(path: &Path) -> PathBuf {
    let inside = path.join(PROFILE);
    if inside.is_file() { inside } else { path.to_owned() }
}

/// Reads a profile, that of a directory with artefacts, or standard input for `-`.
pub fn profile(path: &Path) -> Result<Profile> {
    let path = &in_directory(path);
    let text = text(path, profile::FORMAT.max_bytes)?;
    Profile::from_json(&text).with_context(|| path.display().to_string())
}

/// Reads a file that the command line names, of at most `most` bytes, or standard input for `-`. It may be a pipe, as of
/// a shell's `<(…)`.
pub fn text(path: &Path, most: u64) -> Result<String> {
    let is_standard = path.as_os_str() == "-";
    let bytes = if is_standard {
        bounded(std::io::stdin().lock(), most)
    } else {
        File::open(path).and_then(|file| bounded(file, most))
    };
    let name = if is_standard { "standard input".into() } else { path.display().to_string() };
    as_text(bytes, &name)
}

/// Reads a file that was found and not named: a regular one of at most `most` bytes.
pub fn found(path: &Path, most: u64) -> Result<String> {
    as_text(read_regular(path, most), &path.display().to_string())
}

/// A file of the system's own, empty where there is none.
pub fn system(path: &str) -> String {
    const MOST: u64 = 64 << 20;
    found(Path::new(path), MOST).unwrap_or_default()
}

fn as_text(bytes: std::io::Result<Vec<u8>>, name: &str) -> Result<String> {
    let bytes = bytes.map_err(anyhow::Error::from);
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).context("it is not text (UTF-8)"));
    text.map_err(|error| BadInput(format!("cannot read {name}: {error:#}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_a_wrong_input() {
        let dir = tempfile::tempdir().unwrap();
        let latin = dir.path().join("latin");
        std::fs::write(&latin, b"\xe9").unwrap();
        for path in [dir.path(), &dir.path().join("missing"), &latin] {
            let error = profile(path).unwrap_err();
            assert!(error.is::<BadInput>(), "{error:#}");
            assert!(error.to_string().contains(&path.display().to_string()), "{error:#}");
        }
    }
}
