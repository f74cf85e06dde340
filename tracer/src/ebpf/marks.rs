//! The marks of the traced tasks, in whichever way the probe keeps them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use aya::maps::{Map, MapData};
use aya::programs::Program;
use aya::{Ebpf, programs::RawTracePoint};
use nrtrace_ebpf::layout::Mark;
use serde::{Deserialize, Serialize};

use super::{Error, sys};

/// Element of the map `PLACES` that the program `task_of` writes to.
const ANSWER: u32 = 0;
/// The one that tells where the registers are.
const REGISTERS: u32 = 1;

/// What marks are kept in.
#[derive(Debug)]
pub enum Marks {
    /// Task storage, whose keys are pidfds.
    Storage(OwnedFd),
    /// A table by the address of the task.
    Table {
        /// The table.
        map: OwnedFd,
        /// The program that finds the task of a pidfd.
        task_of: OwnedFd,
        /// Where it leaves what it has found.
        places: OwnedFd,
    },
}

/// The same as descriptors that a process inherits, by their numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inherited(Vec<RawFd>);

impl Marks {
    /// Those of a probe that is loaded; for the portable one with its program `task_of`.
    ///
    /// # Errors
    /// When it lacks a map, or descriptors are short.
    pub fn of(ebpf: &Ebpf) -> Result<Self, Error> {
        match ebpf.map("MARKS") {
            Some(Map::Unsupported(data)) => Ok(Self::Storage(own(data)?)),
            Some(Map::HashMap(data)) => {
                let Some(Map::Array(places)) = ebpf.map("PLACES") else {
                    return Err(Error::Missing("map PLACES"));
                };
                let Some(Program::RawTracePoint(program)) = ebpf.program("task_of") else {
                    return Err(Error::Missing("task_of"));
                };
                let task_of = descriptor(program)?;
                Ok(Self::Table { map: own(data)?, task_of, places: own(places)? })
            }
            _ => Err(Error::Missing("map MARKS")),
        }
    }

    /// As another process has passed them on.
    pub fn inherited(numbers: &Inherited) -> Option<Self> {
        // SAFETY: whoever starts this process passes these descriptors for it alone, and they are taken once.
        let owned = |number: &RawFd| unsafe { OwnedFd::from_raw_fd(*number) };
        match numbers.0.as_slice() {
            [map] => Some(Self::Storage(owned(map))),
            [map, task_of, places] => {
                Some(Self::Table { map: owned(map), task_of: owned(task_of), places: owned(places) })
            }
            _ => None,
        }
    }

    /// To be passed on.
    pub fn numbers(&self) -> Inherited {
        Inherited(match self {
            Self::Storage(map) => vec![map.as_raw_fd()],
            Self::Table { map, task_of, places } => [map, task_of, places].map(AsRawFd::as_raw_fd).to_vec(),
        })
    }

    /// Marks the task behind a pidfd, unless it has a mark.
    ///
    /// # Errors
    /// The task has a mark already (`EEXIST`), is gone (`ESRCH`), or there is no memory.
    pub fn set(&self, task: BorrowedFd<'_>, mark: &Mark) -> io::Result<()> {
        match self {
            // SAFETY: task storage takes descriptors as keys, and was made for marks.
            Self::Storage(map) => unsafe { sys::insert(map.as_fd(), &task.as_raw_fd(), mark) },
            // SAFETY: the table was made for addresses and marks.
            Self::Table { map, .. } => unsafe { sys::insert(map.as_fd(), &self.address(task)?, mark) },
        }
    }

    /// Takes the mark from the task behind a pidfd.
    ///
    /// # Errors
    /// It has none, or is gone.
    pub fn remove(&self, task: BorrowedFd<'_>) -> io::Result<()> {
        match self {
            // SAFETY: task storage takes descriptors as keys.
            Self::Storage(map) => unsafe { sys::remove(map.as_fd(), &task.as_raw_fd()) },
            // SAFETY: the table was made for addresses.
            Self::Table { map, .. } => unsafe { sys::remove(map.as_fd(), &self.address(task)?) },
        }
    }

    /// Whether the task behind a pidfd has a mark.
    pub fn has(&self, task: BorrowedFd<'_>) -> bool {
        let found: io::Result<Mark> = match self {
            // SAFETY: as above; a mark consists of integers.
            Self::Storage(map) => unsafe { sys::lookup(map.as_fd(), &task.as_raw_fd()) },
            Self::Table { map, .. } => {
                // SAFETY: as above.
                self.address(task).and_then(|address| unsafe { sys::lookup(map.as_fd(), &address) })
            }
        };
        found.is_ok()
    }

    /// The address of the task behind a pidfd.
    fn address(&self, task: BorrowedFd<'_>) -> io::Result<u64> {
        let Self::Table { task_of, places, .. } = self else { return Err(io::ErrorKind::Unsupported.into()) };
        sys::run(task_of.as_fd(), task.as_raw_fd() as u64)?;
        // SAFETY: the array was made for words.
        match unsafe { sys::lookup(places.as_fd(), &ANSWER) }? {
            0 => Err(io::Error::from_raw_os_error(libc::ESRCH)),
            address => Ok(address),
        }
    }
}

impl Inherited {
    /// All of the numbers.
    pub fn all(&self) -> &[RawFd] {
        &self.0
    }
}

fn own(map: &MapData) -> Result<OwnedFd, Error> {
    let failed = |source| Error::Map { action: "keep the descriptor of", map: "MARKS", source };
    map.fd().as_fd().try_clone_to_owned().map_err(failed)
}

fn descriptor(program: &RawTracePoint) -> Result<OwnedFd, Error> {
    let fd = program.fd().map_err(|_| Error::Missing("task_of"))?;
    let failed = |source| Error::Map { action: "keep the program that fills", map: "PLACES", source };
    fd.as_fd().try_clone_to_owned().map_err(failed)
}

/// Tells the portable probe where registers are: of the distances, by which its program sees the call that asks for it.
///
/// # Errors
/// When it is none of them.
pub fn find_registers(ebpf: &mut Ebpf, distances: &[u64]) -> Result<(), Error> {
    let Some(Program::RawTracePoint(program)) = ebpf.program("number_at") else {
        return Err(Error::Missing("number_at"));
    };
    let program = descriptor(program)?;
    let sees = |distance: &&u64| {
        sys::run(program.as_fd(), **distance).is_ok_and(|number| libc::c_long::from(number) == libc::SYS_bpf)
    };
    let found = *distances.iter().find(sees).ok_or(Error::NoRegisters)?;
    let places = ebpf.map_mut("PLACES").ok_or(Error::Missing("map PLACES"))?;
    let failed = |error| super::probe::map_error("fill", "PLACES", error);
    let mut places = aya::maps::Array::<_, u64>::try_from(places).map_err(failed)?;
    places.set(REGISTERS, found, 0).map_err(failed)
}
