//! Makes a sandbox and runs one command in it; see [`nrtrace_tests::enter`].

use std::process::ExitCode;

use nrtrace_tests::sandbox::STATUS_BROKEN;

fn main() -> ExitCode {
    let Some(plan) = std::env::args().nth(1) else {
        eprintln!("usage: sandbox PLAN (JSON, see nrtrace_tests::sandbox::Plan)");
        return ExitCode::from(2);
    };
    match nrtrace_tests::enter::enter(&plan) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("sandbox: {error:#}");
            ExitCode::from(STATUS_BROKEN as u8)
        }
    }
}
