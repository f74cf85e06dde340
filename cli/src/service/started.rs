//! What a unit comes to on this machine.

use std::ffi::OsString;
use std::path::PathBuf;

use nrtrace_profiles::unit::{OfUnit, Service};
use nrtrace_tracer::trial;

/// What a unit comes to on this machine.
pub struct Started {
    /// What it says.
    pub service: Service,
    /// What a profile keeps of it.
    pub kept: OfUnit,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Where it starts.
    pub cwd: PathBuf,
    /// What surrounds its start in a trial.
    pub around: trial::Service,
    /// What was read.
    pub files: Vec<PathBuf>,
    /// What to tell of it.
    pub notes: Vec<String>,
}
