//! What is told to the service manager that started nrtrace, sd_notify(3); nothing where nobody did.

use nrtrace_tracer::collect::Counters;
use sd_notify::NotifyState;

/// It watches from here on.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// How it comes along, for `systemctl status`.
pub fn counts(counters: &Counters, lost: u64) {
    let mut text = format!(
        "{} calls, {} capability checks, {} processes",
        counters.events - counters.checks,
        counters.checks,
        counters.processes
    );
    if lost > 0 {
        text.push_str(&format!(", {lost} records lost"));
    }
    tell(NotifyState::Status(&text));
}

fn tell(state: NotifyState<'_>) {
    // Whoever does not listen misses nothing that matters.
    let _ = sd_notify::notify(&[state]);
}
