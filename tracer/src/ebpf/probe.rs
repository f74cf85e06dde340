//! The loaded probe.

use std::borrow::Borrow;
use std::os::fd::{AsFd, BorrowedFd};
use std::{fs, io};

use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::raw_trace_point::RawTracePoint;
use aya::programs::{BtfTracePoint, FEntry, FExit, ProgramError, RawTracePointRunOptions, TestRun};
use aya::sys::SyscallError;
use aya::{Btf, Ebpf, EbpfLoader, Endianness};
use nrtrace_ebpf::layout::{Mark, TRACED, WAITING};
use nrtrace_ebpf::record::Former;
use nrtrace_profiles::event::Record;

use super::btf::{Types, VMLINUX};
use super::folding::Folding;
use super::{Error, layout, support, sys, table};

/// The programs, built by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("nrtrace-probe.bpf.o");

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
}

impl Hooks {
    /// A short description, for people.
    pub fn description(self) -> &'static str {
        match self {
            Self::Tracepoint => "tracepoint cap_capable",
            Self::Functions => "functions cap_capable and capable_wrt_inode_uidgid (fentry, fexit)",
        }
    }
}

/// The probe, loaded and attached. Dropping it detaches it.
pub struct Probe {
    pub(super) ebpf: Ebpf,
    pub(super) btf: Btf,
    pub(super) records: RingBuf<MapData>,
    pub(super) folding: Folding,
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
        let mut loaded = Loaded::new(options.buffer, options.attach)?;
        let level = loaded.pid_level()?;
        loaded.fill_table()?;
        let hooks = loaded.attach_hooks()?;
        if options.record == Record::Calls {
            loaded.tracepoint("sys_exit")?;
        }
        for name in ["sched_process_exec", "sched_process_exit", "task_newtask"] {
            loaded.tracepoint(name)?;
        }
        let Loaded { mut ebpf, btf } = loaded;
        let records = ebpf.take_map("RECORDS").ok_or(Error::Missing("map RECORDS"))?;
        let records = RingBuf::try_from(records).map_err(|error| map_error("open", "RECORDS", error))?;
        let folding = Folding::of(&ebpf)?;
        Ok(Self { ebpf, btf, records, folding, hooks, level, expecting: false })
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
        self.set_mark(child, state, 0)?.map_err(|source| Error::Map {
            action: "mark the program's process in",
            map: "MARKS",
            source,
        })
    }

    /// Marks the task behind a pidfd; the inner result is the kernel's.
    pub(super) fn set_mark(
        &self,
        task: BorrowedFd<'_>,
        state: u32,
        origin: u32,
    ) -> Result<io::Result<()>, Error> {
        let Some(Map::Unsupported(marks)) = self.ebpf.map("MARKS") else {
            return Err(Error::Missing("map MARKS"));
        };
        let mark = Mark { state, level: self.level, origin, ..Mark::default() };
        Ok(sys::set_mark(marks.fd().as_fd(), task, &mark))
    }

    /// Whether the process behind a pidfd is marked: it was watched, or descends from what was.
    pub fn watches(&self, process: BorrowedFd<'_>) -> bool {
        match self.ebpf.map("MARKS") {
            Some(Map::Unsupported(marks)) => sys::has_mark(marks.fd().as_fd(), process),
            _ => false,
        }
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

/// The maps are made, the programs not yet loaded.
pub(super) struct Loaded {
    ebpf: Ebpf,
    btf: Btf,
}

impl Loaded {
    /// Makes the maps, with a ring buffer of `buffer` bytes; with `attach`, for what already runs.
    pub(super) fn new(buffer: usize, attach: bool) -> Result<Self, Error> {
        let vmlinux = fs::read(VMLINUX).map_err(Error::NoBtf)?;
        let types = Types::parse(&vmlinux)?;
        let members = layout::members(&types)?;
        let registers = layout::words(&layout::registers(&types)?);
        let accounting = layout::accounting(&fs::read_to_string("/proc/kallsyms").unwrap_or_default());
        let btf = Btf::parse(&vmlinux, Endianness::default())?;
        let attaching = u32::from(attach);
        let buffer = buffer.clamp(1 << 16, 1 << 30).next_power_of_two() as u32;
        let ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .allow_unsupported_maps()
            .map_max_entries("RECORDS", buffer)
            .override_global("LAYOUT", members.as_slice(), true)
            .override_global("REGISTERS", registers.as_slice(), true)
            .override_global("ACCOUNTING", accounting.as_slice(), true)
            .override_global("ATTACHING", &attaching, true)
            .load(OBJECT)
            .map_err(|error| {
                let why = is_permission(&error).then(support::why_not_permitted).flatten();
                why.unwrap_or_else(|| Error::Object(Box::new(error)))
            })?;
        Ok(Self { ebpf, btf })
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
        match self.functions() {
            Ok(()) => Ok(Hooks::Functions),
            Err(error @ (Error::Program { .. } | Error::Forbidden { .. })) => {
                Err(Error::NoHook(Box::new(error)))
            }
            Err(error) => Err(error),
        }
    }

    /// Loads and attaches the program on the tracepoint of the same name.
    pub(super) fn tracepoint(&mut self, name: &'static str) -> Result<(), Error> {
        tracepoint(&mut self.ebpf, &self.btf, name)
    }

    /// Loads and attaches the programs on functions.
    pub(super) fn functions(&mut self) -> Result<(), Error> {
        let Self { ebpf, btf } = self;
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
fn fill(
    ebpf: &mut Ebpf,
    map: &'static str,
    rows: impl Iterator<Item = (u32, table::Bytes)>,
) -> Result<(), Error> {
    let found = ebpf.map_mut(map).ok_or(Error::Missing(map))?;
    let mut array =
        Array::<_, table::Bytes>::try_from(found).map_err(|error| map_error("open", map, error))?;
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
