//! Errors at the edge: what the user reads, and the exit status.

use std::process::ExitCode;

use nrtrace_profiles::check::BadPolicy;
use nrtrace_profiles::merge::MergeError;
use nrtrace_profiles::version::ReadError;
use nrtrace_tracer::trial::TrialError;
use nrtrace_tracer::{attach, launch};

use crate::{meant, terminal};

/// The command line or an input file is wrong.
const USAGE: u8 = 2;
/// nrtrace could not do its work.
pub const BROKEN: u8 = 3;

/// An input that cannot be used, and why; exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadInput(pub String);

/// Prints the error with its causes on one line and gives the exit status documented for it.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let words = words(error) + &meant::question(error).unwrap_or_default();
    terminal::note(&words);
    ExitCode::from(status(error))
}

/// An error with its causes, each said once: many errors tell of their cause themselves.
pub fn words(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.contains(&cause) {
        true => told,
        false if told.is_empty() => cause,
        false => format!("{told}: {cause}"),
    })
}

fn status(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<launch::Error>() {
        return error.exit_status();
    }
    if let Some(error) = error.downcast_ref::<TrialError>() {
        return error.exit_status();
    }
    if error.is::<ReadError>()
        || error.is::<MergeError>()
        || error.is::<BadPolicy>()
        || error.is::<BadInput>()
        || error.is::<attach::Error>()
    {
        return USAGE;
    }
    BROKEN
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_cause_is_said_once() {
        let source = std::io::Error::from_raw_os_error(13);
        let error = launch::Error::System { operation: "reading", subject: "/x".into(), source };
        let text = words(&anyhow::Error::from(error).context("more"));
        assert_eq!(text, "more: reading /x: Permission denied (os error 13)");
    }

    #[test]
    fn each_kind_of_error_has_its_status() {
        assert_eq!(status(&anyhow!("broken")), 3);
        assert_eq!(status(&BadInput("no".into()).into()), 2);
        let missing = launch::Error::CommandNotFound { name: "x".into(), path: None };
        assert_eq!(status(&anyhow::Error::from(missing).context("more")), 127);
    }
}
