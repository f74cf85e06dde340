//! Directories and files as k0s makes them.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::errno::Errno;

use crate::is_root;

/// All directories on the way, and always the mode, even when it is there: that takes its owner.
pub fn init_dir(path: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("mkdir {}", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("chmod {}", path.display()))
}

/// Digits that differ from run to run.
pub fn random() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let time = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    let seed = time ^ std::process::id().wrapping_mul(2_654_435_761);
    seed.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed).wrapping_mul(40_503)) | 1 << 30
}

/// A file that is new, with a random name.
pub fn create_temp(directory: &Path, before: &str, after: &str) -> Result<std::path::PathBuf> {
    let path = directory.join(format!("{before}{}{after}", random()));
    let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
    opened.with_context(|| format!("open {}", path.display()))?.write_all(b"placeholder\n")?;
    Ok(path)
}

/// Replaces a file: temporary name, mode, owner where one is asked for, rename. That a file cannot be given away is
/// fatal, unless the system cannot do that at all.
pub fn atomic(path: &Path, mode: u32, owner: Option<u32>) -> Result<()> {
    let directory = path.parent().context("no parent")?;
    let name = path.file_name().context("no name")?.to_string_lossy();
    let temporary = create_temp(directory, &format!(".{name}."), ".tmp")?;
    let rest = || -> Result<()> {
        fs::set_permissions(&temporary, Permissions::from_mode(mode))?;
        if owner.is_some()
            && let Err(error) = chown(&temporary, owner, None)
            && !is_unsupported(&error)
        {
            return Err(error).with_context(|| format!("chown {}", temporary.display()));
        }
        fs::rename(&temporary, path).with_context(|| format!("rename to {}", path.display()))
    };
    let result = rest();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// `errors.ErrUnsupported` of Go.
fn is_unsupported(error: &std::io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|code| matches!(Errno::from_raw(code), Errno::ENOSYS | Errno::EOPNOTSUPP))
}

/// Gives a file to a user and sets its mode; what fails matters to root alone.
pub fn give(path: &Path, owner: u32, mode: u32) -> Result<()> {
    let given =
        chown(path, Some(owner), None).and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)));
    match given {
        Err(error) if is_root() => Err(error).with_context(|| format!("give {}", path.display())),
        _ => Ok(()),
    }
}

/// A key and a certificate, given to a user where that works.
pub fn certificate(directory: &Path, name: &str, owner: u32) -> Result<()> {
    for (ending, mode) in [("key", 0o640), ("crt", 0o644)] {
        let path = directory.join(format!("{name}.{ending}"));
        if !path.exists() {
            atomic(&path, mode, None)?;
        }
        give(&path, owner, mode)?;
    }
    Ok(())
}
