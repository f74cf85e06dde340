//! Raw records to [`Observation`]s: what a backend saw, before anything is made of it.
//!
//! An observation borrows its strings from the record. A backend without records may build observations itself.

use nrtrace_ebpf::record::{
    self, CallRecord, CheckRecord, FLAG_COMPONENT, FLAG_SOCKET, FLAG_TWO_PATHS, Head, InodeRecord,
    ProcessRecord, STACK_MAX, STR_BASE, STR_BASE2, STR_DATA, STR_PATH, STR_PATH2, STR_ROOT, STRINGS,
    SocketRecord,
};

/// One thing that a thread of the tree did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation<'a> {
    /// The kernel consulted a capability during an operation.
    Check(Operation<'a>, Box<RawCheck<'a>>),
    /// An operation has ended with this result: a negative errno on failure.
    Call(Operation<'a>, i64),
    /// The head's task made a new one.
    Fork {
        /// About the parent.
        head: Head,
        /// The new task's thread group.
        pid: u32,
        /// The new task's thread id.
        tid: u32,
    },
    /// The head's task runs a new program.
    Exec {
        /// About the task.
        head: Head,
        /// The program's path as it was passed.
        path: &'a [u8],
        /// The executable's path in the mount namespace, leaf first as [`STR_BASE`].
        exe: &'a [u8],
    },
    /// The head's task has ended.
    Exit {
        /// About the task.
        head: Head,
        /// Whether it was the last thread of its group.
        last: bool,
    },
}

/// A system call, with what it was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation<'a> {
    /// Who, when and as whom.
    pub head: Head,
    /// System call number; negative outside a system call.
    pub nr: i32,
    /// Arguments.
    pub args: [u64; 6],
    /// The socket, of calls about one.
    pub socket: Option<SocketRecord>,
    /// What the arguments point to.
    pub strings: Strings<'a>,
}

/// A capability check, as the backend saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawCheck<'a> {
    /// Number of the capability.
    pub capability: u32,
    /// 0 when granted, else a negative errno.
    pub ret: i32,
    /// `CAP_OPT_` bits; valid with `FLAG_OPTS` in the head.
    pub opts: u32,
    /// Inode number of the user namespace.
    pub user_ns: u32,
    /// The file that was judged, with its path leaf first, where the kernel told.
    pub component: Option<(InodeRecord, &'a [u8])>,
    /// Return addresses, innermost first; [`RawCheck::stack`] gives the valid ones.
    addresses: [u64; STACK_MAX],
    depth: usize,
}

impl<'a> RawCheck<'a> {
    /// A check of `capability` that answered `ret`, of which nothing more is known.
    pub fn new(capability: u32, ret: i32) -> Self {
        let (opts, user_ns, component) = (0, 0, None);
        Self { capability, ret, opts, user_ns, component, addresses: [0; STACK_MAX], depth: 0 }
    }

    /// Return addresses of the kernel stack, innermost first.
    pub fn stack(&self) -> &[u64] {
        &self.addresses[..self.depth]
    }
}

/// The strings of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strings<'a>([&'a [u8]; STRINGS]);

impl<'a> Strings<'a> {
    /// Strings in the order of the `STR_` indexes.
    pub fn new(parts: [&'a [u8]; STRINGS]) -> Self {
        Self(parts)
    }

    /// Cuts what follows a record's fixed part, or `None` when it is shorter than the head says.
    fn cut(head: &Head, mut rest: &'a [u8]) -> Option<Self> {
        let mut parts = [&[][..]; STRINGS];
        for (part, length) in parts.iter_mut().zip(head.strings) {
            (*part, rest) = rest.split_at_checked(length.into())?;
        }
        Some(Self(parts))
    }

    /// The path, as passed.
    pub fn path(&self) -> &'a [u8] {
        self.0[STR_PATH]
    }

    /// Where a relative path starts, or the file of a descriptor; leaf first.
    pub fn base(&self) -> &'a [u8] {
        self.0[STR_BASE]
    }

    /// The process's root directory, leaf first; empty for the root of the mount namespace.
    pub fn root(&self) -> &'a [u8] {
        self.0[STR_ROOT]
    }

    /// The second path, as passed.
    pub fn path2(&self) -> &'a [u8] {
        self.0[STR_PATH2]
    }

    /// Where a relative second path starts, leaf first.
    pub fn base2(&self) -> &'a [u8] {
        self.0[STR_BASE2]
    }

    /// A socket address, or bytes written.
    pub fn data(&self) -> &'a [u8] {
        self.0[STR_DATA]
    }

    /// The same, with each path that the kernel told, leaf first, replaced.
    pub fn with_places(mut self, replace: impl Fn(&'a [u8]) -> &'a [u8]) -> Self {
        for place in [STR_BASE, STR_ROOT, STR_BASE2] {
            self.0[place] = replace(self.0[place]);
        }
        self
    }

    /// All of them, in the order of the `STR_` indexes.
    pub fn all(&self) -> &[&'a [u8]; STRINGS] {
        &self.0
    }
}

/// An [`Operation`] that owns its strings.
#[derive(Clone, Debug)]
pub struct StoredOperation {
    head: Head,
    nr: i32,
    args: [u64; 6],
    socket: Option<SocketRecord>,
    lengths: [usize; STRINGS],
    bytes: Vec<u8>,
}

impl StoredOperation {
    /// Copies `operation` into `buffer`, whose former contents are dropped and whose memory is used again.
    pub fn new(operation: &Operation<'_>, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        operation.strings.all().iter().for_each(|part| buffer.extend_from_slice(part));
        Self {
            head: operation.head,
            nr: operation.nr,
            args: operation.args,
            socket: operation.socket,
            lengths: operation.strings.all().map(<[u8]>::len),
            bytes: buffer,
        }
    }

    /// The operation, borrowed again.
    pub fn get(&self) -> Operation<'_> {
        let mut rest = self.bytes.as_slice();
        let strings = self.lengths.map(|length| {
            let (part, tail) = rest.split_at(length);
            rest = tail;
            part
        });
        Operation {
            head: self.head,
            nr: self.nr,
            args: self.args,
            socket: self.socket,
            strings: Strings(strings),
        }
    }

    /// The memory, to be used again.
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads one record. `None` when it is cut short or of no known kind.
pub fn decode(bytes: &[u8]) -> Option<Observation<'_>> {
    let head: Head = record::read(bytes)?;
    match head.kind {
        record::KIND_CHECK => decode_check(bytes),
        record::KIND_CALL => decode_call(bytes),
        record::KIND_FORK | record::KIND_EXEC | record::KIND_EXIT => decode_process(bytes),
        _ => None,
    }
}

fn decode_check(bytes: &[u8]) -> Option<Observation<'_>> {
    let fixed: CheckRecord = record::read(bytes)?;
    let Strings(mut parts) = Strings::cut(&fixed.head, &bytes[size_of::<CheckRecord>()..])?;
    // Where the kernel tells the component, it takes the second path's place, unless there is one.
    let has_component = fixed.head.flags & FLAG_COMPONENT != 0;
    let place = if fixed.head.flags & FLAG_TWO_PATHS == 0 { STR_PATH2 } else { STR_DATA };
    let component = if has_component { std::mem::take(&mut parts[place]) } else { &[] };
    let operation = Operation {
        head: fixed.head,
        nr: fixed.nr,
        args: fixed.args,
        socket: (fixed.head.flags & FLAG_SOCKET != 0).then_some(fixed.socket),
        strings: Strings(parts),
    };
    let check = RawCheck {
        capability: fixed.cap,
        ret: fixed.ret,
        opts: fixed.opts,
        user_ns: fixed.user_ns,
        component: has_component.then_some((fixed.component, component)),
        addresses: fixed.stack,
        depth: (fixed.stack_len as usize).min(STACK_MAX),
    };
    Some(Observation::Check(operation, Box::new(check)))
}

fn decode_call(bytes: &[u8]) -> Option<Observation<'_>> {
    let fixed: CallRecord = record::read(bytes)?;
    let operation = Operation {
        head: fixed.head,
        nr: fixed.nr,
        args: fixed.args,
        socket: (fixed.head.flags & FLAG_SOCKET != 0).then_some(fixed.socket),
        strings: Strings::cut(&fixed.head, &bytes[size_of::<CallRecord>()..])?,
    };
    Some(Observation::Call(operation, fixed.ret))
}

fn decode_process(bytes: &[u8]) -> Option<Observation<'_>> {
    let fixed: ProcessRecord = record::read(bytes)?;
    let strings = Strings::cut(&fixed.head, &bytes[size_of::<ProcessRecord>()..])?;
    let head = fixed.head;
    Some(match head.kind {
        record::KIND_FORK => Observation::Fork { head, pid: fixed.child_pid, tid: fixed.child_tid },
        record::KIND_EXEC => Observation::Exec { head, path: strings.path(), exe: strings.data() },
        _ => Observation::Exit { head, last: fixed.last_thread != 0 },
    })
}
