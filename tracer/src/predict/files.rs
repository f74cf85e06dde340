//! The files of a call that is about to be made.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nrtrace_ebpf::table::{NONE, WHEN_FAILED, WHEN_OK, WHEN_TELLING};
use nrtrace_profiles::calls::{Attribute, File, Flags, Operation, Part, Pointed, Row, Times, Want};

use crate::ptrace::CallAtEntry;

/// Whether the result of a call that cannot be foretold is worth a stop: memory, signals and the copying of data are
/// too frequent for that.
pub fn is_worth_its_result(row: &Row) -> bool {
    row.operands.when & (WHEN_OK | WHEN_FAILED | WHEN_TELLING) != 0 && !row.frequent
}

/// The arguments, with the flags of `openat2` where `openat` has them.
pub fn in_place(call: &CallAtEntry<'_>, row: &Row) -> [u64; 6] {
    let structure = match row.operation {
        Operation::File(File::Open(Flags::Structure)) => call.read::<16>(call.args[2]),
        _ => None,
    };
    let numbers = structure.map(|bytes| {
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        [word(0), word(8)]
    });
    row.in_place(&call.args, numbers.as_ref().map_or(&[], |numbers| &numbers[..]))
}

/// The rules of openat2(2) for how its path is looked up; 0 for other calls.
pub fn resolve(call: &CallAtEntry<'_>, row: &Row) -> u64 {
    match row.operation {
        Operation::File(File::Open(Flags::Structure)) => {
            call.read::<8>(call.args[2] + 16).map_or(0, u64::from_ne_bytes)
        }
        _ => 0,
    }
}

/// The errno of a path that these rules forbid: it goes through a link or out of the directory.
pub fn is_beyond(base: BorrowedFd<'_>, path: &[u8], resolve: u64) -> Option<i32> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::from_bits_retain(resolve));
    openat2(base, path, how)
        .err()
        .filter(|errno| matches!(errno, Errno::ELOOP | Errno::EXDEV))
        .map(|errno| errno as i32)
}

/// What the oracle is to be asked, in the kernel's order. `args` are in place.
pub fn wants(call: &CallAtEntry<'_>, row: &Row, args: &[u64; 6]) -> [Option<(Part, Want)>; 2] {
    row.wants(args, call).map(|wanted| {
        wanted.filter(|(part, want)| match want {
            // A descriptor's own file is reached already.
            Want::Reach => call.path.is_some_and(|path| !path.is_empty()),
            _ if *part == Part::Address => path(*part, call).is_some(),
            _ => true,
        })
    })
}

/// The path as passed, empty for a call on a descriptor; `None` when it could not be read or there is none.
pub fn path<'a>(part: Part, call: &CallAtEntry<'a>) -> Option<&'a [u8]> {
    match part {
        Part::First if call.path.is_none() && call.operands.dirfd != NONE => {
            let given = call.args.get(usize::from(call.operands.path)).copied().unwrap_or(0);
            (given == 0).then_some(&[])
        }
        Part::First => call.path,
        Part::Second => call.path2,
        Part::Address => socket_path(call.address?),
    }
}

/// Where a relative path starts.
pub fn start(part: Part, call: &CallAtEntry<'_>) -> io::Result<OwnedFd> {
    match part {
        Part::First => call.base(),
        Part::Second => call.base2(),
        Part::Address => call.cwd(),
    }
}

/// The path in a `sockaddr_un`: not in one without a name, nor in one of the abstract namespace (unix(7)).
fn socket_path(address: &[u8]) -> Option<&[u8]> {
    let (family, path) = address.split_first_chunk()?;
    let path = path.split(|byte| *byte == 0).next()?;
    (i32::from(u16::from_ne_bytes(*family)) == libc::AF_UNIX && !path.is_empty()).then_some(path)
}

/// Whether the call changes nothing, so that what comes of it is known once nothing stands against it.
pub fn only_looks(call: &CallAtEntry<'_>, row: &Row, args: &[u64; 6]) -> bool {
    /// These file systems have rules of their own, which the oracle cannot be relied upon to know.
    const SPECIAL: [&[u8]; 2] = [b"/proc/", b"/sys/"];
    const CHANGES: i32 =
        libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_TMPFILE & !libc::O_DIRECTORY;
    let special = call.path.is_some_and(|path| SPECIAL.iter().any(|start| path.starts_with(start)));
    let looks = match row.operation {
        Operation::File(File::Open(_)) => {
            row.operation.opened_with(args).is_some_and(|flags| flags as i32 & CHANGES == libc::O_RDONLY)
        }
        Operation::File(
            File::Access(_)
            | File::Watch
            | File::Look
            | File::GetAttribute(_)
            | File::ListAttributes
            | File::Enter,
        ) => true,
        _ => false,
    };
    looks && !special
}

impl Pointed for CallAtEntry<'_> {
    /// utimensat(2)
    fn times(&self, address: u64, wide: bool) -> Option<Times> {
        let both = if self.compat && !wide {
            let bytes = self.read::<16>(address)?;
            let word =
                |at: usize| i64::from(i32::from_ne_bytes(std::array::from_fn(|byte| bytes[at + byte])));
            (word(4), word(12))
        } else {
            let bytes = self.read::<32>(address)?;
            // Of 64 bits, a 32-bit program sets the lower half.
            let word =
                |at: usize| i64::from(i32::from_ne_bytes(std::array::from_fn(|byte| bytes[at + byte])));
            (word(8), word(24))
        };
        Some(match both {
            (libc::UTIME_NOW, libc::UTIME_NOW) => Times::Now,
            (libc::UTIME_OMIT, libc::UTIME_OMIT) => Times::Kept,
            _ => Times::Given,
        })
    }

    fn attribute(&self, address: u64) -> Option<Attribute> {
        let name = self.read::<12>(address).or_else(|| {
            let mut short = [0; 12];
            short[..6].copy_from_slice(&self.read::<6>(address)?);
            Some(short)
        })?;
        Some(match &name {
            name if name.starts_with(b"user.") => Attribute::User,
            b"system.posix" => Attribute::Acl,
            _ => Attribute::Other,
        })
    }
}
