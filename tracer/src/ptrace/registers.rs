//! What is changed of a stopped call, by the machine's registers.

use std::io;

use libc::pid_t;

pub use machine::{refuse, set_first_argument};

#[cfg(target_arch = "x86_64")]
mod machine {
    use super::*;
    use crate::ptrace::sys;

    /// Changes the first argument of the call at whose entry a tracee is; of a 32-bit one with `compat`.
    pub fn set_first_argument(tid: pid_t, compat: bool, value: u64) -> io::Result<()> {
        edit(tid, |regs| *if compat { &mut regs.rbx } else { &mut regs.rdi } = value)
    }

    /// Leaves out the call at whose entry a tracee is; it fails with `ENOSYS`.
    pub fn refuse(tid: pid_t) -> io::Result<()> {
        edit(tid, |regs| {
            regs.orig_rax = u64::MAX;
            regs.rax = -i64::from(libc::ENOSYS) as u64;
        })
    }

    fn edit(tid: pid_t, change: impl FnOnce(&mut libc::user_regs_struct)) -> io::Result<()> {
        // SAFETY: the structure consists of integers, for which zero is a value.
        let mut regs: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        sys::request(libc::PTRACE_GETREGS.into(), tid, 0, &raw mut regs as usize)?;
        change(&mut regs);
        sys::request(libc::PTRACE_SETREGS.into(), tid, 0, &raw const regs as usize).map(drop)
    }
}

#[cfg(target_arch = "aarch64")]
mod machine {
    use super::*;
    use crate::ptrace::sys;

    /// `NT_PRSTATUS` of `linux/elf.h`: the general registers.
    const GENERAL: usize = 1;
    /// `NT_ARM_SYSTEM_CALL`: the number of the call, which is in none of them.
    const SYSTEM_CALL: usize = 0x404;
    /// Words of the general registers: 31, stack pointer, program counter and state. Of a 32-bit program there are fewer.
    const WORDS: usize = 34;

    /// Changes the first argument of the call at whose entry a tracee is; of a 32-bit one with `compat`.
    pub fn set_first_argument(tid: pid_t, compat: bool, value: u64) -> io::Result<()> {
        set_first(tid, compat, value)
    }

    /// Leaves out the call at whose entry a tracee is; it fails with `ENOSYS`.
    pub fn refuse(tid: pid_t) -> io::Result<()> {
        let compat = sys::syscall_info(tid)?.arch == crate::seccomp::arch::COMPAT;
        let number: libc::c_int = -1;
        write(tid, SYSTEM_CALL, (&raw const number).cast_mut().cast(), size_of_val(&number))?;
        set_first(tid, compat, -i64::from(libc::ENOSYS) as u64)
    }

    /// The first register, which holds the first argument, and later the result.
    fn set_first(tid: pid_t, compat: bool, value: u64) -> io::Result<()> {
        let mut words = [0u64; WORDS];
        let mut all = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(&words) };
        sys::request(libc::PTRACE_GETREGSET.into(), tid, GENERAL, &raw mut all as usize)?;
        // Those of a 32-bit program have four bytes each.
        words[0] = if compat { words[0] & !u64::from(u32::MAX) | value & u64::from(u32::MAX) } else { value };
        write(tid, GENERAL, words.as_mut_ptr().cast(), all.iov_len)
    }

    fn write(tid: pid_t, set: usize, from: *mut libc::c_void, length: usize) -> io::Result<()> {
        let all = libc::iovec { iov_base: from, iov_len: length };
        sys::request(libc::PTRACE_SETREGSET.into(), tid, set, &raw const all as usize).map(drop)
    }
}
