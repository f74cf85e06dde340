//! The seccomp filter that makes the calls of interest stop, and its installation in the child.

use std::io;

use libc::{c_int, pid_t, sock_filter};
use nrtrace_ebpf::table::SOCKETCALL;
use nrtrace_profiles::calls::Row;

use super::calls::{self, Watched, When};
use crate::seccomp::arch::{COMPAT, NATIVE};
use crate::seccomp::{ARCH, ARGUMENTS, NUMBER, compat, if_equal, load, native, ret, skip};

/// `SECCOMP_RET_DATA` of this filter, to tell its stops from those of a filter of the tracee ("nr").
pub const MARK: u16 = 0x6e72;

const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;

const TRACE: sock_filter = ret(libc::SECCOMP_RET_TRACE | MARK as u32);
const ALLOW: sock_filter = ret(libc::SECCOMP_RET_ALLOW);

/// The filter for the calls of `rows`: they stop with [`MARK`], as do the few that change what the tracer
/// remembers; all others run at full speed. Native and 32-bit calls are seen; other architectures, x32 among
/// them, pass.
///
/// A plain list is as fast as a tree: since Linux 5.11 the kernel skips a filter for numbers it always allows.
pub fn filter(rows: &[Row]) -> Vec<sock_filter> {
    let watched = calls::watched(rows);
    let native = section(&watched, native);
    let mut compat = section(&watched, compat);
    if cfg!(target_arch = "x86_64") {
        // Which call it is, is in a register; what decides whether that one stops, in memory.
        compat.splice(1..1, [if_equal(SOCKETCALL as u32, 0, 1), TRACE]);
    }
    let mut program = vec![
        load(ARCH),
        if_equal(NATIVE, 0, 1),
        skip(3),
        if_equal(COMPAT, 0, 1),
        skip(1 + native.len()),
        ALLOW,
    ];
    program.extend(native);
    program.extend(compat);
    program
}

/// Where the low word of an argument is.
fn argument(arg: u8) -> u32 {
    ARGUMENTS + 8 * u32::from(arg)
}

/// The comparisons for one architecture.
fn section(watched: &[Watched], number: fn(&str) -> Option<u32>) -> Vec<sock_filter> {
    let mut program = vec![load(NUMBER)];
    for call in watched {
        let Some(number) = number(call.name) else { continue };
        let (arg, condition) = match call.when {
            When::Always => {
                program.extend([if_equal(number, 0, 1), TRACE]);
                continue;
            }
            When::Bits(arg, bits) => (arg, sock_filter { code: ANY_BIT, jt: 0, jf: 1, k: bits }),
            When::Equals(arg, value) => (arg, if_equal(value, 0, 1)),
            When::OneOf(arg, values) => {
                program.extend([if_equal(number, 0, 2 + 2 * values.len() as u8), load(argument(arg))]);
                program.extend(values.iter().flat_map(|value| [if_equal(*value, 0, 1), TRACE]));
                program.push(ALLOW);
                continue;
            }
        };
        let low_word = load(argument(arg));
        program.extend([if_equal(number, 0, 4), low_word, condition, TRACE, ALLOW]);
    }
    program.push(ALLOW);
    program
}

/// What it took to install the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The child had CAP_SYS_ADMIN, or had given up new privileges before.
    AsIs,
    /// `no_new_privs` had to be set: set-user-ID programs and file capabilities have no effect below it.
    NoNewPrivileges,
}

/// Lets this process be seized by process `launcher` and all below it, of which the tracer is one, where the Yama module
/// asks for that (`kernel.yama.ptrace_scope` 1). Call it in the child *before* it waits to be seized. Async-signal-safe.
pub fn allow_tracer(launcher: pid_t) {
    // SAFETY: plain numbers; a kernel without Yama answers EINVAL, and then nothing is needed.
    unsafe { libc::prctl(PR_SET_PTRACER, launcher as libc::c_ulong, 0, 0, 0) };
}

/// Installs `filter` in the calling process. Call it in the child, *after* it was seized (the kernel answers
/// `ENOSYS` to a call that should stop and has no tracer) and before execve(2). Async-signal-safe.
///
/// # Errors
/// What seccomp(2) says: `EINVAL` on a kernel without seccomp filters, `EPERM` where a container forbids it.
pub fn install(filter: &[sock_filter]) -> io::Result<Installed> {
    // SAFETY: plain numbers; it takes back what `allow_tracer` gave, or fails without effect.
    unsafe { libc::prctl(PR_SET_PTRACER, 0, 0, 0, 0) };
    match set(filter) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            // SAFETY: plain numbers.
            if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
            set(filter).map(|()| Installed::NoNewPrivileges)
        }
        result => result.map(|()| Installed::AsIs),
    }
}

/// `PR_SET_PTRACER` of `linux/prctl.h`.
const PR_SET_PTRACER: c_int = 0x5961_6d61;

fn set(filter: &[sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // Without SPEC_ALLOW older kernels slow the process down by turning off speculative store bypass.
    // SAFETY: `program` describes `filter`, which the kernel copies.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const program,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
