//! What a run comes to: the program is ready, is exercised, and still lives after a while.
//!
//! *Early green is false*: a program may be ready before it does what it will be refused. So readiness has to hold for a
//! settling time, which begins after the exercise, and is looked at once more at its end.

mod attendant;
mod command;
mod greeting;
mod managed;
mod notify;
mod output;
mod port;
mod quiet;
mod readiness;
mod watch;

use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use nrtrace_profiles::event::{Exit, Greeting, Milestones};
use serde::{Deserialize, Serialize};

pub use attendant::Attendant;
pub use managed::{is_said, managed};
pub use output::Capture;
pub use port::FIRST_CHOSEN;
pub use watch::Turn;

use watch::Watch;

use crate::attach::cgroup::Group;
use crate::launch::tree;
use crate::members::Members;

/// The program's processes, as its course looks at them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tree<'a> {
    /// What hangs below one, and who belongs to it as the records tell.
    Below { root: i32, members: &'a Members },
    /// What is in a control group.
    Group(&'a Group),
}

impl Tree<'_> {
    /// Whether a process belongs to it, or did until it ended just now.
    fn includes(self, pid: i32) -> bool {
        match self {
            Self::Below { root, members } => members.include(pid as u32) || tree::contains(root, pid),
            Self::Group(group) => group.processes().contains(&pid),
        }
    }

    /// The processes that live.
    fn processes(self) -> Vec<i32> {
        match self {
            Self::Below { root, .. } => {
                let members = tree::descendants(root).into_iter();
                members.filter(|member| !member.zombie).map(|member| member.pid).collect()
            }
            Self::Group(group) => group.processes(),
        }
    }
}

/// How the program's readiness is told; all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Shell text that succeeds once the program is ready.
    pub command: Option<OsString>,
    /// Ports, TCP or UDP, that a process of its tree must have bound; TCP ports must listen.
    pub ports: Vec<u16>,
    /// A regular expression that a line on its standard output or error must match.
    pub log: Option<String>,
    /// Whether it says `READY=1` as in sd_notify(3).
    pub notify: bool,
}

impl Readiness {
    /// Whether nothing is waited for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// In words; `None` when nothing is waited for.
    pub fn words(&self) -> Option<String> {
        let mut words = Vec::new();
        words.extend(self.command.as_ref().map(|command| format!("`{}` succeeds", command.display())));
        words.extend(self.ports.iter().map(|port| format!("it listens on port {port}")));
        words.extend(self.log.as_ref().map(|pattern| format!("it prints a line like {pattern:?}")));
        words.extend(self.notify.then(|| "it sends READY=1".to_owned()));
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// Whether a client connects to the TCP ports that the program listens on, once all else is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Greets {
    /// None does.
    #[default]
    Nobody,
    /// To learn how it answers. What becomes of the program then is no failure.
    Anybody,
    /// It has to answer so.
    As(Vec<Greeting>),
}

/// What a run is to come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// When it is ready.
    pub readiness: Readiness,
    /// How long that may take.
    pub ready_timeout: Duration,
    /// How long all of it may sleep before it is ready: who is known to be ready sooner will not be any more. Where nothing
    /// is said, as long as readiness may take.
    #[serde(default)]
    pub asleep: Option<Duration>,
    /// Shell text that exercises it, once it is ready.
    pub exercise: Option<OsString>,
    /// How long that may take.
    pub exercise_timeout: Duration,
    /// How long it must live, and stay ready, after that; from its start, where no readiness is told.
    pub settle: Duration,
    /// Whether and how a client is answered after that.
    #[serde(default)]
    pub greets: Greets,
    /// Whether it is a failure that it ends by itself, also with success: a service is to stay.
    #[serde(default)]
    pub stays: bool,
    /// Whether the run is ended once all this is over or has failed.
    pub ends: bool,
}

/// What it came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was ready, was exercised, and still lived in the end.
    Lived,
    /// It was not.
    Failed(Failure),
    /// The run was stopped before that.
    Interrupted,
}

/// All that is known of a run's course in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Came {
    /// When it came to what was waited for.
    pub milestones: Milestones,
    /// What it came to.
    pub verdict: Verdict,
    /// How clients were answered that were to learn that.
    pub greetings: Vec<Greeting>,
}

/// Why a run did not come to what was wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// It was not ready in time.
    NotReady {
        /// How long was waited.
        waited: Duration,
        /// What the command that asks last said.
        said: String,
    },
    /// The exercise failed.
    Exercise {
        /// How it ended.
        end: String,
        /// What it last said.
        said: String,
    },
    /// A client was not answered as it has to be.
    Greeting {
        /// What had to be answered.
        wanted: Greeting,
        /// The line that was answered, if any.
        said: Option<String>,
    },
    /// It was ready, and then was not any more.
    NoLongerReady {
        /// What the command that asks last said.
        said: String,
    },
    /// It ended.
    Ended {
        /// How.
        exit: Exit,
        /// How long after its start.
        after: Duration,
        /// Whether it had been ready; `None` when nothing was waited for.
        was_ready: Option<bool>,
    },
    /// It did what its unit refuses, which the sandbox let pass.
    Beyond {
        /// The ids of what that takes.
        ids: Vec<String>,
    },
}

impl Failure {
    /// Whether time had run out, so that a slow machine may be the reason.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::NotReady { .. })
    }

    /// Whether it was ready before that, as far as that was waited for.
    pub fn was_ready(&self) -> bool {
        match self {
            Self::NotReady { .. } => false,
            Self::Ended { was_ready, .. } => *was_ready == Some(true),
            Self::Exercise { .. }
            | Self::Greeting { .. }
            | Self::NoLongerReady { .. }
            | Self::Beyond { .. } => true,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = |said: &str| match said.lines().rev().find(|line| !line.trim().is_empty()) {
            Some(line) => format!(": {}", line.trim()),
            None => String::new(),
        };
        match self {
            Self::NotReady { waited, said } => {
                write!(f, "was not ready within {:.1} s{}", waited.as_secs_f64(), after(said))
            }
            Self::Exercise { end, said } => write!(f, "failed the exercise, which {end}{}", after(said)),
            Self::Greeting { wanted: Greeting { port, status, .. }, said } => {
                let said = said.as_ref().map_or_else(|| "nothing".to_owned(), |said| format!("`{said}`"));
                write!(f, "answered a client on tcp {port} with {said}, where it answered {status} before")
            }
            Self::NoLongerReady { said } => write!(f, "was ready, and then no longer{}", after(said)),
            Self::Ended { exit, after, was_ready } => {
                let what = match exit {
                    Exit::Exited { status } => format!("ended with status {status}"),
                    Exit::Signaled { signal } => format!("was ended by signal {signal}"),
                    Exit::Running | Exit::Stopped { .. } => "ended".to_owned(),
                };
                let when = match was_ready {
                    Some(true) => ", when it had been ready",
                    Some(false) => ", before it was ready",
                    None => "",
                };
                write!(f, "{what} after {:.1} s{when}", after.as_secs_f64())
            }
            Self::Beyond { ids } => {
                write!(f, "lived by what SocketBindDeny= of its unit refuses: {}", ids.join(", "))
            }
        }
    }
}
