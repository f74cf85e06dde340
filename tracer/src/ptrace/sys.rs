//! The system calls behind this backend, each in one small wrapper.
//!
//! `ptrace` goes through `syscall(2)`: the C libraries disagree on the type of its requests, and `nix` cannot
//! express `PTRACE_LISTEN` nor a real-time signal in a wait status.

use std::io;

use libc::{c_int, c_long, pid_t};

/// `PTRACE_EVENT_STOP` of `linux/ptrace.h`: group-stop, first stop of a new tracee, end of a group-stop.
pub const EVENT_STOP: c_int = 128;

const PTRACE_GET_SYSCALL_INFO: c_long = 0x420e;

/// Options every tracee carries; children inherit them.
///
/// `PTRACE_O_TRACEEXIT` is left out: wait(2) brings each thread's death with its status, so that option would
/// add a stop and no knowledge.
pub const OPTIONS: c_int = libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_TRACESYSGOOD;

/// The same for what runs already: without a filter of this tracer, `PTRACE_O_TRACESECCOMP` would only answer filters of
/// the tracee's own in its place.
pub const ATTACH_OPTIONS: c_int = OPTIONS & !libc::PTRACE_O_TRACESECCOMP;

/// `struct ptrace_syscall_info` (`linux/ptrace.h`, since Linux 5.3), its union as plain words.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SyscallInfo {
    /// `PTRACE_SYSCALL_INFO_*`: 1 entry, 2 exit, 3 seccomp.
    pub op: u8,
    pad: [u8; 3],
    /// `AUDIT_ARCH_*` of the call, not of the program.
    pub arch: u32,
    ip: u64,
    sp: u64,
    body: [u64; 8],
}

/// [`SyscallInfo::op`] in a syscall-entry-stop.
pub const OP_ENTRY: u8 = 1;
/// [`SyscallInfo::op`] in a seccomp stop.
pub const OP_SECCOMP: u8 = 3;
/// [`SyscallInfo::op`] in a syscall-exit-stop.
pub const OP_EXIT: u8 = 2;

impl SyscallInfo {
    /// The call's number and arguments, in an entry or seccomp stop.
    pub fn entry(&self) -> (i32, [u64; 6]) {
        let [nr, args @ .., _] = self.body;
        (nr as i32, args)
    }

    /// The `SECCOMP_RET_DATA` of the filter that asked for a seccomp stop.
    pub fn ret_data(&self) -> u16 {
        self.body[7] as u16
    }

    /// The result, in an exit stop: a negative errno on failure.
    pub fn result(&self) -> i64 {
        self.body[0] as i64
    }
}

/// ptrace(2).
pub fn request(request: c_long, tid: pid_t, addr: usize, data: usize) -> io::Result<c_long> {
    // SAFETY: the callers pass, where the request reads or writes memory, a pointer to a live value of its type.
    match unsafe { libc::syscall(libc::SYS_ptrace, request, tid as c_long, addr, data) } {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// `PTRACE_SEIZE`.
pub fn seize(tid: pid_t, options: c_int) -> io::Result<()> {
    request(libc::PTRACE_SEIZE as c_long, tid, 0, options as usize).map(drop)
}

/// `PTRACE_INTERRUPT`.
pub fn interrupt(tid: pid_t) -> io::Result<()> {
    request(libc::PTRACE_INTERRUPT as c_long, tid, 0, 0).map(drop)
}

/// One of `PTRACE_CONT`, `PTRACE_SYSCALL`, `PTRACE_LISTEN`, with a signal to deliver (0: none).
pub fn restart(how: c_long, tid: pid_t, signal: c_int) -> io::Result<()> {
    request(how, tid, 0, signal as usize).map(drop)
}

/// `PTRACE_GETEVENTMSG`.
pub fn event_message(tid: pid_t) -> io::Result<u64> {
    let mut message: libc::c_ulong = 0;
    request(libc::PTRACE_GETEVENTMSG as c_long, tid, 0, &raw mut message as usize)?;
    Ok(message)
}

/// `PTRACE_GET_SYSCALL_INFO`.
pub fn syscall_info(tid: pid_t) -> io::Result<SyscallInfo> {
    let mut info = SyscallInfo::default();
    request(PTRACE_GET_SYSCALL_INFO, tid, size_of::<SyscallInfo>(), &raw mut info as usize)?;
    Ok(info)
}

/// Waits for any child or tracee; with `block` false, `None` when none has news.
pub fn wait_any(block: bool) -> io::Result<Option<(pid_t, c_int)>> {
    let mut status = 0;
    let flags = libc::__WALL | if block { 0 } else { libc::WNOHANG };
    // SAFETY: `status` lives through the call.
    match unsafe { libc::waitpid(-1, &raw mut status, flags) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        tid => Ok(Some((tid, status))),
    }
}

/// `process_vm_readv` of one range; the number of bytes read.
pub fn read_vm(tid: pid_t, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: buffer.len() };
    // SAFETY: `local` describes `buffer`; `remote` is memory of another process, which the kernel checks.
    match unsafe { libc::process_vm_readv(tid, &local, 1, &remote, 1, 0) } {
        -1 => Err(io::Error::last_os_error()),
        count => Ok(count as usize),
    }
}

/// `process_vm_writev` of one range.
pub fn write_vm(tid: pid_t, address: u64, bytes: &[u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: `local` describes `bytes`, which is only read; `remote` belongs to another process.
    match unsafe { libc::process_vm_writev(tid, &local, 1, &remote, 1, 0) } {
        -1 => Err(io::Error::last_os_error()),
        count => Ok(count as usize),
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub fn monotonic() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` lives through the call, which cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// `sched_getscheduler` of a thread, 0 for this one. Raw, for musl has none.
pub fn policy(tid: pid_t) -> io::Result<c_int> {
    // SAFETY: plain numbers.
    match unsafe { libc::syscall(libc::SYS_sched_getscheduler, tid) } {
        -1 => Err(io::Error::last_os_error()),
        policy => Ok(policy as c_int),
    }
}

/// `sched_setscheduler` to a policy without priorities.
pub fn set_policy(tid: pid_t, policy: c_int) -> io::Result<()> {
    let priority: c_int = 0;
    // SAFETY: `struct sched_param` is this one number, which lives through the call.
    match unsafe { libc::syscall(libc::SYS_sched_setscheduler, tid, policy, &raw const priority) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The CPU that this thread runs on.
pub fn cpu() -> Option<usize> {
    // SAFETY: no arguments, no memory.
    usize::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// The CPUs this thread may run on.
pub fn affinity() -> io::Result<libc::cpu_set_t> {
    // SAFETY: zeros are an empty set, and the call fills in one of the size given.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        match libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(set),
        }
    }
}

/// Restricts a thread, 0 for this one, to these CPUs.
pub fn set_affinity(tid: pid_t, cpus: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: `cpus` is as large as said.
    match unsafe { libc::sched_setaffinity(tid, size_of_val(cpus), cpus) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Moves the calling thread off a CPU, if it may run on another; it may still come back.
pub fn leave(cpu: usize) {
    let Ok(allowed) = affinity() else { return };
    let mut others = allowed;
    // SAFETY: `CPU_CLR` ignores numbers that do not fit, and `CPU_COUNT` only reads.
    let left = unsafe {
        libc::CPU_CLR(cpu, &mut others);
        libc::CPU_COUNT(&others)
    };
    if left > 0 && set_affinity(0, &others).is_ok() {
        let _ = set_affinity(0, &allowed);
    }
}
