//! How a run is ended: politely, then firmly.

use std::fmt;
use std::time::{Duration, Instant};

/// How long nrtrace goes on killing what does not end.
const KILLING: Duration = Duration::from_secs(10);

/// Where the end of a run has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Stage {
    /// Not begun.
    Running,
    /// The program was sent a signal that asks it to end (Ctrl-C).
    Interrupted,
    /// The top of the tree was sent SIGTERM.
    Terminating,
    /// Everything is being sent SIGKILL.
    Killing,
    /// Something outlives even that.
    GivenUp,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "not begun",
            Self::Interrupted => "the program was asked to end",
            Self::Terminating => "waiting for the program to end",
            Self::Killing => "killing what is left",
            Self::GivenUp => "something cannot be killed",
        })
    }
}

/// The clockwork of the end: when one stage has had its time, the next begins.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    stage: Stage,
    since: Option<Instant>,
    grace: Duration,
}

impl Stop {
    /// A run that has not begun to end, with the time each polite stage is given.
    pub fn new(grace: Duration) -> Self {
        Self { stage: Stage::Running, since: None, grace }
    }

    /// The present stage.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Goes on to `stage`, unless the end has got there already. Whether it is new.
    pub fn advance(&mut self, stage: Stage, now: Instant) -> bool {
        let is_new = stage > self.stage;
        if is_new {
            *self = Self { stage, since: Some(now), grace: self.grace };
        }
        is_new
    }

    /// Goes on when the present stage has had its time. Whether a new one began.
    pub fn tick(&mut self, now: Instant) -> bool {
        let Some(since) = self.since else { return false };
        let (time, next) = match self.stage {
            Stage::Running | Stage::GivenUp => return false,
            Stage::Interrupted => (self.grace, Stage::Terminating),
            Stage::Terminating => (self.grace, Stage::Killing),
            Stage::Killing => (KILLING, Stage::GivenUp),
        };
        now.saturating_duration_since(since) >= time && self.advance(next, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_its_time() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut stop = Stop::new(Duration::from_secs(5));
        assert!(!stop.tick(after(100)));
        assert!(stop.advance(Stage::Interrupted, start));
        assert!(!stop.advance(Stage::Interrupted, after(4)));
        let mut stages = Vec::new();
        for second in 0..40 {
            if stop.tick(after(second)) {
                stages.push((second, stop.stage()));
            }
        }
        assert_eq!(stages, [(5, Stage::Terminating), (10, Stage::Killing), (20, Stage::GivenUp)]);
        assert!(!stop.advance(Stage::Killing, after(50)));
    }
}
