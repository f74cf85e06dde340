//! Makes the trials of a search, some at the same time, and remembers what they showed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Result;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::prove::{Bench, Tried, without};
use nrtrace_tracer::course::Verdict;
use nrtrace_tracer::trial::{Report, TrialError};

use super::journal::{self, Entry, Journal};
use super::prover::Prover;
use crate::progress::Trials;

/// The exit status of a program that may not be executed.
const NOT_EXECUTED: u8 = 126;

/// The trials of one search.
pub struct Trying<'a> {
    pub prover: &'a Prover,
    pub profile: &'a Profile,
    pub jobs: usize,
    pub journal: Journal,
    pub shown: &'a Trials,
    /// How often each set was asked for.
    asked: BTreeMap<String, usize>,
    made: u32,
    spent: Duration,
}

impl<'a> Trying<'a> {
    pub fn new(
        prover: &'a Prover,
        profile: &'a Profile,
        jobs: usize,
        journal: Journal,
        shown: &'a Trials,
    ) -> Self {
        Self { prover, profile, jobs, journal, shown, asked: BTreeMap::new(), made: 0, spent: Duration::ZERO }
    }

    /// The journal, for a search that follows.
    pub fn into_journal(self) -> Journal {
        self.journal
    }

    fn tell(&self, removed: &BTreeSet<String>, tried: &Tried, left: usize) {
        let what = match removed.len() {
            0 => "everything granted".to_owned(),
            1 | 2 => format!("without {}", removed.iter().cloned().collect::<Vec<_>>().join(", ")),
            more => format!("without {more} needs"),
        };
        let how = if tried.lived { "lives" } else { tried.how.as_str() };
        let each = self.spent.checked_div(self.made.max(1)).unwrap_or_default();
        let time = each * u32::try_from(left).unwrap_or(u32::MAX) / u32::try_from(self.jobs).unwrap_or(1);
        let left = format!("about {left} more, {} s left", time.as_secs().max(u64::from(left > 0)));
        self.shown.trial(self.made, &left, &format!("{what}: {how}"));
    }

    /// Makes one trial.
    fn make(&self, removed: &BTreeSet<String>) -> Result<(Tried, Duration), TrialError> {
        let start = Instant::now();
        let tried = match self.prover.trial(&without(self.profile, removed), &self.prover.course, false) {
            Ok(report) => tried(&report),
            // With everything granted it was executed.
            Err(TrialError::Program { message, status: NOT_EXECUTED }) if !removed.is_empty() => {
                Tried { lived: false, how: message, telling: true }
            }
            Err(error) => return Err(error),
        };
        Ok((tried, start.elapsed()))
    }
}

/// What a trial came to, in a few words.
pub fn tried(report: &Report) -> Tried {
    match &report.verdict {
        Some(Verdict::Failed(failure)) => {
            let said = last_words(report);
            let telling = tells(&String::from_utf8_lossy(&report.output));
            let how = if said.is_empty() { failure.to_string() } else { format!("{failure}: {said}") };
            Tried { lived: false, how, telling }
        }
        _ => Tried { lived: true, how: String::new(), telling: false },
    }
}

/// Whether it says that something was denied: strerror(3) of EACCES, EPERM and, where the unit keeps a directory
/// read-only, EROFS.
fn tells(text: &str) -> bool {
    let lower = text.to_lowercase();
    ["denied", "not permitted", "permission", "read-only file system"].iter().any(|word| lower.contains(word))
}

/// The last line that says something.
pub fn last_words(report: &Report) -> String {
    let output = String::from_utf8_lossy(&report.output);
    let mut lines = output.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.clone().rfind(|line| tells(line)).or_else(|| lines.next_back()).unwrap_or_default();
    line.chars().take(200).collect()
}

impl Bench for Trying<'_> {
    type Error = anyhow::Error;

    fn try_without(&mut self, removed: &[BTreeSet<String>], left: usize) -> Result<Vec<Tried>> {
        let mut results: Vec<Option<Tried>> = vec![None; removed.len()];
        let mut todo = Vec::new();
        for (place, set) in removed.iter().enumerate() {
            let key = journal::key(set, self.prover);
            let asked = self.asked.entry(key.clone()).or_default();
            match self.journal.of(&key).get(*asked) {
                Some(known) => results[place] = Some(known.tried()),
                None => todo.push(place),
            }
            *asked += 1;
        }
        for batch in todo.chunks(self.jobs) {
            let made = Mutex::new(Vec::new());
            std::thread::scope(|scope| {
                for place in batch {
                    let (trying, made) = (&*self, &made);
                    scope.spawn(move || {
                        let outcome = trying.make(&removed[*place]);
                        made.lock()
                            .unwrap_or_else(std::sync::PoisonError::into_inner)
                            .push((*place, outcome));
                    });
                }
            });
            let mut entries = Vec::new();
            for (place, outcome) in made.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
                let (tried, took) = outcome?;
                self.made += 1;
                self.spent += took;
                let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                entries.push((journal::key(&removed[place], self.prover), Entry::new(&tried, milliseconds)));
                let open = results.iter().filter(|result| result.is_none()).count() - 1;
                self.tell(&removed[place], &tried, left + open);
                results[place] = Some(tried);
            }
            self.journal.add(entries, self.shown);
        }
        Ok(results.into_iter().flatten().collect())
    }
}
