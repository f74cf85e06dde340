//! The numbers of system calls, and their rows.

use std::sync::Arc;

use nrtrace_profiles::calls::{self, Row};

use crate::seccomp::arch::Compat;

/// The system calls, by number.
#[derive(Debug, Default)]
pub struct Calls {
    native: Vec<Option<(Arc<str>, &'static Row)>>,
    compat: Vec<Option<(Arc<str>, &'static Row)>>,
    page_fault: Option<(Arc<str>, &'static Row)>,
}

/// Numbers from here on are looked up anew each time.
const CACHED: usize = 1024;

impl Calls {
    /// Name and row of call `nr`, of the 32-bit table when `compat`.
    pub fn get(&mut self, nr: i32, compat: bool) -> (Arc<str>, &'static Row) {
        let slot = match usize::try_from(nr) {
            Err(_) => &mut self.page_fault,
            Ok(index) if index < CACHED => {
                let table = if compat { &mut self.compat } else { &mut self.native };
                if table.len() <= index {
                    table.resize(index + 1, None);
                }
                &mut table[index]
            }
            Ok(_) => return describe(nr, compat),
        };
        slot.get_or_insert_with(|| describe(nr, compat)).clone()
    }
}

fn describe(nr: i32, compat: bool) -> (Arc<str>, &'static Row) {
    let name = match usize::try_from(nr) {
        Err(_) => Arc::from("page-fault"),
        Ok(number) => match name(number, compat) {
            Some(name) => Arc::from(name),
            None => Arc::from(format!("syscall-{number}")),
        },
    };
    let row = calls::row(&name);
    (name, row)
}

fn name(number: usize, compat: bool) -> Option<&'static str> {
    if compat {
        return Compat::new(number).map(|call| call.name());
    }
    syscalls::Sysno::new(number).map(|call| call.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_names_in_both_tables() {
        let mut calls = Calls::default();
        assert_eq!(&*calls.get(libc::SYS_mkdir as i32, false).0, "mkdir");
        assert_eq!(&*calls.get(-1, false).0, "page-fault");
        assert_eq!(&*calls.get(5000, false).0, "syscall-5000");
        assert_eq!(&*calls.get(39, true).0, "mkdir", "39 is mkdir in the i386 table");
        assert_eq!(&*calls.get(39, false).0, "getpid");
    }
}
