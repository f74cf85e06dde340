//! The kernel consults a capability.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_stack, bpf_probe_read_user};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::ffi::c_void;

use nrtrace_ebpf::layout::{Field, Mark};
use nrtrace_ebpf::table::{
    NONE, Operands, TRAIT_ACCOUNTS, TRAIT_CLONE, TRAIT_CLONE3, TRAIT_EXEC, TRAIT_SOCKET, WHEN_TELLING,
};
use nrtrace_ebpf::{
    CheckRecord, FLAG_COMPAT, FLAG_COMPONENT, FLAG_FOREIGN_CRED, FLAG_OPTS, FLAG_TWO_PATHS, InodeRecord,
    KIND_CHECK, STACK_MAX, SocketRecord,
};

use crate::aim;
use crate::call::{self, Call};
use crate::functions;
use crate::gather::{COMPONENT, COMPONENT_BESIDE};
use crate::head;
use crate::head::Ids;
use crate::kernel::{self, Task, offset, pointer, read};
use crate::kprobes::Asked;
use crate::maps::{self, Slot};
use crate::path::{self, Location};
use crate::text::Record;

const CAP_SYS_ADMIN: i32 = 21;
/// The flags of clone(2) that make a namespace: cgroup, UTS, IPC, user, pid, network, mount.
const CLONE_NEW: u64 = 0x7e02_0000;
/// `CLONE_NEWTIME`, which only clone3(2) takes.
const CLONE_NEWTIME: u64 = 0x80;
/// The program, `bpf_trace_run5` and `__traceiter_cap_capable`.
const OWN_FRAMES: u64 = 3;
/// How near to the check the accounting of memory is found on the stack.
const ACCOUNTING_DEPTH: usize = 6;

/// One consultation.
pub struct Question {
    /// Whose credentials.
    pub cred: *const c_void,
    /// The user namespace it is asked for.
    pub namespace: *const c_void,
    /// The capability.
    pub cap: i32,
    /// The answer: zero or a negative errno.
    pub ret: i32,
    /// `CAP_OPT_` bits, where they are known.
    pub opts: Option<u32>,
    /// How the kernel came to ask.
    pub stack: Stack,
}

/// Where the kernel's stack is taken from.
pub enum Stack {
    /// It is this program's, but for the innermost frames, which belong to the probe itself.
    Here(*mut c_void, u64),
    /// It was taken before.
    Kept(&'static Asked),
}

/// A capability was consulted (tracepoint, Linux 6.14).
#[btf_tracepoint(function = "cap_capable")]
pub fn cap_capable(context: BtfTracePointContext) -> i32 {
    let task = kernel::current();
    if let Some(mark) = aim::mark(task) {
        let question = Question {
            cred: context.arg(0),
            namespace: context.arg(1),
            cap: context.arg(3),
            ret: context.arg(4),
            opts: None,
            stack: Stack::Here(context.as_ptr(), OWN_FRAMES),
        };
        consulted(task, mark, &question);
    }
    0
}

/// Records a consultation by the current task.
#[inline(always)]
pub fn consulted(task: Task, mark: &mut Mark, question: &Question) {
    let this = Call::of(task);
    let row = maps::operands(this.nr, this.compat).copied().unwrap_or(Operands::NONE);
    let traits = row.traits;
    if !aim::counts(task, mark, traits) {
        return;
    }
    let args = this.args();
    if question.cap == CAP_SYS_ADMIN && is_overcommit(this.nr, traits, args[0]) {
        return;
    }
    let Some(record) = Record::<CheckRecord>::start(Slot::Check) else { return };
    let fixed = record.fixed;
    if !stack(&question.stack, fixed) {
        return;
    }
    let mut flags = if this.compat { FLAG_COMPAT } else { 0 };
    if is_foreign(task, question.cred) {
        flags |= FLAG_FOREIGN_CRED;
    }
    // SAFETY: the fixed part is this program's own memory.
    let copy = unsafe {
        (*fixed).nr = this.nr;
        (*fixed).cap = question.cap as u32;
        (*fixed).ret = question.ret;
        (*fixed).opts = 0;
        if let Some(opts) = question.opts {
            (*fixed).opts = opts;
            flags |= FLAG_OPTS;
        }
        (*fixed).user_ns = read(question.namespace as u64, Field::UserNsInum);
        (*fixed).args = args;
        (*fixed).component = InodeRecord { ino: 0, dev: 0, rdev: 0, mode: 0, uid: 0, gid: 0, pad: 0 };
        (*fixed).socket = SocketRecord { family: 0, ty: 0, protocol: 0, port: 0 };
        (&raw const (*fixed).args).cast::<[u64; 6]>()
    };
    head::fill(record.head(), (KIND_CHECK, flags), task, mark, Ids::of(task));
    record.head().time = kernel::now();
    if this.nr >= 0 && mark.checked == 0 {
        mark.checked = 1;
        maps::awaited();
    }
    describe(&record, task, mark, &row, copy);
    let _counted = record.send();
}

/// Adds what the call is about, and what the kernel is judging.
#[inline(always)]
fn describe(record: &Record<CheckRecord>, task: Task, mark: &Mark, row: &Operands, args: *const [u64; 6]) {
    let walk = pointer(task, Field::TaskNameidata);
    let reached = if walk != 0 { read(walk, Field::NameidataInode) } else { 0 };
    let judged = if mark.inode != 0 { mark.inode } else { reached };
    let plan = record.plan();
    call::paths(plan, task, mark, row, args, true);
    if judged != 0 {
        plan.location = if judged == reached {
            Location::at(walk.wrapping_add(offset(Field::NameidataPath)))
        } else {
            functions::location(task, judged)
        };
        if row.path2 == NONE {
            plan.what |= COMPONENT;
            record.head().flags |= FLAG_COMPONENT;
        } else {
            plan.what |= COMPONENT_BESIDE;
            record.head().flags |= FLAG_COMPONENT | FLAG_TWO_PATHS;
        }
        // SAFETY: the fixed part is this program's own memory.
        unsafe { (*record.fixed).component = path::inode(judged) };
    }
    if row.when & WHEN_TELLING == 0 {
        call::structure(plan, row, args);
    }
    if row.traits & TRAIT_SOCKET != 0 {
        let socket = call::socket(task, call::arg(args, row.dirfd) as i32);
        // SAFETY: as above.
        call::address(record, unsafe { &raw mut (*record.fixed).socket }, socket, row, args);
    }
}

/// Whether CAP_SYS_ADMIN is consulted only to account for memory (`cap_vm_enough_memory`): the answer decides about
/// the last few percent of memory, not about a privilege.
#[inline(always)]
fn is_overcommit(nr: i32, traits: u8, first_arg: u64) -> bool {
    if nr < 0 || traits & (TRAIT_ACCOUNTS | TRAIT_EXEC) != 0 {
        return true;
    }
    if traits & TRAIT_CLONE != 0 {
        return first_arg & CLONE_NEW == 0;
    }
    if traits & TRAIT_CLONE3 != 0 {
        let mut flags = 0u64;
        // SAFETY: the helper writes the flags, the first word of `struct clone_args`.
        let failed = unsafe { bpf_probe_read_user((&raw mut flags).cast(), 8, first_arg as *const c_void) };
        return failed == 0 && flags & (CLONE_NEW | CLONE_NEWTIME) == 0;
    }
    false
}

/// Takes the kernel's stack; false when it shows that memory is being accounted for.
#[inline(always)]
fn stack(stack: &Stack, fixed: *mut CheckRecord) -> bool {
    // SAFETY: the fixed part is this program's own memory.
    unsafe {
        match *stack {
            Stack::Here(context, skip) => {
                let into = (&raw mut (*fixed).stack).cast();
                let size = bpf_get_stack(context, into, (STACK_MAX * 8) as u32, skip);
                (*fixed).stack_len = if size > 0 { size as u32 / 8 } else { 0 };
            }
            Stack::Kept(asked) => {
                (*fixed).stack = asked.stack;
                (*fixed).stack_len = asked.length as u32;
            }
        }
        let accounting = maps::accounting();
        for index in 0..ACCOUNTING_DEPTH {
            if accounting != 0 && (*fixed).stack[index] == accounting {
                return false;
            }
        }
    }
    true
}

/// Whether the credentials are not the task's own, nor made from them (as access(2) does to judge by the real ids):
/// a copy shares the list of groups and the user.
#[inline(always)]
fn is_foreign(task: Task, cred: *const c_void) -> bool {
    let own = pointer(task, Field::TaskRealCred);
    let differ = |field| read::<u64>(cred as u64, field) != read::<u64>(own, field);
    cred as u64 != own
        && (read::<u32>(cred as u64, Field::CredUid) != read::<u32>(own, Field::CredUid)
            || differ(Field::CredGroupInfo)
            || differ(Field::CredUserNs))
}
