//! The loaded probe.

use std::borrow::Borrow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::{fs, io};

use aya::maps::{Array, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::raw_trace_point::RawTracePoint;
use aya::programs::{BtfTracePoint, FEntry, FExit, KProbe, ProgramError, RawTracePointRunOptions, TestRun};
use aya::sys::SyscallError;
use aya::{Btf, Ebpf, EbpfLoader, Endianness};
use nrtrace_ebpf::layout::{Mark, TRACED, WAITING};
use nrtrace_profiles::event::Record;

use super::btf::{Types, VMLINUX};
use super::marks::{self, Marks};
use super::sys::Kprobe;
use super::{Error, layout, support, sys, table};

/// The programs, built by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("nrtrace-probe.bpf.o");
/// The same for kernels without `bpf_loop`, task storage, or types of the current task.
static PORTABLE: &[u8] = aya::include_bytes_aligned!("nrtrace-probe-portable.bpf.o");

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// What takes the least time.
    Current,
    /// What takes the least of the kernel.
    Portable,
}

impl Variant {
    /// In the order they are tried.
    pub(super) const ALL: [Self; 2] = [Self::Current, Self::Portable];
}

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
    pub(super) btf: Btf,
    pub(super) records: RingBuf<MapData>,
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
        let mut loaded = Loaded::new(options.buffer, options.attach, variant)?;
        let level = loaded.pid_level()?;
        loaded.fill_table()?;
        let marks = Marks::of(&loaded.ebpf)?;
        let hooks = loaded.attach_hooks()?;
        if options.record == Record::Calls {
            loaded.tracepoint("sys_exit")?;
        }
        for name in ["sched_process_exec", "sched_process_exit", "task_newtask"] {
            loaded.tracepoint(name)?;
        }
        let Loaded { mut ebpf, btf, kprobes } = loaded;
        let records = ebpf.take_map("RECORDS").ok_or(Error::Missing("map RECORDS"))?;
        let records = RingBuf::try_from(records).map_err(|error| map_error("open", "RECORDS", error))?;
        Ok(Self { ebpf, btf, records, marks, _kprobes: kprobes, hooks, level, expecting: false })
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
        while let Some(record) = self.records.next() {
            sink(&record);
        }
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

/// The maps are made, the programs not yet loaded.
pub(super) struct Loaded {
    ebpf: Ebpf,
    btf: Btf,
    kprobes: Vec<OwnedFd>,
}

impl Loaded {
    /// Makes the maps, with a ring buffer of `buffer` bytes; with `attach`, for what already runs.
    pub(super) fn new(buffer: usize, attach: bool, variant: Variant) -> Result<Self, Error> {
        let vmlinux = fs::read(VMLINUX).map_err(Error::NoBtf)?;
        let types = Types::parse(&vmlinux)?;
        let members = layout::members(&types)?;
        let registers = layout::words(&layout::registers(&types)?);
        let accounting = layout::accounting(&fs::read_to_string("/proc/kallsyms").unwrap_or_default());
        let btf = Btf::parse(&vmlinux, Endianness::default())?;
        let (attaching, inode_argument) = (u32::from(attach), layout::inode_argument(&types));
        let buffer = buffer.clamp(1 << 16, 1 << 30).next_power_of_two() as u32;
        let object = if variant == Variant::Current { OBJECT } else { PORTABLE };
        let ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .allow_unsupported_maps()
            .map_max_entries("RECORDS", buffer)
            .override_global("LAYOUT", members.as_slice(), true)
            .override_global("REGISTERS", registers.as_slice(), true)
            .override_global("ACCOUNTING", accounting.as_slice(), true)
            .override_global("ATTACHING", &attaching, true)
            .override_global("INODE_ARGUMENT", &inode_argument, true)
            .load(object)
            .map_err(|error| {
                let why = is_permission(&error).then(support::why_not_permitted).flatten();
                why.unwrap_or_else(|| Error::Object(Box::new(error)))
            })?;
        let mut this = Self { ebpf, btf, kprobes: Vec::new() };
        if variant == Variant::Portable {
            this.find_places(&layout::distances(&types))?;
        }
        Ok(this)
    }

    /// Loads what only the portable probe has.
    fn find_places(&mut self, distances: &[u64]) -> Result<(), Error> {
        for name in ["number_at", "task_of"] {
            let program: &mut RawTracePoint = program(&mut self.ebpf, name)?;
            program.load().map_err(|error| refused(name, error))?;
        }
        marks::find_registers(&mut self.ebpf, distances)?;
        self.tracepoint("sched_process_free")
    }

    /// Tells the probe the numbers of the system calls.
    fn fill_table(&mut self) -> Result<(), Error> {
        fill(&mut self.ebpf, "NATIVE", table::native())?;
        fill(&mut self.ebpf, "COMPAT", table::compat())
    }

    /// Attaches to the capability checks, by the first way that works.
    fn attach_hooks(&mut self) -> Result<Hooks, Error> {
        match self.tracepoint("cap_capable") {
            Ok(()) => return Ok(Hooks::Tracepoint),
            Err(Error::NoTracepoint(_)) => {}
            Err(error) => return Err(error),
        }
        let functions = match self.functions() {
            Ok(()) => return Ok(Hooks::Functions),
            Err(error @ (Error::Program { .. } | Error::Forbidden { .. })) => error,
            Err(error) => return Err(error),
        };
        // One of them may be attached already, and would tell everything twice.
        for name in ["cap_capable_exit", "inode_capable_exit"] {
            let _ = program::<FExit>(&mut self.ebpf, name).map(FExit::unload);
        }
        match self.kprobes() {
            Ok(()) => Ok(Hooks::Kprobes),
            Err(kprobes) => Err(Error::NoHook { functions: Box::new(functions), kprobes: Box::new(kprobes) }),
        }
    }

    /// Loads and attaches the program on the tracepoint of the same name.
    pub(super) fn tracepoint(&mut self, name: &'static str) -> Result<(), Error> {
        tracepoint(&mut self.ebpf, &self.btf, name)
    }

    /// Loads and attaches the programs on functions.
    pub(super) fn functions(&mut self) -> Result<(), Error> {
        let Self { ebpf, btf, .. } = self;
        for (name, function) in
            [("cap_capable_exit", "cap_capable"), ("inode_capable_exit", "capable_wrt_inode_uidgid")]
        {
            let program: &mut FExit = program(ebpf, name)?;
            program
                .load(function, btf)
                .and_then(|()| program.attach())
                .map_err(|error| refused(name, error))?;
        }
        let name = "inode_capable_entry";
        let program: &mut FEntry = program(ebpf, name)?;
        let loaded = program.load("capable_wrt_inode_uidgid", btf);
        loaded.and_then(|()| program.attach()).map_err(|error| refused(name, error))?;
        Ok(())
    }

    /// Loads the programs that need no trampolines, and attaches them to the functions.
    pub(super) fn kprobes(&mut self) -> Result<(), Error> {
        let failed = |source| Error::NoKprobe { source };
        let kind = sys::kprobe_kind().map_err(failed)?;
        for (name, probe) in KPROBES {
            let program: &mut KProbe = program(&mut self.ebpf, name)?;
            program.load().map_err(|error| refused(name, error))?;
            let fd = program.fd().map_err(|error| refused(name, error))?;
            self.kprobes.push(sys::attach_kprobe(fd.as_fd(), probe, kind).map_err(failed)?);
        }
        Ok(())
    }

    /// Depth of this process's pid namespace.
    fn pid_level(&mut self) -> Result<u32, Error> {
        let name = "pid_level";
        let program: &mut RawTracePoint = program(&mut self.ebpf, name)?;
        program.load().map_err(|error| refused(name, error))?;
        let run = program.test_run(RawTracePointRunOptions::new()).map_err(|error| refused(name, error))?;
        Ok(run.return_value)
    }
}

/// Loads and attaches the program on the tracepoint of the same name.
pub(super) fn tracepoint(ebpf: &mut Ebpf, btf: &Btf, name: &'static str) -> Result<(), Error> {
    let program: &mut BtfTracePoint = program(ebpf, name)?;
    match program.load(name, btf).and_then(|()| program.attach()) {
        Ok(_) => Ok(()),
        Err(ProgramError::Btf(_)) => Err(Error::NoTracepoint(name)),
        Err(error) => Err(refused(name, error)),
    }
}

/// The program of that name, of the expected type.
fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, Error>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or(Error::Missing(name))?;
    program.try_into().map_err(|error| refused(name, error))
}

/// Writes rows of the table of system calls to a map.
fn fill(ebpf: &mut Ebpf, map: &'static str, rows: impl Iterator<Item = (u32, [u8; 8])>) -> Result<(), Error> {
    let found = ebpf.map_mut(map).ok_or(Error::Missing(map))?;
    let mut array = Array::<_, [u8; 8]>::try_from(found).map_err(|error| map_error("open", map, error))?;
    for (number, operands) in rows {
        array.set(number, operands, 0).map_err(|error| map_error("fill", map, error))?;
    }
    Ok(())
}

pub(super) fn map_error(action: &'static str, map: &'static str, error: MapError) -> Error {
    Error::Map { action, map, source: io::Error::other(error) }
}

/// A program's refusal: for lack of permission if that explains it.
fn refused(program: &'static str, error: ProgramError) -> Error {
    if !is_permission(&error) {
        return Error::Program { program, refusal: Box::new(error) };
    }
    support::why_not_permitted().unwrap_or(Error::Forbidden { program })
}

/// Whether the kernel said EPERM (EACCES is the verifier's).
fn is_permission(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = match (error.downcast_ref::<io::Error>(), error.downcast_ref::<SyscallError>()) {
            (Some(io), _) => Some(io),
            (_, Some(call)) => Some(&call.io_error),
            _ => None,
        };
        if io.is_some_and(|error| error.raw_os_error() == Some(libc::EPERM)) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::os::fd::FromRawFd;

    use super::*;

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
