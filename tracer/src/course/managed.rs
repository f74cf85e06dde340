//! The course of a program that a service manager has started.

use std::time::Duration;

use regex::Regex;

use super::{Course, Readiness, Tree, Turn, Verdict, Watch};
use crate::attach::cgroup::Group;
use crate::launch::Error;
use crate::launch::signals::Signals;
use crate::launch::tree::End;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Follows the processes of a control group, which are up as far as their manager can tell; what is read of their log is
/// not asked for here. `end` says how the main one has ended, once nothing is left in the group.
///
/// # Errors
/// When a command cannot be started.
pub fn managed(
    course: &Course,
    group: &Group,
    signals: &Signals,
    end: &mut dyn FnMut() -> Option<End>,
) -> Result<Verdict, Error> {
    let mut course = course.clone();
    if !course.readiness.is_empty() {
        let Readiness { command, ports, .. } = course.readiness;
        // That it has said it is ready is as good as a yes.
        let command = command.or_else(|| ports.is_empty().then(|| "true".into()));
        course.readiness = Readiness { command, ports, ..Readiness::default() };
    }
    let mut watch = Watch::new(&course, None, signals.mask_before(), None);
    loop {
        if signals.have_ended() {
            watch.stopping();
            return Ok(watch.finish(None).verdict);
        }
        if group.processes().is_empty() {
            return Ok(watch.finish(end()).verdict);
        }
        if watch.tick(Tree::Group(group), None, None)? == Some(Turn::Over) {
            return Ok(watch.finish(None).verdict);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether a line of a log is what readiness asks for; nothing asks for nothing.
///
/// # Errors
/// [`Error::BadPattern`]
pub fn is_said(readiness: &Readiness, log: &str) -> Result<bool, Error> {
    let Some(pattern) = &readiness.log else { return Ok(true) };
    let read = Regex::new(pattern)
        .map_err(|error| Error::BadPattern { pattern: pattern.clone(), reason: error.to_string() })?;
    Ok(log.lines().any(|line| read.is_match(line)))
}
