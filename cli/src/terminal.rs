//! What the terminal can show.

use std::fmt;
use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::{Context, Result};
use nrtrace_profiles::emit::Style;

use crate::args::ColourArg;

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

/// Columns to fill: the terminal's width where there is one, within reason.
pub fn width() -> usize {
    let (_, columns) = console::Term::stderr().size_checked().unwrap_or((24, 80));
    usize::from(columns).clamp(60, 140)
}

/// Writes the result to standard output. A reader that closes early (`| head`) has what it wanted.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to standard output"),
    }
}

/// Writes a line to standard error, if there is anybody to read it.
pub fn tell(line: fmt::Arguments<'_>) {
    // Nowhere is left to complain, and the work itself is not hurt.
    let _ = writeln!(std::io::stderr(), "{line}");
}
