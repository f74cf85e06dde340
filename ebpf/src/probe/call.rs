//! The system call in progress: number, arguments, and what they point to.

use aya_ebpf::helpers::generated::bpf_task_pt_regs;
use core::ffi::c_void;
use core::hint::black_box;

use nrtrace_ebpf::layout::{Field, Mark};
use nrtrace_ebpf::table::{NONE, Operands, TRAIT_IOVEC, TRAIT_SOCKET, TRAIT_TEXT2};
use nrtrace_ebpf::{
    FLAG_FD_ONLY, FLAG_SOCKET, STR_BASE, STR_BASE2, STR_DATA, STR_PATH, STR_PATH2, STR_ROOT, SocketRecord,
};

use crate::kernel::{Task, load_at, read, registers};
use crate::path::{self, Location};
use crate::text::{self, Record};

/// The working directory, as a directory descriptor.
const AT_FDCWD: i32 = -100;
/// Longest socket address recorded: `sockaddr_un` has 110 bytes.
const ADDRESS_MAX: u64 = 127;
const AF_UNIX: u16 = 1;
/// `S_IFMT` and `S_IFSOCK` of `inode.i_mode`.
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
/// Magic of the filesystem that sockets live on; a socket's node on a disk is none.
const SOCKFS_MAGIC: u64 = 0x534f_434b;

/// A system call's number, and where its arguments are.
#[derive(Clone, Copy)]
pub struct Call {
    registers: *const c_void,
    /// Number; negative outside a system call.
    pub nr: i32,
    /// Whether it came through the 32-bit entry.
    pub compat: bool,
}

impl Call {
    /// The call that `task`, the current one, is in.
    #[inline(always)]
    pub fn of(task: Task) -> Self {
        // SAFETY: the task is valid.
        let registers = unsafe { bpf_task_pt_regs(task.cast_mut().cast()) } as *const c_void;
        let mask = registers!(compat_mask);
        let word: u32 = load_at(task, registers!(compat_word));
        Self {
            registers,
            nr: load_at::<u64>(registers, registers!(number)) as i32,
            compat: u64::from(word) & mask != 0,
        }
    }

    /// Its arguments.
    #[inline(always)]
    pub fn args(&self) -> [u64; 6] {
        let regs = self.registers;
        if self.compat {
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

/// Argument `index` of the arguments in a record.
#[inline(always)]
pub fn arg(args: *const [u64; 6], index: u8) -> u64 {
    let index = usize::from(black_box(index) & 7);
    // SAFETY: every record has more than two words behind its arguments.
    unsafe { core::ptr::read_volatile(args.cast::<u64>().add(index)) }
}

/// Adds the paths of a call to its record: first path, where it starts from, the process's root, and, with `second`,
/// the same of the second path.
#[inline(always)]
pub fn paths<R>(
    record: &Record<R>,
    task: Task,
    mark: &mut Mark,
    operands: &Operands,
    args: *const [u64; 6],
    second: bool,
) {
    let on_descriptor =
        operands.path == NONE && operands.dirfd != NONE && operands.traits & TRAIT_SOCKET == 0;
    if operands.path != NONE {
        path(record, task, [STR_PATH, STR_BASE], arg(args, operands.path), fd(args, operands.dirfd));
        root(record, task, mark);
    } else if on_descriptor {
        record.head().flags |= FLAG_FD_ONLY;
        base(record, task, STR_BASE, fd(args, operands.dirfd));
    }
    if second && operands.path2 != NONE {
        if operands.traits & TRAIT_TEXT2 == 0 {
            path(record, task, [STR_PATH2, STR_BASE2], arg(args, operands.path2), fd(args, operands.dirfd2));
        } else {
            record.user_string(STR_PATH2, arg(args, operands.path2));
        }
    }
}

/// The directory descriptor in argument `index`.
#[inline(always)]
fn fd(args: *const [u64; 6], index: u8) -> i32 {
    if index == NONE { AT_FDCWD } else { arg(args, index) as i32 }
}

/// Adds a path, and where it starts from unless it is absolute.
#[inline(always)]
fn path<R>(record: &Record<R>, task: Task, [path, base_of]: [usize; 2], address: u64, dirfd: i32) {
    if address == 0 {
        record.head().flags |= FLAG_FD_ONLY;
    } else if let Some(start) = record.user_string(path, address) {
        // SAFETY: the string was read to that place, and is followed by its terminator at least.
        match unsafe { *start } {
            b'/' => return,
            0 => record.head().flags |= FLAG_FD_ONLY,
            _ => {}
        }
    }
    base(record, task, base_of, dirfd);
}

/// Adds the path of a directory descriptor.
#[inline(always)]
fn base<R>(record: &Record<R>, task: Task, index: usize, dirfd: i32) {
    let location = if dirfd == AT_FDCWD {
        Location::working_directory(task)
    } else {
        Location::of_file(path::file(task, dirfd))
    };
    record.location(index, location);
}

/// Adds the process's root directory if it is not the mount namespace's own.
#[inline(always)]
fn root<R>(record: &Record<R>, task: Task, mark: &mut Mark) {
    let root = Location::root(task);
    if root.mnt == mark.root_mnt && root.dentry == mark.root_dentry {
        return;
    }
    if record.location(STR_ROOT, root) == 0 {
        mark.root_mnt = root.mnt;
        mark.root_dentry = root.dentry;
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

/// Adds a socket and the address a call named to its record.
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
        let length = arg(args, operands.address + 1) & 0xffff_ffff;
        record.user_bytes::<ADDRESS_MAX>(STR_DATA, arg(args, operands.address), length);
    }
}

/// Adds the start of what a call wrote to its record, at most `MOST` bytes of each buffer.
#[inline(always)]
pub fn written<R, const MOST: u64>(
    record: &Record<R>,
    operands: &Operands,
    args: *const [u64; 6],
    compat: bool,
) {
    let buffer = arg(args, operands.data);
    let length = arg(args, operands.data + 1);
    if operands.traits & TRAIT_IOVEC == 0 {
        record.user_bytes::<MOST>(STR_DATA, buffer, length);
    } else if !compat {
        // What matters comes in one or two pieces (musl puts what was buffered first, and the new text second).
        for index in 0..2 {
            if index < length
                && let Some([start, length]) = text::user_pair(buffer.wrapping_add(index * 16))
            {
                record.user_bytes::<MOST>(STR_DATA, start, length);
            }
        }
    }
}
