//! From a stopped call to its records.

use nrtrace_ebpf::record::{
    CallRecord, CheckRecord, FLAG_CHECKED, FLAG_COMPAT, FLAG_COMPONENT, FLAG_FD_ONLY, FLAG_PREDICTED,
    FLAG_SOCKET, FLAG_TRUNCATED, FLAG_TWO_PATHS, FLAG_UNREADABLE, Head, KIND_CALL, KIND_CHECK, PATH_MAX,
    STR_BASE, STR_BASE2, STR_DATA, STR_PATH, STR_PATH2, STR_ROOT, STRINGS,
};
use nrtrace_ebpf::table::{
    NONE, Operands, STRUCTURE_MAX, TRAIT_IOVEC, TRAIT_SOCKET, TRAIT_TEXT2, TRAIT_UNIX, WHEN_TELLING,
};

use super::encode::encode;
use super::facts::{TaskFacts, link};
use super::judge::{CallAtEntry, Ending, Foreteller, Predicted, start};
use super::memory::Text;
use super::socket;
use super::tracee::Stopped;
use crate::collect::leaf_first;

/// Most bytes of a buffer or socket address that a record carries.
const DATA_MAX: usize = 512;

/// A call at its entry, with all that its records will say except the result.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The record, its result still unknown.
    pub record: CallRecord,
    /// Name of the call.
    pub name: &'static str,
    /// Where its operands are.
    pub operands: Operands,
    strings: [Vec<u8>; STRINGS],
}

/// The numbers of a call.
#[derive(Clone, Copy, Debug)]
pub struct Numbered {
    /// Name.
    pub name: &'static str,
    /// Where its operands are.
    pub operands: Operands,
    /// Number.
    pub nr: i32,
    /// Whether it is one of the 32-bit table.
    pub compat: bool,
    /// Arguments.
    pub args: [u64; 6],
}

impl Entry {
    /// Reads what the arguments of `call` point to. `plain_root` says that no task of the tree has changed its root.
    pub fn read(stopped: &Stopped, facts: &TaskFacts, call: &Numbered, plain_root: bool) -> Self {
        let mut head = facts.head(KIND_CALL);
        if call.compat {
            head.flags |= FLAG_COMPAT;
        }
        let record = CallRecord { head, nr: call.nr, args: call.args, ..CallRecord::default() };
        let mut entry =
            Self { record, name: call.name, operands: call.operands, strings: Default::default() };
        entry.read_paths(stopped);
        if !plain_root && !entry.strings[STR_PATH].is_empty() {
            entry.read_root(stopped.tid());
        }
        entry.read_data(stopped);
        entry.read_socket(facts);
        entry
    }

    /// Reads the root directory that task `tid` has now.
    pub fn read_root(&mut self, tid: libc::pid_t) {
        self.set(STR_ROOT, link(tid, "root"));
    }

    fn set(&mut self, index: usize, text: Option<Vec<u8>>) {
        match text {
            Some(text) => self.strings[index] = text,
            None => self.record.head.flags |= FLAG_UNREADABLE,
        }
    }

    fn set_text(&mut self, index: usize, text: std::io::Result<Text>) {
        if text.as_ref().is_ok_and(|text| text.truncated) {
            self.record.head.flags |= FLAG_TRUNCATED;
        }
        self.set(index, text.ok().map(|text| text.bytes));
    }

    fn arg(&self, index: u8) -> Option<u64> {
        if index == NONE { None } else { self.record.args.get(usize::from(index)).copied() }
    }

    fn read_paths(&mut self, stopped: &Stopped) {
        let Operands { path, dirfd, path2, dirfd2, .. } = self.operands;
        let pairs = [(path, dirfd, STR_PATH, STR_BASE), (path2, dirfd2, STR_PATH2, STR_BASE2)];
        for (argument, dirfd, string, base) in pairs {
            let readable = match self.arg(argument) {
                // A null path with a descriptor: `utimensat`, and with AT_EMPTY_PATH others, are about the descriptor.
                Some(0) => true,
                Some(address) => {
                    self.set_text(string, stopped.read_string(address, PATH_MAX));
                    self.record.head.flags & FLAG_UNREADABLE == 0
                }
                None => true,
            };
            let text = &self.strings[string];
            let on_fd = text.is_empty() && self.arg(dirfd).is_some();
            let relative = !text.is_empty() && text[0] != b'/';
            let text_only = string == STR_PATH2 && self.operands.traits & TRAIT_TEXT2 != 0;
            if readable && !text_only && (on_fd || relative) {
                // A descriptor that is not open has no path, and the call will say so.
                self.strings[base] =
                    link(stopped.tid(), &start(dirfd, &self.record.args)).unwrap_or_default();
                if on_fd && string == STR_PATH {
                    self.record.head.flags |= FLAG_FD_ONLY;
                }
            }
        }
    }

    fn read_data(&mut self, stopped: &Stopped) {
        for argument in [self.operands.address, self.operands.data] {
            if let Some(address) = self.arg(argument)
                && address != 0
            {
                if argument == self.operands.data && self.operands.when & WHEN_TELLING == 0 {
                    // What cannot be read, the kernel cannot either.
                    let structure = stopped.read_bytes(address, STRUCTURE_MAX as u64, STRUCTURE_MAX);
                    self.strings[STR_DATA] = structure.map(|text| text.bytes).unwrap_or_default();
                    continue;
                }
                let length = self.arg(argument + 1).unwrap_or(0) & 0xffff_ffff;
                let (address, length) = match self.operands.traits & TRAIT_IOVEC {
                    0 => (address, length),
                    _ => self.first_buffer(stopped, address),
                };
                let text = stopped.read_bytes(address, length, DATA_MAX);
                self.set_text(STR_DATA, text);
            }
        }
    }

    /// The first `struct iovec` of the array at `address`.
    fn first_buffer(&self, stopped: &Stopped, address: u64) -> (u64, u64) {
        let mut words = [0u8; 16];
        if self.record.head.flags & FLAG_COMPAT != 0 {
            let _ = stopped.read_memory(address, &mut words[..8]);
            let word =
                |at: usize| u64::from(u32::from_ne_bytes(std::array::from_fn(|byte| words[at + byte])));
            return (word(0), word(4));
        }
        let _ = stopped.read_memory(address, &mut words);
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|byte| words[at + byte]));
        (word(0), word(8))
    }

    /// Whether the call is one of those its row is about: `connect` only on Unix sockets.
    pub fn is_wanted(&self) -> bool {
        let family = self.strings[STR_DATA].first_chunk().map(|bytes| u16::from_ne_bytes(*bytes));
        self.operands.traits & TRAIT_UNIX == 0
            || family.is_none_or(|family| i32::from(family) == libc::AF_UNIX)
    }

    /// Looks at the socket of the call, where it is about one: before the call, and after it for the chosen port.
    pub fn read_socket(&mut self, facts: &TaskFacts) {
        if self.operands.address == NONE && self.operands.traits & TRAIT_SOCKET == 0 {
            return;
        }
        if let Some(socket) = socket::look(facts.pid, self.record.args[0] as i32) {
            self.record.socket = socket;
            if socket.port == 0 {
                self.record.socket.port = socket::port(&self.strings[STR_DATA]);
            }
            self.record.head.flags |= FLAG_SOCKET;
        }
    }

    /// Asks `judge` about the call: the records of the checks it foretells, and how the call will end.
    pub fn judge(&mut self, judge: &mut dyn Foreteller, plain_root: bool) -> (Vec<Vec<u8>>, Ending) {
        let Head { tid, pid, fsuid, fsgid, net_ns, flags, .. } = self.record.head;
        let readable = |index: usize, argument: u8| {
            let given = self.arg(argument).is_some_and(|address| address != 0);
            let lost = flags & FLAG_UNREADABLE != 0 && self.strings[index].is_empty();
            (given && !lost).then_some(self.strings[index].as_slice())
        };
        let call = CallAtEntry {
            tid: tid as i32,
            pid: pid as i32,
            name: self.name,
            nr: self.record.nr,
            compat: flags & FLAG_COMPAT != 0,
            operands: self.operands,
            args: self.record.args,
            fsuid,
            fsgid,
            net_ns,
            plain_root,
            socket: (flags & FLAG_SOCKET != 0).then_some(self.record.socket),
            path: readable(STR_PATH, self.operands.path),
            path2: readable(STR_PATH2, self.operands.path2),
            address: readable(STR_DATA, self.operands.address),
        };
        let verdict = judge.judge(&call);
        let checks = verdict.checks;
        if !checks.is_empty() {
            self.record.head.flags |= FLAG_CHECKED;
        }
        (checks.into_iter().map(|check| self.check(check)).collect(), verdict.ending)
    }

    /// The record of a foretold check.
    fn check(&self, predicted: Predicted) -> Vec<u8> {
        let CallRecord { head, nr, args, socket, .. } = self.record;
        let mut strings = self.strings.clone();
        let mut record =
            CheckRecord { nr, args, socket, cap: predicted.capability, ..CheckRecord::default() };
        (record.ret, record.opts) = (predicted.ret, predicted.asked);
        record.head = Head { kind: KIND_CHECK, flags: (head.flags & !FLAG_CHECKED) | FLAG_PREDICTED, ..head };
        if let Some((path, inode)) = predicted.component {
            let two = self.operands.path2 != NONE;
            strings[if two { STR_DATA } else { STR_PATH2 }] = leaf_first(&path);
            record.component = inode;
            record.head.flags |= FLAG_COMPONENT | if two { FLAG_TWO_PATHS } else { 0 };
        }
        encode(&mut record, &strings)
    }

    /// The record of the call.
    pub fn finish(mut self) -> Vec<u8> {
        encode(&mut self.record, &self.strings)
    }
}
