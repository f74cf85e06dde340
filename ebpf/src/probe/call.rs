//! The system call in progress: number, arguments, and what they point to.

use core::ffi::c_void;
use core::hint::black_box;

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use nrtrace_ebpf::layout::{Field, Mark};
use nrtrace_ebpf::table::{
    NONE, Operands, SOCKETCALL, TRAIT_IOVEC, TRAIT_SOCKET, TRAIT_TEXT2, in_socketcall,
};
use nrtrace_ebpf::{FLAG_SOCKET, SocketRecord};

use crate::gather::{AT_FDCWD, BASE, BASE2, BUFFERS, DATA, PATH, PATH2, Plan, ROOT, STRUCTURE};
#[cfg(feature = "portable")]
use crate::kernel::load;
use crate::kernel::{Task, load_at, read, registers};
use crate::path::{self, Location};
use crate::text::Record;

const AT_EMPTY_PATH: u64 = 0x1000;
/// Longest socket address recorded: `sockaddr_un` has 110 bytes.
const ADDRESS_MAX: u32 = 127;
const AF_UNIX: u16 = 1;
/// `S_IFMT` and `S_IFSOCK` of `inode.i_mode`.
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
/// Magic of the filesystem that sockets live on; a socket's node on a disk is none.
const SOCKFS_MAGIC: u64 = 0x534f_434b;

/// A system call's number, and where its arguments are.
#[derive(Clone, Copy)]
pub struct Call {
    /// Where they are.
    pub registers: *const c_void,
    /// Number; negative outside a system call.
    pub nr: i32,
    /// Whether it came through the 32-bit entry.
    pub compat: bool,
    /// Whether it came by `socketcall`.
    pub packed: bool,
}

impl Call {
    /// The call that `task`, the current one, is in.
    #[inline(always)]
    pub fn of(task: Task) -> Self {
        Self::at(task, registers_of(task))
    }

    /// The call that `task` is in, with these registers.
    #[inline(always)]
    pub fn at(task: Task, registers: *const c_void) -> Self {
        let mask = registers!(compat_mask);
        let word: u32 = load_at(task, registers!(compat_word));
        let nr = load_at::<u32>(registers, registers!(number)) as i32;
        let compat = u64::from(word) & mask != 0;
        if compat && nr == SOCKETCALL {
            let nr = in_socketcall(load_at(registers, registers!(compat_args[0])));
            return Self { registers, nr, compat, packed: nr != SOCKETCALL };
        }
        Self { registers, nr, compat, packed: false }
    }

    /// Its arguments.
    #[inline(always)]
    pub fn args(&self) -> [u64; 6] {
        let regs = self.registers;
        if self.packed {
            let mut words = [0u32; 6];
            let at = load_at::<u32>(regs, registers!(compat_args[1]));
            // Six may be more than there are, but what is in memory for those is there.
            // SAFETY: the helper writes the words, zeros where they cannot be read.
            unsafe { bpf_probe_read_user((&raw mut words).cast(), 24, u64::from(at) as *const c_void) };
            let [a, b, c, d, e, f] = words;
            [a.into(), b.into(), c.into(), d.into(), e.into(), f.into()]
        } else if self.compat {
            // The upper halves of the registers are not part of the arguments.
            [
                u64::from(load_at::<u32>(regs, registers!(compat_args[0]))),
                u64::from(load_at::<u32>(regs, registers!(compat_args[1]))),
                u64::from(load_at::<u32>(regs, registers!(compat_args[2]))),
                u64::from(load_at::<u32>(regs, registers!(compat_args[3]))),
                u64::from(load_at::<u32>(regs, registers!(compat_args[4]))),
                u64::from(load_at::<u32>(regs, registers!(compat_args[5]))),
            ]
        } else {
            [
                load_at(regs, registers!(args[0])),
                load_at(regs, registers!(args[1])),
                load_at(regs, registers!(args[2])),
                load_at(regs, registers!(args[3])),
                load_at(regs, registers!(args[4])),
                load_at(regs, registers!(args[5])),
            ]
        }
    }
}

/// The registers that a task, the current one, has entered the kernel with.
#[cfg(not(feature = "portable"))]
#[inline(always)]
fn registers_of(task: Task) -> *const c_void {
    // SAFETY: the task is valid.
    (unsafe { aya_ebpf::helpers::generated::bpf_task_pt_regs(task.cast_mut().cast()) }) as *const c_void
}

/// The same: they are at the far end of its stack.
#[cfg(feature = "portable")]
#[inline(always)]
fn registers_of(task: Task) -> *const c_void {
    let stack: u64 = load(task, Field::TaskStack);
    stack.wrapping_add(crate::places::registers()) as *const c_void
}

/// Argument `index` of the arguments in a record.
#[inline(always)]
pub fn arg(args: *const [u64; 6], index: u8) -> u64 {
    let index = usize::from(black_box(index) & 7);
    // SAFETY: every record has more than two words behind its arguments.
    unsafe { core::ptr::read_volatile(args.cast::<u64>().add(index)) }
}

/// Whether a call with flags at this index is about its descriptor alone: the path is empty, or there is none.
#[inline(always)]
pub fn is_at_descriptor(flags: u8, operands: &Operands, args: *const [u64; 6]) -> bool {
    if flags == NONE || arg(args, flags) & AT_EMPTY_PATH == 0 {
        return false;
    }
    let mut first = 0u8;
    // SAFETY: the helper writes the byte, a zero where there is nothing to be read.
    unsafe { bpf_probe_read_user((&raw mut first).cast(), 1, arg(args, operands.path) as *const c_void) };
    first == 0
}

/// Asks for the paths of a call: first path, where it starts from, the process's
/// root unless it is known to be the namespace's own, and, with `second`, the same of
/// the second path.
#[inline(always)]
pub fn paths(
    plan: &mut Plan,
    task: Task,
    mark: &Mark,
    operands: &Operands,
    args: *const [u64; 6],
    second: bool,
) {
    if operands.dirfd != NONE {
        plan.dirfd = arg(args, operands.dirfd) as i32;
    } else {
        plan.dirfd = AT_FDCWD;
    }
    if operands.path != NONE {
        plan.path = arg(args, operands.path);
        plan.what |= PATH | BASE;
        let root = Location::root(task);
        if root.mnt != mark.root_mnt || root.dentry != mark.root_dentry {
            plan.what |= ROOT;
        }
    } else if operands.dirfd != NONE && operands.traits & TRAIT_SOCKET == 0 {
        plan.path = 0;
        plan.what |= PATH | BASE;
    }
    if second && operands.path2 != NONE {
        plan.path2 = arg(args, operands.path2);
        plan.dirfd2 = if operands.dirfd2 != NONE { arg(args, operands.dirfd2) as i32 } else { AT_FDCWD };
        plan.what |= if operands.traits & TRAIT_TEXT2 == 0 { PATH2 | BASE2 } else { PATH2 };
    }
}

/// The socket behind a descriptor, if there is one.
#[inline(always)]
pub fn socket(task: Task, fd: i32) -> Option<SocketRecord> {
    let file = path::file(task, fd);
    let inode: u64 = read(file, Field::FileInode);
    let sb: u64 = read(inode, Field::InodeSb);
    if read::<u16>(inode, Field::InodeMode) & S_IFMT != S_IFSOCK
        || read::<u64>(sb, Field::SuperMagic) != SOCKFS_MAGIC
    {
        return None;
    }
    let socket: u64 = read(file, Field::FilePrivate);
    let sock: u64 = read(socket, Field::SocketSk);
    Some(SocketRecord {
        family: read(sock, Field::SockFamily),
        ty: read(socket, Field::SocketType),
        protocol: read(sock, Field::SockProtocol),
        port: read(sock, Field::SockPort),
    })
}

/// Whether a socket is of the Unix domain.
#[inline(always)]
pub fn is_unix(socket: Option<SocketRecord>) -> bool {
    matches!(socket, Some(socket) if socket.family == AF_UNIX)
}

/// Adds a socket to a record, and asks for the address that the call named.
#[inline(always)]
pub fn address<R>(
    record: &Record<R>,
    into: *mut SocketRecord,
    socket: Option<SocketRecord>,
    operands: &Operands,
    args: *const [u64; 6],
) {
    let Some(socket) = socket else { return };
    // SAFETY: `into` is a field of the record.
    unsafe { *into = socket };
    record.head().flags |= FLAG_SOCKET;
    if operands.address != NONE {
        let plan = record.plan();
        let length = arg(args, operands.address + 1) as u32;
        plan.data = arg(args, operands.address);
        plan.data_length = if length > ADDRESS_MAX { ADDRESS_MAX } else { length };
        plan.what |= DATA;
    }
}

/// Asks for the structure that a call points to, if it has one; not for calls that write.
#[inline(always)]
pub fn structure(plan: &mut Plan, operands: &Operands, args: *const [u64; 6]) {
    if operands.data != NONE {
        let address = arg(args, operands.data);
        if address != 0 {
            plan.data = address;
            plan.what |= STRUCTURE;
        }
    }
}

/// Asks for the start of what a call wrote, at most `most` bytes.
#[inline(always)]
pub fn written(plan: &mut Plan, operands: &Operands, args: *const [u64; 6], compat: bool, most: u64) {
    plan.data = arg(args, operands.data);
    let length = arg(args, operands.data + 1);
    plan.data_length = if length > most { most as u32 } else { length as u32 };
    if operands.traits & TRAIT_IOVEC == 0 {
        plan.what |= DATA;
    } else if !compat {
        plan.what |= BUFFERS;
    }
}
