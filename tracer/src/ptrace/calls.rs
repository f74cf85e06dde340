//! The calls that stop: the rows asked for, and those that change what this backend remembers of a task.

use nrtrace_ebpf::table::{NONE, Operands, WHEN_TELLING};
use nrtrace_profiles::calls::{File, Identity, Mount, Operation, ROWS, Row, Task};

use crate::seccomp::{compat, native};

/// Numbers of both tables are below this; x32 numbers are not, and pass unseen.
const NUMBERS: usize = 1024;

/// What a call changes that is remembered between stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Makes a task, with its flags in the first argument.
    Clone,
    /// Makes a task, with its flags in memory.
    Clone3,
    /// The user or group ids.
    Credentials,
    /// The root directory, of other tasks too.
    Root,
    /// Namespaces, with the mount namespace the root directory.
    Namespaces,
    /// Possibly the thread's name.
    Name,
}

/// When a call stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always.
    Always,
    /// When this argument has one of these bits.
    Bits(u8, u32),
    /// When this argument is this value.
    Equals(u8, u32),
    /// When this argument is one of these values.
    OneOf(u8, &'static [u32]),
}

impl When {
    /// Whether a call with these arguments is one of them: what the filter decides, where there is one.
    pub fn holds(self, args: &[u64; 6]) -> bool {
        let low = |arg: u8| args[usize::from(arg)] as u32;
        match self {
            Self::Always => true,
            Self::Bits(arg, bits) => low(arg) & bits != 0,
            Self::Equals(arg, value) => low(arg) == value,
            Self::OneOf(arg, values) => values.contains(&low(arg)),
        }
    }
}

/// A call that stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Its name.
    pub name: &'static str,
    /// Where its operands are, when it is one of the rows asked for.
    pub operands: Option<Operands>,
    /// What it changes.
    pub change: Option<Change>,
    /// When it stops.
    pub when: When,
}

/// Flags of clone(2) that this backend must see.
pub const CLONE_SEEN: u32 = (libc::CLONE_UNTRACED | libc::CLONE_NEWUSER) as u32 | CLONE_NEW;

/// Flags of clone(2) and unshare(2) for namespaces that take CAP_SYS_ADMIN (`linux/sched.h`).
pub const CLONE_NEW: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// What a call changes that is remembered between stops, and when it does.
fn change(does: Operation) -> Option<(Change, When)> {
    Some(match does {
        Operation::Task(Task::Clone) => (Change::Clone, When::Bits(0, CLONE_SEEN)),
        Operation::Task(Task::CloneBy) => (Change::Clone3, When::Always),
        Operation::File(File::ChangeRoot) | Operation::Mount(Mount::Pivot) => (Change::Root, When::Always),
        Operation::Task(Task::Unshare | Task::EnterNamespace) => (Change::Namespaces, When::Always),
        Operation::Identity(identity) => match identity {
            Identity::Process => (Change::Name, When::Equals(0, libc::PR_SET_NAME as u32)),
            Identity::Users(_) | Identity::Groups(_) | Identity::FileUser | Identity::FileGroup => {
                (Change::Credentials, When::Always)
            }
            Identity::Supplementary | Identity::Capabilities | Identity::Filter => return None,
        },
        _ => return None,
    })
}

/// All calls that stop, by name.
pub fn watched(rows: &[Row]) -> Vec<Watched> {
    let mut calls: Vec<Watched> = Vec::new();
    // Rows that are never recorded by themselves only help the probe to judge checks.
    for row in rows.iter().filter(|row| row.operands.when != 0) {
        let Operands { dirfd, when, .. } = row.operands;
        let fd = if dirfd == NONE { 0 } else { dirfd };
        let when = match row.operation {
            Operation::Task(Task::Clone) => When::Bits(0, CLONE_SEEN),
            _ => match row.only {
                Some((argument, values)) => When::OneOf(argument, values),
                None if when & WHEN_TELLING == 0 => When::Always,
                None => When::Equals(fd, 2),
            },
        };
        calls.push(Watched { name: row.name, operands: Some(row.operands), change: None, when });
    }
    for row in ROWS {
        let Some((change, when)) = change(row.operation) else { continue };
        match calls.iter_mut().find(|call| call.name == row.name) {
            Some(call) => call.change = Some(change),
            None => calls.push(Watched { name: row.name, operands: None, change: Some(change), when }),
        }
    }
    calls
}

/// Finds a watched call by its number.
#[derive(Debug)]
pub struct Numbers {
    native: Vec<Option<Watched>>,
    compat: Vec<Option<Watched>>,
}

impl Numbers {
    /// Resolves the names of `rows` and of the calls that change a task.
    pub fn new(rows: &[Row]) -> Self {
        let mut numbers = Self { native: vec![None; NUMBERS], compat: vec![None; NUMBERS] };
        for call in watched(rows) {
            for (table, number) in
                [(&mut numbers.native, native(call.name)), (&mut numbers.compat, compat(call.name))]
            {
                if let Some(slot) = number.and_then(|number| table.get_mut(number as usize)) {
                    *slot = Some(call);
                }
            }
        }
        numbers
    }

    /// The call with this number.
    pub fn get(&self, compat: bool, nr: i32) -> Option<Watched> {
        let table = if compat { &self.compat } else { &self.native };
        *table.get(usize::try_from(nr).ok()?)?
    }
}
