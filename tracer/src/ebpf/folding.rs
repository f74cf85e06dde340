//! Equal calls that the probe tells once and then counts.

use std::os::fd::AsFd;

use aya::Ebpf;
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray};
use nrtrace_ebpf::record::{FOLDS, Former, Tally};

use super::Error;
use super::probe::map_error;

/// Words of a [`Tally`].
const WORDS: usize = size_of::<Tally>() / 8;

/// The maps by which that is told to the probe, and by it.
pub(super) struct Folding {
    turn: Array<MapData, [u32; 2]>,
    tallies: PerCpuArray<MapData, [[u64; WORDS]; FOLDS]>,
}

impl Folding {
    /// Of a probe that this process has loaded.
    ///
    /// # Errors
    /// When it has no such maps.
    pub(super) fn of(ebpf: &Ebpf) -> Result<Self, Error> {
        let [turn, tallies] = Self::MAPS.map(|name| {
            let (Map::Array(data) | Map::PerCpuArray(data)) = ebpf.map(name).ok_or(Error::Missing(name))?
            else {
                return Err(Error::Missing(name));
            };
            let opened = |error| map_error("open", name, error);
            let fd = data.fd().as_fd().try_clone_to_owned().map_err(MapError::IoError).map_err(opened)?;
            MapData::from_fd(fd).and_then(Map::from_map_data).map_err(opened)
        });
        Self::open(turn?, tallies?)
    }

    /// The names of the maps.
    pub(super) const MAPS: [&'static str; 2] = ["TURN", "TALLIES"];

    /// With these maps.
    ///
    /// # Errors
    /// When they are others.
    pub(super) fn open(turn: Map, tallies: Map) -> Result<Self, Error> {
        Ok(Self {
            turn: Array::try_from(turn).map_err(|error| map_error("open", "TURN", error))?,
            tallies: PerCpuArray::try_from(tallies).map_err(|error| map_error("open", "TALLIES", error))?,
        })
    }

    /// Has equal calls told once from now on, and what was told under another number told anew; without a number, has each
    /// told.
    pub(super) fn set(&mut self, turn: Option<u32>) {
        // Where it cannot be set, each call is told, or still folded as before, which loses nothing.
        let _ = self.turn.set(0, [u32::from(turn.is_some()), turn.unwrap_or(0)], 0);
    }

    /// Hands over how often what has a place was made again.
    pub(super) fn repeats(&self, sink: &mut dyn FnMut(Former)) {
        let Ok(values) = self.tallies.get(&0, 0) else { return };
        for (cpu, tallies) in (0u32..).zip(values.iter()) {
            for (index, [serial, count, last]) in (0u32..).zip(tallies) {
                if *count > 0 {
                    let place = cpu * FOLDS as u32 + index + 1;
                    sink(Former { place, serial: *serial as u32, count: *count, last: *last });
                }
            }
        }
    }
}
