//! What a run comes to: readiness, exercise, settling.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use nrtrace_tracer::course::{Course, Greets, Readiness};

use super::value;

/// When the program is ready, and what is done with it then.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Readiness")]
pub struct CourseArgs {
    /// Ready once this shell command succeeds
    ///
    /// The program is ready once this shell command succeeds; it is asked again and again
    #[arg(long, value_name = "CMD")]
    pub ready: Option<OsString>,

    /// Ready once it listens on this port
    ///
    /// The program is ready once a process of it listens on this port, TCP or UDP
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub ready_port: Vec<u16>,

    /// Ready once it writes a line like this
    ///
    /// The program is ready once a line of its standard output or error matches this regular expression; both then
    /// pass through nrtrace
    #[arg(long, value_name = "REGEX")]
    pub ready_log: Option<String>,

    /// The program is ready once it says so as in sd_notify(3)
    #[arg(hide_short_help = true, long, visible_alias = "sd-notify")]
    pub ready_notify: bool,

    /// How long it may take to be ready
    #[arg(hide_short_help = true, long, value_name = "DURATION", value_parser = value::duration, default_value = "60s")]
    pub ready_timeout: Duration,

    /// Once it is ready, run this: a client, a test suite
    ///
    /// Once it is ready, run this shell command: a client, a test suite. It must succeed; a run without --for then
    /// ends
    #[arg(long, value_name = "CMD")]
    pub exercise: Option<OsString>,

    /// How long the exercise may take
    #[arg(hide_short_help = true, long, value_name = "DURATION", value_parser = value::duration, default_value = "10m", requires = "exercise")]
    pub exercise_timeout: Duration,

    /// How long it must live, and stay ready, after that [default: 2s, or as much longer as the profile shows that a
    /// need came late]
    #[arg(hide_short_help = true, long, value_name = "DURATION", value_parser = value::duration)]
    pub settle: Option<Duration>,

    /// Whether it is a service, which does not end by itself.
    #[arg(skip)]
    pub stays: bool,
}

/// Default of `--settle`.
const SETTLE: Duration = Duration::from_secs(2);

impl CourseArgs {
    /// How readiness is told.
    pub fn readiness(&self) -> Readiness {
        Readiness {
            command: self.ready.clone(),
            ports: self.ready_port.clone(),
            log: self.ready_log.clone(),
            notify: self.ready_notify,
        }
    }

    /// The course of a run that ends with it if `ends`; `late` is how late a need is known to come.
    pub fn course(&self, ends: bool, late: Option<Duration>) -> Course {
        // A quarter more, since no two starts are alike.
        let known = late.map_or(Duration::ZERO, |late| late + late / 4 + Duration::from_secs(1));
        Course {
            readiness: self.readiness(),
            ready_timeout: self.ready_timeout,
            asleep: None,
            greets: Greets::default(),
            exercise: self.exercise.clone(),
            exercise_timeout: self.exercise_timeout,
            stays: self.stays,
            settle: self.settle.unwrap_or_else(|| SETTLE.max(known)),
            ends,
        }
    }
}
