//! What asks nrtrace to end while it works with a cluster: it is remembered, and what was made is taken away first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Between two looks.
const TICK: Duration = Duration::from_millis(20);

/// It was asked to end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: what was made in the cluster is taken away")]
pub struct Interrupted;

extern "C" fn ask(_: libc::c_int) {
    ASKED.store(true, Ordering::Relaxed);
}

/// Takes the signals that ask a program to end.
pub fn take() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(ask), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does nothing but store to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }.context("signals cannot be taken")?;
    }
    Ok(())
}

/// Fails once it was asked to end.
pub fn check() -> Result<(), Interrupted> {
    if ASKED.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
}

/// Sleeps, but no longer than until it is asked to end.
pub fn sleep(time: Duration) -> Result<(), Interrupted> {
    let until = Instant::now() + time;
    loop {
        check()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(TICK));
    }
}
