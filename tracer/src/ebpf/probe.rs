//! The loaded probe.

use std::borrow::Borrow;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::maps::{Array, Map, MapData, MapError, PerCpuArray};
use aya::{Btf, Ebpf};
use nrtrace_ebpf::layout::{Mark, TRACED, WAITING};
use nrtrace_ebpf::record::Former;
use nrtrace_profiles::event::Record;

use super::folding::Folding;
use super::load::{Loaded, Purpose, Variant};
use super::marks::Marks;
use super::names::Names;
use super::ring::Ring;
use super::sys::Kprobe;
use super::{Error, accounting};
use crate::collect::symbols;

/// How the probe is to work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What to record.
    pub record: Record,
    /// Size of the ring buffer in bytes; rounded up to a power of two of at least a page.
    pub buffer: usize,
    /// Whether what already runs is to be traced.
    pub attach: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { record: Record::Calls, buffer: 8 << 20, attach: false }
    }
}

/// The programs on functions that need no trampolines; what is at a return first, so that it finds nothing half begun.
pub(super) const KPROBES: [(&str, Kprobe); 4] = [
    ("cap_capable_answered", Kprobe { function: c"cap_capable", returns: true }),
    ("cap_capable_asked", Kprobe { function: c"cap_capable", returns: false }),
    ("inode_capable_answered", Kprobe { function: c"capable_wrt_inode_uidgid", returns: true }),
    ("inode_capable_asked", Kprobe { function: c"capable_wrt_inode_uidgid", returns: false }),
];

/// Records that were written but found no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Capability checks.
    pub checks: u64,
    /// System calls.
    pub calls: u64,
    /// Forks (whose child is then not followed when memory was short), execs and exits.
    pub processes: u64,
}

impl Lost {
    /// All of them.
    pub fn total(self) -> u64 {
        self.checks + self.calls + self.processes
    }
}

/// How capability checks are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Hooks {
    /// The tracepoint in `cap_capable` (Linux 6.14).
    Tracepoint,
    /// The functions `cap_capable` and `capable_wrt_inode_uidgid` themselves.
    Functions,
    /// The same, where there are no BPF trampolines.
    Kprobes,
}

impl Hooks {
    /// A short description, for people.
    pub fn description(self) -> &'static str {
        match self {
            Self::Tracepoint => "tracepoint cap_capable",
            Self::Functions => "functions cap_capable and capable_wrt_inode_uidgid (fentry, fexit)",
            Self::Kprobes => "functions cap_capable and capable_wrt_inode_uidgid (kprobe, kretprobe)",
        }
    }
}

/// The probe, loaded and attached. Dropping it detaches it.
pub struct Probe {
    pub(super) ebpf: Ebpf,
    /// Kept for what is attached later.
    pub(super) btf: Option<Btf>,
    pub(super) records: Ring,
    pub(super) folding: Folding,
    pub(super) marks: Marks,
    /// What attaches programs to functions without trampolines.
    _kprobes: Vec<OwnedFd>,
    hooks: Hooks,
    /// Depth of this process's pid namespace.
    pub(super) level: u32,
    /// Whether the programs that see tasks join control groups are attached.
    pub(super) expecting: bool,
}

impl Probe {
    /// Loads the probe and attaches it to what this kernel offers. Nothing is recorded before [`Probe::watch`].
    ///
    /// # Errors
    /// When permission, type information or a hook is missing, or the kernel refuses a program; the message says
    /// what to do.
    pub fn load(options: &Options) -> Result<Self, Error> {
        // Whatever else the kernel refuses in the first one, it would refuse in the second.
        match Self::load_variant(options, Variant::Current) {
            Err(Error::Object(_) | Error::Program { .. }) => Self::load_variant(options, Variant::Portable),
            done => done,
        }
    }

    fn load_variant(options: &Options, variant: Variant) -> Result<Self, Error> {
        let purpose = if options.attach { Purpose::Attach } else { Purpose::Run };
        let buffer = options.buffer.clamp(1 << 16, 1 << 30).next_power_of_two() as u32;
        let mut loaded = Loaded::new(buffer, purpose, variant)?;
        let level = loaded.pid_level()?;
        loaded.fill_table()?;
        let marks = Marks::of(&loaded.ebpf)?;
        if let Some(asking) = loaded.names().and_then(Names::asking) {
            symbols::ask(asking);
        }
        let calls = (options.record == Record::Calls).then_some("sys_exit");
        let others = ["sched_process_exec", "sched_process_exit", "task_newtask"];
        let tracepoints: Vec<&'static str> = calls.into_iter().chain(others).collect();
        loaded.verify(&[&["cap_capable"], tracepoints.as_slice()].concat());
        let hooks = loaded.attach_hooks()?;
        for name in tracepoints {
            loaded.tracepoint(name)?;
        }
        let Loaded { ebpf, btf, kprobes } = loaded;
        let failed = |source| Error::Map { action: "open", map: "RECORDS", source };
        // It stays: programs that are loaded later name it, too.
        let Some(Map::RingBuf(records)) = ebpf.map("RECORDS") else {
            return Err(Error::Missing("map RECORDS"));
        };
        let records = records.fd().as_fd().try_clone_to_owned().map_err(failed)?;
        let records = Ring::new(records, buffer).map_err(failed)?;
        let folding = Folding::of(&ebpf)?;
        let btf = options.attach.then_some(btf);
        let mut this =
            Self { ebpf, btf, records, folding, marks, _kprobes: kprobes, hooks, level, expecting: false };
        this.leave_accounting_out()?;
        Ok(this)
    }

    /// Tells the probe which checks only account for memory, where that is to be known.
    fn leave_accounting_out(&mut self) -> Result<(), Error> {
        let name = "ACCOUNTING";
        let Some(place) = accounting::find(self) else { return Ok(()) };
        let map = self.ebpf.map_mut(name).ok_or(Error::Missing(name))?;
        let mut map = Array::<_, u64>::try_from(map).map_err(|error| map_error("open", name, error))?;
        map.set(0, place, 0).map_err(|error| map_error("fill", name, error))
    }

    /// Traces a process and all that will descend from it, from its first execve(2) on. `child` is a pidfd of a
    /// process with a single thread, which has not yet called execve(2).
    ///
    /// # Errors
    /// When the process is gone or memory is short.
    pub fn watch(&mut self, child: BorrowedFd<'_>) -> Result<(), Error> {
        self.mark(child, WAITING)
    }

    /// As [`Probe::watch`], but from now on.
    ///
    /// # Errors
    /// When the process is gone or memory is short.
    pub fn watch_now(&mut self, child: BorrowedFd<'_>) -> Result<(), Error> {
        self.mark(child, TRACED)
    }

    fn mark(&mut self, child: BorrowedFd<'_>, state: u32) -> Result<(), Error> {
        self.set_mark(child, state, 0).map_err(|source| Error::Map {
            action: "mark the program's process in",
            map: "MARKS",
            source,
        })
    }

    /// Marks the task behind a pidfd.
    pub(super) fn set_mark(&self, task: BorrowedFd<'_>, state: u32, origin: u32) -> io::Result<()> {
        self.marks.set(task, &Mark { state, level: self.level, origin, ..Mark::default() })
    }

    /// Whether the process behind a pidfd is marked: it was watched, or descends from what was.
    pub fn watches(&self, process: BorrowedFd<'_>) -> bool {
        self.marks.has(process)
    }

    /// The ring buffer, for epoll(7). It becomes readable only when much has gathered: call [`Probe::drain`] every
    /// 20 ms or so as well.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.records.as_fd()
    }

    /// Hands over all records that are there now, in the order they were written.
    pub fn drain(&mut self, sink: &mut dyn FnMut(&[u8])) {
        self.records.drain(sink);
    }

    /// Has equal calls told once from now on, as [`Source::fold`](crate::session::Source::fold).
    pub fn fold(&mut self, turn: Option<u32>) {
        self.folding.set(turn);
    }

    /// Hands over how often what was told once was made again.
    pub fn repeats(&self, sink: &mut dyn FnMut(Former)) {
        self.folding.repeats(sink);
    }

    /// How many records found no room so far.
    ///
    /// # Errors
    /// When the kernel does not hand out its counters.
    pub fn lost(&self) -> Result<Lost, Error> {
        let map = self.ebpf.map("LOST").ok_or(Error::Missing("map LOST"))?;
        count_lost(&PerCpuArray::try_from(map).map_err(|error| map_error("open", "LOST", error))?)
    }

    /// How capability checks are seen on this kernel.
    pub fn hooks(&self) -> Hooks {
        self.hooks
    }
}

/// What the counters of lost records say.
pub(super) fn count_lost<T: Borrow<MapData>>(counters: &PerCpuArray<T, u64>) -> Result<Lost, Error> {
    let count = |slot| -> Result<u64, Error> {
        let values = counters.get(&slot, 0).map_err(|error| map_error("read", "LOST", error))?;
        Ok(values.iter().sum())
    };
    Ok(Lost { checks: count(0)?, calls: count(1)?, processes: count(2)? })
}

pub(super) fn map_error(action: &'static str, map: &'static str, error: MapError) -> Error {
    Error::Map { action, map, source: io::Error::other(error) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::FromRawFd;

    use super::*;

    #[test]
    fn it_is_known_where_memory_is_accounted_for() {
        for variant in Variant::ALL {
            let probe = Probe::load_variant(&Options::default(), variant).unwrap();
            let Some(Map::Array(map)) = probe.ebpf.map("ACCOUNTING") else { panic!("{variant:?}") };
            // SAFETY: the array was made for words.
            let place: u64 = unsafe { crate::ebpf::sys::lookup(map.fd().as_fd(), &0u32) }.unwrap();
            let name = symbols::caller(place);
            assert!(
                name.as_ref().is_some_and(|name| name.contains("vm_enough_memory")),
                "{variant:?}: {name:?}"
            );
        }
    }

    #[test]
    fn both_variants_mark_a_process_once() {
        for variant in Variant::ALL {
            let probe = Probe::load_variant(&Options::default(), variant);
            let mut probe =
                probe.unwrap_or_else(|error| panic!("{variant:?}: {error}: {:?}", error.verifier_log()));
            let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
            // SAFETY: a plain system call; the result is checked.
            let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
            assert!(fd >= 0);
            // SAFETY: the descriptor is new and belongs to nobody else.
            let pidfd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
            assert!(!probe.watches(pidfd.as_fd()), "{variant:?}");
            probe.watch(pidfd.as_fd()).unwrap();
            assert!(probe.watches(pidfd.as_fd()), "{variant:?}");
            let twice = probe.set_mark(pidfd.as_fd(), TRACED, 0).unwrap_err();
            assert_eq!(twice.raw_os_error(), Some(libc::EEXIST), "{variant:?}");
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(!probe.watches(pidfd.as_fd()), "{variant:?}");
        }
    }
}
