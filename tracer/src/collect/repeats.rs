//! Equal calls that the probe told once and counts: its counts go to the events that were made of them.

use std::collections::HashMap;

use nrtrace_ebpf::record::{CallRecord, Former, KIND_CALL, read};

use super::Collector;

/// The calls that have a place in the probe, by that.
#[derive(Debug, Default)]
pub struct Repeats {
    places: HashMap<u32, Place>,
}

#[derive(Debug)]
struct Place {
    serial: u32,
    /// The event of the call; none for one that was not kept.
    event: Option<u32>,
    /// How many of the repetitions were taken in.
    taken: u64,
}

/// Repetitions that were not taken in yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct New {
    /// Their event; none for one that was not kept.
    pub event: Option<u32>,
    /// How many.
    pub count: u64,
    /// When the last of them was (`CLOCK_MONOTONIC`, in nanoseconds).
    pub last: u64,
}

impl Repeats {
    /// Takes in how often the call in a place was made again. One whose record was not seen is left alone.
    pub fn take(&mut self, told: Former) -> Option<New> {
        let place = self.places.get_mut(&told.place).filter(|place| place.serial == told.serial)?;
        let count = told.count.checked_sub(place.taken).filter(|new| *new > 0)?;
        place.taken = told.count;
        Some(New { event: place.event, count, last: told.last })
    }

    /// The call of `event` takes the place of the one that `former` tells of, whose last repetitions are handed back.
    pub fn replace(&mut self, former: Former, event: Option<u32>) -> Option<New> {
        let last = self.take(Former { serial: former.serial.wrapping_sub(1), ..former });
        self.places.insert(former.place, Place { serial: former.serial, event, taken: 0 });
        last
    }
}

impl Collector {
    /// A record was taken in; if its call has a place in the probe now, the former one's last repetitions are as well.
    pub(super) fn replaced(&mut self, bytes: &[u8]) {
        let former = read::<CallRecord>(bytes)
            .filter(|call| call.head.kind == KIND_CALL && call.former.place != 0)
            .map(|call| call.former);
        if let Some(former) = former {
            let event = self.concluded.and_then(|key| self.store.position(key));
            let last = self.repeats.replace(former, event);
            self.add_repeats(last);
        }
    }

    /// A call that the probe told once was made again.
    pub fn repeated(&mut self, told: Former) {
        let new = self.repeats.take(told);
        self.add_repeats(new);
    }

    fn add_repeats(&mut self, new: Option<New>) {
        let Some(New { event, count, last }) = new else { return };
        self.counters.events += count;
        self.store.repeat(event, count, last.saturating_sub(self.start));
    }

    /// Under which number the probe may tell equal calls once: each phase has its own. None when there is no room for
    /// more calls, for then the last ones are kept, equal or not.
    pub fn turn(&self) -> Option<u32> {
        self.store.has_room().then_some(self.turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(serial: u32, count: u64) -> Former {
        Former { place: 7, serial, count, last: 100 + count }
    }

    #[test]
    fn each_repetition_is_taken_in_once() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.replace(told(1, 0), Some(3)), None);
        assert_eq!(repeats.take(told(1, 5)), Some(New { event: Some(3), count: 5, last: 105 }));
        assert_eq!(repeats.take(told(1, 5)), None);
        assert_eq!(repeats.replace(told(2, 8), None), Some(New { event: Some(3), count: 3, last: 108 }));
        assert_eq!(repeats.take(told(1, 9)), None, "of the former one");
        assert_eq!(repeats.take(told(3, 1)), None, "its record has not come yet");
        assert_eq!(repeats.take(told(2, 1)), Some(New { event: None, count: 1, last: 101 }));
    }

    #[test]
    fn what_was_there_before_is_nobodys() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.take(told(1, 5)), None);
        assert_eq!(repeats.replace(told(2, 5), Some(0)), None);
    }
}
