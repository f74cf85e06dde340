//! The events so far: equal ones are counted, not kept, and memory stays bounded.

use std::collections::HashMap;

use nrtrace_profiles::event::Event;

/// Different names refused in one directory that are kept.
const NAMES: u32 = 2000;
/// Events with a check or a refusal that are kept.
pub const REFUSALS: usize = 20_000;

/// What an event is worth keeping for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// A call that went through, or failed for want of a file: some are kept.
    Call,
    /// A check or a refusal: kept, by the keys of its directory and of its kind.
    Refusal {
        /// Equal for equal refusals of different names in one directory.
        directory: u64,
        /// Equal for equal refusals anywhere.
        kind: u64,
    },
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It was counted with an equal one, or with others of its kind when there are too many.
    Counted,
    /// There are too many of its worth.
    Dropped,
    /// It is new and there is room: build it and [`Store::add`] it.
    New,
}

/// The store.
#[derive(Debug)]
pub struct Store {
    events: Vec<Event>,
    index: HashMap<u64, u32>,
    /// By directory: how many names, and the last one's event.
    directories: HashMap<u64, (u32, u32)>,
    kinds: HashMap<u64, u32>,
    calls: usize,
    max_calls: usize,
    max_refusals: usize,
    dropped: u64,
    summarised: u64,
}

impl Store {
    /// A store for at most `max_calls` different calls without check or refusal, and `max_refusals` with one.
    pub fn new(max_calls: usize, max_refusals: usize) -> Self {
        Self {
            events: Vec::new(),
            index: HashMap::new(),
            directories: HashMap::new(),
            kinds: HashMap::new(),
            calls: 0,
            max_calls,
            max_refusals,
            dropped: 0,
            summarised: 0,
        }
    }

    /// Decides on an event by its key, which is equal for equal events, at `time`.
    pub fn admit(&mut self, key: u64, worth: Worth, time: u64) -> Admission {
        if let Some(index) = self.index.get(&key) {
            self.count(*index, time);
            return Admission::Counted;
        }
        match worth {
            Worth::Call if self.calls >= self.max_calls => {
                self.dropped += 1;
                Admission::Dropped
            }
            Worth::Call => Admission::New,
            Worth::Refusal { directory, kind } => self.admit_refusal(directory, kind, time),
        }
    }

    fn admit_refusal(&mut self, directory: u64, kind: u64, time: u64) -> Admission {
        let crowded =
            self.directories.get(&directory).filter(|(names, _)| *names >= NAMES).map(|known| known.1);
        let full = self.index.len() - self.calls >= self.max_refusals;
        let stand_in = crowded.or_else(|| self.kinds.get(&kind).copied().filter(|_| full));
        match stand_in {
            Some(index) => {
                self.summarised += 1;
                self.count(index, time);
                Admission::Counted
            }
            None => Admission::New,
        }
    }

    fn count(&mut self, index: u32, time: u64) {
        self.repeat(Some(index), 1, time);
    }

    /// Counts an event so many times more, the last of them at `time`; or calls that were dropped.
    pub fn repeat(&mut self, event: Option<u32>, count: u64, time: u64) {
        match event.and_then(|index| self.events.get_mut(index as usize)) {
            Some(event) => {
                event.count += count;
                event.last = event.last.max(time);
            }
            None => self.dropped += count,
        }
    }

    /// Where the event of that key is.
    pub fn position(&self, key: u64) -> Option<u32> {
        self.index.get(&key).copied()
    }

    /// Whether there is room for another call without check or refusal.
    pub fn has_room(&self) -> bool {
        self.calls < self.max_calls
    }

    /// Adds an event under the key that [`Store::admit`] called new.
    pub fn add(&mut self, key: u64, worth: Worth, event: Event) {
        let index = self.events.len() as u32;
        self.events.push(event);
        self.index.insert(key, index);
        match worth {
            Worth::Call => self.calls += 1,
            Worth::Refusal { directory, kind } => {
                let names = self.directories.entry(directory).or_insert((0, index));
                *names = (names.0 + 1, index);
                self.kinds.insert(kind, index);
            }
        }
    }

    /// Makes room for one dropped call after all.
    pub fn readmit(&mut self) {
        self.dropped = self.dropped.saturating_sub(1);
        self.max_calls += 1;
    }

    /// The events so far, new ones last.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Calls dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Checks and refusals that are counted on another one of their directory or kind.
    pub fn summarised(&self) -> u64 {
        self.summarised
    }

    /// The events, in order of time and numbered.
    pub fn into_events(self) -> Vec<Event> {
        let Self { mut events, index, directories, .. } = self;
        drop((index, directories));
        events.sort_by_key(|event| event.time);
        (0..).zip(&mut events).for_each(|(seq, event)| event.seq = seq);
        events
    }
}
