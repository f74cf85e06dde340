//! Commands that have their work done by others: what is done by a process that is not the command's own can be watched, but
//! not tried.

use std::ffi::OsString;
use std::path::Path;

use nrtrace_tracer::attach::engine::{Kind, kind};

use crate::failure::BadInput;

/// Which client a command is, and its name; nothing for one that works by itself.
pub fn client(command: &[OsString]) -> Option<(Kind, String)> {
    let program = command.first()?;
    let kind = kind(Path::new(program))?;
    Some((kind, Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned()))
}

/// A trial is of what the command itself does.
///
/// # Errors
/// Where its work is done by others.
pub fn must_work_itself(command: &[OsString]) -> Result<(), BadInput> {
    let Some((kind, name)) = client(command) else { return Ok(()) };
    let (why, instead) = match kind {
        Kind::Starts => (
            "has its work done in a container that it alone knows how to start again",
            "prove the image with nrtrace run --minimize -- podman run IMAGE",
        ),
        Kind::Asks => (
            "has a daemon do its work, in processes that are not its children",
            "watch the container with nrtrace attach --container NAME --wait",
        ),
        Kind::Manages => (
            "has the service manager do its work, in processes that are not its children",
            "watch the service with nrtrace attach --unit UNIT --wait",
        ),
    };
    Err(BadInput(format!(
        "{name} {why}, so there is nothing to prove: {instead}, or prove the program by its own command"
    )))
}
