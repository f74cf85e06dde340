//! The progress line.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nrtrace_profiles::RawText;
use nrtrace_profiles::text::printable;
use nrtrace_tracer::recording::RecordingFacts;
use nrtrace_tracer::session::Progress;

use crate::args::Talk;
use crate::{live, terminal};

/// Shows on the terminal how a run comes along; silent where there is none.
pub struct Line {
    bar: ProgressBar,
    run_for: Option<Duration>,
    /// What is shown in place of the line once the program has started, as that has the same terminal.
    live: RefCell<Live>,
    /// When it was ready.
    ready: Cell<Option<Duration>>,
}

/// The needs as they are found.
enum Live {
    None,
    Due(Box<dyn FnOnce() -> Option<live::Live>>),
    Shown(Box<live::Live>),
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
        Self { bar, run_for, live: RefCell::new(Live::None), ready: Cell::new(None) }
    }

    /// With the needs as they are found, for a program that has the same terminal.
    pub fn with_needs(self, program: &str, facts: &RecordingFacts, command: &[OsString]) -> Self {
        if !self.bar.is_hidden() {
            let words = command.iter().map(|word| RawText::new(word.as_bytes())).collect::<Vec<_>>();
            let (program, facts) = (program.to_owned(), facts.clone());
            let make = move || live::Live::new(&program, &facts, &words);
            self.live.replace(Live::Due(Box::new(make)));
            self.bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        self
    }

    /// Takes news of the run.
    pub fn update(&self, progress: Progress) {
        match progress {
            Progress::Started { pid } => {
                if let Live::Due(make) = self.live.replace(Live::None)
                    && let Some(made) = make()
                {
                    self.live.replace(Live::Shown(Box::new(made)));
                }
                self.say(format!("started, pid {pid}"));
            }
            Progress::Seen(event) => {
                if let Live::Shown(live) = &mut *self.live.borrow_mut() {
                    live.take(*event);
                }
            }
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
                if let Some(ready) = self.ready.get() {
                    text.push_str(&format!(" · ready after {:.1} s", ready.as_secs_f64()));
                }
                if lost > 0 {
                    text.push_str(&format!(" · {lost} records lost"));
                }
                self.say(text);
                self.bar.tick();
            }
            Progress::Ready { elapsed } => self.ready.set(Some(elapsed)),
            Progress::Stopping(stage) => self.say(format!("stopping: {stage}")),
        }
    }

    fn say(&self, text: String) {
        match &mut *self.live.borrow_mut() {
            Live::Shown(live) => live.show(&text),
            Live::None | Live::Due(_) => self.bar.set_message(text),
        }
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.live.replace(Live::None);
        self.bar.finish_and_clear();
    }
}

/// Shows how trials come along: a line that changes on a terminal, else a line now and then.
pub struct Trials {
    bar: ProgressBar,
    name: String,
    silent: bool,
    verbose: bool,
    told: Mutex<Option<Instant>>,
}

/// Between two lines where there is no terminal.
const NOW_AND_THEN: Duration = Duration::from_secs(2);

impl Trials {
    /// For trials of the program of that name.
    pub fn new(name: &str, talk: &Talk) -> Self {
        let shown = !talk.quiet && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(5) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_owned());
        if shown {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let silent = talk.quiet || shown;
        Self { bar, name: name.to_owned(), silent, verbose: talk.verbose, told: Mutex::new(None) }
    }

    /// What happens now.
    pub fn say(&self, text: &str) {
        let text = printable(text);
        self.bar.set_message(text.to_string());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if self.verbose || told.is_none_or(|told| told.elapsed() >= NOW_AND_THEN) {
            *told = Some(Instant::now());
            self.line(&text);
        }
    }

    /// How a trial ended, and what is left of them. On a terminal the line stays.
    pub fn trial(&self, number: u32, left: &str, ended: &str) {
        if self.bar.is_hidden() {
            return self.say(&format!("trial {number}, {left}; {ended}"));
        }
        self.bar.println(format!("{}: trial {number} {}", self.name, printable(ended)));
        self.bar.set_message(left.to_owned());
    }

    /// What is to be known afterwards, too.
    pub fn note(&self, text: &str) {
        let text = printable(text);
        self.bar.println(format!("{}: {text}", self.name));
        self.line(&text);
    }

    fn line(&self, text: &str) {
        if !self.silent {
            terminal::tell(format_args!("nrtrace: {}: {text}", self.name));
        }
    }
}

impl Drop for Trials {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
