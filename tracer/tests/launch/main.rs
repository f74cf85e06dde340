//! Runs real programs through a session, each in a process of its own: a session takes over the whole process.
//!
//! Started with a variable that describes a run, this binary makes that run and writes what came of it; started
//! without, it is the test harness that does the former and looks at the results. To be run as root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod driver;
mod guardian;
mod identity;
mod lifetime;
mod start;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use nix::sys::signal::{SigHandler, Signal};

fn main() -> ExitCode {
    if let Some(description) = std::env::var_os(driver::VARIABLE) {
        return driver::drive(&description);
    }
    // In the background of a script they are ignored, which all that is started here would inherit.
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: no handler is installed.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }.unwrap();
    }
    let tests = [start::TESTS, identity::TESTS, lifetime::TESTS, guardian::TESTS].concat();
    let trials = tests.into_iter().map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
