//! Gives the probe the table of system calls, by number.

use std::str::FromStr;

use nrtrace_ebpf::table::{CALLS, Operands};
use nrtrace_profiles::calls::ROWS;
use syscalls::Sysno;

#[cfg(target_arch = "aarch64")]
use syscalls::arm::Sysno as CompatSysno;
#[cfg(target_arch = "x86_64")]
use syscalls::x86::Sysno as CompatSysno;

/// The rows that the native table has, with their numbers.
pub fn native() -> impl Iterator<Item = (u32, [u8; 8])> {
    numbered(|name| Sysno::from_str(name).ok().map(|call| call.id()))
}

/// The rows that the 32-bit table has, with their numbers.
pub fn compat() -> impl Iterator<Item = (u32, [u8; 8])> {
    numbered(|name| CompatSysno::from_str(name).ok().map(|call| call.id()))
}

fn numbered(number: impl Fn(&str) -> Option<i32>) -> impl Iterator<Item = (u32, [u8; 8])> {
    ROWS.iter().filter_map(move |row| {
        let number = u32::try_from(number(row.name)?).ok()?;
        ((number as usize) < CALLS).then(|| (number, bytes(&row.operands)))
    })
}

/// The operands as the bytes the probe's map holds.
fn bytes(operands: &Operands) -> [u8; 8] {
    let Operands { path, dirfd, path2, dirfd2, address, data, when, traits } = *operands;
    [path, dirfd, path2, dirfd2, address, data, when, traits]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn known_numbers() {
        let find = |mut rows: Box<dyn Iterator<Item = (u32, [u8; 8])>>, name: &str| {
            let wanted = ROWS.iter().find(|row| row.name == name).map(|row| bytes(&row.operands));
            rows.find(|(_, operands)| Some(*operands) == wanted).map(|(number, _)| number)
        };
        // Rows with operands of their own, from `arch/x86/entry/syscalls/syscall_{64,32}.tbl`.
        assert_eq!(find(Box::new(native()), "bind"), Some(49));
        assert_eq!(find(Box::new(native()), "clone3"), Some(435));
        assert_eq!(find(Box::new(compat()), "bind"), Some(361));
        assert_eq!(find(Box::new(compat()), "clone"), Some(120));
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
