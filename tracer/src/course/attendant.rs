//! What stands beside the program while it runs: its output, its notifications, and the watch over its course.

use std::ffi::OsString;
use std::os::fd::RawFd;

use nix::sys::signal::SigSet;
use regex::bytes::Regex;

use super::notify::Notify;
use super::output::{Capture, Output};
use super::{Came, Course, Tree, Turn, Watch};
use crate::launch::Error;
use crate::launch::tree::End;

/// Everything beside the program that its course takes.
#[derive(Debug)]
pub struct Attendant {
    course: Option<Course>,
    notify: Option<Notify>,
    output: Option<Output>,
    watch: Option<Watch>,
}

impl Attendant {
    /// Prepares it; `owner` is the program's user and group, where it is not nrtrace's own.
    ///
    /// # Errors
    /// A pattern that is none, or a socket or pipe that cannot be had.
    pub fn new(course: Option<&Course>, capture: Capture, owner: Option<(u32, u32)>) -> Result<Self, Error> {
        let pattern = course.and_then(|course| course.readiness.log.as_ref());
        let pattern = pattern.map(|pattern| {
            Regex::new(pattern)
                .map_err(|error| Error::BadPattern { pattern: pattern.clone(), reason: error.to_string() })
        });
        let notify = course.is_some_and(|course| course.readiness.notify);
        Ok(Self {
            output: Output::new(capture, pattern.transpose()?, owner)?,
            notify: if notify { Some(Notify::open()?) } else { None },
            course: course.cloned(),
            watch: None,
        })
    }

    /// The variable that tells the program where to say that it is ready.
    pub fn variable(&self) -> Option<(OsString, OsString)> {
        self.notify.as_ref().map(|notify| ("NOTIFY_SOCKET".into(), notify.variable()))
    }

    /// The program's standard streams; `None` where it has nrtrace's.
    pub fn stdio(&self) -> [Option<RawFd>; 3] {
        self.output.as_ref().map_or([None; 3], Output::descriptors)
    }

    /// The program runs; where something else is run first, in the process that becomes it, that process.
    pub fn started(&mut self, signal_mask: SigSet, preceded: Option<i32>) {
        if let Some(output) = &mut self.output {
            output.given();
        }
        let notify = self.notify.take();
        self.watch = self.course.as_ref().map(|course| Watch::new(course, notify, signal_mask, preceded));
    }

    /// Takes a look; to be called some fifty times a second.
    ///
    /// # Errors
    /// When a command cannot be started.
    pub(crate) fn tick(&mut self, tree: Tree<'_>, end: Option<End>) -> Result<Option<Turn>, Error> {
        if let Some(output) = &mut self.output {
            output.drain();
        }
        self.watch.as_mut().map_or(Ok(None), |watch| watch.tick(tree, end, self.output.as_ref()))
    }

    /// Whether the run ends with its course.
    pub fn ends(&self) -> bool {
        self.course.as_ref().is_some_and(|course| course.ends)
    }

    /// The program is told to stop.
    pub fn stopping(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.stopping();
        }
    }

    /// What it came to, and the end of what the program said, once its tree is gone.
    pub fn finish(&mut self, end: Option<End>) -> (Option<Came>, Vec<u8>) {
        let output = self.output.take().map(|mut output| {
            output.drain();
            output.into_kept()
        });
        (self.watch.take().map(|watch| watch.finish(end)), output.unwrap_or_default())
    }
}
