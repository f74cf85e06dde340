//! System calls and their results.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

use nrtrace_ebpf::layout::{Field, Mark};
use nrtrace_ebpf::record::Former;
use nrtrace_ebpf::table::{
    Entry, Operands, TRAIT_EXEC, TRAIT_SOCKET, TRAIT_UNIX, WHEN_FAILED, WHEN_OK, WHEN_REFUSED, WHEN_TELLING,
};
use nrtrace_ebpf::{CallRecord, FLAG_CHECKED, FLAG_COMPAT, FLAG_FD_ONLY, KIND_CALL, SocketRecord};

use crate::aim;
use crate::call::{self, Call};
use crate::fold;
use crate::head::{self, Ids};
use crate::kernel::{self, Task, read};
use crate::maps::{self, Slot};
use crate::path::{self, Location};
use crate::text::{self, BYTES_MAX, Record};

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
    let this = Call::at(task, context.arg(0));
    let ret: i64 = context.arg(1);
    // Of what most calls of most processes do, nothing is to be told: that is seen before anything is looked up.
    let when = maps::operands(this.nr, this.compat).map_or(0, |row| row.when);
    if !(may_be_wanted(when, ret) || maps::is_pending()) {
        return 0;
    }
    let Some(scratch) = maps::scratch(Slot::Call) else { return 0 };
    text::keep(scratch, this, ret);
    if let Some(mark) = aim::mark(task) {
        let here = Here::load(task);
        let (this, ret) = text::kept(scratch, this);
        returned(task, mark, this, here, ret);
    }
    0
}

/// As whom a task acts, and where; with its root directory.
#[derive(Clone, Copy)]
struct Here {
    ids: Ids,
    root: Location,
}

impl Here {
    #[inline(always)]
    fn load(task: Task) -> Self {
        Self { ids: Ids::load(task), root: Location::load_root(task) }
    }
}

#[inline(always)]
fn returned(task: Task, mark: &mut Mark, mut this: Call, here: Here, ret: i64) {
    let has_run = mark.exec != 0;
    if has_run {
        // Registers and memory are the new program's, and so is the table that a 32-bit one would be looked up in.
        // What was run is in the exec record.
        this.nr = mark.exec.wrapping_sub(1) as i32;
        this.compat = !maps::operands(this.nr, false).is_some_and(|row| row.traits & TRAIT_EXEC != 0);
        mark.exec = 0;
        maps::settled();
    }
    let checked = mark.checked != 0;
    if checked {
        mark.checked = 0;
        maps::settled();
    }
    let entry = if has_run { None } else { maps::entry(this.nr, this.compat) };
    let (when, traits) = entry.map_or((0, 0), |entry| (entry.operands.when, entry.operands.traits));
    let traced = aim::counts(task, mark, traits);
    let wanted = has_run
        || checked
        || if when & WHEN_TELLING != 0 { tells(task, &this, ret) } else { is_wanted(when, ret) };
    if traced && wanted {
        emit(task, mark, this, entry, here, ret, checked);
    }
}

/// Whether a call with that result may be worth a record, whoever made it.
#[inline(always)]
fn may_be_wanted(when: u8, ret: i64) -> bool {
    when & WHEN_TELLING != 0 || is_wanted(when, ret)
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
fn emit(task: Task, mark: &mut Mark, this: Call, entry: Option<&Entry>, here: Here, ret: i64, checked: bool) {
    let row = &entry.map_or(Operands::NONE, |entry| entry.operands);
    let args = this.args();
    let Some(record) = Record::<CallRecord>::start(Slot::Call) else { return };
    let fixed = record.fixed;
    // SAFETY: the fixed part is this program's own memory.
    let copy = unsafe {
        const { assert!(size_of::<SocketRecord>() + size_of::<Former>() == 4 * 8) };
        (*fixed).nr = this.nr;
        (*fixed).pad = 0;
        (*fixed).ret = ret;
        (*fixed).args = args;
        kernel::clear((&raw mut (*fixed).socket).cast::<[u64; 4]>());
        (&raw const (*fixed).args).cast::<[u64; 6]>()
    };
    if let Some(entry) = entry
        && ret >= 0
        && !checked
        && call::is_at_descriptor(entry.folding.empty, row, copy)
    {
        return;
    }
    let flags = if checked { FLAG_CHECKED } else { 0 } | if this.compat { FLAG_COMPAT } else { 0 };
    head::fill(record.head(), (KIND_CALL, flags), task, mark, here.ids);
    if let Some(entry) = entry
        && entry.folding.folds != 0
        && !checked
        && !is_refusal(ret)
        && mark.root_mnt == here.root.mnt
        && mark.root_dentry == here.root.dentry
        && fold::fold(record.scratch(), mark, &entry.folding, call::arg(copy, row.path)) == fold::COUNTED
    {
        return;
    }
    record.head().time = kernel::now();
    here.ids.note(mark);
    let worth = if row.when & WHEN_TELLING != 0 {
        describe_write(&record, task, mark, this, row, copy);
        true
    } else {
        describe(&record, task, mark, row, copy) || checked
    };
    // SAFETY: the fixed part is this program's own memory.
    let former = unsafe { (*fixed).former };
    if worth && !record.send() && former.place != 0 {
        fold::forget(former.place);
        maps::count_lost(Slot::Call, former.count);
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
