//! A probe that one process loads and lends to others for a run each, one after the other: the kernel's verifier takes some
//! tenths of a second each time one is loaded.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use aya::maps::{Map, MapData, MapError, PerCpuArray};
use aya::programs::Program;
use nrtrace_ebpf::layout::{Mark, WAITING};
use nrtrace_ebpf::record::Former;
use serde::{Deserialize, Serialize};

use super::folding::Folding;
use super::marks::{Inherited, Marks};
use super::names::Names;
use super::probe::{KPROBES, count_lost, map_error};
use super::ring::Ring;
use super::{Error, Hooks, Lost, Options, Probe, sys};
use crate::collect::symbols;
use crate::launch;
use crate::session::Source;

/// A probe that is loaded, and attached to nothing.
#[derive(Debug)]
pub struct Kept {
    programs: Vec<(OwnedFd, Option<usize>)>,
    records: OwnedFd,
    buffer: u32,
    marks: Marks,
    lost: OwnedFd,
    folding: [OwnedFd; 2],
    names: Option<Names>,
    hooks: Hooks,
    level: u32,
}

/// The same as descriptors that a process inherits, by their numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Numbers {
    /// With its number in [`KPROBES`], for one of these.
    programs: Vec<(RawFd, Option<usize>)>,
    /// The kind of these.
    kprobe_kind: u32,
    records: RawFd,
    /// How many bytes these have room for.
    buffer: u32,
    marks: Inherited,
    lost: RawFd,
    folding: [RawFd; 2],
    names: Option<[RawFd; 2]>,
    hooks: Hooks,
    level: u32,
}

impl Kept {
    /// Loads the probe.
    ///
    /// # Errors
    /// As [`Probe::load`].
    pub fn load(options: &Options) -> Result<Self, Error> {
        let probe = Probe::load(options)?;
        let failed = |map: &'static str| {
            move |source: io::Error| Error::Map { action: "pass on the descriptor of", map, source }
        };
        let map = |name: &'static str| -> Result<OwnedFd, Error> {
            let (Map::Array(data) | Map::PerCpuArray(data)) =
                probe.ebpf.map(name).ok_or(Error::Missing(name))?
            else {
                return Err(Error::Missing(name));
            };
            data.fd().as_fd().try_clone_to_owned().map_err(failed(name))
        };
        let [turn, tallies] = Folding::MAPS;
        // Those on no tracepoint are run when the probe is loaded, or to mark a task.
        let loaded =
            probe.ebpf.programs().filter(|(_, program)| !matches!(program, Program::RawTracePoint(_)));
        let programs = loaded.filter_map(|(name, program)| {
            let kprobe = KPROBES.iter().position(|(known, _)| *known == name);
            Some((program.fd().ok()?.as_fd().try_clone_to_owned().ok()?, kprobe))
        });
        Ok(Self {
            programs: programs.collect(),
            buffer: probe.records.size(),
            records: probe.records.as_fd().try_clone_to_owned().map_err(failed("RECORDS"))?,
            marks: Marks::of(&probe.ebpf)?,
            lost: map("LOST")?,
            folding: [map(turn)?, map(tallies)?],
            names: Names::of(&probe.ebpf),
            hooks: probe.hooks(),
            level: probe.level,
        })
    }

    /// For a process that inherits the descriptors, so many pid namespaces deeper than this one.
    pub fn numbers(&self, deeper: u32) -> Numbers {
        Numbers {
            programs: self.programs.iter().map(|(program, kprobe)| (program.as_raw_fd(), *kprobe)).collect(),
            kprobe_kind: sys::kprobe_kind().unwrap_or(0),
            records: self.records.as_raw_fd(),
            buffer: self.buffer,
            marks: self.marks.numbers(),
            lost: self.lost.as_raw_fd(),
            folding: self.folding.each_ref().map(AsRawFd::as_raw_fd),
            names: self.names.as_ref().map(Names::numbers),
            hooks: self.hooks,
            level: self.level + deeper,
        }
    }
}

impl Numbers {
    /// All of them.
    pub fn all(&self) -> Vec<RawFd> {
        self.programs
            .iter()
            .map(|(program, _)| *program)
            .chain([self.records, self.lost])
            .chain(self.marks.all().iter().copied())
            .chain(self.folding)
            .chain(self.names.into_iter().flatten())
            .collect()
    }
}

/// A probe that was loaded by another process, attached for one run. Dropping it detaches it.
pub struct Lent {
    records: Ring,
    marks: Marks,
    lost: PerCpuArray<MapData, u64>,
    folding: Folding,
    before: Lost,
    hooks: Hooks,
    level: u32,
    _attached: Vec<OwnedFd>,
}

impl Lent {
    /// Attaches it. Nothing is recorded before it is told what to watch.
    ///
    /// # Errors
    /// When a descriptor is not there, or the kernel does not attach a program again.
    pub fn attach(numbers: &Numbers) -> Result<Self, Error> {
        // SAFETY: whoever starts this process passes these descriptors for it alone, and they are taken once.
        let owned = |number: RawFd| unsafe { OwnedFd::from_raw_fd(number) };
        let opened = |map: &'static str| move |error: MapError| map_error("open", map, error);
        let map =
            |number, name| MapData::from_fd(owned(number)).and_then(Map::from_map_data).map_err(opened(name));
        let records = Ring::new(owned(numbers.records), numbers.buffer).map_err(|source| Error::Map {
            action: "open",
            map: "RECORDS",
            source,
        })?;
        let lost = PerCpuArray::try_from(map(numbers.lost, "LOST")?).map_err(opened("LOST"))?;
        let [turn, tallies] = numbers.folding;
        let folding = Folding::open(map(turn, "TURN")?, map(tallies, "TALLIES")?)?;
        if let Some(asking) = numbers.names.and_then(|names| Names::inherited(names).asking()) {
            symbols::ask(asking);
        }
        let attach = |(number, kprobe): &(RawFd, Option<usize>)| {
            let failed =
                |source| Error::Map { action: "attach a program that fills", map: "RECORDS", source };
            let program = owned(*number);
            match kprobe.and_then(|index| KPROBES.get(index)) {
                Some((_, kprobe)) => sys::attach_kprobe(program.as_fd(), *kprobe, numbers.kprobe_kind),
                None => sys::attach(program.as_fd()),
            }
            .map_err(failed)
        };
        let mut lent = Self {
            records,
            marks: Marks::inherited(&numbers.marks).ok_or(Error::Missing("map MARKS"))?,
            before: Lost::default(),
            folding,
            lost,
            hooks: numbers.hooks,
            level: numbers.level,
            _attached: numbers.programs.iter().map(attach).collect::<Result<_, _>>()?,
        };
        // Of an earlier run, whose tree is gone.
        lent.drain(&mut |_| {});
        lent.folding.set(None);
        lent.before = count_lost(&lent.lost)?;
        Ok(lent)
    }

    /// How capability checks are seen on this kernel.
    pub fn hooks(&self) -> Hooks {
        self.hooks
    }
}

impl Source for Lent {
    fn watch(&mut self, child: BorrowedFd<'_>) -> Result<(), launch::Error> {
        let mark = Mark { state: WAITING, level: self.level, ..Mark::default() };
        self.marks.set(child, &mark).map_err(launch::Error::source)
    }

    fn watches(&self, _pid: i32, pidfd: BorrowedFd<'_>) -> bool {
        self.marks.has(pidfd)
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.records.as_fd()
    }

    fn drain(&mut self, sink: &mut dyn FnMut(&[u8])) {
        self.records.drain(sink);
    }

    fn fold(&mut self, turn: Option<u32>) {
        self.folding.set(turn);
    }

    fn repeats(&self, sink: &mut dyn FnMut(Former)) {
        self.folding.repeats(sink);
    }

    fn lost(&self) -> u64 {
        // A counter that cannot be read must not pass for nothing lost.
        count_lost(&self.lost).map_or(u64::MAX, |now| now.total() - self.before.total())
    }
}
