//! Reading files that somebody else may have written: never more than such a file can hold.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use nrtrace_profiles::profile::{self, Profile};

use crate::failure::BadInput;

/// Reads a profile, or standard input for `-`.
pub fn profile(path: &Path) -> Result<Profile> {
    let text = text(path, profile::FORMAT.max_bytes)?;
    Profile::from_json(&text).with_context(|| path.display().to_string())
}

/// Reads a file of at most `most` bytes, or standard input for `-`.
pub fn text(path: &Path, most: u64) -> Result<String> {
    let is_standard = path.as_os_str() == "-";
    let bytes = if is_standard {
        bounded(std::io::stdin().lock(), most)
    } else {
        File::open(path).map_err(anyhow::Error::from).and_then(|file| bounded(file, most))
    };
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).context("it is not text (UTF-8)"));
    let name = if is_standard { "standard input".into() } else { path.display().to_string() };
    text.map_err(|error| BadInput(format!("cannot read {name}: {error:#}")).into())
}

fn bounded(mut reader: impl Read, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.by_ref().take(most).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == most && reader.read(&mut [0])? > 0 {
        anyhow::bail!("it is larger than {} MiB, which no file of this kind is", most >> 20);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_a_file_can_hold() {
        assert_eq!(bounded(&b"abc"[..], 3).unwrap(), b"abc");
        assert!(bounded(&b"abcd"[..], 3).unwrap_err().to_string().contains("larger"));
        assert!(bounded(std::io::repeat(b'x'), 1 << 20).is_err());
    }

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
