//! What calls want of the files they are about.

use nrtrace_ebpf::table::NONE;

use super::flags::{O_APPEND, O_RDWR, O_WRONLY, R_OK, W_OK};
use super::operation::{File, Flags, Kernel, Operation, Removed, Socket, Timed};
use super::row::Row;
use crate::event::Object;
use crate::event::PathObject;

/// What is to be done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Reach it: stat, readlink, `O_PATH`.
    Reach,
    /// Make it the working directory.
    Search,
    /// Have access(2) with these bits (`R_OK`, `W_OK`, `X_OK`) succeed.
    Access(i32),
    /// Open it with these flags of open(2), creation included.
    Open(i32),
    /// Execute it. An interpreter is another question.
    Execute,
    /// Make a new entry: mkdir, mknod, symlink, bind, the new name of link.
    Create {
        /// Whether it is a directory, whose name may end with a slash.
        directory: bool,
    },
    /// Remove the entry: unlink, rmdir, the old name of rename.
    Delete(Victim),
    /// Take the entry, removing what is there: the new name of rename.
    Replace(Victim),
    /// Give it another name: the old name of link.
    Link,
    /// Connect to a Unix socket, or send to it.
    Connect,
    /// Change its mode, its times to given values, or its group to one of the user's own.
    Own,
    /// Set its times to now.
    Touch,
    /// Change its length by name.
    Truncate,
}

/// What an entry to be removed may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// Anything but a directory: unlink.
    File,
    /// A directory: rmdir.
    Directory,
    /// Either: rename.
    Any,
}

/// Which of a call's paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first.
    First,
    /// The second.
    Second,
    /// The one in a socket address.
    Address,
}

impl Part {
    /// The path of a recorded call's object.
    pub fn of(self, object: &Object) -> Option<&PathObject> {
        match (object, self) {
            (Object::Path(path) | Object::Program { path, .. } | Object::Gift { path, .. }, Self::First) => {
                Some(path)
            }
            (Object::TwoPaths { from, .. }, Self::First) => Some(from),
            (Object::TwoPaths { to, .. }, Self::Second) => Some(to),
            (Object::Socket(socket), Self::Address) => socket.path.as_ref(),
            _ => None,
        }
    }
}

/// What times a call sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Both are now.
    Now,
    /// Both stay.
    Kept,
    /// Something else.
    Given,
}

/// What kind of extended attribute a call is about (xattr(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// The user's: a matter of write access.
    User,
    /// An access control list: the owner's.
    Acl,
    /// Any other: a matter of capabilities.
    Other,
}

/// What calls point to, as far as it can be read.
pub trait Pointed {
    /// The times at this address, of two `struct timespec`, which are `wide` whatever the program's words are.
    fn times(&self, address: u64, wide: bool) -> Option<Times>;
    /// The attribute whose name is at this address.
    fn attribute(&self, address: u64) -> Option<Attribute>;
}

/// The memory of a call that was made long ago.
#[derive(Clone, Copy, Debug)]
pub struct NoMemory;

impl Pointed for NoMemory {
    fn times(&self, _: u64, _: bool) -> Option<Times> {
        Some(Times::Given)
    }

    fn attribute(&self, _: u64) -> Option<Attribute> {
        Some(Attribute::User)
    }
}

impl Row {
    /// What a call with these arguments, in place, wants of its files, in the kernel's order.
    pub fn wants(&self, args: &[u64; 6], memory: &impl Pointed) -> [Option<(Part, Want)>; 2] {
        let first = |want| [Some((Part::First, want)), None];
        let opens = |flags: u64| first(Want::Open(flags as i32));
        let address = |want| [Some((Part::Address, want)), None];
        match self.operation {
            Operation::File(file) => self.file_wants(file, args, memory),
            Operation::Socket(Socket::Bind) => address(Want::Create { directory: false }),
            Operation::Socket(Socket::Connect | Socket::Send) => address(Want::Connect),
            Operation::Kernel(Kernel::Accounting) => opens(O_WRONLY | O_APPEND),
            Operation::Kernel(Kernel::SwapOn) => opens(O_RDWR),
            Operation::Kernel(Kernel::SwapOff | Kernel::Quota) | Operation::Mount(_)
                if self.operands.path != NONE =>
            {
                first(Want::Reach)
            }
            Operation::Socket(Socket::Make | Socket::Listen | Socket::SetOption)
            | Operation::Identity(_)
            | Operation::Task(_)
            | Operation::Memory(_)
            | Operation::Mount(_)
            | Operation::Limit(_)
            | Operation::Kernel(_)
            | Operation::Write
            | Operation::Other => [None; 2],
        }
    }

    fn file_wants(&self, file: File, args: &[u64; 6], memory: &impl Pointed) -> [Option<(Part, Want)>; 2] {
        let one = |want| Some((Part::First, want));
        let create = |directory| Want::Create { directory };
        let argument = |index: u8| args[usize::from(index)];
        let want = match file {
            File::Open(Flags::Argument(index)) => one(Want::Open(argument(index) as i32)),
            File::Open(Flags::Structure) => one(Want::Open(argument(2) as i32)),
            File::Open(Flags::Fixed(flags)) => one(Want::Open(flags as i32)),
            File::MakeDirectory(_) => one(create(true)),
            File::MakeNode(_) | File::MakeLink => one(create(false)),
            File::Link => return [one(Want::Link), Some((Part::Second, create(false)))],
            File::Rename => {
                return [one(Want::Delete(Victim::Any)), Some((Part::Second, Want::Replace(Victim::Any)))];
            }
            File::Remove(removed) => one(Want::Delete(removed.victim(args))),
            File::Mode(_) | File::Flags | File::Give(_) => one(Want::Own),
            File::Times(timed) if argument(timed.at()) == 0 => one(Want::Touch),
            File::Times(Timed::Plain(_)) => one(Want::Own),
            File::Times(timed @ (Timed::Exactly(at) | Timed::Widely(at))) => {
                let wide = matches!(timed, Timed::Widely(_));
                memory.times(argument(at), wide).and_then(|times| match times {
                    Times::Now => one(Want::Touch),
                    Times::Given => one(Want::Own),
                    Times::Kept => None,
                })
            }
            File::Truncate => one(Want::Truncate).filter(|_| !self.is_on_descriptor()),
            File::SetAttribute(at) | File::RemoveAttribute(at) => {
                memory.attribute(argument(at)).and_then(|attribute| match attribute {
                    Attribute::User => one(Want::Access(W_OK)),
                    Attribute::Acl => one(Want::Own),
                    Attribute::Other => one(Want::Reach),
                })
            }
            File::Access(at) => one(Want::Access(argument(at) as i32)),
            File::GetAttribute(at) => memory.attribute(argument(at)).and_then(|attribute| match attribute {
                Attribute::User => one(Want::Access(R_OK)),
                Attribute::Acl | Attribute::Other => one(Want::Reach),
            }),
            File::Look | File::ListAttributes => one(Want::Reach),
            File::Watch => one(Want::Access(R_OK)),
            File::Enter | File::ChangeRoot => one(Want::Search),
            File::Execute => one(Want::Execute),
            // A descriptor was opened for it; a handle has no path.
            File::Allocate | File::OpenHandle => None,
        };
        [want, None]
    }
}

impl Removed {
    fn victim(self, args: &[u64; 6]) -> Victim {
        if self.is_directory(args) { Victim::Directory } else { Victim::File }
    }
}
