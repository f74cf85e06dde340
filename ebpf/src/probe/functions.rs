//! For kernels without the tracepoint in `cap_capable`: the functions themselves are watched.

use core::hint::black_box;

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::{fentry, fexit};
use aya_ebpf::programs::{FEntryContext, FExitContext};

use nrtrace_ebpf::CAP_OPT_NOAUDIT;
use nrtrace_ebpf::layout::Field;

use crate::aim;
use crate::check::{self, Question, Stack};
use crate::kernel::{self, Task, has, offset, read};
use crate::path::Location;

/// The program and the trampoline that calls it.
const OWN_FRAMES: u64 = 2;

/// CAP_NET_ADMIN and CAP_SYS_ADMIN. An answer that the kernel does not audit decides nothing, but for two: whether a
/// network sysctl may be written (`net_ctl_permissions`), and whether a seccomp filter may be installed without
/// `no_new_privs`. Which it was, the stack tells.
const DECIDES_UNAUDITED: [i32; 2] = [12, 21];

/// Whether the answer decides anything.
#[inline(always)]
pub fn decides(cap: i32, opts: u32) -> bool {
    opts & CAP_OPT_NOAUDIT == 0 || DECIDES_UNAUDITED.contains(&cap)
}

/// Which argument of `capable_wrt_inode_uidgid` the inode is: before Linux 5.12, mounts mapped no users.
#[unsafe(no_mangle)]
static INODE_ARGUMENT: u32 = 1;

/// The same, a constant for the verifier.
#[inline(always)]
pub fn inode_argument() -> u32 {
    // SAFETY: the loader writes the constant before the program is loaded.
    unsafe { core::ptr::read_volatile(&raw const INODE_ARGUMENT) }
}

/// `cap_capable(cred, namespace, cap, opts)` has answered.
#[fexit(function = "cap_capable")]
pub fn cap_capable_exit(context: FExitContext) -> i32 {
    let task = kernel::current();
    let Some(mark) = aim::mark(task) else { return 0 };
    let (cap, opts): (i32, u32) = (context.arg(2), context.arg(3));
    if decides(cap, opts) {
        let question = Question {
            cred: context.arg(0),
            namespace: context.arg(1),
            cap,
            ret: context.arg(4),
            opts: Some(opts),
            stack: Stack::Here(context.as_ptr(), OWN_FRAMES),
        };
        check::consulted(task, mark, &question);
    }
    0
}

/// `capable_wrt_inode_uidgid` is about to consult a capability for an inode.
#[fentry(function = "capable_wrt_inode_uidgid")]
pub fn inode_capable_entry(context: FEntryContext) -> i32 {
    if let Some(mark) = aim::mark(kernel::current()) {
        // Both are there on every kernel. Chosen as values: the verifier takes no address that depends on which is meant.
        let (first, second): (u64, u64) = (black_box(context.arg(0)), black_box(context.arg(1)));
        mark.inode = if inode_argument() == 0 { first } else { second };
    }
    0
}

/// The inode has been judged.
#[fexit(function = "capable_wrt_inode_uidgid")]
pub fn inode_capable_exit(_: FExitContext) -> i32 {
    if let Some(mark) = aim::mark(kernel::current()) {
        mark.inode = 0;
    }
    0
}

/// A location of an inode: one of its names, on the mount of the process's root or working directory if one of them
/// is of that filesystem (an inode does not tell by which mount it was reached).
#[inline(always)]
pub fn location(task: Task, inode: u64) -> Location {
    let mut location = Location { mnt: 0, dentry: 0 };
    if has(Field::InodeDentries) {
        let link: u64 = read(inode, Field::InodeDentries);
        location.dentry = link.wrapping_sub(offset(Field::DentryAlias));
    }
    let sb: u64 = read(inode, Field::InodeSb);
    let root = Location::root(task);
    let directory = Location::working_directory(task);
    if read::<u64>(root.mnt, Field::VfsmountSb) == sb {
        location.mnt = root.mnt;
    } else if read::<u64>(directory.mnt, Field::VfsmountSb) == sb {
        location.mnt = directory.mnt;
    }
    location
}
