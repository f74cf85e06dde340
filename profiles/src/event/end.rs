//! How a recording ends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::accounts::Accounts;
use crate::RawText;

/// How a recording ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TraceEnd {
    /// Records that could not be delivered.
    pub lost: u64,
    /// Paths that could not be made absolute.
    pub unresolved: u64,
    /// Successful calls left out because the recording had grown too large. Checks and refusals never are.
    pub dropped_calls: u64,
    /// Accesses that could not be judged for the user, in a run with other rights than the user's.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub unjudged: u64,
    /// How the program ended.
    pub exit: Exit,
    /// Whether it exited with success and others of its tree lived on: it turned itself into a daemon.
    #[serde(default)]
    pub daemon: bool,
    /// Whether the recorder was attacked, and ended the program for that: what it would have gone on to do is not known.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub cut_off: bool,
    /// Nanoseconds from the program's start to the end of the recording.
    pub duration: u64,
    /// The last lines the program wrote on standard error.
    pub stderr: Vec<RawText>,
    /// When it came to what was waited for; absent when nothing was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub milestones: Option<Milestones>,
    /// How clients were answered that came last, to learn that.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub greetings: Vec<Greeting>,
    /// Things worth telling the user about the recording itself.
    pub notes: Vec<String>,
    /// Names of the ids that the program wanted to take, or to give files to.
    #[serde(skip_serializing_if = "Accounts::is_empty", default)]
    pub accounts: Accounts,
}

/// Whether a count is left out.
pub(crate) fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How the program ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum Exit {
    /// It was still running when the recording ended.
    #[default]
    Running,
    /// It exited by itself.
    Exited {
        /// Exit status.
        status: i32,
    },
    /// A signal that nrtrace did not send ended it.
    Signaled {
        /// Signal number.
        signal: i32,
    },
    /// nrtrace stopped it: `--for` had passed, or the user asked.
    Stopped {
        /// Exit status, if it then exited by itself.
        status: Option<i32>,
    },
}

impl Exit {
    /// Whether the program ended by itself with an error.
    pub fn is_failure(self) -> bool {
        match self {
            Self::Exited { status } => status != 0,
            Self::Signaled { .. } => true,
            Self::Running | Self::Stopped { .. } => false,
        }
    }
}

/// How a server answers a client on one of its TCP ports that knows nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Greeting {
    /// The port.
    pub port: u16,
    /// Whether it spoke only once it had been asked `GET / HTTP/1.0`.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub waits: bool,
    /// What of the answer is the same each time: `HTTP 200`, `220`, `+OK`; `bytes` when it is no text.
    pub status: String,
}

impl Greeting {
    /// Whether it says that something went wrong: codes as HTTP, SMTP and FTP have them, 4 and 5 first.
    pub fn is_error(&self) -> bool {
        let code = self.status.strip_prefix("HTTP ").unwrap_or(&self.status);
        code.len() == 3 && code.starts_with(['4', '5'])
    }

    /// Whether an answer is as good: the same, or one that is no error where this is one.
    pub fn is_met_by(&self, answer: &Self) -> bool {
        answer.port == self.port && (answer == self || self.is_error() && !answer.is_error())
    }
}

/// When a run came to what was waited for, in nanoseconds from the program's start; `None` for what it did not come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Milestones {
    /// The program was ready: from here on it is in the phase [`Steady`](super::Phase::Steady).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ready: Option<u64>,
    /// The workload that exercises it had ended with success.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exercised: Option<u64>,
    /// From here on clients came to learn how it answers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub asked: Option<u64>,
    /// It was told to stop.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stopping: Option<u64>,
    /// It said itself that it was ready, as in sd_notify(3).
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub notified: bool,
}

#[cfg(test)]
mod tests {
    use super::Greeting;

    #[test]
    fn an_answer_is_as_good_where_it_is_the_same_or_no_error_any_more() {
        let of = |status: &str| Greeting { port: 21, waits: false, status: status.into() };
        for status in ["HTTP 503", "500", "421"] {
            assert!(of(status).is_error() && of(status).is_met_by(&of("220")), "{status}");
        }
        for status in ["HTTP 200", "220", "-ERR", "4ever"] {
            assert!(!of(status).is_error() && !of(status).is_met_by(&of("230")), "{status}");
        }
        assert!(of("500").is_met_by(&of("500")) && !of("500").is_met_by(&of("421")));
        assert!(!of("220").is_met_by(&of("500")));
        assert!(!of("500").is_met_by(&Greeting { port: 22, ..of("220") }));
    }
}
