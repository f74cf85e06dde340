//! System calls and their results.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

use nrtrace_ebpf::layout::{Field, Mark};
use nrtrace_ebpf::table::{
    Operands, TRAIT_EXEC, TRAIT_SOCKET, TRAIT_UNIX, WHEN_FAILED, WHEN_OK, WHEN_REFUSED, WHEN_TELLING,
};
use nrtrace_ebpf::{CallRecord, FLAG_CHECKED, FLAG_COMPAT, FLAG_FD_ONLY, KIND_CALL, SocketRecord};

use crate::aim;
use crate::call::{self, Call};
use crate::head;
use crate::kernel::{self, Task, read};
use crate::maps::{self, Slot};
use crate::path;
use crate::text::{BYTES_MAX, Record};

const EPERM: i64 = 1;
const EACCES: i64 = 13;
const EROFS: i64 = 30;
/// The first of the results that restart a call (`ERESTARTSYS`); the program sees another one.
const ERESTART: i64 = 512;
const PROC_SUPER_MAGIC: u64 = 0x9fa0;
const STDERR: i32 = 2;
/// How much is recorded of what is written to a file of procfs: settings are short.
const SETTING_MAX: u64 = 63;

/// A call has returned.
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(context: BtfTracePointContext) -> i32 {
    let task = kernel::current();
    if let Some(mark) = aim::mark(task) {
        returned(task, mark, context.arg::<i64>(1));
    }
    0
}

#[inline(always)]
fn returned(task: Task, mark: &mut Mark, ret: i64) {
    let mut this = Call::of(task);
    let has_run = mark.exec != 0;
    if has_run {
        // Registers and memory are the new program's, and so is the table that a 32-bit one would be looked up in.
        // What was run is in the exec record.
        this.nr = mark.exec.wrapping_sub(1) as i32;
        this.compat = !maps::operands(this.nr, false).is_some_and(|row| row.traits & TRAIT_EXEC != 0);
        mark.exec = 0;
    }
    let checked = mark.checked != 0;
    mark.checked = 0;
    let row = if has_run { None } else { maps::operands(this.nr, this.compat) };
    let (when, traits) = row.map_or((0, 0), |row| (row.when, row.traits));
    let traced = aim::counts(task, mark, traits);
    let wanted = has_run
        || checked
        || if when & WHEN_TELLING != 0 { tells(task, &this, ret) } else { is_wanted(when, ret) };
    if traced && wanted {
        emit(task, mark, this, &row.copied().unwrap_or(Operands::NONE), ret, checked);
    }
}

/// Whether a call with that result is worth a record.
#[inline(always)]
fn is_wanted(when: u8, ret: i64) -> bool {
    if ret >= 0 {
        return when & WHEN_OK != 0;
    }
    when & WHEN_FAILED != 0 && -ret < ERESTART || when & WHEN_REFUSED != 0 && is_refusal(ret)
}

/// Whether a result says that something was not permitted.
#[inline(always)]
fn is_refusal(ret: i64) -> bool {
    ret == -EPERM || ret == -EACCES || ret == -EROFS
}

/// Whether a write, to the descriptor in its first argument, tells something.
#[inline(always)]
fn tells(task: Task, this: &Call, ret: i64) -> bool {
    let fd = this.args()[0] as i32;
    fd == STDERR || is_refusal(ret) || is_on_procfs(task, fd)
}

/// Writes the record, unless a look at the file or the socket shows that it is worth none.
#[inline(always)]
fn emit(task: Task, mark: &mut Mark, this: Call, row: &Operands, ret: i64, checked: bool) {
    let args = this.args();
    let Some(record) = Record::<CallRecord>::start(Slot::Call) else { return };
    let fixed = record.fixed;
    // SAFETY: the fixed part is this program's own memory.
    let copy = unsafe {
        (*fixed).nr = this.nr;
        (*fixed).pad = 0;
        (*fixed).ret = ret;
        (*fixed).args = args;
        (*fixed).socket = SocketRecord { family: 0, ty: 0, protocol: 0, port: 0 };
        (&raw const (*fixed).args).cast::<[u64; 6]>()
    };
    let flags = if checked { FLAG_CHECKED } else { 0 } | if this.compat { FLAG_COMPAT } else { 0 };
    head::fill(record.head(), KIND_CALL, flags, task, mark);
    let worth = if row.when & WHEN_TELLING != 0 {
        describe_write(&record, task, mark, this, row, copy);
        true
    } else {
        describe(&record, task, mark, row, copy) || checked
    };
    if worth {
        record.send();
    }
}

/// Asks for what was written, and to where.
#[inline(always)]
fn describe_write(
    record: &Record<CallRecord>,
    task: Task,
    mark: &Mark,
    this: Call,
    row: &Operands,
    args: *const [u64; 6],
) {
    let fd = call::arg(args, row.dirfd) as i32;
    record.head().flags |= FLAG_FD_ONLY;
    if fd == STDERR {
        call::written(record.plan(), row, args, this.compat, BYTES_MAX);
        return;
    }
    call::paths(record.plan(), task, mark, row, args, false);
    if is_on_procfs(task, fd) {
        call::written(record.plan(), row, args, this.compat, SETTING_MAX);
    }
}

/// Asks for what the call is about; false if it is worth no record.
#[inline(always)]
fn describe(
    record: &Record<CallRecord>,
    task: Task,
    mark: &Mark,
    row: &Operands,
    args: *const [u64; 6],
) -> bool {
    call::paths(record.plan(), task, mark, row, args, true);
    call::structure(record.plan(), row, args);
    if row.traits & TRAIT_SOCKET == 0 {
        return true;
    }
    let socket = call::socket(task, call::arg(args, row.dirfd) as i32);
    // SAFETY: the fixed part is this program's own memory.
    call::address(record, unsafe { &raw mut (*record.fixed).socket }, socket, row, args);
    row.traits & TRAIT_UNIX == 0 || call::is_unix(socket)
}

/// Whether a descriptor leads to a file of procfs.
#[inline(always)]
fn is_on_procfs(task: Task, fd: i32) -> bool {
    let inode: u64 = read(path::file(task, fd), Field::FileInode);
    read::<u64>(read(inode, Field::InodeSb), Field::SuperMagic) == PROC_SUPER_MAGIC
}
