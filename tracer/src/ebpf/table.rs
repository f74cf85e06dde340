//! Gives the probe the table of system calls, by number.

use std::str::FromStr;

use nrtrace_ebpf::table::{CALLS, Entry, Folding, NONE, Operands, WHEN_TELLING};
use nrtrace_profiles::calls::{File, Flags, Link, Operation, ROWS, Row};
use syscalls::Sysno;

use crate::collect::is_identity;

#[cfg(target_arch = "aarch64")]
use syscalls::arm::Sysno as CompatSysno;
#[cfg(target_arch = "x86_64")]
use syscalls::x86::Sysno as CompatSysno;

/// An [`Entry`] as the map holds it.
pub type Bytes = [u8; size_of::<Entry>()];

/// The rows that the native table has, with their numbers.
pub fn native() -> impl Iterator<Item = (u32, Bytes)> {
    numbered(|name| Sysno::from_str(name).ok().map(|call| call.id()))
}

/// The rows that the 32-bit table has, with their numbers.
pub fn compat() -> impl Iterator<Item = (u32, Bytes)> {
    numbered(|name| CompatSysno::from_str(name).ok().map(|call| call.id()))
}

fn numbered(number: impl Fn(&str) -> Option<i32>) -> impl Iterator<Item = (u32, Bytes)> {
    ROWS.iter().filter_map(move |row| {
        let number = u32::try_from(number(row.name)?).ok()?;
        ((number as usize) < CALLS).then(|| (number, bytes(row)))
    })
}

/// What the probe is told of a row, as its map holds it.
fn bytes(row: &Row) -> Bytes {
    let Operands { path, dirfd, path2, dirfd2, address, data, when, traits } = row.operands;
    let Folding { folds, telling, flags, empty, pad: [a, b, c, d] } = folding(row);
    [path, dirfd, path2, dirfd2, address, data, when, traits, folds, telling, flags, empty, a, b, c, d]
}

/// How equal calls are folded: where one path is all that they point to, and nobody else decides on them.
fn folding(row: &Row) -> Folding {
    let Operands { path, dirfd, path2, address, data, when, traits, .. } = row.operands;
    let one_path = path != NONE && [path2, address, data] == [NONE; 3];
    let folds = one_path
        && traits == 0
        && when & WHEN_TELLING == 0
        && matches!(row.operation, Operation::File(_))
        && !is_identity(row.operation);
    let flags = match row.operation {
        Operation::File(File::Open(Flags::Argument(index))) => index,
        _ => NONE,
    };
    let empty = match (row.operation, row.link) {
        (Operation::File(File::Look), Link::KeptWith(index, _)) if dirfd != NONE => index,
        _ => NONE,
    };
    Folding { folds: u8::from(folds), telling: row.telling, flags, empty, pad: [0; 4] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn known_numbers() {
        let find = |mut rows: Box<dyn Iterator<Item = (u32, Bytes)>>, name: &str| {
            let wanted = ROWS.iter().find(|row| row.name == name).map(bytes);
            rows.find(|(_, operands)| Some(*operands) == wanted).map(|(number, _)| number)
        };
        // Rows with operands of their own, from `arch/x86/entry/syscalls/syscall_{64,32}.tbl`.
        assert_eq!(find(Box::new(native()), "bind"), Some(49));
        assert_eq!(find(Box::new(native()), "clone3"), Some(435));
        assert_eq!(find(Box::new(compat()), "bind"), Some(361));
        assert_eq!(find(Box::new(compat()), "clone"), Some(120));
    }

    #[test]
    fn calls_that_others_decide_on_or_that_point_elsewhere_are_told_each_time() {
        let of = |name: &str| folding(ROWS.iter().find(|row| row.name == name).unwrap());
        for name in ["open", "openat", "mkdir", "stat", "access", "unlink"] {
            assert_eq!(of(name).folds, 1, "{name}");
        }
        for name in ["openat2", "rename", "chown", "execve", "bind", "fchmod", "mount", "write"] {
            assert_eq!(of(name).folds, 0, "{name}");
        }
        assert_eq!((of("open").flags, of("openat").flags, of("creat").flags), (1, 2, NONE));
        assert_eq!((of("newfstatat").empty, of("statx").empty, of("stat").empty), (3, 2, NONE));
        // These are no looks: what they do to a descriptor is told.
        assert_eq!(
            (of("fchownat").empty, of("utimensat").empty, of("name_to_handle_at").empty),
            (NONE, NONE, NONE)
        );
    }

    #[test]
    fn only_names_of_other_machines_and_newer_kernels_are_left_out() {
        // Names of the 32-bit table alone.
        let other = ["32", "64", "mmap2", "stime", "umount", "nice", "fcntl64"];
        let known = |name: &str| Sysno::from_str(name).is_ok();
        for row in ROWS.iter().filter(|row| !known(row.name)) {
            let elsewhere = CompatSysno::from_str(row.name).is_ok();
            assert!(
                elsewhere && other.iter().any(|part| row.name.contains(part)),
                "{} has no number",
                row.name
            );
        }
    }
}
