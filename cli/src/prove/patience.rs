//! How long is waited for a program that has never been seen to be ready.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nrtrace_tracer::course::{Course, Failure, Verdict};

/// No wait is made shorter than this.
const LEAST: Duration = Duration::from_secs(10);
/// After so many waits in vain nobody else is tried.
const MOST: u32 = 3;

/// Each wait in vain halves the next: who was not ready in the whole time, with every right, will hardly be as somebody else.
#[derive(Debug, Default)]
pub struct Patience {
    in_vain: AtomicU32,
}

impl Patience {
    /// The course with the time that is left for readiness.
    pub fn course(&self, course: &Course) -> Course {
        let shorter = course.ready_timeout / 2_u32.saturating_pow(self.in_vain.load(Ordering::Relaxed));
        Course { ready_timeout: shorter.max(LEAST.min(course.ready_timeout)), ..course.clone() }
    }

    /// Takes in how a run ended.
    pub fn learn(&self, verdict: Option<&Verdict>) {
        if matches!(verdict, Some(Verdict::Failed(Failure::NotReady { .. }))) {
            self.in_vain.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether it has been waited in vain often enough.
    pub fn is_over(&self) -> bool {
        self.in_vain.load(Ordering::Relaxed) >= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nrtrace_tracer::course::{Greets, Readiness};

    #[test]
    fn a_wait_in_vain_halves_the_next_and_the_last_are_short() {
        let course = Course {
            readiness: Readiness::default(),
            ready_timeout: Duration::from_secs(60),
            asleep: None,
            greets: Greets::default(),
            exercise: None,
            exercise_timeout: Duration::ZERO,
            settle: Duration::ZERO,
            ends: true,
            stays: false,
        };
        let (patience, mut waited) = (Patience::default(), Vec::new());
        for _ in 0..5 {
            let wait = patience.course(&course).ready_timeout;
            waited.push(wait.as_secs());
            patience.learn(Some(&Verdict::Failed(Failure::NotReady { waited: wait, said: String::new() })));
        }
        assert_eq!(waited, [60, 30, 15, 10, 10]);
        assert!(patience.is_over());
        let short = Course { ready_timeout: Duration::from_secs(4), ..course };
        assert_eq!(patience.course(&short).ready_timeout, short.ready_timeout);
        let other = Patience::default();
        other.learn(Some(&Verdict::Lived));
        assert!(!other.is_over() && other.course(&short) == short);
    }
}
