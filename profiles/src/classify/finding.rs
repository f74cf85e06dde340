//! What one check or refusal amounts to, before equal ones are put together.

use std::collections::BTreeSet;

use crate::event::{Check, Component, Event, Object, Obstacle, Outcome};
use crate::requirement::{Basis, Need, Severity};
use crate::{Capability, RawText};

use super::context::Context;
use super::errno;
use super::files;
use super::site::CheckSite;

/// A check that counts, with all that is known around it; without a check, a refusal.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The call.
    pub event: &'a Event,
    /// The check.
    pub check: Option<&'a Check>,
    /// What the check was for.
    pub site: CheckSite,
    /// About the run.
    pub context: &'a Context<'a>,
}

/// All that one event means.
#[derive(Default)]
pub struct Judged {
    /// Needs found.
    pub findings: Vec<Finding>,
    /// What could not be placed.
    pub unexplained: Vec<Unplaced>,
    /// Remarks for the reader.
    pub notes: BTreeSet<String>,
}

/// A need, as one check shows it.
pub struct Finding {
    /// What is needed.
    pub need: Need,
    /// How it is known.
    pub basis: Basis,
    /// How much it matters.
    pub severity: Severity,
    /// The capability consulted.
    pub check: Option<Capability>,
    /// The file that refused.
    pub refused: Option<Component>,
    /// The objects wanted.
    pub objects: BTreeSet<RawText>,
}

/// What could not be placed.
pub struct Unplaced {
    /// What it was about.
    pub object: RawText,
    /// The capability consulted.
    pub capability: Option<Capability>,
    /// Kernel functions on the stack.
    pub frames: Vec<String>,
    /// What refused, where no capability was consulted.
    pub obstacle: Option<Obstacle>,
}

impl Unplaced {
    /// A check, or a refusal without one, that could not be placed.
    pub fn of(source: &Source<'_>) -> Self {
        Self {
            object: object_text(&source.event.object),
            capability: source.check.map(|check| check.capability),
            frames: source
                .check
                .map_or_else(Vec::new, |check| check.frames.iter().map(|frame| frame.to_string()).collect()),
            obstacle: None,
        }
    }
}

impl Source<'_> {
    /// Whether the kernel really refused. A file's permissions are overridden by either of two capabilities, which
    /// are asked for in turn.
    pub fn is_refused(&self) -> bool {
        let Some(check) = self.check else { return true };
        let overridden = check.capability.is_dac()
            && self
                .event
                .checks
                .iter()
                .any(|other| other.capability.is_dac() && other.granted && other.frames == check.frames);
        !check.granted && !overridden
    }

    /// The capability consulted, if one was.
    pub fn capability(&self) -> Option<Capability> {
        self.check.map(|check| check.capability)
    }

    /// The file the kernel was judging, where it is known.
    pub fn component(&self) -> Option<&Component> {
        self.check?.component.as_ref()
    }

    /// How the need is known.
    fn basis(&self) -> Basis {
        let refused = match self.event.outcome {
            Outcome::Failure { errno } => errno::is_refusal(errno),
            Outcome::Unknown => true,
            Outcome::Success { .. } | Outcome::Answered => false,
        };
        let predicted = self.check.is_some_and(|check| check.predicted.is_some());
        match (self.is_refused(), predicted) {
            (true, true) if self.event.outcome == Outcome::Unknown => Basis::Predicted,
            (true, _) if refused => Basis::Denied,
            (_, true) => Basis::Predicted,
            _ => Basis::Kernel,
        }
    }

    /// How much the need matters.
    fn severity(&self) -> Severity {
        match self.event.outcome {
            // Begun, or to be made again: not refused.
            Outcome::Failure { errno: errno::EINPROGRESS | errno::EINTR } => Severity::Required,
            Outcome::Failure { errno } if errno::is_refusal(errno) && self.is_refused() => Severity::Required,
            Outcome::Failure { .. } => Severity::Probe,
            // A refusal that did not keep the call from succeeding.
            Outcome::Success { .. } if self.is_refused() => Severity::Probe,
            Outcome::Success { .. } | Outcome::Answered | Outcome::Unknown => Severity::Required,
        }
    }

    /// The finding that `need` is behind this.
    pub fn finding(&self, need: Need) -> Finding {
        Finding {
            need,
            basis: self.basis(),
            severity: self.severity(),
            check: self.capability(),
            refused: self.component().cloned(),
            objects: BTreeSet::new(),
        }
    }
}

/// What a call was about, as text.
pub fn object_text(object: &Object) -> RawText {
    match object {
        Object::Nothing => RawText::default(),
        Object::Ids { ids } => {
            RawText::new(ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",").into_bytes())
        }
        Object::Socket(socket) => match (&socket.path, socket.port) {
            (Some(path), _) => best(path),
            (None, Some(port)) => {
                RawText::new([socket.address.as_bytes(), b":", port.to_string().as_bytes()].concat())
            }
            (None, None) => socket.address.clone(),
        },
        other => match files::of(other) {
            (Some(from), Some(to)) => {
                RawText::new([best(from).as_bytes(), b" -> ", best(to).as_bytes()].concat())
            }
            (path, _) => path.map(best).unwrap_or_default(),
        },
    }
}

/// The most telling name of a file.
pub fn best(path: &crate::event::PathObject) -> RawText {
    [&path.path, &path.seen].into_iter().find(|path| files::is_known(path)).unwrap_or(&path.given).clone()
}
