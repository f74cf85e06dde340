//! A probe that one process loads and lends to others for a run each, one after the other: the kernel's verifier takes some
//! tenths of a second each time one is loaded.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use aya::maps::{Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::Program;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nrtrace_ebpf::layout::{Mark, WAITING};
use serde::{Deserialize, Serialize};

use super::marks::{Inherited, Marks};
use super::probe::{KPROBES, count_lost, map_error};
use super::{Error, Hooks, Lost, Options, Probe, sys};
use crate::collect::symbols;
use crate::launch;
use crate::session::Source;

/// A probe that is loaded, and attached to nothing.
#[derive(Debug)]
pub struct Kept {
    programs: Vec<(OwnedFd, Option<usize>)>,
    records: OwnedFd,
    marks: Marks,
    lost: OwnedFd,
    symbols: Option<OwnedFd>,
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
    marks: Inherited,
    lost: RawFd,
    symbols: Option<RawFd>,
    hooks: Hooks,
    level: u32,
}

impl Kept {
    /// Loads the probe, and reads what else each run would read of the kernel.
    ///
    /// # Errors
    /// As [`Probe::load`].
    pub fn load(options: &Options) -> Result<Self, Error> {
        symbols::prefetch();
        let probe = Probe::load(options)?;
        let failed = |map: &'static str| {
            move |source: io::Error| Error::Map { action: "pass on the descriptor of", map, source }
        };
        let Some(Map::PerCpuArray(lost)) = probe.ebpf.map("LOST") else {
            return Err(Error::Missing("map LOST"));
        };
        let lost = lost.fd().as_fd().try_clone_to_owned().map_err(failed("LOST"))?;
        // Those on no tracepoint are run when the probe is loaded, or to mark a task.
        let loaded =
            probe.ebpf.programs().filter(|(_, program)| !matches!(program, Program::RawTracePoint(_)));
        let programs = loaded.filter_map(|(name, program)| {
            let kprobe = KPROBES.iter().position(|(known, _)| *known == name);
            Some((program.fd().ok()?.as_fd().try_clone_to_owned().ok()?, kprobe))
        });
        Ok(Self {
            programs: programs.collect(),
            records: probe.records.as_fd().try_clone_to_owned().map_err(failed("RECORDS"))?,
            marks: Marks::of(&probe.ebpf)?,
            lost,
            symbols: written(&symbols::written()).ok(),
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
            marks: self.marks.numbers(),
            lost: self.lost.as_raw_fd(),
            symbols: self.symbols.as_ref().map(AsRawFd::as_raw_fd),
            hooks: self.hooks,
            level: self.level + deeper,
        }
    }
}

fn written(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("symbols", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file.into())
}

impl Numbers {
    /// All of them.
    pub fn all(&self) -> Vec<RawFd> {
        self.programs
            .iter()
            .map(|(program, _)| *program)
            .chain([self.records, self.lost])
            .chain(self.marks.all().iter().copied())
            .chain(self.symbols)
            .collect()
    }
}

/// A probe that was loaded by another process, attached for one run. Dropping it detaches it.
pub struct Lent {
    records: RingBuf<MapData>,
    marks: Marks,
    lost: PerCpuArray<MapData, u64>,
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
        let records = RingBuf::try_from(map(numbers.records, "RECORDS")?).map_err(opened("RECORDS"))?;
        let lost = PerCpuArray::try_from(map(numbers.lost, "LOST")?).map_err(opened("LOST"))?;
        if let Some(number) = numbers.symbols {
            symbols::preset(File::from(owned(number)));
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
            lost,
            hooks: numbers.hooks,
            level: numbers.level,
            _attached: numbers.programs.iter().map(attach).collect::<Result<_, _>>()?,
        };
        // Of an earlier run, whose tree is gone.
        lent.drain(&mut |_| {});
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
        while let Some(record) = self.records.next() {
            sink(&record);
        }
    }

    fn lost(&self) -> u64 {
        // A counter that cannot be read must not pass for nothing lost.
        count_lost(&self.lost).map_or(u64::MAX, |now| now.total() - self.before.total())
    }
}
