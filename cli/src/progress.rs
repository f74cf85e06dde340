//! The progress line.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nrtrace_tracer::session::Progress;

/// Shows on the terminal how a run comes along; silent where there is none.
pub struct Line {
    bar: ProgressBar,
    run_for: Option<Duration>,
}

impl Line {
    /// A line for a run of `program`, of the given length if it has one.
    pub fn new(program: &str, run_for: Option<Duration>, quiet: bool) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(5) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(program.to_owned());
        Self { bar, run_for }
    }

    /// Takes news of the run.
    pub fn update(&self, progress: Progress) {
        match progress {
            Progress::Started { pid } => self.bar.set_message(format!("started, pid {pid}")),
            Progress::Running { elapsed, counters, lost } => {
                let mut text = match self.run_for {
                    Some(whole) => format!("{:.0} s of {:.0} s", elapsed.as_secs_f64(), whole.as_secs_f64()),
                    None => format!("{:.0} s, Ctrl-C to stop", elapsed.as_secs_f64()),
                };
                text.push_str(&format!(
                    " · {} calls, {} capability checks, {} processes",
                    counters.events - counters.checks,
                    counters.checks,
                    counters.processes
                ));
                if lost > 0 {
                    text.push_str(&format!(" · {lost} records lost"));
                }
                self.bar.set_message(text);
                self.bar.tick();
            }
            Progress::Ready { elapsed } => {
                self.bar.println(format!("ready after {:.1} s", elapsed.as_secs_f64()));
            }
            Progress::Stopping(stage) => self.bar.set_message(format!("stopping: {stage}")),
        }
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
