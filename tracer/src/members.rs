//! The processes of what is watched, as the records tell.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use nrtrace_ebpf::record::{Head, KIND_EXEC, KIND_EXIT, KIND_FORK, ProcessRecord, read};

use crate::launch::tree;

/// For how long one that has ended is remembered: its number may soon be another's.
const REMEMBERED: Duration = Duration::from_secs(2);

/// The processes that live, and those that have ended just now.
#[derive(Debug)]
pub(crate) struct Members {
    main: u32,
    live: HashSet<u32>,
    ended: VecDeque<(u32, Instant)>,
    /// Wait status of the main process.
    main_ended: Option<i32>,
}

impl Members {
    /// The main process alone.
    pub(crate) fn new(main: u32) -> Self {
        Self { main, live: HashSet::from([main]), ended: VecDeque::new(), main_ended: None }
    }

    /// One more, that was found.
    pub(crate) fn meet(&mut self, pid: u32) {
        self.live.insert(pid);
    }

    /// Takes what a record tells.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        let Some(head) = read::<Head>(bytes) else { return };
        // One that joined was made by somebody else.
        if head.kind == KIND_EXEC {
            self.live.insert(head.pid);
        }
        if !matches!(head.kind, KIND_FORK | KIND_EXIT) {
            return;
        }
        let Some(record) = read::<ProcessRecord>(bytes) else { return };
        match head.kind {
            KIND_FORK => {
                self.live.insert(record.child_pid);
            }
            _ if record.last_thread != 0 => {
                self.live.remove(&head.pid);
                self.remember(head.pid, Instant::now());
                if head.pid == self.main {
                    self.main_ended = Some(record.exit_code as i32);
                }
            }
            _ => {}
        }
    }

    fn remember(&mut self, pid: u32, now: Instant) {
        while self.ended.front().is_some_and(|(_, at)| now.duration_since(*at) > REMEMBERED) {
            self.ended.pop_front();
        }
        self.ended.push_back((pid, now));
    }

    /// Whether a process is one of them, or was until just now.
    pub(crate) fn include(&self, pid: u32) -> bool {
        let recent = |(ended, at): &(u32, Instant)| *ended == pid && at.elapsed() <= REMEMBERED;
        self.live.contains(&pid) || self.ended.iter().any(recent)
    }

    /// Wait status of the main process.
    pub(crate) fn main_ended(&self) -> Option<i32> {
        self.main_ended
    }

    /// Whether one lives, as far as the records tell.
    pub(crate) fn any_known(&self) -> bool {
        !self.live.is_empty()
    }

    /// Whether one lives: those whose end was not told are looked at.
    pub(crate) fn any_lives(&mut self) -> bool {
        let mut seen: HashMap<u32, bool> = HashMap::new();
        self.live.retain(|pid| {
            *seen
                .entry(*pid)
                .or_insert_with(|| tree::member(*pid as i32).is_some_and(|member| !member.zombie))
        });
        !self.live.is_empty()
    }
}
