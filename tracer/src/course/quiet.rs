//! Whether anything of the program has been on a processor.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// What the scheduler counts for each thread: time on a processor, time it waited for one, and how often it got
/// one. Who only waits for its turn on a busy machine has that counted as well once it gets it, and is known by its state
/// until then.
#[derive(Debug)]
pub struct Quiet {
    seen: BTreeMap<u32, Vec<u8>>,
    since: Instant,
    next: Instant,
}

impl Quiet {
    /// Nothing has been seen yet.
    pub fn new(now: Instant) -> Self {
        Self { seen: BTreeMap::new(), since: now, next: now }
    }

    /// How long all of the processes have slept, as far as was looked.
    pub fn lasts(&mut self, processes: impl FnOnce() -> Vec<i32>, now: Instant) -> Duration {
        if now >= self.next {
            self.next = now + PAUSE;
            let threads = threads(&processes());
            if threads.is_none() || threads.as_ref() != Some(&self.seen) {
                self.since = now;
            }
            self.seen = threads.unwrap_or_default();
        }
        now.duration_since(self.since)
    }
}

/// What is counted for each thread; `None` when one of them runs, or that cannot be told.
fn threads(processes: &[i32]) -> Option<BTreeMap<u32, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for pid in processes {
        for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
            let (path, name) = (task.as_ref().ok()?.path(), task.as_ref().ok()?.file_name());
            let stat = fs::read(path.join("stat")).ok()?;
            let state = stat.iter().rposition(|byte| *byte == b')').and_then(|end| stat.get(end + 2))?;
            // One that waits for a disk does so for the machine's sake.
            if matches!(state, b'R' | b'D') {
                return None;
            }
            found.insert(name.to_str()?.parse().ok()?, fs::read(path.join("schedstat")).ok()?);
        }
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::tree;
    use std::process::Command;

    /// The longest sleep that is seen of a shell and its children in so long.
    fn lasts(script: &str) -> Duration {
        let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let (pid, start) = (child.id() as i32, Instant::now());
        let processes = || {
            let children = tree::descendants(pid).into_iter();
            children.filter(|child| !child.zombie).map(|child| child.pid).chain([pid]).collect()
        };
        let (mut quiet, mut longest) = (Quiet::new(start), Duration::ZERO);
        while start.elapsed() < Duration::from_millis(1500) {
            longest = longest.max(quiet.lasts(processes, Instant::now()));
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        longest
    }

    #[test]
    fn who_sleeps_is_quiet_and_who_wakes_or_runs_is_not() {
        let most = Duration::from_millis(700);
        assert!(lasts("exec sleep 30") > most);
        assert!(lasts("while :; do :; done") < most);
        assert!(lasts("while sleep 0.2; do :; done") < most);
    }
}
