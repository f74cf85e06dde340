//! What the terminal can show.

use std::fmt;
use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::{Context, Result};
use clap::ValueEnum;
use nrtrace_profiles::emit::{Style, View};
use nrtrace_profiles::text::printable;

/// `--color`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColourArg {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Whether a stream is shown in colour.
pub fn style(choice: ColourArg, stream: &impl IsTerminal) -> Style {
    let colour = match choice {
        ColourArg::Always => true,
        ColourArg::Never => false,
        // https://no-color.org: any non-empty value counts.
        ColourArg::Auto => {
            stream.is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        }
    };
    if colour { Style::Colour } else { Style::Plain }
}

/// How a result is shown on standard error, or on standard output.
pub fn view(color: ColourArg, to_error: bool, all: bool) -> View {
    let (style, is_terminal, terminal) = if to_error {
        let stream = std::io::stderr();
        (style(color, &stream), stream.is_terminal(), console::Term::stderr())
    } else {
        let stream = std::io::stdout();
        (style(color, &stream), stream.is_terminal(), console::Term::stdout())
    };
    View { style, width: is_terminal.then(|| width(&terminal)), all }
}

/// Columns of a terminal, where it tells them, and not so few that nothing fits.
pub fn width(terminal: &console::Term) -> usize {
    let (_, columns) = terminal.size_checked().unwrap_or((24, 80));
    usize::from(columns).max(40)
}

/// Writes the result to standard output. A reader that closes early (`| head`) has what it wanted.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout();
    if stdout.is_terminal() {
        wipe();
    }
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to standard output"),
    }
}

/// Writes a line of nrtrace's own to standard error; the text may hold anything.
pub fn note(text: &str) {
    tell(format_args!("nrtrace: {}", printable(text)));
}

/// Writes a line to standard error, if there is anybody to read it.
pub fn tell(line: fmt::Arguments<'_>) {
    wipe();
    // Nowhere is left to complain, and the work itself is not hurt.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Takes away what a progress line has drawn where the next line is to stand.
fn wipe() {
    let terminal = console::Term::stderr();
    if terminal.is_term() {
        let _ = terminal.clear_line();
    }
}
