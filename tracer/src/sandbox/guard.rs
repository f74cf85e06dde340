//! Shuts the ways by which a program with capabilities would change the machine through the kernel's own files and through
//! device nodes. Ordinary permissions stay as they are, so that what the program would need is still seen.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknod};

use super::root::{bind, remount};
use crate::launch::Error;

/// Files of `/proc` that speak to the whole machine, or show its memory.
const FILES: [&str; 3] = ["sysrq-trigger", "kcore", "mtrr"];

/// The same, directories.
const DIRECTORIES: [&str; 6] = ["acpi", "asound", "bus", "fs", "irq", "scsi"];

/// Character devices that reach memory, clock, kernel log or disks of the machine: major number, and minor where not all
/// (`Documentation/admin-guide/devices.txt`).
const DANGEROUS: &[(u64, Option<u64>)] = &[
    // mem, kmem, port, kmsg
    (1, Some(1)),
    (1, Some(2)),
    (1, Some(4)),
    (1, Some(11)),
    // watchdog, nvram, hibernation, btrfs, device mapper, loop
    (10, Some(130)),
    (10, Some(144)),
    (10, Some(231)),
    (10, Some(234)),
    (10, Some(236)),
    (10, Some(237)),
    // SCSI generic, raw, CPU registers and identification
    (21, None),
    (162, None),
    (202, None),
    (203, None),
];

/// The same with numbers that the kernel gives out as it starts, by the start of their names.
const NAMES: [&str; 7] = ["rtc", "watchdog", "nvme", "bsg", "ng", "mei", "ipmi"];

/// Covers files of a `/proc` with empty ones, made in `own`, and shows directories of it read-only.
pub fn proc(proc: &Path, own: &Path) -> Result<(), Error> {
    for name in FILES {
        let target = proc.join(name);
        let Ok(metadata) = target.metadata() else { continue };
        let cover = own.join(name);
        fs::write(&cover, "")
            .and_then(|()| fs::set_permissions(&cover, fs::Permissions::from_mode(metadata.mode() & 0o7777)))
            .map_err(|error| Error::system("making a cover of", target.display().to_string(), error))?;
        bind(&cover, &target).map_err(failed("covering", &target))?;
    }
    for name in DIRECTORIES {
        let target = proc.join(name);
        if target.is_dir() {
            bind(&target, &target)
                .and_then(|()| remount(&target, super::root::SAFE | MsFlags::MS_RDONLY))
                .map_err(failed("closing", &target))?;
        }
    }
    Ok(())
}

/// Puts a node that leads nowhere, with the same owner and mode, in place of each that leads to a disk or to the kernel.
pub fn devices(directory: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(directory);
    let entries =
        entries.map_err(|error| Error::system("reading", directory.display().to_string(), error))?;
    for entry in entries.flatten() {
        let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
        let kind = metadata.file_type();
        if kind.is_dir() {
            devices(&path)?;
        } else if kind.is_block_device() {
            // Nothing has these numbers: opened, it is no such device.
            replace(&path, &metadata, SFlag::S_IFBLK, makedev(0, 0))?;
        } else if kind.is_char_device() && is_dangerous(&path, metadata.rdev()) {
            replace(&path, &metadata, SFlag::S_IFCHR, makedev(1, 0))?;
        }
    }
    Ok(())
}

fn is_dangerous(path: &Path, device: u64) -> bool {
    let (high, low) = (major(device), minor(device));
    let by_number =
        DANGEROUS.iter().any(|(major, minor)| *major == high && minor.is_none_or(|minor| minor == low));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    by_number || path.parent().is_some_and(|above| above.ends_with("bsg")) || {
        // `ng0n1` is a disk, `ngx` is not.
        let rest = NAMES.iter().find_map(|start| name.strip_prefix(start));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit()))
    }
}

fn replace(path: &Path, was: &fs::Metadata, kind: SFlag, device: u64) -> Result<(), Error> {
    let io = |error: std::io::Error| Error::system("hiding", path.display().to_string(), error);
    fs::remove_file(path).map_err(io)?;
    mknod(path, kind, Mode::empty(), device).map_err(failed("hiding", path))?;
    chown(path, Some(was.uid()), Some(was.gid())).map_err(io)?;
    fs::set_permissions(path, fs::Permissions::from_mode(was.mode() & 0o7777)).map_err(io)
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::system(operation, path.display().to_string(), errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_and_memory_are_told_from_what_services_use() {
        let dangerous = |name: &str, numbers: (u64, u64)| {
            is_dangerous(&Path::new("/dev").join(name), makedev(numbers.0, numbers.1))
        };
        for (name, numbers) in
            [("mem", (1, 1)), ("kmsg", (1, 11)), ("sg0", (21, 0)), ("rtc0", (250, 0)), ("nvme0", (240, 0))]
        {
            assert!(dangerous(name, numbers), "{name}");
        }
        for (name, numbers) in
            [("null", (1, 3)), ("tty", (5, 0)), ("net/tun", (10, 200)), ("ngx", (240, 1)), ("ttyS0", (4, 64))]
        {
            assert!(!dangerous(name, numbers), "{name}");
        }
    }
}
